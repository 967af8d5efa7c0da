"""`kind: X` in config.yaml -> the module X of one folder, which has `Settings` and `build`."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType

from eegloop.errors import ConfigError

FOLDERS = {
    "source": "drivers.sources",
    "biomarker": "dsp.biomarkers",
    "controller": "control.controllers",
    "stimulator": "drivers.stimulators",
}


def kinds(port: str) -> tuple[str, ...]:
    """Names of the plug-ins of one port ("source", "biomarker", "controller", "stimulator").

    A module is a plug-in if it defines `Settings` and `build`; others in the folder (`clock.py`) are parts.
    """
    package = importlib.import_module(FOLDERS[port])
    names = [m.name for m in pkgutil.iter_modules(package.__path__)]
    return tuple(sorted(n for n in names if _is_plugin(f"{package.__name__}.{n}")))


def _is_plugin(module_name: str) -> bool:
    spec = importlib.util.find_spec(module_name)
    if spec is None or spec.origin is None:
        return False
    text = Path(spec.origin).read_text(encoding="utf-8")
    return "\nclass Settings" in text and "\ndef build(" in text


def find(port: str, kind: str) -> ModuleType:
    """The module behind `kind`.

    Raises
    ------
    ConfigError
        If there is none; the message lists what there is and the name probably meant.
    """
    known = kinds(port)
    if kind not in known:
        near = difflib.get_close_matches(kind, known, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"kind: {kind!r} is no {port}; there are: {', '.join(known)}{hint}")
    return importlib.import_module(f"{FOLDERS[port]}.{kind}")

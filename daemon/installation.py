"""Checks of this installation that must pass before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import distributions

from eegloop.errors import SetupError

TOP_LEVEL_NAMES = ("eegloop", "drivers", "dsp", "control", "interlock", "daemon", "records", "simulators")


def check_names(claims: Mapping[str, list[str]] | None = None) -> None:
    """Refuse to run beside a distribution that owns one of our top-level package names.

    Another package called `control` or `daemon` (python-control, python-daemon) overwrites our files without a word.

    Parameters
    ----------
    claims : mapping of top-level name to distributions, optional
        Who installed a folder or module of that name; what is installed here by default.

    Raises
    ------
    SetupError
        Naming the distribution and the folder it claims.
    """
    claims = installed_claims() if claims is None else claims
    for name in TOP_LEVEL_NAMES:
        others = sorted(set(claims.get(name, [])) - {"eegloop"})
        if others:
            raise SetupError(
                f"the installed package {', '.join(others)} also owns the folder {name}/ of eegloop; "
                f"remove it (pip uninstall {' '.join(others)}) or give eegloop an environment of its own (make setup)"
            )


def installed_claims() -> dict[str, list[str]]:
    """Distributions here that installed one of our top-level names.

    Only these names are looked for, in the text of each distribution's list of files: `packages_distributions` parses every
    line of every list, a third of a second of every start.
    """
    claims: dict[str, list[str]] = {}
    for distribution in distributions():
        listed = distribution.read_text("RECORD") or ""
        declared = (distribution.read_text("top_level.txt") or "").split()
        for name in TOP_LEVEL_NAMES:
            starts = (f"{name}/", f"{name}.py,")
            if name in declared or any(listed.startswith(start) or f"\n{start}" in listed for start in starts):
                claims.setdefault(name, []).append(distribution.name)
    return claims

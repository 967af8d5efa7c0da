"""Checks of this installation that must pass before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import packages_distributions

from eegloop.errors import SetupError

TOP_LEVEL_NAMES = ("eegloop", "drivers", "dsp", "control", "interlock", "daemon", "records", "simulators")


def check_names(claims: Mapping[str, list[str]] | None = None) -> None:
    """Refuse to run beside a distribution that owns one of our top-level package names.

    Another package called `control` or `daemon` (python-control, python-daemon) overwrites our files without a word.

    Parameters
    ----------
    claims : mapping of top-level name to distributions, optional
        As `importlib.metadata.packages_distributions` gives it (its default).

    Raises
    ------
    SetupError
        Naming the distribution and the folder it claims.
    """
    claims = packages_distributions() if claims is None else claims
    for name in TOP_LEVEL_NAMES:
        others = sorted(set(claims.get(name, [])) - {"eegloop"})
        if others:
            raise SetupError(
                f"the installed package {', '.join(others)} also owns the folder {name}/ of eegloop; "
                f"remove it (pip uninstall {' '.join(others)}) or give eegloop an environment of its own (make setup)"
            )

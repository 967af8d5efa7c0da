"""Named virtual patients: settings of the brain and faults of the headset that make one."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from simulators.settings import BrainSettings


@dataclass(frozen=True, slots=True)
class Patient:
    """`brain` are settings that differ from `BrainSettings`' own; `faults` as on the command line of `simulators.board`."""

    about: str
    brain: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    faults: tuple[str, ...] = ()

    def settings(self, **changed: Any) -> BrainSettings:
        """This patient's brain with some settings changed further (seed, montage, ...)."""
        return BrainSettings(**{**self.brain, **changed})


def _brain(**settings: Any) -> MappingProxyType[str, Any]:
    return MappingProxyType(settings)


PATIENTS = MappingProxyType(
    {
        "responder": Patient("frontal asymmetry rises with current from F3 to F4"),
        "non_responder": Patient("current changes nothing but the recording", _brain(response_gain=0.0)),
        "inverted": Patient("responds the other way round: what should raise lowers", _brain(response_gain=-1.0)),
        "slow_drifter": Patient(
            "alpha wanders over minutes and grows over the hour", _brain(alpha_wander=0.25, alpha_drift_per_h=0.8, drift_uv=150.0)
        ),
        "noisy_electrodes": Patient(
            "two bad contacts that come and go, many pops, more mains",
            _brain(noisy_electrodes=("F4", "P3"), noisy_gain=15.0, pops_per_min=4.0, line_uv=2.5),
        ),
        "mover": Patient(
            "moves, clenches the jaw and blinks a lot", _brain(movements_per_min=4.0, clenches_per_min=3.0, blinks_per_min=24.0)
        ),
        "sleeper": Patient(
            "nods off after a minute, eyes closed", _brain(eyes="closed", drowsy_from_s=60.0, drowsy_period_s=120.0)
        ),
        "dropouts": Patient(
            "the headset's link is lost for 4 s every 45 s, and 2 % of packets",
            faults=("gone:at_s=20,for_s=4,every_s=45", "loss:share=0.02"),
        ),
    }
)


def individual(name: str, seed: int) -> Patient:
    """One person of that kind, drawn by seed: people differ in how strongly they respond, 0.4 to 2.5 times the kind's (log-uniform)."""
    kind = find_patient(name)
    share = 2.5 ** float(np.random.default_rng((seed, 60)).uniform(-1.0, 1.0))
    own = {"response_gain": float(kind.brain.get("response_gain", 1.0)) * share, "seed": seed}
    return Patient(kind.about, _brain(**{**kind.brain, **own}), kind.faults)


def find_patient(name: str) -> Patient:
    """The patient of that name.

    Raises
    ------
    ValueError
        If there is none; the message lists all.
    """
    if name not in PATIENTS:
        near = difflib.get_close_matches(name, PATIENTS, n=1, cutoff=0.4)
        raise ValueError(f"patient {name!r}: there are {', '.join(PATIENTS)}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return PATIENTS[name]

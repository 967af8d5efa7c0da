"""A bedside data directory with a blinded trial's prescriptions, for the tests of allocation and blinding."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from control.prescription import demo_prescription, sign
from daemon.allocation import allocate, chain_path
from daemon.audit import read_chain
from daemon.build import demo_key
from daemon.clock import MachineClock
from eegloop.layout import Layout
from eegloop.stim import Prescription

TRIAL, PERSON = "alpha1", "p001"


def pair(person: str = PERSON, **changes: Any) -> tuple[Prescription, Prescription]:
    """The demo's program, signed once with current and once with none; `changes` are in both."""
    active = replace(demo_prescription(person, time.time()), id="rx-one", **changes)
    settings = {"of": active.controller, **active.settings}
    return active, replace(active, id="rx-two", controller="sham", settings=settings, amplitude_ua=0, start_ua=0)


class Trial:
    """Signed pairs are written to `folder`, allocations kept under `folder/data`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.layout = Layout(folder / "data")
        self.layout.create()
        self.clock = MachineClock()
        self.key = demo_key(self.layout, time.time())

    def files(
        self, person: str = PERSON, active: Prescription | None = None, sham: Prescription | None = None
    ) -> dict[str, Path]:
        own = dict(zip(("active", "sham"), pair(person), strict=True))
        own |= {arm: given for arm, given in (("active", active), ("sham", sham)) if given is not None}
        paths = {}
        for arm, prescription in own.items():
            paths[arm] = self.folder / f"{arm}-{person}.json"
            paths[arm].write_bytes(sign(prescription, [self.key]))
        return paths

    def allocate(self, person: str = PERSON, files: dict[str, Path] | None = None, trial: str = TRIAL) -> str:
        return allocate(self.layout, trial, person, files or self.files(person), "Dr. Bo", self.clock)

    def lines(self) -> list[dict[str, Any]]:
        return list(read_chain(chain_path(self.layout)))

    def arm(self, person: str = PERSON) -> str:
        """As the chain has it, without the command that writes down who looked."""
        found = [line for line in self.lines() if line["event"] == "allocated" and line["data"]["person"] == person]
        return str(found[0]["data"]["arm"])

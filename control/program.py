"""A controller's signed numbers: read strictly from `prescription.settings`, and what most of them share, a target band."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from control.schema import near
from eegloop.ports import Snapshot
from eegloop.stim import Prescription, PrescriptionError

STRICT = ConfigDict(extra="forbid", strict=True)
P = TypeVar("P")

Name = Annotated[str, Field(min_length=1, max_length=60)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Target:
    """Which biomarker, where it should be, and which way stimulation moves it.

    Attributes
    ----------
    biomarker, channel : str
        As the line computes it ("relative_power.alpha", "F3"; channel "n/a" for the whole head).
    unit : str
        What `low_milli` and `high_milli` are thousandths of: "baseline_milli" of the session's baseline (1000 = as in the
        baseline; the default), "sd_milli" of the baseline's SD, from its median (0 = as in the baseline), "milli" of the
        biomarker's own unit.
    low_milli, high_milli : int
        The target band, -1,000,000 to 1,000,000.
    more_moves : str
        "up" if more stimulation raises the biomarker, "down" if it lowers it.
    average_n : int
        The decision is on the median of this many estimates, 1-60, taken since the last change of amplitude.
    explore_n : int
        Under `within_bounds`: after so many usable estimates with current in which the mean of half as many in a row never lay in the
        band or beyond it, it goes down to the safe amplitude and stays (`control/exploration.py`), 20-3600. With looks of 15 s in
        every minute 200 are about 13 minutes.
    """

    biomarker: Name
    channel: Name = "n/a"
    unit: Literal["baseline_milli", "sd_milli", "milli"] = "baseline_milli"
    low_milli: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 900
    high_milli: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 1_100
    more_moves: Literal["up", "down"] = "up"
    average_n: Annotated[int, Field(ge=1, le=60)] = 1
    explore_n: Annotated[int, Field(ge=20, le=3_600)] = 200

    def scale(self, snapshot: Snapshot) -> tuple[float, float] | None:
        """(offset, size) such that offset + size·milli/1000 is in the biomarker's unit; None without the baseline it needs."""
        if self.unit == "milli":
            return 0.0, 1.0
        if snapshot.baseline is None or snapshot.baseline_sd is None:
            return None
        offset, size = (0.0, snapshot.baseline) if self.unit == "baseline_milli" else (snapshot.baseline, snapshot.baseline_sd)
        # Written so that NaN and a baseline of nothing are refused.
        return (offset, size) if 0.0 < size < 1e12 and abs(offset) < 1e12 else None

    def band(self, snapshot: Snapshot) -> tuple[float, float] | None:
        """(low, high) in the biomarker's own unit; None without the baseline it needs."""
        scale = self.scale(snapshot)
        if scale is None:
            return None
        offset, size = scale
        return offset + size * self.low_milli / 1000.0, offset + size * self.high_milli / 1000.0

    def words(self) -> str:
        """The biomarker in plain words, as a sentence starts."""
        module, _, part = self.biomarker.partition(".")
        plain = {
            "relative_power": f"relative {part} power",
            "band_power": f"{part} power",
            "iaf": "alpha frequency",
            "faa": "frontal alpha asymmetry",
        }.get(module, f"{module} {part}".replace("_", " ").strip())
        where = "" if self.channel == "n/a" else f" at {self.channel}"
        return plain[0].upper() + plain[1:] + where


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Paced(Target):
    """A target band, and how patiently it is followed.

    Attributes
    ----------
    dwell_n : int
        Agreeing estimates in a row (about one a second while looking) before anything is changed, 3-100.
    step_ua : int
        The most one decision changes, 1-200 µA.
    refractory_ms : int
        Least time between two changes, 0-3,600,000 ms; at least 60,000 on a real stimulator.
    give_up_n : int
        Having raised the amplitude to all that is allowed and still seeing the biomarker on the side that asks for more in so many
        estimates in a row (a person who does not respond, or the other way round), it goes down to `safe_ua` and stays, 10-3600.
    safe_ua : int
        Where it then stays, 0-4000 µA.
    """

    give_up_n: Annotated[int, Field(ge=10, le=3_600)] = 60
    safe_ua: Annotated[int, Field(ge=0, le=4_000)] = 0
    dwell_n: Annotated[int, Field(ge=3, le=100)] = 3
    step_ua: Annotated[int, Field(ge=1, le=200)] = 200
    refractory_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 60_000


def read_program(program: type[P], prescription: Prescription) -> P:
    """A controller's own numbers, from what was signed.

    Raises
    ------
    PrescriptionError
        Naming the field, its value and what is allowed.
    """
    known = {f.name for f in fields(program)}  # type: ignore[arg-type]
    for key in prescription.settings:
        if key not in known:
            raise PrescriptionError(
                f"prescription.settings.{key}: unknown to {prescription.controller!r}, which knows {', '.join(sorted(known))}"
                f"{near(key, sorted(known))}"
            )
    settings: dict[str, Any] = dict(prescription.settings)
    try:
        read = program(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "settings"
        found = "missing" if first["type"] == "missing" else repr(first["input"])
        raise PrescriptionError(f"prescription.settings.{field}: {found}; {first['msg']}") from None
    low, high = getattr(read, "low_milli", 0), getattr(read, "high_milli", 1)
    if low >= high:
        raise PrescriptionError(f"prescription.settings.low_milli: {low} must be below high_milli {high}")
    refractory_ms = getattr(read, "refractory_ms", 60_000)
    if prescription.device != "simulated" and refractory_ms < 60_000:
        raise PrescriptionError(
            f"prescription.settings.refractory_ms: {refractory_ms} must be at least 60000 for {prescription.device!r}"
        )
    return read

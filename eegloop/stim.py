"""The vocabulary of what is delivered: requests, limits, verdicts, commands, states, prescriptions.

Standard library only: the interlock imports this file and nothing else of ours but its one driver.
Currents in mA are the *peak of the absolute waveform*, offset included (a tACS quoted peak-to-peak
is twice this number: `reference/safety.md` section 1), so the two cannot be mixed up.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any


class Authority(StrEnum):
    """How much the loop may do by itself; part of the signed prescription."""

    OBSERVE = "observe"
    LOWER_ONLY = "lower_only"
    WITHIN_BOUNDS = "within_bounds"


class Phase(StrEnum):
    """Where a session stands (safety.md section 3)."""

    OFF = "off"
    SCREEN = "screen"
    CONTACT = "contact"
    BASELINE = "baseline"
    RAMP_UP = "ramp_up"
    ON = "on"
    RAMP_DOWN = "ramp_down"
    POST = "post"
    FALLBACK = "fallback"
    STOPPED = "stopped"


class Block(StrEnum):
    """What `on` is doing: looking (no output) or stimulating."""

    SENSE = "sense"
    STIMULATE = "stimulate"


class InterlockMode(StrEnum):
    """The interlock's own state. `stopped` is zero and latched until a person re-arms."""

    STOPPED = "stopped"
    ARMED = "armed"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class StimRequest:
    """What a controller asks for. `hold` keeps the present amplitude whatever `amplitude_ma` says.

    `trigger_s`: one pulse at this LSL time, to be fired on it or skipped, never late; None = none.
    """

    amplitude_ma: float
    frequency_hz: float
    hold: bool
    reason: str
    trigger_s: float | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit that applied: its field, its value, and who set it ("prescription", "device", "interlock", "authority")."""

    field: str
    value: float
    unit: str
    set_by: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A request and what was granted of it, with every limit that lowered it."""

    request: StimRequest
    amplitude_ma: float
    frequency_hz: float
    limits: tuple[Limit, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class StimCommand:
    """One packet to the interlock. Sent as canonical JSON; see docs/contracts.md.

    `kind`: "arm", "set", "pulse", "heartbeat", "fallback", "end", "stop".
    Times are CLOCK_BOOTTIME nanoseconds. `tick_ns` is the creation time of the newest loop tick. `halts` goes with "arm":
    how many STOPs and trips the sender knows of; one it does not know of refuses the arm. `deadline_ns` goes with "pulse": when the
    pulse (or burst) is to be.
    """

    kind: str
    sequence: int = 0
    session: str = ""
    nonce: str = ""
    expires_ns: int = 0
    tick: int = 0
    tick_ns: int = 0
    block: str = ""
    amplitude_ma: float = 0.0
    frequency_hz: float = 0.0
    reason: str = ""
    halts: int = 0
    deadline_ns: int = 0

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


@dataclass(frozen=True, slots=True)
class StimState:
    """What the interlock knows of the output, sent at 20 Hz and on every change.

    Attributes
    ----------
    boot_ns : int
        CLOCK_BOOTTIME when this was written.
    granted_ma : float
        The last amplitude the interlock accepted (the ramp's end).
    commanded_ma : float
        What it tells the device this moment (a point of the ramp).
    confirmed_ma : float or None
        What the device said it delivers; None = unknown.
    confirmed_ns : int
        When the device said so (CLOCK_BOOTTIME); 0 = never.
    zero_since_ns : int
        Since when the device has confirmed zero without a break; 0 = it does not.
    ceiling_ma : float
        The amplitude above which a set would trip (it only falls under `lower_only`).
    halts : int
        STOPs from outside the daemon, in whatever mode, and trips since the interlock's start.
    """

    boot_ns: int
    mode: str
    reason: str
    session: str
    granted_ma: float
    commanded_ma: float
    confirmed_ma: float | None
    confirmed_ns: int
    zero_since_ns: int
    frequency_hz: float
    ceiling_ma: float
    lease_left_ms: int
    sequence: int
    refused: int
    refusal: str
    delivered_uc: int
    delivered_ms: int
    device: str
    readback: str
    halts: int = 0

    def to_json(self) -> bytes:
        return json.dumps({"type": "state", **asdict(self)}, separators=(",", ":"), allow_nan=False).encode()

    @staticmethod
    def from_json(packet: dict[str, Any]) -> StimState:
        """Build from a decoded packet; unknown or missing fields raise KeyError or TypeError."""
        return StimState(**{f.name: packet[f.name] for f in fields(StimState)})


@dataclass(frozen=True, slots=True)
class Shot:
    """What one "fire" of a magnetic stimulator gives; fields are named as in the signed `PulseProgram`.

    Attributes
    ----------
    burst_pulses, burst_millihz : int
        Pulses and their rate inside it, mHz: (1, 0) one pulse; what no program can say, such as (2, 0), is another mode.
    waveform, current : str
        One of `WAVEFORMS`; which way the current flows, one of `CURRENTS` (the stimulator's own setting, not how the coil is held).
    """

    burst_pulses: int
    burst_millihz: int
    waveform: str
    current: str


WAVEFORMS = ("monophasic", "biphasic", "half_sine")
CURRENTS = ("normal", "reverse")


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """What a stimulator said last (made by its driver).

    Attributes
    ----------
    output_ma : float or None
        Peak amplitude now delivered (of a sine: its peak, not the instant); None = it has not said.
    t_ns : int
        CLOCK_BOOTTIME of the report: the device's own stamp where it shares the clock, else of arrival.
    fault : str
        What the device complains of, "" = nothing.
    shot : Shot or None
        What one "fire" would give, as the device said it of itself; None = it has not said, or gives no pulses.
    """

    output_ma: float | None
    t_ns: int
    connected: bool
    armed: bool
    fault: str = ""
    shot: Shot | None = None


@dataclass(frozen=True, slots=True)
class LoopState:
    """Everything a viewer needs of one seat, JSON-ready; published 4 times a second.

    The dictionaries' keys are fixed in docs/contracts.md (section "Live state").
    """

    seat: str
    label: str
    t_s: float
    wall_s: float
    phase: str
    block: str
    phase_reason: str
    phase_left_s: float | None
    demo: bool
    stream: dict[str, Any] = field(default_factory=dict)
    quality: list[dict[str, Any]] = field(default_factory=list)
    biomarkers: list[dict[str, Any]] = field(default_factory=list)
    target: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    decision: dict[str, Any] = field(default_factory=dict)
    recording: dict[str, Any] = field(default_factory=dict)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    forms: dict[str, Any] = field(default_factory=dict)


class PrescriptionError(ValueError):
    """A prescription that cannot be used: the message names the field, the value and what is allowed.

    Attributes
    ----------
    value, limit : object
        The same as a refusal carries them; None where only the message can say it.
    set_by : str
        Who set that limit.
    """

    def __init__(self, message: str, value: object = None, limit: object = None, set_by: str = "prescription") -> None:
        super().__init__(message)
        self.value = value
        self.limit = limit
        self.set_by = set_by


@dataclass(frozen=True, slots=True)
class PulseProgram:
    """Magnetic pulses as signed: one train's shape, how many, and how many pulses at most. Part of a `Prescription`.

    Attributes
    ----------
    protocol : str
        "table" = judged by the train table; else a whitelisted protocol's name, which it must equal number by number.
    threshold : str
        "rmt" or "amt": the motor threshold that intensities are percent of.
    intensity_percent, motor_threshold_percent : int
        Of the motor threshold; the threshold itself in percent of the stimulator's output.
    burst_pulses, burst_millihz : int
        Pulses fired together and their rate (1 and 0: single pulses; 3 and 50,000: theta bursts).
    train_millihz, train_pulses, trains, interval_ms : int
        Rate of pulses (or bursts) in a train, pulses in it, trains in a session, pause from a train's last pulse to the next train.
    waveform, current : str
        The pulse's shape and its current's direction, as in `Shot`: the same power with another of them is another dose.
    """

    protocol: str
    threshold: str
    intensity_percent: int
    motor_threshold_percent: int
    burst_pulses: int
    burst_millihz: int
    train_millihz: int
    train_pulses: int
    trains: int
    interval_ms: int
    session_pulses: int
    day_pulses: int
    week_pulses: int
    course_pulses: int
    waveform: str
    current: str

    @property
    def shot(self) -> Shot:
        return Shot(self.burst_pulses, self.burst_millihz, self.waveform, self.current)


_PULSE_RANGES: dict[str, tuple[int, int]] = {
    "intensity_percent": (1, 130),
    "motor_threshold_percent": (1, 100),
    "burst_pulses": (1, 3),
    "burst_millihz": (0, 50_000),
    "train_millihz": (100, 25_000),
    "train_pulses": (1, 3_000),
    "trains": (1, 3_000),
    "interval_ms": (1, 3_600_000),
    "session_pulses": (1, 3_000),
    "day_pulses": (1, 18_000),
    "week_pulses": (1, 126_000),
    "course_pulses": (1, 200_000),
}


# field: (lowest, highest) - what the format can say at all, not what is safe; the interlock's own
# hard limits and the device's are checked beside these.
_RANGES: dict[str, tuple[int, int]] = {
    "amplitude_ua": (0, 4000),
    "start_ua": (0, 4000),
    "frequency_millihz": (0, 45_000),
    "ramp_ua_per_s": (1, 100),
    "fallback_ms": (100, 5_000),
    "session_ms": (1_000, 3_600_000),
    "session_uc": (1, 7_200_000),
    "day_sessions": (1, 10),
    "week_sessions": (1, 50),
    "course_sessions": (1, 200),
    "lockout_ms": (0, 7 * 86_400_000),
    "pad_mm2": (100, 10_000),
    "baseline_ms": (0, 600_000),
    "sense_ms": (1_000, 600_000),
    "stimulate_ms": (1_000, 3_600_000),
    "stale_ms": (500, 10_000),
    "artifact_ms": (1_000, 60_000),
    "supervision_ms": (2_000, 60_000),
    "valid_from_s": (0, 2**40),
    "valid_until_s": (0, 2**40),
}
_STRINGS = ("format", "id", "patient", "profile", "device", "device_serial", "modality", "montage", "authority", "controller")


@dataclass(frozen=True, slots=True)
class Prescription:
    """What a clinician signed, in whole µA, mHz, ms and µC. Daemon and interlock read the same bytes.

    `amplitude_ua` is the ceiling for |waveform| at its peak; `start_ua` what a session starts with.
    `frequency_millihz` is in millihertz; 0 = direct current. `device_serial` "*" only for `simulated`.
    `settings` are the controller's own numbers (integers or strings), as its module documents them.
    """

    format: str
    id: str
    patient: str
    profile: str
    device: str
    device_serial: str
    modality: str
    montage: str
    authority: str
    controller: str
    amplitude_ua: int
    start_ua: int
    frequency_millihz: int
    ramp_ua_per_s: int
    fallback_ms: int
    session_ms: int
    session_uc: int
    day_sessions: int
    week_sessions: int
    course_sessions: int
    lockout_ms: int
    pad_mm2: int
    baseline_ms: int
    sense_ms: int
    stimulate_ms: int
    stale_ms: int
    artifact_ms: int
    supervision_ms: int
    valid_from_s: int
    valid_until_s: int
    signers: tuple[str, ...]
    settings: dict[str, int | str]
    pulses: PulseProgram | None = None

    @property
    def amplitude_ma(self) -> float:
        return self.amplitude_ua / 1000

    @property
    def frequency_hz(self) -> float:
        return self.frequency_millihz / 1000

    @staticmethod
    def from_bytes(payload: bytes) -> Prescription:
        """Parse canonical JSON strictly: exactly the known keys, integers where integers belong, in range.

        Raises
        ------
        PrescriptionError
            Naming the field, its value and what is allowed.
        """
        try:
            body = json.loads(
                payload.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constants, parse_float=_no_floats
            )
        except UnicodeDecodeError as error:
            raise PrescriptionError(f"prescription: not UTF-8 ({error})") from None
        except RecursionError:
            raise PrescriptionError("prescription: nested too deeply") from None
        except json.JSONDecodeError as error:
            raise PrescriptionError(f"prescription: not JSON at character {error.pos} ({error.msg})") from None
        except PrescriptionError:
            raise
        except ValueError:
            raise PrescriptionError("prescription: holds a number of more digits than can be read") from None
        if not isinstance(body, dict):
            raise PrescriptionError("prescription: must be one JSON object")
        known = {f.name for f in fields(Prescription)} - {"pulses"}
        for key in body:
            if key not in known and key != "pulses":
                raise PrescriptionError(f"prescription.{key}: unknown field", key, "a known field", "format")
        for key in sorted(known):
            if key not in body:
                raise PrescriptionError(
                    f"prescription.{key}: missing; a missing limit is zero, so nothing could be delivered", "missing", 0, "format"
                )
        for key in _STRINGS:
            value = body[key]
            if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.strip():
                raise PrescriptionError(
                    f"prescription.{key}: {value!r} must be a text of 1-200 characters, not blank",
                    repr(value)[:60],
                    "1-200 characters, not blank",
                    "format",
                )
        for key, (low, high) in _RANGES.items():
            value = body[key]
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise PrescriptionError(
                    f"prescription.{key}: {value!r} must be a whole number from {low} to {high} (by the format)",
                    repr(value)[:60],
                    f"{low} to {high}",
                    "format",
                )
        if body["format"] != "eegloop-prescription-1":
            raise PrescriptionError(f"prescription.format: {body['format']!r} must be 'eegloop-prescription-1'")
        if body["authority"] not in set(Authority):
            raise PrescriptionError(f"prescription.authority: {body['authority']!r} must be one of {', '.join(Authority)}")
        if body["profile"] not in ("home", "clinic"):
            raise PrescriptionError(f"prescription.profile: {body['profile']!r} must be 'home' or 'clinic'")
        if body["modality"] not in ("tdcs", "tacs", "tms"):
            raise PrescriptionError(f"prescription.modality: {body['modality']!r} must be 'tdcs', 'tacs' or 'tms'")
        if (body["modality"] == "tms") != ("pulses" in body) or (body["modality"] == "tms" and body["amplitude_ua"] != 0):
            raise PrescriptionError("prescription.pulses: goes with modality 'tms' and amplitude_ua 0, and with no other")
        if (body["modality"] != "tacs") != (body["frequency_millihz"] == 0):
            raise PrescriptionError(
                f"prescription.frequency_millihz: {body['frequency_millihz']} does not fit modality {body['modality']!r} (tdcs: 0)"
            )
        if body["start_ua"] > body["amplitude_ua"]:
            raise PrescriptionError(
                f"prescription.start_ua: {body['start_ua']} is above amplitude_ua {body['amplitude_ua']}",
                body["start_ua"],
                body["amplitude_ua"],
            )
        if body["valid_until_s"] <= body["valid_from_s"]:
            raise PrescriptionError("prescription.valid_until_s: must be later than valid_from_s")
        signers = body["signers"]
        if not isinstance(signers, list) or not signers or not all(isinstance(s, str) and s.strip() for s in signers):
            raise PrescriptionError(
                "prescription.signers: must be a list of at least one name, none blank", repr(signers)[:60], "names", "format"
            )
        settings = body["settings"]
        if not isinstance(settings, dict) or not all(
            isinstance(v, str) or (isinstance(v, int) and not isinstance(v, bool)) for v in settings.values()
        ):
            raise PrescriptionError("prescription.settings: must map names to whole numbers or texts")
        made = {**body, "signers": tuple(signers), "settings": dict(settings)}
        if "pulses" in body:
            made["pulses"] = _pulse_program(body["pulses"])
        return Prescription(**made)

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, integers only; these bytes are what is signed. Without pulses no such key."""
        body = asdict(self)
        if self.pulses is None:
            del body["pulses"]
        return json.dumps(body, separators=(",", ":"), sort_keys=True, ensure_ascii=True, allow_nan=False).encode()


def _pulse_program(body: Any) -> PulseProgram:
    """The program in a prescription, read strictly."""
    known = {f.name for f in fields(PulseProgram)}
    if not isinstance(body, dict) or set(body) != known:
        raise PrescriptionError(f"prescription.pulses: must have exactly {', '.join(sorted(known))}")
    if not isinstance(body["protocol"], str) or not 0 < len(body["protocol"]) <= 40:
        raise PrescriptionError(f"prescription.pulses.protocol: {body['protocol']!r} must be 'table' or a protocol's name")
    for key, words in (("threshold", ("rmt", "amt")), ("waveform", WAVEFORMS), ("current", CURRENTS)):
        if body[key] not in words:
            raise PrescriptionError(f"prescription.pulses.{key}: {body[key]!r} must be one of {', '.join(words)}")
    for key, (low, high) in _PULSE_RANGES.items():
        value = body[key]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise PrescriptionError(
                f"prescription.pulses.{key}: {value!r} must be a whole number from {low} to {high} (by the format)"
            )
    if (body["burst_pulses"] == 1) != (body["burst_millihz"] == 0) or body["train_pulses"] % body["burst_pulses"]:
        raise PrescriptionError("prescription.pulses.burst_millihz: 0 for single pulses; a train holds whole bursts")
    if body["burst_pulses"] > 1 and body["waveform"] != "biphasic":
        raise PrescriptionError(f"prescription.pulses.waveform: {body['waveform']!r} must be 'biphasic' in a burst")
    return PulseProgram(**body)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for key, value in pairs:
        if key in body:
            raise PrescriptionError(f"prescription.{key}: appears twice")
        body[key] = value
    return body


def _no_constants(text: str) -> Any:
    raise PrescriptionError(f"prescription: {text} is not a number here")


def _no_floats(text: str) -> Any:
    raise PrescriptionError(f"prescription: {text} must be a whole number (µA, mHz, ms, µC)")


def within(value: float, limit: float) -> bool:
    """True if 0 <= value <= limit; NaN in either is False, so a broken number never passes."""
    return 0.0 <= value <= limit


def finite(*values: float) -> bool:
    return all(math.isfinite(v) for v in values)

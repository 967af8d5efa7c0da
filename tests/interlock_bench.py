"""A judge in virtual time with a stimulator that obeys, and signed prescriptions, for the interlock's tests."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control.keyring import certify
from control.prescription import TrustedKey, public_key
from control.start_code import sign_start_code
from eegloop.stim import DeviceReport, Limit, Prescription, PulseProgram, Shot, StimCommand
from interlock.effects import Entry, Event, Order, Reply
from interlock.judge import Judge
from interlock.ledger import Book, load
from interlock.limits import rules
from interlock.log import lines
from interlock.refusals import MS
from interlock.wire import PacketError

DEVICE = (Limit("amplitude_ma", 2.0, "mA", "device"),)
PULSES = (Limit("intensity_percent", 100.0, "%", "device"),)
SITE = bytes(range(32))
"""The clinic's site key: whoever it has certified may sign for a stimulator that is worn."""
PATIENCE_S = 5.0
"""How long anything that a thread does may take, s."""
START_NS = 5_000_000_000_000
WALL_S = 1_800_000_000


def make_prescription(**changes: Any) -> Prescription:
    """A prescription for the simulated stimulator that may be used; `changes` go on top."""
    fields: dict[str, Any] = {
        "format": "eegloop-prescription-1",
        "id": "course-1",
        "patient": "virtual",
        "profile": "home",
        "device": "simulated",
        "device_serial": "*",
        "modality": "tdcs",
        "montage": "F3-F4",
        "authority": "within_bounds",
        "controller": "dual_threshold",
        "amplitude_ua": 1500,
        "start_ua": 1000,
        "frequency_millihz": 0,
        "ramp_ua_per_s": 100,
        "fallback_ms": 1000,
        "session_ms": 600_000,
        "session_uc": 1_000_000,
        "day_sessions": 10,
        "week_sessions": 50,
        "course_sessions": 200,
        "lockout_ms": 0,
        "pad_mm2": 3500,
        "baseline_ms": 1000,
        "sense_ms": 2000,
        "stimulate_ms": 20_000,
        "stale_ms": 5000,
        "artifact_ms": 20_000,
        "supervision_ms": 15_000,
        "valid_from_s": WALL_S - 1000,
        "valid_until_s": WALL_S + 1_000_000,
        "signers": ("Dr A",),
        "settings": {},
    }
    return Prescription(**{**fields, **changes})


def make_program(**changes: Any) -> PulseProgram:
    """10 Hz trains of 20 pulses at 110 % of the motor threshold, by the table; `changes` go on top."""
    fields: dict[str, Any] = {
        "protocol": "table", "threshold": "rmt", "intensity_percent": 110, "motor_threshold_percent": 50, "burst_pulses": 1,
        "burst_millihz": 0, "train_millihz": 10_000, "train_pulses": 20, "trains": 30, "interval_ms": 5_000, "session_pulses": 600,
        "day_pulses": 600, "week_pulses": 3_000, "course_pulses": 20_000,
        "waveform": "biphasic", "current": "normal",
    }  # fmt: skip
    return PulseProgram(**{**fields, **changes})


def make_pulses(program: PulseProgram | None = None, **changes: Any) -> Prescription:
    """A prescription of pulses for the simulated stimulator in the clinic."""
    tms = {"modality": "tms", "profile": "clinic", "amplitude_ua": 0, "start_ua": 0, "pulses": program or make_program()}
    return make_prescription(**{**tms, **changes})


class Seat:
    """A judge, its clock, and a stimulator; `outputs` holds every output order as (ns, mA, Hz, lease ms)."""

    def __init__(
        self, device: tuple[Limit, ...] = DEVICE, readback: str = "measured", book: Book | None = None, **changes: Any
    ) -> None:
        self.prescription = make_prescription(**changes)
        self.fires_ns: list[int] = []
        self.write_takes_ns = 0
        self.now_ns = START_NS
        self.wall_ns = WALL_S * 10**9
        self.monotonic_ns = START_NS
        self.judge = Judge(rules(self.prescription, None, device), "simulated", readback, book or Book("boot-1", True), START_NS)
        self.outputs: list[tuple[int, float, float, int]] = []
        self.orders: list[tuple[int, str]] = []
        self.replies: list[dict[str, Any]] = []
        self.events: list[Event] = []
        self.entries: list[Entry] = []
        self.on_disk = 0
        self.disk_works = True
        self.device_ma = 0.0
        self.device_armed = False
        self.shot: Shot | None = None
        self.obeys = True
        self.sequence = 0
        self.tick = 0
        self.nonce = ""
        self.nonces = 0
        self.perform(self.judge.open(self.now_ns, self.wall_ns))
        self.tick_and_report()

    @property
    def mode(self) -> str:
        return str(self.judge.mode)

    def perform(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                json.dumps(effect.body, allow_nan=False)
                self.replies.append(effect.body)
                if effect.body["type"] == "armed":
                    self.nonce = effect.body["nonce"]
            elif isinstance(effect, Event):
                json.dumps(effect.data, allow_nan=False)
                self.events.append(effect)
            elif isinstance(effect, Entry):
                json.dumps(effect.data, allow_nan=False)
                self.entries.append(effect)
                assert effect.number == len(self.entries)
            elif isinstance(effect, Order):
                self.orders.append((self.now_ns, effect.do))
                if effect.do == "fire":
                    self.fires_ns.append(self.now_ns)
                    self.perform(self.judge.fired(self.now_ns + self.write_takes_ns))
                if effect.do == "output":
                    self.outputs.append((self.now_ns, effect.amplitude_ma, effect.frequency_hz, effect.lease_ms))
                if self.obeys:
                    self._obey(effect)

    def sync(self) -> None:
        """The disk takes what the ledger wrote."""
        self.on_disk = len(self.entries)
        self.judge.written(self.on_disk)

    def _obey(self, order: Order) -> None:
        if order.do == "output":
            self.device_ma = order.amplitude_ma if self.device_armed else 0.0
        elif order.do == "arm":
            self.device_armed = True
        elif order.do == "disarm":
            self.device_ma, self.device_armed = 0.0, False
        else:
            self.device_ma = 0.0

    def report(self, **changes: Any) -> None:
        fields = {"output_ma": self.device_ma, "t_ns": self.now_ns, "connected": True, "armed": self.device_armed, "fault": ""}
        fields["shot"] = self.shot
        self.perform(self.judge.report(DeviceReport(**{**fields, **changes}), self.now_ns))

    def tick_and_report(self, reports: bool = True) -> None:
        if self.disk_works:
            self.sync()
        self.perform(self.judge.tick(self.now_ns, self.wall_ns, self.monotonic_ns))
        if reports:
            self.report()

    def pass_ms(self, ms: int, heartbeats: bool = True, step_ms: int = 10, reports: bool = True) -> None:
        """Time goes on; the daemon's heartbeat comes every 100 ms."""
        for i in range(0, ms, step_ms):
            self.jump(step_ms)
            if heartbeats and i % 100 == 0 and self.mode != "stopped":
                self.send("heartbeat")
            self.tick_and_report(reports)

    def jump(self, ms: int) -> None:
        self.now_ns += ms * MS
        self.wall_ns += ms * MS
        self.monotonic_ns += ms * MS

    def make(self, kind: str, **changes: Any) -> StimCommand:
        """A command that is in order; `changes` spoil it."""
        self.sequence += 1
        self.tick += 1
        fields: dict[str, Any] = {"kind": kind, "sequence": self.sequence, "session": "s1", "nonce": self.nonce}
        fields |= {"expires_ns": self.now_ns + 1000 * MS, "tick": self.tick, "tick_ns": self.now_ns}
        if kind == "set":
            fields |= {"block": "stimulate", "amplitude_ma": 1.0, "frequency_hz": self.prescription.frequency_hz}
        if kind == "arm":
            fields |= {"halts": self.judge.halts, "tick": 0, "tick_ns": 0}
        return StimCommand(**{**fields, **changes})

    def give(self, command: StimCommand | PacketError) -> dict[str, Any] | None:
        """The judge hears a command; its answer, if it gave one."""
        before = len(self.replies)
        self.nonces += 1
        self.perform(self.judge.command(command, f"nonce{self.nonces}", self.now_ns))
        return self.replies[-1] if len(self.replies) > before else None

    def send(self, kind: str, **changes: Any) -> dict[str, Any] | None:
        return self.give(self.make(kind, **changes))

    def arm(self, **changes: Any) -> None:
        answer = self.send("arm", **changes)
        assert answer is not None and answer["type"] == "armed", answer

    def run_at(self, amplitude_ma: float) -> None:
        """Armed and ramped to this amplitude."""
        self.arm()
        self.pass_ms(50)
        assert self.send("set", amplitude_ma=amplitude_ma) is None
        ramp_ms = round(amplitude_ma * 1e6 / self.prescription.ramp_ua_per_s)
        self.pass_ms(100 * (ramp_ms // 100 + 1))
        assert abs(self.judge.level_ma - amplitude_ma) < 1e-9 and self.mode == "armed", self.judge.reason


class Signer:
    """A clinician's key and its entry in trusted.json."""

    def __init__(self, name: str = "Dr A", **entry: Any) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.key = self.private.public_key().public_bytes_raw().hex()
        now = int(time.time())
        fields = {"key": self.key, "name": name, "role": "prescriber", "scope": "simulated", "revoked": False}
        self.entry = {**fields, "valid_from_s": now - 1000, "valid_until_s": now + 100_000, **entry}

    def sign(self, payload: bytes) -> dict[str, str]:
        signature = self.private.sign(b"eegloop prescription v1\0" + payload)
        return {"key": self.key, "signature": signature.hex()}


def write_signed(folder: Path, prescription: Prescription, signers: list[Signer], trusted: Path) -> Path:
    """Sign a prescription as the clinic does and put the public keys where the interlock looks; the site certifies those of any scope."""
    payload = prescription.to_bytes()
    body = {
        "format": "eegloop-signed-1",
        "payload": base64.b64encode(payload).decode(),
        "signatures": [s.sign(payload) for s in signers],
    }
    path = folder / "prescription.signed"
    path.write_text(json.dumps(body))
    write_keys(trusted.parent, [s.entry for s in signers])
    return path


def write_keys(folder: Path, entries: list[dict[str, Any]], site: bytes = SITE, number: int = 1) -> None:
    """The keys' folder of a machine: all of them in trusted.json, and a list by the site of those that sign for more than `simulated`."""
    files: dict[str, bytes] = {"trusted.json": json.dumps({"keys": entries}).encode()}
    worn = [TrustedKey(**entry) for entry in entries if entry["scope"] == "any"]
    if worn:
        files["site.json"] = json.dumps({"site_key": public_key(site).hex(), "number": number}).encode()
        files["certified.json"] = certify(worn, number, site)
    for name, data in files.items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)


def write_start_code(seat: Path, prescription: Prescription, seed: bytes) -> None:
    """The clinic's code for the next home session of this seat (its folder), by what its ledger has."""
    course = hashlib.sha256(prescription.to_bytes()).hexdigest()[:32]
    sessions, dose_uc = load(seat / "ledger.log", "", False).given(course) if (seat / "ledger.log").exists() else (0, 0)
    until_s = int(time.time()) + 600
    (seat / "start.code").write_bytes(sign_start_code([seed], prescription.patient, course, sessions + 1, dose_uc, until_s))


def check_chain(data: bytes, head: tuple[int, str] | None) -> str:
    """What is wrong with a whole log, "" if nothing: a changed byte, a missing or foreign line, a cut tail."""
    n, digest = -1, ""
    try:
        for n, (digest, _) in enumerate(lines(data)):
            if head is not None and head[0] == n and head[1] != digest:
                return f"line {n + 1}: is not the line that was written"
    except (ValueError, TypeError) as error:
        return f"line {n + 2}: {str(error).removeprefix(f'line {n + 2} ')}"
    return f"the tail is cut: {head[0] - n} lines are missing" if head is not None and head[0] > n else ""


def valid_now(**changes: Any) -> Prescription:
    """`make_prescription`, valid by this machine's wall clock."""
    now = int(time.time())
    return make_prescription(**{"valid_from_s": now - 100, "valid_until_s": now + 86_400, **changes})


def wait_until(true: Callable[[], object]) -> None:
    """Wait for something that a thread does."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < give_up_s, f"waited {PATIENCE_S} s in vain"
        time.sleep(0.002)


def stopped(seat: Seat, because: str) -> None:
    """It has stopped for this reason, at zero, and stays so whatever it is told but `arm`."""
    assert seat.mode == "stopped" and because in seat.judge.reason, (seat.mode, seat.judge.reason)
    assert seat.judge.level_ma == seat.judge.target_ma == 0.0
    assert [do for _, do in seat.orders][-2:] == ["zero", "disarm"]
    n = len(seat.outputs)
    seat.pass_ms(1000, heartbeats=False)
    assert len(seat.outputs) == n, "an output order after the latch"
    for kind in ("heartbeat", "set", "fallback", "end"):
        answer = seat.send(kind)
        assert answer is not None and answer["type"] == "refused" and answer["field"] == "mode"
    assert seat.mode == "stopped"


def refuses_arm(seat: Seat, field: str) -> None:
    """Asked to arm, it says no by this field."""
    answer = seat.send("arm")
    assert answer is not None and answer["type"] == "refused" and answer["field"] == field, answer
    assert seat.mode == "stopped"

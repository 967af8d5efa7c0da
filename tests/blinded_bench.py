"""One blinded seat in virtual time: the real seat, line, link, recorder and audit trail, the interlock's own judge, a head that stimulation does
not reach. Everything that anybody could read of it is kept."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from control.would_be import begin
from daemon.asking import Asking
from daemon.audit import AuditTrail, read_chain
from daemon.blinded_link import BlindedLink
from daemon.build import recorder
from daemon.live import LiveServer
from daemon.loop import Line
from daemon.mqtt import SeatLink
from daemon.record import SessionRecorder
from daemon.record_writer import RecordWriter
from daemon.seat import SeatLoop
from daemon.view import loop_state
from eegloop.config import Seat, load
from eegloop.layout import Layout
from eegloop.mqtt import MqttSettings
from eegloop.plugins import find
from eegloop.signal import Chunk, StreamInfo
from eegloop.stim import DeviceReport, Prescription, StimCommand
from interlock.effects import Entry, Order, Reply
from interlock.judge import Judge
from interlock.ledger import Book
from interlock.limits import rules
from interlock.told import state_of
from simulators.brain import Brain
from simulators.settings import BrainSettings
from tests.virtual_device import VirtualDevice
from tests.virtual_loop import BOOT_NS, BOOT_TO_LSL_S, WALL_NS, info_of, line_for

ROOT = Path(__file__).parents[1]
SEAT = "seat1"
HEAD = BrainSettings(montage=("F3", "F4", "O1", "O2"))
RAIL_UV = 187_500.0
CHUNK = 10  # 40 ms: the judge's longest step of a ramp is 50 ms
STATE_EVERY = 6  # chunks
DRAIN_EVERY = 12
Device = Callable[[float, float], float]  # (LSL s, mA that was ordered) -> mA that the device says it gives


@cache
def seat_settings() -> Seat:
    """config.yaml's first seat, for this person."""
    return replace(load(ROOT / "config.yaml").seats[0], id=SEAT, person="p001")


class VirtualClock:
    """Goes on when the head does."""

    def __init__(self) -> None:
        self.t_s = 0.0

    def boot_ns(self) -> int:
        return BOOT_NS + round(self.t_s * 1e9)

    def lsl_s(self) -> float:
        return self.t_s

    def wall_s(self) -> float:
        return (WALL_NS + round(self.t_s * 1e9)) / 1e9


class JudgedLink(VirtualDevice, BlindedLink):
    """A blinded link whose packets go straight to a judge in this process."""

    def __init__(self, clock: VirtualClock, program: Prescription, own: Prescription, device: Device, lowest_ma: float) -> None:
        self.lowered: list[float] = []
        super().__init__(Path("none"), clock, begin(program, own == program, lowest_ma), self.lowered.append)
        limits = find("stimulator", "simulated").LIMITS
        self.clock, self.device = clock, device
        self.judge = Judge(rules(own, None, limits), "simulated", "measured", Book("boot", True), BOOT_NS)
        self.judge.ceiling_ma = min(self.judge.ceiling_ma, lowest_ma)
        self.dead = False
        self.record: list[tuple[float, float]] = []
        self.sent: list[tuple[str, float]] = []
        self._obey(self.judge.open(BOOT_NS, WALL_NS))

    def pass_time(self) -> None:
        now_ns = self.clock.boot_ns()
        if self.dead:
            return
        self._obey(self.judge.tick(now_ns, WALL_NS + now_ns - BOOT_NS, now_ns))
        said_ma = self.device(self.clock.t_s, self.output_ma)
        self._obey(self.judge.report(DeviceReport(said_ma, now_ns, connected=True, armed=self.armed), now_ns))
        self._accept({"type": "state", **asdict(state_of(self.judge, now_ns))})
        self.record.append((self.clock.t_s, self.output_ma))

    def stop_socket(self, reason: str) -> None:
        self._obey(self.judge.stop(reason, self.clock.boot_ns()))

    def _send(self, kind: str, **fields: Any) -> bool:
        self._sequence += 1
        command = StimCommand(
            kind, sequence=self._sequence, session=self._session, nonce=self._nonce,
            **{"expires_ns": self.clock.boot_ns() + 300_000_000, **fields},
        )  # fmt: skip
        self.sent.append((kind, command.amplitude_ma))
        self._obey(self.judge.command(command, f"nonce{self._sequence}", self.clock.boot_ns()))
        return True

    def _obey(self, effects: list[object]) -> None:
        for effect in effects:
            match effect:
                case Order():
                    self.carry_out(effect)
                case Entry(number=number):
                    self.judge.written(number)
                case Reply(body=body):
                    self._accept(json.loads(json.dumps(body)))


class Head:
    """The virtual head, 20 ms a chunk; stimulation does not reach it. `at`: what happens before the chunk of that second."""

    def __init__(self, bench: Bench, seconds: float) -> None:
        self._bench, self._n = bench, round(seconds * 250 / CHUNK)
        self.info = info_of(HEAD)

    async def __aenter__(self) -> Head:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def chunks(self) -> AsyncIterator[Chunk]:
        brain, bench = Brain(HEAD), self._bench
        for i in range(self._n):
            data = brain.advance(CHUNK)
            if bench.touches and bench.link.output_ma > 0.0:
                data = np.full_like(data, RAIL_UV)
            bench.clock.t_s = (i + 1) * CHUNK / 250
            for at_s in [at_s for at_s in bench.at if at_s <= bench.clock.t_s]:
                bench.at.pop(at_s)(bench)
            bench.link.pass_time()
            if i % STATE_EVERY == 0:
                bench.look()
            if i % DRAIN_EVERY == 0 and bench.seat.recorder is not None:
                bench.seat.recorder.drain()
            yield Chunk(data, i * CHUNK, i * CHUNK / 250, bench.clock.t_s)


class Live(LiveServer):
    """What is handed to viewers, kept."""

    def __init__(self, path: Path, clock: VirtualClock) -> None:
        super().__init__(path)
        self._virtual = clock
        self.left_s: float | None = None  # when whoever watched went away
        self.events: list[dict[str, Any]] = []
        self.chunks: list[int] = []

    @property
    def n_connections(self) -> int:
        """Somebody watches all the time."""
        return 1

    @property
    def supervision_age_s(self) -> float | None:
        return 0.1 if self.left_s is None else 0.1 + self._virtual.t_s - self.left_s

    def publish_chunk(self, seat_index: int, chunk: Chunk) -> None:
        self.chunks.append(chunk.first_sample)

    def publish_event(self, kind: str, seat: str, **fields: Any) -> None:
        self.events.append(json.loads(json.dumps({**fields, "type": kind, "seat": seat}, default=str)))


class Broker:
    """Takes what the MQTT link sends, in place of the network."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []

    async def publish(self, topic: str, payload: str, **options: Any) -> None:
        self.taken.append((topic, payload))


BEGIN: dict[float, Callable[[Bench], None]] = {
    0.5: lambda bench: bench.seat.person("rearm", "Ann"),
    1.0: lambda bench: bench.seat.person("start", "Ann"),
    1.5: lambda bench: bench.seat.person("screened", "Ann"),
}
"""What a person does until the session runs by itself."""


class Bench:
    """`own` is what the interlock of this person holds; `program` the active arm's."""

    def __init__(self, folder: Path, program: Prescription, own: Prescription, seconds: float, at: dict[float, Callable[[Bench], None]] | None = None,
                 device: Device = lambda t_s, ma: ma, lowest_ma: float = float("inf")) -> None:  # fmt: skip
        folder.mkdir()
        self.touches = False  # current drives every channel to its rail
        self.layout = Layout(folder)
        self.layout.create()
        self.clock, self.at = VirtualClock(), {**BEGIN, **(at or {})}
        self.program = program
        self.audit = AuditTrail(folder / "audit" / "daemon.jsonl", self.clock)
        self.live = Live(folder / "live.sock", self.clock)
        self.link = JudgedLink(self.clock, program, own, device, lowest_ma)
        asking = Asking(SEAT, None, (), False, self.audit, self.live, self.clock)
        self.seat = SeatLoop(
            SEAT, 0, "Seat", False, Head(self, seconds), self._line, self._recorder, self.link, self.audit, self.live, self.clock,
            asking, "alpha1",
        )  # fmt: skip
        self.states: list[dict[str, Any]] = []

    async def run(self) -> None:
        await self.seat.acquire()
        self.look()
        self.seat.close("the end")
        assert self.seat.recorder is not None
        self.seat.recorder.close()
        self.audit.close()

    def look(self) -> None:
        state = loop_state(self.seat, self.clock)
        self.states.append(json.loads(json.dumps({name: getattr(state, name) for name in state.__slots__}, default=float)))

    async def over_mqtt(self) -> list[tuple[str, str]]:
        """What the broker gets of it, but the time of day it was sent at."""
        link, broker = SeatLink(MqttSettings(broker="mqtt://localhost"), SEAT, None), Broker()  # type: ignore[arg-type]
        for state in self.states:
            await link._publish_state(broker, state)  # type: ignore[arg-type]
        return [(topic, json.dumps({k: v for k, v in json.loads(body).items() if k != "time"})) for topic, body in broker.taken]

    def chained(self) -> list[tuple[str, Any]]:
        return [(line["event"], line["data"]) for line in read_chain(self.audit.path) if line["event"] != "created"]

    def recorded(self) -> dict[str, bytes]:
        root = self.layout.recordings
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

    def _line(self, info: StreamInfo) -> Line:
        line = line_for(info, self.program, BOOT_TO_LSL_S, ("faa",))
        line.blinded = True
        return line

    def _recorder(self, info: StreamInfo, line: Line) -> SessionRecorder:
        return recorder(seat_settings(), self.layout, RecordWriter(), self.audit, info, line, self.clock, False)

"""One BrainFlow session: what the board says it has, and the thread that owns it, polls every preset and starts it again.

BrainFlow's calls can wait for one another inside the library (one lock for all boards), so all of them are made in
one thread per source; samples come out of it through a bounded queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from drivers.sources.brainflow_boards import PRESETS
from drivers.sources.brainflow_library import board_id, failure, library
from drivers.sources.units import channel_kind
from eegloop.closed import Closed
from eegloop.errors import SourceError
from eegloop.ports import Clock
from eegloop.signal import F32, F64, SourceNews, StreamInfo

POLL_S = 0.02
QUEUE_S = 10.0  # deliveries kept for a reader that does not come; older ones are dropped and show as loss
BUFFER_SAMPLES = 450_000
BACK_OFF_S = (0.5, 1.0, 2.0, 4.0, 8.0)
# The amplifiers' rails: ADS1299, 4.5 V / 24.
FULL_SCALE_UV = {"CYTON_BOARD": 187_500.0, "CYTON_DAISY_BOARD": 187_500.0}
INSTRUCTION = "The headset stopped sending. Check that its light is on."
CARRIERS = ("STREAMING_BOARD", "PLAYBACK_FILE_BOARD")
# Kinds that are no side stream: the EEG itself (and what else its electrodes could measure), and the board's own book-keeping.
NOT_BESIDE = ("eeg", "ecg", "emg", "eog", "resistance", "other")


class BoardSettings(Closed):
    """A BrainFlow board. Which parameters a board needs: `eegloop devices`."""

    board: str = Field(min_length=1, description="board name as BrainFlow spells it, e.g. CYTON_BOARD")
    serial_port: str = Field("", description="serial port of the dongle, e.g. /dev/ttyUSB0 or COM3")
    mac_address: str = Field("", description="Bluetooth address, for boards that need one")
    ip_address: str = Field("", description="address of a networked board, or the multicast group of STREAMING_BOARD")
    ip_port: int = Field(0, ge=0, le=65535, description="port of a networked board; 0 = the board's default")
    ip_address_aux: str = Field("", description="STREAMING_BOARD: multicast group of the auxiliary preset")
    ip_port_aux: int = Field(
        0, ge=0, le=65535, description="STREAMING_BOARD: port of the auxiliary preset; 0 = it is not streamed"
    )
    ip_address_anc: str = Field("", description="STREAMING_BOARD: multicast group of the ancillary preset")
    ip_port_anc: int = Field(
        0, ge=0, le=65535, description="STREAMING_BOARD: port of the ancillary preset; 0 = it is not streamed"
    )
    ip_protocol: Literal["none", "udp", "tcp"] = Field("none", description="protocol of a networked board")
    file: str = Field("", description="recording of PLAYBACK_FILE_BOARD")
    file_aux: str = Field("", description="recording of PLAYBACK_FILE_BOARD's auxiliary preset")
    file_anc: str = Field("", description="recording of PLAYBACK_FILE_BOARD's ancillary preset")
    master_board: str | None = Field(None, description="board whose data STREAMING_BOARD or PLAYBACK_FILE_BOARD carries")
    timeout: int = Field(0, ge=0, le=600, description="s to look for the headset; 0 = the board's default")
    serial_number: str = Field("", description="serial number or Bluetooth name, where several are near")
    other_info: str = Field("", description="whatever else this board needs, as BrainFlow documents it")
    channels: tuple[str, ...] | None = Field(None, description="electrode names in the order of the board's EEG channels")
    lost_after_s: float = Field(1.0, ge=0.2, le=30.0, description="s without a sample after which the link counts as lost")


PARAMETERS = (
    "serial_port", "mac_address", "ip_address", "ip_port", "ip_address_aux", "ip_port_aux", "ip_address_anc", "ip_port_anc",
    "file", "file_aux", "file_anc", "timeout", "serial_number", "other_info",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Preset:
    """One of the board's streams: its rows in what BrainFlow returns. `battery` and `resistance` are rows too, empty if there are none."""

    number: int
    sample_rate_hz: float
    rows: tuple[int, ...]
    channels: tuple[str, ...]
    stamp_row: int
    count_row: int
    battery: tuple[int, ...]
    resistance: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Described:
    """What the board's description says, checked against the settings. `eeg` is the preset with the EEG, `sides` everything else."""

    info: StreamInfo
    board: str
    board_id: int
    eeg: Preset
    sides: tuple[Preset, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one poll brought of one preset: (n, n_channels) float32, stamps on the LSL clock, packet counters, slow values."""

    preset: Preset
    is_eeg: bool
    data: F32
    stamps_s: F64
    counts: NDArray[np.int64] | None
    arrival_s: float
    battery: float | None
    resistance_ohm: tuple[float, ...]


def descriptions(board: str) -> dict[int, dict[str, Any]]:
    """BrainFlow's description of each of a board's presets; empty for boards that carry another one's data."""
    flow = library()
    number = board_id(flow, board, "board")
    found = {}
    for preset in flow.BoardShim.get_board_presets(number):
        with contextlib.suppress(flow.BrainFlowError):
            said = dict(flow.BoardShim.get_board_descr(number, preset))
            if "sampling_rate" in said:
                found[int(preset)] = said
    return found


def describe(settings: BoardSettings) -> Described:
    """Look the board up and check the settings against it.

    Raises
    ------
    SourceError
        One line: what is missing or wrong, and what to do.
    """
    flow = library()
    number = board_id(flow, settings.board, "board")
    described_as, where = settings.board, f"BrainFlow {settings.board}"
    if settings.board in CARRIERS:
        if settings.master_board is None:
            raise SourceError(f"{where}: needs master_board, the board whose data it carries; add it to the source")
        described_as = settings.master_board
        board_id(flow, described_as, "master_board")
    said = descriptions(described_as)
    first = next((preset for preset in sorted(said) if said[preset].get("eeg_channels")), None)
    if first is None:
        kinds = sorted({k.removesuffix("_channels") for d in said.values() for k in d if k.endswith("_channels")})
        raise SourceError(f"{where}: this board measures no EEG (it has {', '.join(kinds) or 'nothing'}); choose another board")
    eeg = _eeg(said[first], first)
    names = settings.channels
    if names is None and "eeg_names" in said[first]:
        names = tuple(n.strip() for n in str(said[first]["eeg_names"]).split(","))
    if names is None:
        raise SourceError(
            f"{where}: its description names no electrodes; add channels: [...] with {len(eeg.rows)} names (Fp1, Cz, ...) to it"
        )
    if len(names) != len(eeg.rows):
        raise SourceError(f"{where}: has {len(eeg.rows)} EEG channels, but {len(names)} names are given under channels")
    name = str(said[first].get("name", settings.board))
    info = StreamInfo(
        name, settings.serial_number or settings.serial_port or settings.mac_address, eeg.sample_rate_hz, tuple(names),
        tuple(channel_kind(n) for n in names), FULL_SCALE_UV.get(described_as, 0.0), "n/a", name,
    )  # fmt: skip
    sides = [_side(d, preset) for preset, d in sorted(said.items()) if preset == first or _carried(settings, preset)]
    return Described(info, described_as, number, eeg, tuple(s for s in sides if s.rows or s.battery or s.resistance))


def _eeg(said: Mapping[str, Any], number: int) -> Preset:
    rows = tuple(int(r) for r in said["eeg_channels"])
    return Preset(
        number, float(said["sampling_rate"]), rows, (), int(said["timestamp_channel"]), int(said.get("package_num_channel", -1)), (), ()
    )  # fmt: skip


def _side(said: Mapping[str, Any], number: int) -> Preset:
    """What a preset brings beside EEG; a row that BrainFlow lists under two kinds is taken once."""
    rows: dict[int, str] = {}
    for key, listed in said.items():
        kind = key.removesuffix("_channels")
        if key.endswith("_channels") and kind not in NOT_BESIDE:
            for i, row in enumerate(listed, 1):
                rows.setdefault(int(row), f"{kind}{i}")
    eeg = {int(r) for r in said.get("eeg_channels", [])}
    kept = {row: name for row, name in rows.items() if row not in eeg}
    ohm = [int(r) for r in said.get("resistance_channels", [])]
    ohm = [] if eeg & set(ohm) else ohm  # rows of the EEG hold resistance only in a mode of its own (brainflow_contact.py)
    return Preset(
        number, float(said["sampling_rate"]), tuple(kept), tuple(kept.values()), int(said["timestamp_channel"]),
        int(said.get("package_num_channel", -1)), (int(said["battery_channel"]),) if "battery_channel" in said else (),
        tuple(ohm),
    )  # fmt: skip


def _carried(settings: BoardSettings, preset: int) -> bool:
    """Is this preset there at all? A carrier board brings only those it was given."""
    key = {"PLAYBACK_FILE_BOARD": "file", "STREAMING_BOARD": "ip_port"}.get(settings.board)
    suffix = {0: "", 1: "_aux", 2: "_anc"}[preset]
    return key is None or bool(getattr(settings, key + suffix))


class Session:
    """The thread that owns the board: prepares, polls, notices silence, prepares again, releases."""

    def __init__(self, settings: BoardSettings, described: Described, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._described = described
        self._clock = clock
        self._loop = loop
        self._stop = threading.Event()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._queue: deque[Delivery | SourceNews] = deque(maxlen=round(QUEUE_S / POLL_S) * (1 + len(described.sides)))
        self._arrived = asyncio.Event()
        self._done = False
        self._error: SourceError | None = None
        self._thread = threading.Thread(target=self._run, name=f"brainflow-{settings.board}", daemon=True)

    async def start(self) -> None:
        self._thread.start()
        try:
            await asyncio.shield(self._ready)
        except BaseException:
            self._stop.set()
            raise

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join, 5.0)
        self._finish()

    async def next_item(self) -> Delivery | SourceNews | None:
        """The oldest thing not yet read; None when the session is over. Raises SourceError if it ended by a failure."""
        while not self._queue:
            if self._error is not None:
                raise self._error
            if self._done:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()

    # ------------------------------------------------------------------ on the loop

    def _put(self, item: Delivery | SourceNews) -> None:
        self._queue.append(item)
        self._arrived.set()

    def _finish(self, error: SourceError | None = None) -> None:
        self._done = True
        if error is not None and not self._ready.done():
            self._ready.set_exception(error)
        elif error is not None:
            self._error = error
        self._arrived.set()

    def _started(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _say(self, call: Any, *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed before us
            self._loop.call_soon_threadsafe(call, *arguments)

    # ------------------------------------------------------------------ in the thread

    def _run(self) -> None:
        """Whatever ends this thread is told: a reader that waits for it would never connect again."""
        error: SourceError | None = None
        try:
            self._sessions()
        except SourceError as failed:
            error = failed
        except Exception as failed:  # a board's library, or its data, may do what nobody foresaw
            error = SourceError(f"BrainFlow {self._settings.board}: {type(failed).__name__}: {failed}; it is connected anew")
        self._say(self._finish, error)

    def _sessions(self) -> None:
        """One session of the board after another, until told to stop or nothing more comes; raises what the first start does."""
        over = self._once(restarted=False)
        said, tries = "", 0
        while not (over or self._stop.wait(BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)])):
            tries += 1
            try:
                over = self._once(restarted=True)
                tries = 0
            except SourceError as error:
                if str(error) != said:
                    said = str(error)
                    self._say(self._put, SourceNews("warning", f"{INSTRUCTION} ({said})", self._clock.lsl_s()))

    def _once(self, restarted: bool) -> bool:
        """One session of the board. A function of its own: BrainFlow's object, when it is collected, releases whatever
        session has its parameters, so none may outlive its session."""
        with _board(library(), self._settings, self._described) as board:
            self._say(self._started)
            return self._poll(board, restarted)

    def _poll(self, board: Any, restarted: bool = False) -> bool:
        """Read until told to stop or the board falls silent; True when there is nothing more to come."""
        where = f"BrainFlow {self._settings.board}"
        heard_s = self._clock.lsl_s()
        patience_s = max(self._settings.lost_after_s, 5.0)  # the first samples of a board may take their time
        while not self._stop.wait(POLL_S):
            try:
                brought = self._read(board)
            except library().BrainFlowError as error:
                self._lost(f"{where}: {error}", heard_s, restarted)
                return False
            now = self._clock.lsl_s()
            if any(delivery.is_eeg for delivery in brought):
                if restarted:
                    restarted = False
                    self._say(self._put, SourceNews("restarted", f"{where} was started again", now))
                    self._say(self._put, SourceNews("connected", f"{where} sends again", now))
                heard_s, patience_s = now, self._settings.lost_after_s
            elif now - heard_s > patience_s:
                if self._settings.board == "PLAYBACK_FILE_BOARD":
                    self._say(self._put, SourceNews("ended", f"{self._settings.file}: played to its end", now))
                    return True
                self._lost("no samples arrive", heard_s, restarted)
                return False
            if not restarted:
                for delivery in brought:
                    self._say(self._put, delivery)
        return True

    def _lost(self, why: str, heard_s: float, already_said: bool) -> None:
        if not already_said:
            news = SourceNews("lost", INSTRUCTION, self._clock.lsl_s(), {"reason": why, "last_sample_s": heard_s})
            self._say(self._put, news)

    def _read(self, board: Any) -> list[Delivery]:
        """Everything the board has ready, one delivery a stream; a preset is read once, though EEG and others may share it."""
        described = self._described
        brought: dict[int, NDArray[np.float64]] = {}
        out: list[Delivery] = []
        for preset in (described.eeg, *described.sides):
            if preset.number not in brought:
                brought[preset.number] = board.get_board_data(preset=preset.number)
            rows = brought[preset.number]
            if rows.shape[1]:
                out.append(self._delivery(preset, rows))
        return out

    def _delivery(self, preset: Preset, rows: NDArray[np.float64]) -> Delivery:
        now_s = self._clock.lsl_s()
        stamps = rows[preset.stamp_row] + (now_s - self._clock.wall_s())
        if not now_s - 60.0 < stamps[0] <= stamps[-1] < now_s + 0.1:
            # The wall clock was set between the board's stamp and now, or the board has no stamps: arrival is what is left.
            stamps = now_s - np.arange(len(stamps) - 1, -1, -1) / preset.sample_rate_hz
        counts = rows[preset.count_row].astype(np.int64) if preset.count_row >= 0 else None
        data = np.ascontiguousarray(rows[list(preset.rows)].T, dtype=np.float32)
        battery = float(rows[preset.battery[0], -1]) if preset.battery else None
        resistance = tuple(rows[list(preset.resistance), -1].tolist())
        return Delivery(preset, preset is self._described.eeg, data, stamps, counts, now_s, battery, resistance)


@contextlib.contextmanager
def opened(flow: Any, settings: BoardSettings, described: Described) -> Iterator[Any]:
    """A prepared board that does not stream yet; stopped and released however this ends."""
    where = f"BrainFlow {settings.board}"
    parameters = flow.BrainFlowInputParams()
    for key in PARAMETERS:
        setattr(parameters, key, getattr(settings, key))
    parameters.ip_protocol = {"none": 0, "udp": 1, "tcp": 2}[settings.ip_protocol]
    if settings.master_board is not None:
        parameters.master_board = int(flow.BoardIds[settings.master_board])
    try:
        board = flow.BoardShim(described.board_id, parameters)
        board.prepare_session()
    except flow.BrainFlowError as error:
        raise failure(where, "cannot be opened", error) from None
    try:
        yield board
    finally:
        for call in (board.stop_stream, board.release_session):
            with contextlib.suppress(flow.BrainFlowError):
                call()


@contextlib.contextmanager
def _board(flow: Any, settings: BoardSettings, described: Described) -> Iterator[Any]:
    """A streaming board; released however this ends."""
    with opened(flow, settings, described) as board:
        try:
            board.start_stream(BUFFER_SAMPLES)
        except flow.BrainFlowError as error:
            raise failure(f"BrainFlow {settings.board}", "does not start to send", error) from None
        yield board


def stream_name(preset: int) -> str:
    """What a preset's side stream is called in recordings."""
    return PRESETS[preset]

"""Any board that BrainFlow knows, by name, with the parameters it needs.

BrainFlow's calls can wait for one another inside the library (one lock for all boards), so all of them are made in
one thread per source; samples come out of it through a bounded queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import importlib.resources
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from drivers.sources.brainflow_boards import BoardDescription, describe_board
from drivers.sources.clock import ClockState, Counter, SampleClock
from drivers.sources.units import channel_kind
from eegloop.closed import Closed
from eegloop.errors import SourceError
from eegloop.ports import Clock
from eegloop.signal import F64, Chunk, SourceNews, StreamInfo

POLL_S = 0.02
QUEUE_S = 10.0  # deliveries kept for a reader that does not come; older ones are dropped and show as loss
CHUNK_S = 0.02
BUFFER_SAMPLES = 450_000
BACK_OFF_S = (0.5, 1.0, 2.0, 4.0, 8.0)
# Counters and rails that were checked: Cyton by the shared recording and its data sheet (ADS1299, 4.5 V / 24), Synthetic here.
COUNTERS = {"SYNTHETIC_BOARD": Counter(256), "CYTON_BOARD": Counter(256)}
FULL_SCALE_UV = {"CYTON_BOARD": 187_500.0, "CYTON_DAISY_BOARD": 187_500.0}
ADVICE = {
    "PORT_ALREADY_OPEN_ERROR": "another program holds the port: close it (the OpenBCI GUI, another eegloop)",
    "UNABLE_TO_OPEN_PORT_ERROR": "check that the dongle is plugged in, serial_port names it (eegloop devices lists ports) "
    "and you may use it (on Linux: group dialout)",
    "SER_PORT_ERROR": "unplug the dongle and plug it in again",
    "BOARD_WRITE_ERROR": "switch the headset off and on again",
    "INITIAL_MSG_ERROR": "switch the headset off and on again, and check that its dongle is on the same channel",
    "BOARD_NOT_READY_ERROR": "check that the headset is on, charged, near, and not connected to another program",
    "INVALID_ARGUMENTS_ERROR": "a parameter is missing or wrong: see what this board needs with eegloop devices",
    "ANOTHER_BOARD_IS_CREATED_ERROR": "the same board is already in use by another seat of this config.yaml",
    "SYNC_TIMEOUT_ERROR": "the headset was found but sent nothing in time: move it nearer and try again",
    "UNSUPPORTED_BOARD_ERROR": "BrainFlow does not support this board on this computer",
    "GENERAL_ERROR": "switch the headset off and on again; if it stays, update brainflow",
}


class Settings(Closed):
    """A BrainFlow board. Which parameters a board needs: BrainFlow's page of supported boards, or `eegloop devices`."""

    board: str = Field(min_length=1, description="board name as BrainFlow spells it, e.g. CYTON_BOARD")
    serial_port: str = Field("", description="serial port of the dongle, e.g. /dev/ttyUSB0 or COM3")
    mac_address: str = Field("", description="Bluetooth address, for boards that need one")
    ip_address: str = Field("", description="address of a networked board, or the multicast group of STREAMING_BOARD")
    ip_port: int = Field(0, ge=0, le=65535, description="port of a networked board; 0 = the board's default")
    ip_protocol: Literal["none", "udp", "tcp"] = Field("none", description="protocol of a networked board")
    file: str = Field("", description="recording of PLAYBACK_FILE_BOARD")
    master_board: str | None = Field(None, description="board whose data STREAMING_BOARD or PLAYBACK_FILE_BOARD carries")
    timeout: int = Field(0, ge=0, le=600, description="s to look for the headset; 0 = the board's default")
    serial_number: str = Field("", description="serial number or Bluetooth name, where several are near")
    other_info: str = Field("", description="whatever else this board needs, as BrainFlow documents it")
    channels: tuple[str, ...] | None = Field(None, description="electrode names in the order of the board's EEG channels")
    lost_after_s: float = Field(1.0, ge=0.2, le=30.0, description="s without a sample after which the link counts as lost")


def build(settings: Settings, clock: Clock) -> BrainflowSource:
    return BrainflowSource(settings, clock)


def board_names() -> tuple[str, ...]:
    """Names of all boards of the installed BrainFlow."""
    return tuple(b.name for b in _library().BoardIds if b.name != "NO_BOARD")


def boards() -> tuple[BoardDescription, ...]:
    """Every board of the installed BrainFlow: its streams, and what it needs in config.yaml."""
    return tuple(describe_board(name, descriptions(name)) for name in board_names())


def describe(board: str) -> dict[str, Any]:
    """BrainFlow's description of a board (rows of each kind, rate, names)."""
    library = _library()
    return dict(library.BoardShim.get_board_descr(_board_id(library, board, "board")))


def descriptions(board: str) -> dict[int, dict[str, Any]]:
    """BrainFlow's description of each of a board's presets; empty for boards that carry another one's data."""
    library = _library()
    board_id = _board_id(library, board, "board")
    found = {}
    for preset in library.BoardShim.get_board_presets(board_id):
        with contextlib.suppress(library.BrainFlowError):
            said = dict(library.BoardShim.get_board_descr(board_id, preset))
            if "sampling_rate" in said:
                found[int(preset)] = said
    return found


class BrainflowSource:
    """Implements `eegloop.ports.EegSource` over one BrainFlow session."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._info: StreamInfo | None = None
        self._session: _Session | None = None
        self._samples: SampleClock | None = None

    async def __aenter__(self) -> BrainflowSource:
        described = await asyncio.to_thread(_describe, self._settings)
        self._info = described.info
        self._samples = SampleClock(described.info.sample_rate_hz, described.counter)
        self._session = _Session(self._settings, described, self._clock, asyncio.get_running_loop())
        await self._session.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.stop()

    @property
    def info(self) -> StreamInfo:
        if self._info is None:
            raise SourceError(f"BrainFlow {self._settings.board}: not connected; enter the source first (async with)")
        return self._info

    @property
    def clock_state(self) -> ClockState:
        """Measured rate, jitter, uncertainty and losses."""
        assert self._samples is not None
        return self._samples.state

    async def chunks(self) -> AsyncIterator[Chunk | SourceNews]:
        session, samples = self._session, self._samples
        assert session is not None and samples is not None
        most = max(1, round(CHUNK_S * samples.nominal_hz))
        segment = samples.segment
        yield SourceNews("connected", f"{self.info.name} sends", self._clock.lsl_s())
        while True:
            item = await session.next_item()
            if item is None:
                return
            if isinstance(item, SourceNews):
                if item.kind in ("lost", "ended"):
                    for chunk in samples.flush():
                        yield chunk
                if item.kind == "restarted":
                    samples.new_segment("the board was started again")
                yield item
                continue
            n = len(item.stamps_s)
            for i in range(0, n, most):
                part = slice(i, i + most)
                counts = item.counts[part] if item.counts is not None else None
                for chunk in samples.feed(item.data_uv[part], item.stamps_s[part], item.arrival_s, counts):
                    if chunk.segment != segment:
                        segment = chunk.segment
                        yield SourceNews("warning", f"new segment: {samples.restart_reason}", chunk.t0_s)
                    yield chunk


class _Described:
    """What the board's description says, checked against the settings."""

    def __init__(
        self, info: StreamInfo, board_id: int, rows: list[int], stamp_row: int, count_row: int, counter: Counter | None
    ) -> None:
        self.info = info
        self.board_id = board_id
        self.rows = rows
        self.stamp_row = stamp_row
        self.count_row = count_row
        self.counter = counter


class _Delivery:
    """What one poll brought: (n, n_channels) float32 µV, stamps on the LSL clock, packet counters."""

    __slots__ = ("arrival_s", "counts", "data_uv", "stamps_s")

    def __init__(self, data_uv: Any, stamps_s: F64, counts: NDArray[np.int64] | None, arrival_s: float) -> None:
        self.data_uv = data_uv
        self.stamps_s = stamps_s
        self.counts = counts
        self.arrival_s = arrival_s


def _describe(settings: Settings) -> _Described:
    library = _library()
    board_id = _board_id(library, settings.board, "board")
    described_as = settings.board
    if settings.board in ("STREAMING_BOARD", "PLAYBACK_FILE_BOARD"):
        if settings.master_board is None:
            raise SourceError(
                f"BrainFlow {settings.board}: needs master_board, the board whose data it carries; add it to the source"
            )
        described_as = settings.master_board
        _board_id(library, described_as, "master_board")
    where = f"BrainFlow {settings.board}"
    try:
        said = dict(library.BoardShim.get_board_descr(int(library.BoardIds[described_as])))
    except library.BrainFlowError as error:
        raise _failure(where, "has no description", error) from None
    rows = [int(r) for r in said.get("eeg_channels", [])]
    if not rows:
        kinds = ", ".join(k.removesuffix("_channels") for k in said if k.endswith("_channels")) or "nothing"
        raise SourceError(f"{where}: this board measures no EEG (it has {kinds}); choose another board")
    names = settings.channels
    if names is None and "eeg_names" in said:
        names = tuple(n.strip() for n in str(said["eeg_names"]).split(","))
    if names is None:
        raise SourceError(
            f"{where}: its description names no electrodes; add channels: [...] with {len(rows)} names (Fp1, Cz, ...) to it"
        )
    if len(names) != len(rows):
        raise SourceError(f"{where}: has {len(rows)} EEG channels, but {len(names)} names are given under channels")
    info = StreamInfo(
        str(said.get("name", settings.board)), settings.serial_number or settings.serial_port or settings.mac_address,
        float(said["sampling_rate"]), tuple(names), tuple(channel_kind(n) for n in names),
        FULL_SCALE_UV.get(described_as, 0.0), "n/a", str(said.get("name", "n/a")),
    )  # fmt: skip
    return _Described(
        info, board_id, rows, int(said["timestamp_channel"]), int(said.get("package_num_channel", -1)), COUNTERS.get(described_as)
    )


class _Session:
    """The thread that owns the board: prepares, polls, notices silence, prepares again, releases."""

    def __init__(self, settings: Settings, described: _Described, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._described = described
        self._clock = clock
        self._loop = loop
        self._stop = threading.Event()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._queue: deque[_Delivery | SourceNews] = deque(maxlen=round(QUEUE_S / POLL_S))
        self._arrived = asyncio.Event()
        self._done = False
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

    async def next_item(self) -> _Delivery | SourceNews | None:
        """The oldest thing not yet read; None when the session is over."""
        while not self._queue:
            if self._done:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()

    # ------------------------------------------------------------------ on the loop

    def _put(self, item: _Delivery | SourceNews) -> None:
        self._queue.append(item)
        self._arrived.set()

    def _finish(self) -> None:
        self._done = True
        self._arrived.set()

    def _started(self, error: SourceError | None) -> None:
        if self._ready.done():
            return
        if error is None:
            self._ready.set_result(None)
        else:
            self._ready.set_exception(error)

    def _say(self, call: Any, *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed before us
            self._loop.call_soon_threadsafe(call, *arguments)

    # ------------------------------------------------------------------ in the thread

    def _run(self) -> None:
        try:
            over = self._once(restarted=False)
        except SourceError as error:
            self._say(self._started, error)
            return
        said, tries = "", 0
        while not (over or self._stop.wait(BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)])):
            tries += 1
            try:
                over = self._once(restarted=True)
                tries = 0
            except SourceError as error:
                if str(error) != said:
                    said = str(error)
                    self._say(self._put, SourceNews("warning", said, self._clock.lsl_s()))
        self._say(self._finish)

    def _once(self, restarted: bool) -> bool:
        """One session of the board. A function of its own: BrainFlow's object, when it is collected, releases whatever
        session has its parameters, so none may outlive its session."""
        with _board(_library(), self._settings, self._described) as board:
            self._say(self._started, None)
            return self._poll(board, restarted)

    def _poll(self, board: Any, restarted: bool = False) -> bool:
        """Read until told to stop or the board falls silent; True when there is nothing more to come."""
        where = f"BrainFlow {self._settings.board}"
        heard_s = self._clock.lsl_s()
        patience_s = max(self._settings.lost_after_s, 5.0)  # the first samples of a board may take their time
        while not self._stop.wait(POLL_S):
            try:
                rows = board.get_board_data()
            except _library().BrainFlowError as error:
                self._lost(f"{where}: {error}", heard_s, restarted)
                return False
            now = self._clock.lsl_s()
            if rows.shape[1]:
                if restarted:
                    restarted = False
                    self._say(self._put, SourceNews("restarted", f"{where} was started again", now))
                    self._say(self._put, SourceNews("connected", f"{where} sends again", now))
                heard_s, patience_s = now, self._settings.lost_after_s
                self._say(self._put, self._delivery(rows, now))
            elif now - heard_s > patience_s:
                if self._settings.board == "PLAYBACK_FILE_BOARD":
                    self._say(self._put, SourceNews("ended", f"{self._settings.file}: played to its end", now))
                    return True
                self._lost("no samples arrive", heard_s, restarted)
                return False
        return True

    def _lost(self, why: str, heard_s: float, already_said: bool) -> None:
        if not already_said:
            text = "The headset stopped sending. Check that its light is on."
            news = SourceNews("lost", text, self._clock.lsl_s(), {"reason": why, "last_sample_s": heard_s})
            self._say(self._put, news)

    def _delivery(self, rows: NDArray[np.float64], now_s: float) -> _Delivery:
        described = self._described
        stamps = rows[described.stamp_row] + (now_s - self._clock.wall_s())
        if not now_s - 60.0 < stamps[0] <= stamps[-1] < now_s + 0.1:
            # The wall clock was set between the board's stamp and now, or the board has no stamps: arrival is what is left.
            stamps = now_s - np.arange(len(stamps) - 1, -1, -1) / described.info.sample_rate_hz
        counted = described.counter is not None and described.count_row >= 0
        counts = rows[described.count_row].astype(np.int64) if counted else None
        data = np.ascontiguousarray(rows[described.rows].T, dtype=np.float32)
        return _Delivery(data, stamps, counts, now_s)


@contextlib.contextmanager
def _board(library: Any, settings: Settings, described: _Described) -> Iterator[Any]:
    """A prepared, streaming board; released however this ends."""
    where = f"BrainFlow {settings.board}"
    parameters = library.BrainFlowInputParams()
    for key in ("serial_port", "mac_address", "ip_address", "ip_port", "file", "timeout", "serial_number", "other_info"):
        setattr(parameters, key, getattr(settings, key))
    parameters.ip_protocol = {"none": 0, "udp": 1, "tcp": 2}[settings.ip_protocol]
    if settings.master_board is not None:
        parameters.master_board = int(library.BoardIds[settings.master_board])
    try:
        board = library.BoardShim(described.board_id, parameters)
        board.prepare_session()
    except library.BrainFlowError as error:
        raise _failure(where, "cannot be opened", error) from None
    try:
        try:
            board.start_stream(BUFFER_SAMPLES)
        except library.BrainFlowError as error:
            raise _failure(where, "does not start to send", error) from None
        yield board
    finally:
        for call in (board.stop_stream, board.release_session):
            with contextlib.suppress(library.BrainFlowError):
                call()


def _failure(where: str, what: str, error: Any) -> SourceError:
    name = str(error).split(":", 1)[0]
    return SourceError(f"{where}: {what} ({name}); {ADVICE.get(name, 'check the board and its parameters in config.yaml')}")


def _board_id(library: Any, name: str, key: str) -> int:
    try:
        return int(library.BoardIds[name])
    except KeyError:
        names = [b.name for b in library.BoardIds]
        near = difflib.get_close_matches(name.upper(), names, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SourceError(
            f"{key}: BrainFlow knows no board {name!r}{hint} (eegloop devices lists all {len(names) - 1})"
        ) from None


class _Library:
    """The names we use of BrainFlow, its logging silenced."""

    def __init__(self) -> None:
        from brainflow import board_shim

        if sys.version_info < (3, 12):
            # board_shim asks importlib.resources for its own module, which before 3.12 must be the package;
            # its fallback needs pkg_resources, which setuptools no longer brings.
            board_shim.files = lambda _: importlib.resources.files("brainflow")
        self.BoardShim = board_shim.BoardShim
        self.BoardIds = board_shim.BoardIds
        self.BrainFlowInputParams = board_shim.BrainFlowInputParams
        self.BrainFlowError = board_shim.BrainFlowError
        board_shim.BoardShim.set_log_level(board_shim.LogLevels.LEVEL_OFF.value)


_loaded: list[_Library] = []
_loading = threading.Lock()


def _library() -> Any:
    with _loading:
        if not _loaded:
            _loaded.append(_Library())
    return _loaded[0]

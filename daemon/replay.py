"""`eegloop replay`: the same line over a file, as fast as it can; a session of ours gives the same decisions bit for bit."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from control.prescription import demo_prescription
from control.pulse_plan import PulseNews
from control.screening import Finding, Level
from control.session import OperatorEvent
from daemon.decisions import decision_row
from daemon.loop import Conditions, Line, Tick
from drivers.sources.files import Recording, open_recording
from dsp.pipeline import Pipeline
from eegloop.closed import Closed
from eegloop.config import Config, Seat, load
from eegloop.errors import RecordingError
from eegloop.line import LineSettings
from eegloop.plugins import find
from eegloop.signal import F64, StreamInfo
from eegloop.stim import Limit, Prescription, PrescriptionError
from records import session
from records.derivatives import ReplayDerivatives
from records.session import RecordedSession

CHUNK_S = 1.0
_BIDS_SUFFIXES = (".vhdr", ".edf", ".bdf", ".fif", ".xdf")


@dataclass(slots=True)
class Replay:
    """One replay: the line, where its ticks come from, and what is known of the whole."""

    line: Line
    ticks: Iterator[Tick]
    n_samples: int
    setup: dict[str, Any]
    recorded: RecordedSession | None = None
    decided: list[tuple[Any, ...]] = field(default_factory=list)


def replay_recording(
    recording: Path,
    out: Path,
    config: Path | None,
    controller: str | None,
    seat: str | None,
    default_config: Path,
    progress: bool,
    stream: str | None = None,
    unit: str | None = None,
) -> dict[str, Any]:
    """Run a recording through the line and write the derivatives under `out`.

    Parameters
    ----------
    config : Path or None
        Settings of the line; None = a session of ours under its own settings, any other file under `default_config`.
    controller : str or None
        Another controller's kind.
    stream : str or None
        Which stream, for files that hold several (XDF).
    unit : str or None
        V, mV, µV or nV, for files that do not say it (XDF, EDF, BDF).

    Returns
    -------
    dict
        `text`, `folder`, `seconds`, `speed` (times real time), `hops`, `decisions`, `identical` (decisions equal to the recorded
        ones; None where there is nothing to compare), `history` (trials so far, "" where there are none).

    Raises
    ------
    SourceError, RecordingError, ConfigError
        One line each.
    """
    header = _session_header(recording)
    if header is not None:
        made = _own(RecordedSession(header), config, controller, seat)
    else:
        made = _foreign(
            open_recording(_only_recording(recording), stream, unit), _seat(load(config or default_config), seat), controller
        )
    line = made.line
    started_s = time.perf_counter()
    try:
        derivatives = ReplayDerivatives(out, header or _only_recording(recording), line.info, line.pipeline.columns, made.setup)
        try:
            n_samples, n_hops, mains_hz = _run(made, derivatives, recording.name, progress)
        finally:
            derivatives.close()
    except OSError as error:
        raise RecordingError(f"{out}: cannot be written ({error.strerror or error}); choose another --out") from None
    if n_samples == 0:
        raise RecordingError(f"{recording}: holds no samples; nothing was replayed")
    took_s = time.perf_counter() - started_s
    seconds = n_samples / line.info.sample_rate_hz
    if n_hops == 0 and made.recorded is None:
        raise RecordingError(f"{recording}: holds {seconds:.3g} s, too little for one row of biomarkers")
    identical = _identical(made, controller, config)
    text = (
        f"{recording.name}: {seconds:.1f} s, {line.info.n_channels} channels at {line.info.sample_rate_hz:g} Hz in {took_s:.1f} s "
        f"({seconds / took_s:.0f} x real time); {n_hops} hops, {len(made.decided)} decisions"
        + (
            ""
            if identical is None or made.recorded is None
            else f", {identical} of the {_n_decisions(made.recorded)} recorded ones identical"
        )
        + _mains_note(mains_hz, line.pipeline.settings.notch_hz)
        + (f"\n{untold}" if (untold := line.pipeline.eyes_untold) else "")
        + f"\n{derivatives.folder}"
        + handed_on(line)
    )
    return {
        "text": text,
        "folder": str(derivatives.folder),
        "seconds": seconds,
        "speed": seconds / took_s,
        "hops": n_hops,
        "decisions": len(made.decided),
        "identical": identical,
        "history": line.carried(),
    }


def handed_on(line: Line) -> str:
    """A line with the trials so far, where they may go on in another session; else nothing."""
    history = line.carried()
    return f'\nTrials so far, to be signed with the next prescription: settings.history: "{history}"' if history else ""


def _run(made: Replay, derivatives: ReplayDerivatives, name: str, progress: bool) -> tuple[int, int, float]:
    """Every tick through the line; samples (lost ones included), hops, and the mains as found (Hz, NaN if they do not stand out)."""
    line = made.line
    n_samples = n_hops = 0
    mains_hz = math.nan
    with _told() as told, _bar(progress) as bar:
        task = bar.add_task(name, total=max(1, made.n_samples)) if bar is not None else None
        for tick in made.ticks:
            if told:
                sys.exit(128 + told[0])
            outcome = line.step(tick)
            for state in tick.states:
                derivatives.stim(tick.number, state)
            if tick.chunk is not None:
                derivatives.chunk(tick.number, tick.chunk)
                n_samples += tick.chunk.n_samples + tick.chunk.lost_samples
                if bar is not None and task is not None:
                    bar.update(task, completed=n_samples)
            for row in outcome.rows:
                n_hops += 1
                mains_hz = row.quality.mains_hz
                derivatives.biomarkers(row)
            for decision in outcome.decisions:
                row_ = decision_row(decision, line, 0, None)
                made.decided.append((row_.end_sample, row_.granted_ma, row_.granted_hz, row_.hold, row_.sentence))
                derivatives.decision(row_)
    return n_samples, n_hops, mains_hz


def _mains_note(mains_hz: float, notch_hz: int | None) -> str:
    """A line for a person where mains were found that no notch takes out: every value may be suspect for them."""
    if math.isnan(mains_hz) or mains_hz == notch_hz:
        return ""
    notch = "off" if notch_hz is None else f"{notch_hz} Hz"
    return (
        f"\nmains of {mains_hz:g} Hz were found, and line.notch_hz is {notch}: set it to {mains_hz:g} in config.yaml (--config)"
    )


def _session_header(recording: Path) -> Path | None:
    """The header of a session of ours, from itself, its .eeg, or the folder it lies in; None for anything else."""
    if recording.is_dir():
        found = sorted(p for p in recording.rglob("*_eeg.vhdr") if RecordedSession.is_session(p))
        if len(found) > 1:
            names = ", ".join(p.name for p in found[:5])
            raise RecordingError(f"{recording}: name one recording; this folder holds {len(found)} sessions ({names})")
        return found[0] if found else None
    header = recording.with_suffix(".vhdr")
    if recording.suffix in (".vhdr", ".eeg", ".vmrk") and RecordedSession.is_session(header):
        return header
    return None


def _only_recording(recording: Path) -> Path:
    """The file itself, or the one EEG recording of a BIDS folder."""
    if not recording.is_dir():
        return recording
    found = sorted(p for p in recording.rglob("*_eeg.*") if p.suffix.lower() in _BIDS_SUFFIXES)
    if len(found) != 1:
        names = ", ".join(p.name for p in found[:5]) or "none"
        raise RecordingError(f"{recording}: name one recording; this folder holds {len(found)} ({names})")
    return found[0]


def _seat(config: Config, name: str | None) -> Seat:
    for seat in config.seats:
        if name is None or seat.id == name:
            return seat
    raise RecordingError(f"{config.path}: no seat {name!r}; there are: {', '.join(s.id for s in config.seats)}")


def _controller(kind: str, settings: dict[str, Any]) -> Any:
    module = find("controller", kind)
    return module.build(module.Settings(**settings))


def _own(recorded: RecordedSession, config: Path | None, controller: str | None, seat: str | None) -> Replay:
    """A session of ours: the same settings, the same ticks."""
    setup = recorded.setup
    try:
        prescription = Prescription.from_bytes(str(setup["prescription"]).encode())
        settings: LineSettings = LineSettings.model_validate(setup["line"])
        biomarkers = [_biomarker(dict(b)) for b in setup["biomarkers"]]
        chosen = dict(setup["controller"])
        boot_to_lsl_s, started_s = float(setup["boot_to_lsl_s"]), float(setup["line_started_s"])
        limits: tuple[Limit, ...] = find("stimulator", str(setup["stimulator"])).LIMITS
        blinded = bool(setup.get("blinded", False))
    except (KeyError, TypeError, ValueError) as error:
        raise RecordingError(
            f"{recorded.header}: its settings cannot be read ({error}); was it written by a newer eegloop?"
        ) from None
    if config is not None:
        chosen_seat = _seat(load(config), seat)
        settings = chosen_seat.line
        biomarkers = [(b.kind, b.settings) for b in chosen_seat.biomarkers]
    kind = controller or chosen.pop("kind")
    chosen.pop("kind", None)
    line = _line(
        recorded.info,
        settings,
        biomarkers,
        kind,
        {} if controller else chosen,
        prescription,
        limits,
        boot_to_lsl_s,
        started_s,
        blinded,
    )
    setup = {
        **setup,
        "line": settings.model_dump(mode="json"),
        "biomarkers": [{"kind": name, **one.model_dump(mode="json")} for name, one in biomarkers],
        "controller": {"kind": kind, **({} if controller else chosen)},
        "prescription": line.prescription.to_bytes().decode(),
    }
    return Replay(line, recorded_ticks(recorded), len(recorded.samples()), setup, recorded)


def _line(
    info: StreamInfo,
    settings: LineSettings,
    biomarkers: list[tuple[str, Closed]],
    kind: str,
    controller_settings: dict[str, Any],
    prescription: Prescription,
    limits: tuple[Limit, ...],
    boot_to_lsl_s: float,
    started_s: float,
    blinded: bool = False,
) -> Line:
    """The line; its decisions and errors name the controller that runs, whichever the prescription was signed for."""
    prescription = replace(prescription, controller=kind)
    controller = _controller(kind, controller_settings)
    try:
        return Line(
            info,
            Pipeline(info, settings, biomarkers),
            settings.hop_s,
            controller,
            prescription,
            limits,
            boot_to_lsl_s,
            started_s,
            blinded,
        )
    except PrescriptionError as error:
        raise RecordingError(
            f"controller {kind!r} does not fit the prescription of this replay ({error}); choose a controller that does"
        ) from None


def _biomarker(entry: dict[str, Any]) -> tuple[str, Closed]:
    kind = str(entry.pop("kind"))
    settings: Closed = find("biomarker", kind).Settings(**entry)
    return kind, settings


def recorded_ticks(recorded: RecordedSession) -> Iterator[Tick]:
    """The loop's ticks again: everything one tick saw, together."""
    conditions, last_s = Conditions(), float("-inf")
    supervised_s = float("inf") if recorded.setup.get("demo") else float("-inf")
    number: int | None = None
    contact: F64 | None = None  # written down before the chunk it came with
    tick = Tick(0, last_s, None)
    for item in recorded.ticks():
        if item.tick != number:
            if number is not None and tick.t_s > float("-inf"):
                yield tick
                last_s = tick.t_s
            number = item.tick
            tick = Tick(number, float("-inf"), None, conditions=conditions, supervised_s=supervised_s)
        match item:
            case session.ChunkTick(chunk=chunk):
                if contact is not None:
                    chunk, contact = replace(chunk, impedance_kohm=contact), None
                tick = replace(tick, chunk=chunk, t_s=max(chunk.arrival_s, last_s))
            case session.IdleTick(t_s=t_s):
                tick = replace(tick, t_s=t_s)
            case session.StimTick(state=state):
                tick = replace(tick, states=(*tick.states, state))
            case session.EventTick(kind="conditions", data=data):
                findings = tuple(Finding(**{**finding, "level": Level(finding["level"])}) for finding in data.get("findings", ()))
                conditions = Conditions(**{**data, "findings": findings})
                tick = replace(tick, conditions=conditions)
            case session.EventTick(kind="supervised", data=data):
                supervised_s = float(data["supervised_s"])
                tick = replace(tick, supervised_s=supervised_s)
            case session.EventTick(kind="contact", data=data):
                contact = session.contact_kohm(recorded.info, data)
            case session.EventTick(kind="pulses", data=data):
                tick = replace(tick, pulses_s=tuple(float(at_s) for at_s in data["at_s"]))
            case session.EventTick(kind="pulse", data=data):
                tick = replace(tick, pulses=(*tick.pulses, PulseNews(**data)))
            case session.EventTick(kind="clock", data=data):
                tick = replace(tick, boot_to_lsl_s=float(data["boot_to_lsl_s"]))
            case session.EventTick(kind="operator", data=data):
                tick = replace(tick, events=(*tick.events, OperatorEvent(**data)))
    if tick.t_s > float("-inf"):
        yield tick


def _foreign(recording: Recording, seat: Seat, controller: str | None) -> Replay:
    """Any other file: a watching session that delivers nothing."""
    info: StreamInfo = recording.info
    observed: Prescription = replace(demo_prescription(seat.person, 0.0), authority="observe")
    kind = controller or seat.controller.kind
    settings = {} if controller else seat.controller.settings.model_dump()
    biomarkers = [(b.kind, b.settings) for b in seat.biomarkers]
    line = _line(info, seat.line, biomarkers, kind, settings, observed, seat.stimulator.module.LIMITS, 0.0, 0.0)
    setup: dict[str, Any] = {
        "demo": True,
        "line": seat.line.model_dump(mode="json"),
        "biomarkers": [{"kind": b.kind, **b.settings.model_dump(mode="json")} for b in seat.biomarkers],
        "controller": {"kind": kind, **json.loads(json.dumps(settings, default=str))},
        "stimulator": seat.stimulator.kind,
        "prescription": line.prescription.to_bytes().decode(),
        "boot_to_lsl_s": 0.0,
        "line_started_s": 0.0,
    }
    return Replay(line, _file_ticks(recording), recording.n_samples, setup)


def _file_ticks(recording: Recording) -> Iterator[Tick]:
    watching = Conditions(recording_ok=True, audit_ok=True, stream="live", demo=True)
    size = max(1, round(CHUNK_S * recording.info.sample_rate_hz))
    for number, (_, chunk) in enumerate(recording.chunks(size), 1):
        yield Tick(number, chunk.arrival_s, chunk, (), (), watching)


def _identical(made: Replay, controller: str | None, config: Path | None) -> int | None:
    """How many decisions are those of the recording; None if another controller or configuration was asked for."""
    if made.recorded is None or controller is not None or config is not None:
        return None
    recorded = [(d["end_sample"], d["granted_ma"], d["granted_hz"], d["hold"], d["sentence"]) for d in made.recorded.decisions()]
    return sum(a == b for a, b in zip(recorded, made.decided, strict=False))


def _n_decisions(recorded: RecordedSession) -> int:
    return sum(1 for _ in recorded.decisions())


@contextmanager
def _told() -> Iterator[list[int]]:
    """Signals to end, noted and looked at between two ticks: one that raises wherever it strikes may be lost in a finalizer."""
    told: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = {number: signal.signal(number, lambda got, _frame: told.append(got)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bar(wanted: bool) -> AbstractContextManager[Progress | None]:
    if not wanted:
        return nullcontext(None)
    console = Console(stderr=True, force_terminal=sys.stderr.isatty())
    return Progress(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=console)

"""The only place that constructs: from config.yaml's checked models to running parts."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from control.prescription import TrustedKey, demo_prescription, new_key, parse_trusted, public_key, sign, trusted_bytes, verify
from control.would_be import begin
from daemon import measure
from daemon.allocation import ACTIVE, Levels, pair_of
from daemon.answers import AnswerBook
from daemon.audit import AuditTrail
from daemon.blinded_link import BlindedLink
from daemon.clock import synchronized
from daemon.interlock_link import InterlockLink
from daemon.loop import Line
from daemon.private_file import write_private
from daemon.record import SessionRecorder
from daemon.record_writer import RecordWriter
from dsp.pipeline import Pipeline
from eegloop import __version__, launch
from eegloop.config import Config, Seat
from eegloop.errors import ConfigError, SetupError, SourceError, plain
from eegloop.kept import state_folder
from eegloop.layout import Layout
from eegloop.ports import Clock, EegSource
from eegloop.signal import StreamInfo
from eegloop.stim import Authority, Limit, Prescription, PrescriptionError

YEAR_S = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Signed:
    """A prescription and the signed file that the interlock reads by itself.

    In a blinded trial `prescription` is the active arm's program, which the line runs in both arms, and `path` holds this person's own
    arm's; `trial` names the trial ("" = none), `delivers` says which arm that is: for the interlock's link only.
    """

    prescription: Prescription
    path: Path
    trial: str = ""
    delivers: bool = True


def demo_public_key(layout: Layout) -> str:
    """Public half of this data directory's demo key, hexadecimal; "" before a demo was run here."""
    path = layout.keys / "demo.key"
    return public_key(path.read_bytes()).hex() if path.exists() else ""


def demo_key(layout: Layout, now_s: float) -> bytes:
    """This data directory's own demo key: made once, good for the device `simulated` only."""
    path = layout.keys / "demo.key"
    if not path.exists():
        write_private(path, new_key())
    private = path.read_bytes()
    trusted_path = layout.keys / "trusted.json"
    trusted = parse_trusted(trusted_path.read_bytes()) if trusted_path.exists() else ()
    public = public_key(private).hex()
    if all(key.key != public for key in trusted):
        demo = TrustedKey(public, "demo", "prescriber", "simulated", int(now_s) - 86_400, int(now_s) + 10 * YEAR_S, False)
        write_private(trusted_path, trusted_bytes((*trusted, demo)))
    return private


def prescription(seat: Seat, layout: Layout, demo: bool, now_s: float) -> Signed:
    """The seat's signed prescription. Without one, on the `simulated` stimulator only: the demo's in the demo, and in `run`
    one that delivers nothing (`observe`), so that a headset can be watched; both signed with this directory's demo key.

    Raises
    ------
    ConfigError, SetupError
        If there is none, or it may not be used here.
    """
    folder = layout.seat(seat.id)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if seat.trial is not None:
        return _blinded(seat, layout, seat.trial, now_s)
    if seat.prescription is None:
        if seat.stimulator.kind != "simulated":
            raise ConfigError(
                f"seat {seat.id}: prescription: null works with the stimulator `simulated` only; name the signed prescription's file"
            )
        made = folder / "prescription.json"
        prescribed = demo_prescription(seat.person, now_s)
        if not demo:
            prescribed = replace(prescribed, id="watch", authority="observe")
        write_private(made, sign(prescribed, [demo_key(layout, now_s)]))
        path = made
    else:
        path = Path(seat.prescription).expanduser()
    trusted_path = layout.keys / "trusted.json"
    if not trusted_path.exists():
        raise SetupError(
            f"seat {seat.id}: this machine trusts nobody's signature yet ({trusted_path} is missing); "
            "take the clinic's list with `eegloop keys trust` (docs/prescriptions.md)"
        )
    try:
        trusted = parse_trusted(trusted_path.read_bytes())
        checked = verify(path.read_bytes(), trusted, now_s, seat.person, seat.stimulator.kind)
    except OSError as error:
        raise SetupError(
            f"seat {seat.id}: {error.filename}: {plain(error)}; correct `prescription` in config.yaml, or put the file there"
        ) from None
    except PrescriptionError as error:
        clock = "; if that is not today's date, set this computer's clock" if "it is " in str(error) else ""
        raise SetupError(f"seat {seat.id}: {path}: {error}{clock}") from None
    _decided_by(seat, checked)
    return Signed(checked, path)


def _decided_by(seat: Seat, prescription: Prescription) -> None:
    if prescription.controller != seat.controller.kind:
        raise SetupError(
            f"seat {seat.id}: controller.kind: found {seat.controller.kind!r}; the prescription {prescription.id} is signed for {prescription.controller!r}"
        )


def _blinded(seat: Seat, layout: Layout, trial: str, now_s: float) -> Signed:
    """Of a blinded trial: nothing here, in a name or in what is refused, differs between the arms but the signed bytes for the interlock."""
    try:
        pair = pair_of(layout, trial, seat.person, seat.stimulator.kind, now_s)
        for limit in device_limits(seat):  # in both arms: the interlock of a sham one has nothing to refuse
            if limit.field == "amplitude_ma" and not pair.active.amplitude_ma <= limit.value:
                raise PrescriptionError(
                    f"active: prescription.amplitude_ua: {pair.active.amplitude_ua}, but {round(limit.value * 1000)} ({limit.set_by}): "
                    f"above what {pair.active.device!r} may give"
                )
    except (PrescriptionError, SetupError) as error:
        raise SetupError(f"seat {seat.id}: trial {trial}: {error}") from None
    _decided_by(seat, pair.active)
    path = layout.seat(seat.id) / "prescription.json"
    write_private(path, pair.signed)
    return Signed(pair.active, path, trial, pair.arm == ACTIVE)


def link(seat: Seat, layout: Layout, signed: Signed, clock: Clock) -> InterlockLink:
    """The daemon's end of the seat's interlock; in a blinded trial one that tells both arms the same."""
    path = layout.control_socket(seat.id)
    if not signed.trial:
        return InterlockLink(path, clock)
    levels = Levels(layout, signed.trial, seat.person, signed.prescription, clock)
    return BlindedLink(path, clock, begin(signed.prescription, signed.delivers, levels.lowest_ma), levels.lowered)


def answers(seat: Seat, layout: Layout, signed: Signed, clock: Clock, demo: bool) -> AnswerBook | None:
    """What the seat's person answered; None under `observe`, where nothing is delivered and so nothing is asked.

    Raises
    ------
    RecordingError
        If another process writes the file.
    """
    prescription = signed.prescription
    if prescription.authority == Authority.OBSERVE:
        return None
    remembers = not (demo and prescription.device == "simulated")
    state = None if prescription.device == "simulated" else state_folder("answers")
    return AnswerBook(
        layout.person(seat.person),
        seat.person,
        prescription,
        layout.keys,
        clock,
        remembers,
        measure.of(seat, prescription),
        state,
    )


def device_limits(seat: Seat) -> tuple[Limit, ...]:
    """The stimulator's own limits, as its driver states them."""
    limits: tuple[Limit, ...] = seat.stimulator.module.LIMITS
    return limits


def source(seat: Seat, clock: Clock, demo: Layout | None) -> EegSource:
    """The seat's source; in the demo (`demo`: its layout) an LSL source takes only the board that this demo has started."""
    settings = seat.source.settings
    if demo is not None and seat.source.kind == "lsl":
        own = {"source_id": f"eegloop-{demo.run.name}-{seat.id}", "host": socket.gethostname()}
        settings = settings.model_copy(update={k: v for k, v in own.items() if getattr(settings, k) is None})
    built: EegSource = seat.source.module.build(settings, clock)
    return built


def line(seat: Seat, info: StreamInfo, signed: Signed, boot_to_lsl_s: float, started_s: float) -> Line:
    """The pure line of one seat for a stream.

    Raises
    ------
    SourceError
        If the stream does not fit the seat's settings: this seat waits for another one, the others go on.
    """
    try:
        pipeline = Pipeline(info, seat.line, [(b.kind, b.settings) for b in seat.biomarkers])
    except ConfigError as error:
        raise SourceError(f"seat {seat.id}: this stream does not fit its settings in config.yaml: {error}") from None
    controller = seat.controller.module.build(seat.controller.settings)
    return Line(
        info,
        pipeline,
        seat.line.hop_s,
        controller,
        signed.prescription,
        device_limits(seat),
        boot_to_lsl_s,
        started_s,
        blinded=bool(signed.trial),
    )


def web_settings(config: Config, port: int) -> bytes:
    """The line the web process reads on stdin, with the port to try first: no secret ever stands in an argv."""
    handover = {
        "web": {**config.web.model_dump(mode="json"), "port": port},
        "mqtt": config.mqtt.model_dump(mode="json"),
        "parent_pid": os.getpid(),
    }
    return json.dumps(handover).encode() + b"\n"


def setup(seat: Seat, line: Line, demo: bool) -> dict[str, object]:
    """Everything beside the samples that decisions depend on; `replay` builds the same line from it."""
    return {
        "eegloop": __version__,
        "demo": demo,
        "line": seat.line.model_dump(mode="json"),
        "biomarkers": [{"kind": b.kind, **b.settings.model_dump(mode="json")} for b in seat.biomarkers],
        "controller": {"kind": seat.controller.kind, **seat.controller.settings.model_dump(mode="json")},
        "stimulator": seat.stimulator.kind,
        "prescription": line.prescription.to_bytes().decode(),
        "boot_to_lsl_s": line.boot_to_lsl_s,
        "line_started_s": line.session.t_s,
        **({"blinded": True} if line.blinded else {}),
    }


def recorder(
    seat: Seat, layout: Layout, writer: RecordWriter, audit: AuditTrail, info: StreamInfo, line: Line, clock: Clock, demo: bool
) -> SessionRecorder:
    """One run of a seat's recording; the EEG file holds the samples as the source sent them."""
    return SessionRecorder(
        writer, layout, seat.id, seat.person, seat.recording.task, info, line.pipeline.columns, seat.recording.line_frequency_hz,
        {}, clock.wall_s(), clock, setup=setup(seat, line, demo), audit=audit,
    )  # fmt: skip


def bridge_argv(layout: Layout, seat: Seat) -> list[str] | None:
    """The command line of the process that carries the interlock's packets to the stimulator; None if it needs none."""
    bridge = getattr(seat.stimulator.module, "bridge", None)
    endpoint = str(layout.stimulator_socket(seat.id))
    return bridge(seat.stimulator.settings, endpoint) if bridge is not None else None


def interlock_argv(layout: Layout, seat: Seat, signed: Signed) -> list[str]:
    """The interlock's command line; the daemon holds the data directory's lock, so an orphan on this seat is taken over."""
    settings = asdict(seat.stimulator.settings)
    return launch.interlock_argv(
        layout.data,
        seat.id,
        seat.person,
        signed.path,
        seat.stimulator.kind,
        settings,
        take_over=True,
        clock_vouched=synchronized(),
    )

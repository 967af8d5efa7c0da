"""What a viewer is told of one seat: the line's state as a LoopState (docs/contracts.md section 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from control import alarm_board
from daemon.decisions import decision_view, doubt
from daemon.seat import GRADES, LOST_AFTER_S, SeatLoop
from eegloop.ports import Clock
from eegloop.signal import Grade
from eegloop.stim import InterlockMode, LoopState, Phase, StimState
from records.bids import Entities

UNKNOWN_OUTPUT = {
    "commanded_ma": None, "confirmed_ma": None, "granted_ma": None, "ceiling_ma": None, "limit_ma": None, "frequency_hz": None,
    "mode": "unknown", "latched": True, "zero_confirmed": False, "readback": "none", "delivered_mc": None, "delivered_s": None,
}  # fmt: skip


def loop_state(seat: SeatLoop, clock: Clock, more: Sequence[dict[str, Any]] = ()) -> LoopState:
    """The state of one seat now; ages in seconds, unknown numbers None. `more`: alarms that are no seat's own (`trail_alarms`)."""
    now_s = clock.lsl_s()
    line = seat.line
    status = seat.stream_status
    state = line.session if line is not None else None
    effects = line.effects if line is not None else None
    return LoopState(
        seat=seat.seat,
        label=seat.label,
        t_s=now_s,
        wall_s=clock.wall_s(),
        phase=state.phase if state is not None else Phase.OFF,
        block=state.block if state is not None else "",
        phase_reason=_reason(seat),
        phase_left_s=_number(effects.left_s) if effects is not None else None,
        demo=seat.demo,
        stream=_stream(seat, status, now_s),
        quality=_quality(seat),
        biomarkers=_biomarkers(seat, now_s),
        target=_target(seat, now_s),
        output=_output(seat, now_s),
        decision=decision_view(seat.vitals.decision, now_s - seat.vitals.decision_at_s, seat.trial)
        if seat.vitals.decision is not None
        else {},
        recording=_recording(seat),
        alarms=standing_alarms(seat, status, now_s, more),
        forms=seat.asking.view(),
    )


def _reason(seat: SeatLoop) -> str:
    """Why the session is where it is. A line that took a broken one's place knows of a start only."""
    if seat.line is None:
        return seat.vitals.message or "Waiting for the headset."
    if seat.broke and seat.line.session.phase == Phase.STOPPED and seat.line.session.begun_s is None:
        return f"{seat.broke} A person must re-arm."
    return seat.line.effects.sentence or "Waiting for the headset."


def left_out_state(seat: str, label: str, clock: Clock) -> LoopState:
    """A seat that could not be begun: on the page like the others. Why stands in the log: a path or a signed field may name the person."""
    text = "This seat is not running: something it needs cannot be used."
    advice = (
        "The window that eegloop was started in and eegloop.log say what. Mend it and start eegloop again; the other seats go on."
    )
    return LoopState(
        seat=seat, label=label, t_s=clock.lsl_s(), wall_s=clock.wall_s(), phase="unknown", block="", phase_reason=text,
        phase_left_s=None, demo=False,
        stream={"status": "lost", "age_s": None, "rate_hz": None, "lost_samples": 0, "segment": 0, "message": "", "channels": []},
        quality=[], biomarkers=[], target={}, output={**UNKNOWN_OUTPUT, "reason": text, "age_s": None}, decision={},
        recording={"status": "off", "message": "Nothing is recorded here.", "seconds": 0.0, "session": ""},
        alarms=[{**_alarm("left_out", "technical", text, advice), "age_s": 0.0}], forms={},
    )  # fmt: skip


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _stream(seat: SeatLoop, status: str, now_s: float) -> dict[str, Any]:
    vitals, line = seat.vitals, seat.line
    return {
        "status": status,
        "age_s": _number(now_s - vitals.sample_at_s),
        "rate_hz": line.info.sample_rate_hz if line is not None else None,
        "lost_samples": vitals.lost_samples,
        "segment": vitals.segment,
        "message": vitals.message,
        "channels": list(line.info.channels) if line is not None else [],
    }


def _quality(seat: SeatLoop) -> list[dict[str, Any]]:
    line = seat.line
    if line is None or line.row is None:
        return []
    quality = line.row.quality
    unknown = [None] * line.info.n_channels
    contact = unknown if quality.contact is None else quality.contact.tolist()
    kohm = unknown if quality.impedance_kohm is None else quality.impedance_kohm.tolist()
    return [
        {
            "channel": name,
            "good": bool(quality.good[i]),
            "reasons": list(quality.reasons[i]),
            "line_ratio": _number(float(quality.line_ratio[i])),
            "contact": _number(contact[i]),
            "worst": quality.worst == i,
            "impedance_kohm": _number(kohm[i]),
        }
        for i, name in enumerate(line.info.channels)
    ]


def _biomarkers(seat: SeatLoop, now_s: float) -> list[dict[str, Any]]:
    line = seat.line
    if line is None or line.row is None:
        return []
    row, age_s = line.row, _number(now_s - seat.vitals.row_at_s)
    return [
        {
            "name": column.name,
            "channel": column.channel,
            "value": _number(float(row.values[i])),
            "unit": column.unit,
            "grade": _grade(row.grades[i]),
            "reason": doubt(row.reasons[i], bool(seat.trial)),
            "age_s": age_s,
        }
        for i, column in enumerate(row.columns)
    ]


def _grade(code: int) -> str:
    """A code that is none of ours, of a module that breaks its contract, vouches for nothing; it must not keep every seat from being shown."""
    return GRADES[Grade(min(int(code), Grade.INVALID))]


def _target(seat: SeatLoop, now_s: float) -> dict[str, Any]:
    line = seat.line
    if line is None or line.row is None:
        return {}
    target: dict[str, Any] = {k: (_number(v) if isinstance(v, float) else v) for k, v in line.target().items()}
    try:
        column = line.row.find(str(target.get("biomarker")), str(target.get("channel")))
        target["grade"] = _grade(line.row.grades[column])
    except KeyError:
        target["grade"] = "n/a"
    target["age_s"] = _number(now_s - seat.vitals.row_at_s)
    target["history"] = [[round(now_s - t_s, 2), value] for t_s, value in seat.vitals.history]
    return target


def _output(seat: SeatLoop, now_s: float) -> dict[str, Any]:
    link, line = seat.link, seat.line
    limit_ma = line.prescription.amplitude_ma if line is not None else None
    stim = link.state
    if stim is None or link.silent:
        reason = "The interlock does not answer: switch the stimulator off."
        shown = {"limit_ma": limit_ma} if not seat.trial else {"blinded": True}
        return {**UNKNOWN_OUTPUT, **shown, "reason": reason, "age_s": _number(now_s - link.state_at_s)}
    if seat.trial:
        return _blinded_output(seat, stim, _number(now_s - link.state_at_s))
    return {
        "commanded_ma": stim.commanded_ma,
        "confirmed_ma": stim.confirmed_ma,
        "granted_ma": stim.granted_ma,
        "ceiling_ma": stim.ceiling_ma,
        "limit_ma": limit_ma,
        "frequency_hz": stim.frequency_hz,
        "mode": stim.mode,
        "reason": stim.reason,
        "age_s": _number(now_s - link.state_at_s),
        "latched": stim.mode == "stopped",
        "zero_confirmed": stim.zero_since_ns > 0,
        "readback": stim.readback,
        "delivered_mc": stim.delivered_uc / 1000,
        "delivered_s": stim.delivered_ms / 1000,
    }


def _blinded_output(seat: SeatLoop, stim: StimState, age_s: float | None) -> dict[str, Any]:
    """Of a blinded session: the program's level, which both arms have; of what is delivered nothing but a zero that the device has
    confirmed (`control/would_be.py`: while it runs only where the program is at zero, too; stopped always)."""
    line = seat.line
    runs = line is not None and line.session.phase in (Phase.RAMP_UP, Phase.ON)
    stopped = stim.mode == InterlockMode.STOPPED
    return {
        **UNKNOWN_OUTPUT,
        "blinded": True,
        "program_ma": line.session.present_ma if runs and line is not None else None,
        "program_limit_ma": line.prescription.amplitude_ma if line is not None else None,
        "commanded_ma": stim.commanded_ma if stopped else None,
        "granted_ma": stim.granted_ma if stopped else None,
        "confirmed_ma": stim.confirmed_ma,
        "frequency_hz": stim.frequency_hz,
        "mode": stim.mode,
        "reason": stim.reason,
        "age_s": age_s,
        "latched": stopped,
        "zero_confirmed": stim.zero_since_ns > 0,
        "readback": stim.readback,
    }


def _recording(seat: SeatLoop) -> dict[str, Any]:
    if seat.recorder is None:
        return {"status": "off", "message": "Nothing is recorded yet.", "seconds": 0.0, "session": ""}
    status = seat.recorder.status
    entities = Entities.parse(Path(status.session))
    # The path holds the person's code, and viewers (MQTT) hear of no person.
    session = f"ses-{entities.session}" if entities is not None else ""
    return {"status": status.status, "message": status.message, "seconds": status.seconds, "session": session}


def standing_alarms(seat: SeatLoop, status: str, now_s: float, more: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """Every alarm that stands now, ranked, each aged since it was first seen to stand; `more` are the machine's, no seat's own."""
    found: list[dict[str, Any]] = [*more]
    if seat.line is not None:
        found += [{"id": a.id, "priority": a.priority, "text": a.text, "advice": a.advice} for a in seat.line.effects.alarms]
    found += seat.asking.alarms()
    if seat.link.silent:
        found.append(_alarm("interlock_silent", "high", "The interlock does not answer; the output is unknown.",
                            "Take the headset off and switch the stimulator off."))  # fmt: skip
    if status == "lost" and not math.isfinite(seat.vitals.sample_at_s):
        found.append(_alarm("stream_lost", "technical", "No headset has been found yet.",
                            "Switch it on and wait half a minute. If it stays: `eegloop devices` lists what this computer sees."))  # fmt: skip
    elif status == "lost" and all(alarm["id"] != "stream" for alarm in found):
        found.append(_alarm("stream_lost", "technical", f"No data for more than {LOST_AFTER_S:g} s.",
                            "The headset stopped sending. Check that its light is on."))  # fmt: skip
    if seat.recorder is not None and seat.recorder.status.status == "failed":
        found.append(
            _alarm("recording_failed", "high", seat.recorder.status.message, "Stimulation stays off until the recording works.")
        )
    if seat.line is not None and seat.line.row is not None:
        found += wrong_mains(seat.line.row.quality.mains_hz, seat.line.pipeline.settings.notch_hz)
        found += eyes_untold(seat.line.pipeline.eyes_untold)
    seat.vitals.alarm_board = alarm_board.follow(seat.vitals.alarm_board, [alarm["id"] for alarm in found], now_s)
    in_session = seat.line is not None and seat.line.session.phase not in (Phase.OFF, Phase.STOPPED, Phase.POST)
    # Nobody at a bedside can mend what is the machine's: it stands in view and is never sounded at a person who is being treated.
    return alarm_board.shown(seat.vitals.alarm_board, found, now_s, in_session, steady=[alarm["id"] for alarm in more])


def trail_alarms(differs: str, failing: str) -> list[dict[str, Any]]:
    """Of the audit trail's anchors (`daemon/trail_anchors.py`). No path is named here: viewers hear of no person, eegloop.log says more."""
    found = []
    if differs:
        found.append(_alarm("trail_differs", "medium", "The audit trail is not the one that was written last: lines were removed, or an older copy was put back.",
                            "Tell whoever is responsible for this computer, and keep the data directory as it is; `eegloop verify` says what differs, and `--seen NAME` ends this alarm. Sessions may go on."))  # fmt: skip
    if failing:
        found.append(_alarm("trail_anchor", "medium", f"What vouches for the audit trail cannot be kept ({failing.rpartition(': ')[2]}).",
                            "Tell whoever is responsible for this computer: eegloop.log names the file that needs room or must be writable. It is tried again every 10 s. Sessions may go on."))  # fmt: skip
    return found


def wrong_mains(found_hz: float, notch_hz: int | None) -> list[dict[str, Any]]:
    """What says why nothing is good where the mains are another frequency than the one that is filtered out; NaN = none was found."""
    if notch_hz is None or not math.isfinite(found_hz) or found_hz == notch_hz:
        return []
    text = f"The mains in this signal are {found_hz:.0f} Hz, but {notch_hz} Hz is filtered out, so the signal may be refused."
    return [_alarm("mains", "technical", text, f"Ask for `notch_hz: {found_hz:.0f}` in config.yaml, under line.")]


def eyes_untold(why: str) -> list[dict[str, Any]]:
    """That blinks stay in slow values on this montage: what `dsp.eyes.untold` says; "" = they are told."""
    if not why:
        return []
    return [_alarm("eyes", "technical", why, "Add an electrode on the forehead or name the channels by their 10-10 places; alpha and faster bands are not concerned.")]  # fmt: skip


def _alarm(name: str, priority: str, text: str, advice: str) -> dict[str, Any]:
    return {"id": name, "priority": priority, "text": text, "advice": advice}

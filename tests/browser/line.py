"""A scripted line behind the page: the daemon's end of the live socket and the interlock's stop socket (contracts 3, 6, 8).

The web process, its fan-out and the page are the real ones; only what they are fed is scripted here, because a
test must be able to make a headset fall silent or a device not confirm at a chosen moment. One JSON object a line
on standard input changes the script: `{"mute": true}`, `{"confirms": false}`, `{"lose": 50}`, `{"bad": {"Fp2": "flat"}}`, ...
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from control.forms import Answer, AnswerError, checked
from control.prescription import demo_prescription
from control.questions import Kept, Moment, asked
from daemon.live import LiveServer, SeatInfo
from eegloop.layout import Layout
from eegloop.signal import Chunk
from eegloop.stim import LoopState

NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2")
BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "gamma": (30, 45)}
CHUNK_S = 0.02
CHALLENGE_S = 0.5  # the daemon asks every 2 s
LOW, HIGH = 18.0, 40.0
PRESCRIPTION = demo_prescription("virtual", time.time())


class Seat:
    """One seat: a seeded signal with electrode offsets, and a device that obeys at once."""

    def __init__(self, name: str, index: int, n_channels: int, rate_hz: float) -> None:
        labels = NAMES[:n_channels] if n_channels <= 8 else tuple(f"E{i + 1}" for i in range(n_channels))
        self.info = SeatInfo(name, index, f"Virtual person {index + 1}", labels, ("eeg",) * n_channels, rate_hz)
        self.random = np.random.default_rng(7 + index)
        self.rate_hz = rate_hz
        self.n = n_channels
        self.sample = 0
        self.pink = np.zeros(n_channels)
        self.offset = self.random.uniform(-20_000, 20_000, n_channels)
        self.phase = 0.0
        self.window: deque[np.ndarray] = deque(maxlen=round(2 / CHUNK_S))
        self.history: deque[tuple[float, float | None]] = deque(maxlen=120)
        self.powers: dict[str, np.ndarray] = {}
        self.started_s = time.monotonic()
        self.last_sample_s = time.monotonic()
        self.session = "on"
        self.latched = False
        self.lost = 0
        self.sums = {0: 0}  # end sample of every chunk sent: sum of all float32 bit patterns so far
        self.demo = True
        self.kept = Kept()
        self.script: dict[str, Any] = {
            "block": "auto",
            "mute": False,
            "confirms": True,
            "confirmed_ma": "follow",
            "bad": {},
            "lose": 0,
            "amplitude_ma": 0.85,
            "interlock": "answers",
            "refuse": False,
            "decided": True,
            "reason": "",
        }

    def block(self, t_s: float) -> str:
        if self.script["block"] != "auto":
            return str(self.script["block"])
        return "sense" if (t_s - self.started_s) % 30 < 18 else "stimulate"

    def output_ma(self, t_s: float) -> float:
        if self.latched or self.session != "on" or self.block(t_s) == "sense":
            return 0.0
        return float(self.script["amplitude_ma"])

    def chunk(self, t_s: float) -> Chunk | None:
        n = round(CHUNK_S * self.rate_hz)
        lost = int(self.script["lose"])
        self.script["lose"] = 0
        self.sample += lost
        self.lost += lost
        t = (self.sample + np.arange(n)) / self.rate_hz
        white = self.random.normal(0, 3.5, (n, self.n))
        data = np.empty((n, self.n))
        for i in range(n):
            self.pink = 0.97 * self.pink + white[i]
            data[i] = self.pink
        envelope = 6 + 5 * math.sin(2 * math.pi * t[0] / 23)
        depth = np.linspace(0.25, 1.0, self.n)
        data += envelope * depth * np.sin(2 * np.pi * 10 * t)[:, None]
        blink = 90 * np.exp(-((((t % 4.7) - 1.0) / 0.09) ** 2))
        data[:, : max(2, self.n // 8)] += blink[:, None]
        data += self.offset
        for label in self.script["bad"]:
            column = self.info.channels.index(label)
            data[:, column] = (
                self.offset[column] if self.script["bad"][label] == "flat" else data[:, column] + 900 * np.sin(2 * np.pi * 50 * t)
            )
        first = self.sample
        self.sample += n
        if self.script["mute"]:
            return None
        self.last_sample_s = t_s
        self.window.append(data)
        chunk = Chunk(data.astype(np.float32), first, t_s, t_s, lost, 0)
        before = self.sums[max(self.sums)]
        self.sums[first] = before
        self.sums[chunk.end_sample] = before + int(chunk.data_uv.view(np.uint32).sum(dtype=np.uint64))
        return chunk

    def measure(self, t_s: float) -> None:
        """Band powers of the last window, and once a second a point of the target's history."""
        if len(self.window) == self.window.maxlen:
            data = np.concatenate(self.window)
            taper = np.hanning(len(data))[:, None]
            power = np.abs(np.fft.rfft((data - data.mean(0)) * taper, axis=0)) ** 2 * 2 / (self.rate_hz * (taper**2).sum())
            frequency = np.fft.rfftfreq(len(data), 1 / self.rate_hz)
            step = frequency[1]
            self.powers = {b: power[(frequency >= lo) & (frequency < hi)].sum(0) * step for b, (lo, hi) in BANDS.items()}
        if not self.history or t_s - self.history[-1][0] >= 1:
            self.history.append((t_s, self.alpha(t_s)))

    def alpha(self, t_s: float) -> float | None:
        if not self.powers or self.block(t_s) == "stimulate":
            return None
        return float(self.powers["alpha"][-2:].mean())

    def sentence(self, value: float | None) -> str:
        if value is None:
            return "Stimulating: the next look at alpha comes when the output is off."
        place = "below" if value < LOW else "above" if value > HIGH else "within"
        target = f"its target of {LOW:.0f}–{HIGH:.0f} µV²"
        return f"Alpha at {self.info.channels[-1]} is {place} {target}, so the amplitude stays at 0.85 mA for now."

    def state(self, t_s: float) -> LoopState:
        silent_s = t_s - self.last_sample_s
        block = self.block(t_s)
        judged = bool(self.powers) and block == "sense"
        reason = "" if judged else "stimulation" if self.powers else "window filling"
        rows = []
        total = sum(self.powers.values()) if self.powers else np.ones(self.n)
        for kind, unit in (("band_power", "uV2"), ("relative_power", "1")):
            for band in BANDS:
                for i, label in enumerate(self.info.channels):
                    bad = self.script["bad"].get(label, "")
                    value = None
                    if judged and not bad:
                        value = float(self.powers[band][i] / (total[i] if kind == "relative_power" else 1))
                    rows.append(_row(f"{kind}.{band}", label, value, unit, bad or reason, silent_s))
        for label in self.info.channels[-2:]:
            rows.append(_row("iaf.peak", label, 10.0 if judged else None, "Hz", reason, silent_s))
        asymmetry = float(np.log(self.powers["alpha"][3] / self.powers["alpha"][2])) if judged and self.n >= 4 else None
        rows.append(_row("faa", "F3-F4", asymmetry, "1", reason, silent_s))
        output = self.output_ma(t_s)
        confirmed: float | None = output if self.script["confirmed_ma"] == "follow" else self.script["confirmed_ma"]
        value = self.alpha(t_s)
        running = self.session == "on" and not self.latched
        silent = self.script["interlock"] == "silent"
        return LoopState(
            seat=self.info.seat,
            label=self.info.label,
            t_s=t_s,
            wall_s=time.time(),
            phase="stopped" if self.latched else self.session,
            block=block if running else "",
            phase_reason="Stopped by a person. A person must re-arm." if self.latched else "",
            phase_left_s=max(0.0, 1200 - (t_s - self.started_s)) if running else None,
            demo=self.demo,
            stream={
                "status": "live" if silent_s < 1 else "delayed" if silent_s < 5 else "lost",
                "age_s": silent_s,
                "rate_hz": self.rate_hz,
                "lost_samples": self.lost,
                "segment": 0,
                "message": "",
                "channels": list(self.info.channels),
            },
            quality=[
                {
                    "channel": c,
                    "good": c not in self.script["bad"],
                    "reasons": [self.script["bad"][c]] if c in self.script["bad"] else [],
                    "line_ratio": 0.1,
                    "contact": 0.21 if c in self.script["bad"] else 0.97,
                    "worst": c == next(iter(self.script["bad"]), None),
                    "impedance_kohm": 180.0 if c in self.script["bad"] else 8.0,
                }
                for c in self.info.channels
            ],
            biomarkers=rows,
            target={
                "biomarker": "band_power.alpha",
                "channel": self.info.channels[-1],
                "unit": "uV2",
                "value": value,
                "estimate": None if value is None else value + 0.5,
                "estimate_n": 0 if value is None else 5,
                "low": LOW,
                "high": HIGH,
                "grade": "good" if value is not None else "n/a",
                "age_s": 0.1 + silent_s,
                "history": [[t_s - t, v] for t, v in self.history],
            },
            output={
                "commanded_ma": None if silent else output,
                "confirmed_ma": None if silent else confirmed,
                "granted_ma": None if silent else output,
                "ceiling_ma": None if silent else 1.0,
                "limit_ma": 1.5,
                "frequency_hz": None if silent else 10.0,
                "mode": "unknown" if silent else "armed" if running else "stopped",
                "reason": self.script["reason"] or ("STOP" if self.latched else ""),
                "age_s": 0.02,
                "latched": silent or not running,
                "zero_confirmed": not silent and confirmed == 0.0,
                "readback": "none" if silent else "measured",
                "delivered_mc": None if silent else 12.4,
                "delivered_s": None if silent else t_s - self.started_s,
            },
            decision={
                "sentence": self.sentence(value),
                "age_s": (t_s - self.started_s) % 2,
                "proposed_ma": 0.9,
                "granted_ma": 0.85,
                "limits": [{"field": "amplitude_ma", "value": 0.85, "unit": "mA", "set_by": "authority"}],
                "hold": False,
            }
            if self.script["decided"]
            else {},
            recording={"status": "ok", "message": "", "seconds": t_s - self.started_s, "session": "01"},
            alarms=self.script.get("alarms", []),
            forms=self.forms(),
        )

    def forms(self) -> dict[str, Any]:
        """What is asked, by the rules themselves, of somebody who has answered nothing before."""
        now_s = time.time()
        phase = "stopped" if self.latched else self.session
        asks = asked(self.kept, Moment(now_s, phase), PRESCRIPTION)
        return {
            "due": list(asks.due),
            "open": list(asks.open),
            "findings": [{"level": f.level.name.lower(), "form": f.form, "item": f.item, "text": f.text} for f in asks.findings],
            "next_session_s": 0.0,
            "wait_s": 0.0,
            "virtual": False,
            **self.script.get("forms", {}),
        }

    def answered(self, form: str, values: tuple[int | None, ...]) -> str:
        try:
            answer = checked(Answer(form, values, time.time(), "page"))
        except AnswerError as error:
            return str(error)
        self.kept = replace(self.kept, answers=(*self.kept.answers, answer))
        if self.session == "screen" and not asked(self.kept, Moment(time.time(), "screen"), PRESCRIPTION).findings:
            self.session = "contact"
        return ""


def _row(name: str, channel: str, value: float | None, unit: str, reason: str, age_s: float) -> dict[str, Any]:
    return {
        "name": name,
        "channel": channel,
        "value": value,
        "unit": unit,
        "grade": "good" if value is not None else "n/a",
        "reason": reason,
        "age_s": 0.05 + age_s,
    }


async def serve_stop(seat: Seat, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The interlock's stop socket: connecting is STOP."""
    started_s = time.monotonic()
    seat.latched = True
    writer.write(b'{"type":"stopping","boot_ns":%d}\n' % time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    if seat.script["confirms"]:
        answer: dict[str, Any] = {"type": "stopped", "confirmed": True, "output_ma": 0.0}
    else:
        await asyncio.sleep(1.0)
        answer = {
            "type": "stopped",
            "confirmed": False,
            "output_ma": None,
            "advice": "take the headset off / switch the stimulator off",
        }
    answer["after_ms"] = round(1000 * (time.monotonic() - started_s))
    writer.write(json.dumps(answer).encode() + b"\n")
    writer.close()


NEXT = {
    ("stopped", "rearm"): "off",
    ("off", "start"): "screen",
    ("screen", "screened"): "contact",
    ("contact", "end"): "off",
    ("on", "end"): "off",
}


async def obey(live: LiveServer, seats: dict[str, Seat]) -> None:
    """As the real daemon: every command is taken, and one that leads nowhere is told of in an event."""
    while True:
        command = await live.commands.get()
        seat = seats[command.seat]
        if command.name == "answer":
            refused = seat.answered(command.form, command.values)
            command.answer(not refused, refused)
            continue
        command.answer(True, "")
        if command.name == "stop":
            seat.latched = True
            continue
        phase = "stopped" if seat.latched else seat.session
        refused = "Cannot re-arm: no page is watching." if seat.script["refuse"] else "No session is running."
        if (phase, command.name) not in NEXT or seat.script["refuse"]:
            live.publish_event("event", command.seat, name="refused", text=refused)
            continue
        seat.latched, seat.session, seat.started_s = False, NEXT[phase, command.name], time.monotonic()


async def listen(live: LiveServer, seats: dict[str, Seat], patient: bool) -> None:
    """The script's changes, one JSON object a line: `{"seat": "seat1", ...}`; ends with its parent."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        change = json.loads(line)
        if "supervision" in change:
            print(json.dumps({"supervision": live.supervision_age_s}), flush=True)
            continue
        if "sums" in change:
            sums = seats["seat1"].sums
            print(json.dumps({"sums": [sums[end] for end in change["sums"]]}), flush=True)
            continue
        if "headsets" in change:
            live.publish_seats([seat.info for seat in seats.values()] if change["headsets"] else [], demo=not patient)
        for seat in [seats[change["seat"]]] if "seat" in change else seats.values():
            seat.latched = change.get("latched", seat.latched)
            seat.session = change.get("session", seat.session)
            seat.kept = seat.kept if "session" not in change else Kept()
            seat.script.update(change)
        print(json.dumps({"done": change}), flush=True)
    os._exit(0)


async def challenge(live: LiveServer) -> None:
    while True:
        live.challenge()
        await asyncio.sleep(CHALLENGE_S)


async def publish(live: LiveServer, seats: dict[str, Seat]) -> None:
    step = 0
    start_s = time.monotonic()
    while True:
        step += 1
        await asyncio.sleep(max(0.0, start_s + step * CHUNK_S - time.monotonic()))
        t_s = time.monotonic()
        for seat in seats.values():
            chunk = seat.chunk(start_s + step * CHUNK_S)
            if chunk is not None:
                live.publish_chunk(seat.info.index, chunk)
            if step % 12 == 0:
                seat.measure(t_s)
                if seat.session == "contact" and not seat.script["bad"]:
                    seat.session = "on"
        if step % 12 == 0:
            live.publish_state([seat.state(t_s) for seat in seats.values()])


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--rate", type=float, default=250)
    parser.add_argument("--seats", type=int, default=1)
    parser.add_argument("--patient", action="store_true", help="no demo: a link is needed to look")
    arguments = parser.parse_args()
    layout = Layout(arguments.data)
    layout.create()
    seats = {f"seat{i + 1}": Seat(f"seat{i + 1}", i, arguments.channels, arguments.rate) for i in range(arguments.seats)}
    for seat in seats.values():
        seat.demo = not arguments.patient
    async with LiveServer(layout.live_socket) as live, asyncio.TaskGroup() as group:
        live.publish_seats([seat.info for seat in seats.values()], demo=not arguments.patient)
        for name, seat in seats.items():
            layout.stop_socket(name).unlink(missing_ok=True)
            await asyncio.start_unix_server(lambda r, w, seat=seat: serve_stop(seat, r, w), str(layout.stop_socket(name)))
        group.create_task(publish(live, seats), name="publish")
        group.create_task(obey(live, seats), name="obey")
        group.create_task(listen(live, seats, arguments.patient), name="listen")
        group.create_task(challenge(live), name="challenge")
        print(json.dumps({"ready": True}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())

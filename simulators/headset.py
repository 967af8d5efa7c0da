"""The virtual headset: brain -> faults -> LSL outlet in real time; the stimulator's current comes back over a datagram socket."""

from __future__ import annotations

import errno
import heapq
import itertools
import json
import math
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pylsl

from eegloop.errors import SetupError
from eegloop.signal import F32
from simulators.brain import NO_CURRENT, Brain, Stimulation, Truth
from simulators.faults import Faults, Packet
from simulators.head import load_head

CHUNK_S = 0.02
STALE_S = 0.5
"""A current that was last reported longer ago than this no longer flows."""
LOST_S = 10.0
"""A pause of this machine longer than this (suspend) is a gap in the stream, not a backlog to deliver."""
TRUTH_S = 600.0
"""How much of the hidden states is kept for the truth file."""


class Field:
    """Receives the stimulator's reports (contracts.md section 5) on a datagram socket that it owns and removes on close."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._socket.bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise SetupError(f"{path}: cannot listen for the stimulator ({error.strerror})") from None
            self._replace_stale()
        path.chmod(0o600)

    def _replace_stale(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(str(self._path))
            except OSError:
                self._path.unlink(missing_ok=True)
                self._socket.bind(str(self._path))
                return
        raise SetupError(f"{self._path}: another virtual headset already serves this seat; end it or choose another --seat")

    def reports(self) -> list[FieldReport]:
        """Every report since the last call; malformed ones and those from the future are left out."""
        out: list[FieldReport] = []
        latest_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 1_000_000_000
        while True:
            try:
                packet = self._socket.recv(65_536)
            except BlockingIOError:
                return out
            report = FieldReport.parse(packet)
            if report is not None and report.boot_ns <= latest_ns:
                out.append(report)

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class FieldReport:
    """The current at one instant; `phase_rad` is its phase at `boot_ns`; if frequency_hz > 0 it is amplitude_ma * sin(phase)."""

    boot_ns: int
    amplitude_ma: float
    frequency_hz: float
    phase_rad: float
    pulses: tuple[int, ...]

    @staticmethod
    def parse(packet: bytes) -> FieldReport | None:
        """None if the packet is not what the contract says."""
        try:
            body = json.loads(packet)
            report = FieldReport(
                boot_ns=int(body["boot_ns"]),
                amplitude_ma=float(body["amplitude_ma"]),
                frequency_hz=float(body["frequency_hz"]),
                phase_rad=float(body["phase_rad"]),
                pulses=tuple(int(pulse) for pulse in body.get("pulses", ())),
            )
            Stimulation(report.amplitude_ma, report.frequency_hz, report.phase_rad)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None
        return report


@dataclass(slots=True)
class _TruthFile:
    """Keeps the last `TRUTH_S` of what went out and what hid behind it; written when the headset ends."""

    path: Path
    parts: deque[tuple[F32, Truth]] = field(default_factory=deque)
    n_samples: int = 0

    def add(self, samples: F32, truth: Truth, most: int) -> None:
        self.parts.append((samples, truth))
        self.n_samples += len(samples)
        while self.n_samples - len(self.parts[0][0]) >= most:
            self.n_samples -= len(self.parts.popleft()[0])

    def write(self, start_s: float, pace: float, labels: tuple[str, ...]) -> None:
        if not self.parts:
            return
        truths = [truth for _, truth in self.parts]
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(truth, name) for truth in truths])
            for name in (
                "alpha_nam",
                "alpha_phase_rad",
                "excitability",
                "effect_ma",
                "current_ma",
                "vigilance",
                "clean_uv",
                "artifact_uv",
            )
        }
        events = [event for truth in truths for event in truth.events]
        np.savez(
            self.path,
            samples_uv=np.concatenate([samples for samples, _ in self.parts]),
            first_sample=truths[0].first_sample,
            sample_rate_hz=truths[0].sample_rate_hz,
            start_lsl_s=start_s,
            pace=pace,
            labels=np.array(labels),
            regions=np.array(truths[0].regions),
            event_kind=np.array([event.kind for event in events], dtype="U16"),
            event_t_s=np.array([event.t_s for event in events]),
            event_peak_s=np.array([event.peak_s for event in events]),
            event_size=np.array([event.size for event in events]),
            **arrays,
        )


class Headset:
    """One virtual headset on one virtual brain; `run()` until told to end."""

    def __init__(
        self, brain: Brain, *, name: str, source_id: str, faults: Faults, field: Field, truth: Path | None = None
    ) -> None:
        self._brain = brain
        self._settings = brain.settings
        self._name = name
        self._source_id = source_id
        self._faults = faults
        self._field = field
        self._truth = _TruthFile(truth) if truth else None
        self._rate_hz = brain.settings.sample_rate_hz
        self._pace = faults.pace
        self._waiting: list[tuple[float, int, Packet]] = []
        self._order = itertools.count()
        self._report: FieldReport | None = None
        self._fired: set[int] = set()  # boot_ns of pulses that had their effect, against repeated reports
        self._labels = brain.settings.montage
        self._epoch = 0
        brain.prepare()
        self._outlet = self._open()
        self._start_s = pylsl.local_clock()

    def switch_faults(self, texts: list[str]) -> None:
        """From the next packet on these faults and no others; raises ValueError naming what is wrong with one."""
        self._faults.switch(texts, self._brain.sample / self._rate_hz, self._settings.montage)
        # What a fault still held back comes before anything new.
        self._waiting = [(-math.inf, order, packet) for _, order, packet in sorted(self._waiting, key=lambda held: held[:2])]
        heapq.heapify(self._waiting)

    def run(self, ended: Callable[[], bool]) -> None:
        """Serve until `ended()`; it is asked at least every 20 ms."""
        chunk = 0
        try:
            while not ended():
                chunk += 1
                end = math.floor(chunk * CHUNK_S * self._rate_hz + 1e-9)
                due_s = self._lsl_s(end)
                self._wait(due_s, ended)
                late_s = pylsl.local_clock() - due_s
                if late_s > LOST_S:
                    self._start_s += late_s
                if end > self._brain.sample:
                    self._generate(end)
                self._send()
                self._brain.prepare()
        finally:
            if self._truth:
                self._truth.write(self._start_s, self._pace, self._settings.montage)

    def _lsl_s(self, sample: int) -> float:
        """LSL time of a sample number."""
        return float(self._start_s + sample / (self._rate_hz * self._pace))

    @staticmethod
    def _wait(due_s: float, ended: Callable[[], bool]) -> None:
        while (left_s := due_s - pylsl.local_clock()) > 0 and not ended():
            time.sleep(min(left_s, CHUNK_S))

    def _generate(self, end: int) -> None:
        """Samples up to `end`, cut where the stimulator reported a change."""
        boot_minus_lsl_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - pylsl.local_clock() * 1e9
        first = self._brain.sample
        parts: list[F32] = []
        for report in [*sorted(self._field.reports(), key=lambda report: report.boot_ns), None]:
            until = end if report is None else self._from(report, end, boot_minus_lsl_ns)
            if until > self._brain.sample:
                samples = self._brain.advance(until - self._brain.sample, self._stimulation(boot_minus_lsl_ns, until))
                parts.append(samples)
                if self._truth:
                    self._truth.add(samples, self._brain.truth(), round(TRUTH_S * self._rate_hz))
            if report is not None:
                self._take(report)
        packet = Packet(
            t_s=first / self._rate_hz,
            data_uv=np.concatenate(parts),
            stamp_s=self._lsl_s(end - 1),
            due_s=self._lsl_s(end),
            labels=self._settings.montage,
        )
        for delivered in self._faults.deliver(packet):
            heapq.heappush(self._waiting, (delivered.due_s, next(self._order), delivered))

    def _from(self, report: FieldReport, end: int, boot_minus_lsl_ns: float) -> int:
        """First sample a report is about; a report that only repeats the last one need not cut the samples."""
        known = self._report
        if known is not None and (known.amplitude_ma, known.frequency_hz) == (report.amplitude_ma, report.frequency_hz):
            return self._brain.sample
        return min(end, max(self._brain.sample, self._sample_at(report.boot_ns, boot_minus_lsl_ns)))

    def _take(self, report: FieldReport) -> None:
        """Make a report the current one, keeping pulses that have not fired yet; one that is overtaken changes nothing."""
        known = self._report
        if known is not None and report.boot_ns < known.boot_ns:
            return
        before = () if known is None else known.pulses
        self._report = replace(report, pulses=tuple(sorted({*before, *report.pulses} - self._fired)))
        self._fired = {pulse for pulse in self._fired if pulse > report.boot_ns - 2_000_000_000}

    def _sample_at(self, boot_ns: int, boot_minus_lsl_ns: float) -> int:
        lsl_s = (boot_ns - boot_minus_lsl_ns) * 1e-9
        sample: int = round((lsl_s - self._start_s) * self._rate_hz * self._pace)
        return sample

    def _stimulation(self, boot_minus_lsl_ns: float, until: int) -> Stimulation:
        """The current over the samples up to `until` as last reported, none if that was too long ago."""
        report = self._report
        if report is None:
            return NO_CURRENT
        reported_s = (report.boot_ns - boot_minus_lsl_ns) * 1e-9
        if self._lsl_s(self._brain.sample) - reported_s > STALE_S:
            return NO_CURRENT
        # the brain's own seconds run `pace` times as fast as the stimulator's
        frequency_hz = report.frequency_hz / self._pace
        since_start_s = (reported_s - self._start_s) * self._pace
        # a pulse that is reported late counts with the next sample, once
        due = {pulse: max(self._sample_at(pulse, boot_minus_lsl_ns), self._brain.sample) for pulse in report.pulses}
        fired = {pulse for pulse, sample in due.items() if sample < until}
        if fired:
            self._fired |= fired
            self._report = replace(report, pulses=tuple(pulse for pulse in report.pulses if pulse not in fired))
        phase_rad = math.fmod(report.phase_rad - 2 * math.pi * frequency_hz * since_start_s, 2 * math.pi)
        return Stimulation(report.amplitude_ma, frequency_hz, phase_rad, tuple(sorted({due[pulse] for pulse in fired})))

    def _send(self) -> None:
        now_s = pylsl.local_clock()
        while self._waiting and self._waiting[0][0] <= now_s:
            packet = heapq.heappop(self._waiting)[2]
            if packet.epoch != self._epoch:
                self._epoch, self._labels = packet.epoch, packet.labels
                del self._outlet
                self._outlet = self._open()
            self._outlet.push_chunk(packet.data_uv, packet.stamp_s)

    def _open(self) -> pylsl.StreamOutlet:
        """An outlet whose header follows the EEG convention of the XDF format."""
        head = load_head()
        info = pylsl.StreamInfo(self._name, "EEG", len(self._labels), self._rate_hz, pylsl.cf_float32, self._source_id)
        desc = info.desc()
        channels = desc.append_child("channels")
        for label in self._labels:
            channel = channels.append_child("channel")
            place_m = head.electrode_positions_m[head.electrode(label)]
            for key, value in (("label", label), ("unit", "microvolts"), ("type", "EEG")):
                channel.append_child_value(key, value)
            location = channel.append_child("location")
            for axis, meters in zip("XYZ", place_m, strict=True):
                location.append_child_value(axis, f"{meters * 1000:.1f}")
        reference = desc.append_child("reference")
        reference.append_child_value("label", self._settings.reference)
        reference.append_child_value("common_average", "Yes" if self._settings.reference == "average" else "No")
        acquisition = desc.append_child("acquisition")
        for key, value in (
            ("manufacturer", "eegloop"),
            ("model", "virtual headset"),
            ("precision", "24"),
            ("full_scale", f"{self._settings.rail_uv:g}"),
        ):
            acquisition.append_child_value(key, value)
        desc.append_child_value("manufacturer", "eegloop")
        return pylsl.StreamOutlet(info, max_buffered=60)

"""Blinks and horizontal eye movements: a linear-phase look at frontal electrodes, and peaks that stand out of it, sample by sample.

The filter is a 60 ms-wide smoother minus a 0.8 s-wide local mean (about 1-10 Hz, no phase shift): a blink keeps its shape and its
time, at the price of 0.4 s. What is found lies on the absolute sample grid, whatever the chunks.

Blinks are looked for twice: at the frontal electrodes as recorded, and at these against an electrode by each ear. The second look
does not depend on where the reference sits: one on the forehead (a Muse's) takes the blink off the frontal electrodes and puts it,
upside down, on all others; an average reference halves it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from dsp.electrodes import pick, places
from dsp.peaks import (
    APART_TIMES,
    APART_TOLD,
    COMPLETE_S,
    EVIDENCE,
    F_ROW_LEAST,
    F_ROW_TIMES,
    PERHAPS_SMALL,
    PERHAPS_TIMES,
    SIZED_S,
    Look,
    Polarity,
)
from eegloop.signal import F64, StreamInfo

LOCAL_S = 0.4  # half width of the local mean: the delay of everything found here
SMOOTH_S = 0.06
LEAST_RATE_HZ = 125.0  # peaks are looked for at this rate or a little above
# A gaze step: what lies this long after, through means over these stretches one after the other, minus what lies as long before. The two
# short ones are a period of the mains each: electrodes above the eyes differ in mains by more than gaze moves them.
STEP_FROM_S, STEP_MEANS_S = 0.02, (0.07, 1 / 50, 1 / 60)
# The other frontal electrode must see at least this share of a blink: an electrode pop is seen by one alone.
SHARED = 0.2
# How far in front of the ears (of the head's radius) an electrode of the forehead lies, one of the F row, and one that a blink still reaches.
FOREHEAD, F_ROW, REACHED = 0.8, 0.5, -0.2
# Behind the forehead a wave of the brain may be as large as a blink. A blink goes one way; a wave of a burst swings back by more than this
# share of its height. (The local mean that is taken off gives a blink of 0.5 s a third.)
SWINGS_BACK, SWING_LOOKS_S = 0.65, 0.4
# Low and lateral: what an electrode "by an ear" is. Parietal, occipital and central ones carry too much alpha to compare with.
EAR_HEIGHT = -0.85
# How far from the midline electrodes beside the eyes lie, and such above them.
BESIDE_EYES, ABOVE_EYES, F7_ASIDE = 0.45, 0.25, 0.77
# Sides that drift apart all the time (sweat, a loose electrode) pass any limit by chance: up to this many times the setting, what is told as
# gaze must stand out of what they usually do. Slow values do not lean on the smaller ones either way.
CERTAIN_TIMES = 2.0
APART_OF_FRONT = 1.2
SAME_S = 0.1  # the two looks at one blink differ by less
_LOGGED = 4096

Kind = Literal["blink", "eye_movement"]
PolaritySetting = Literal["auto", "positive", "negative"]


@dataclass(frozen=True, slots=True)
class EyeEvent:
    """One blink or gaze step: its peak's absolute sample and its height, µV, signed as at the electrode.

    `perhaps`: lower than a blink that counts as one.
    """

    kind: Kind
    sample: int
    height_uv: float
    against_ears: bool = False
    perhaps: bool = False


def frontal(info: StreamInfo) -> tuple[int, ...]:
    """The frontmost EEG electrodes, at most one left, one right and one on the midline; () without a frontal montage.

    Fp, AF and the like: in front of the coronal plane by at least 0.8 of the head's radius, and not below the eyes' height. Without any,
    the F row, where a blink is a fifth to two fifths of what it is on the forehead.
    """
    return _frontmost(info, FOREHEAD) or _frontmost(info, F_ROW)


def _frontmost(info: StreamInfo, least: float) -> tuple[int, ...]:
    """The frontmost EEG electrode left, right and on the midline, in front of the ears by at least this share of the head's radius."""
    best: dict[int, tuple[float, int]] = {}
    for i, (at, kind) in enumerate(zip(places(info.channels), info.kinds, strict=True)):
        if kind != "eeg" or at is None or at[1] < least or at[2] < -0.2:
            continue
        side = 0 if abs(at[0]) < 0.1 else int(np.sign(at[0]))
        if side not in best or at[1] > best[side][0]:
            best[side] = (float(at[1]), i)
    return tuple(sorted(i for _, i in best.values()))


def lateral(info: StreamInfo) -> tuple[int, int] | None:
    """The left and right electrode beside the eyes (F9/F10, F7/F8, AF7/AF8, ...), a symmetric pair, else the outermost above them (AF3/AF4,
    Fp1/Fp2); None without one."""
    found: list[tuple[bool, float, int, int]] = []
    at = [where if kind == "eeg" else None for where, kind in zip(places(info.channels), info.kinds, strict=True)]
    for i, left in enumerate(at):
        if left is None or left[0] > -ABOVE_EYES or left[1] < 0.5 or left[2] > 0.3:
            continue
        above = bool(left[0] > -BESIDE_EYES)
        if above and left[1] < 0.8:
            continue
        for j, right in enumerate(at):
            if right is not None and math.dist(left * (-1, 1, 1), right) < 0.1:
                found.append((above, float(left[0]), i, j))
    if not found:
        return None
    _, _, i, j = min(found)
    return i, j


def _share(info: StreamInfo, pair: tuple[int, int]) -> float:
    """What electrodes above the eyes have of a gaze step beside them: the eyes' field grows with the distance from the midline."""
    at = places(info.channels)[pair[0]]
    aside = BESIDE_EYES if at is None else abs(float(at[0]))
    return 1.0 if aside >= BESIDE_EYES else aside / F7_ASIDE


def ears(info: StreamInfo) -> tuple[int, ...]:
    """The left and right EEG electrode nearest the ears, out of the eyes' field; () without one on each side."""
    best: dict[int, tuple[float, int]] = {}
    for i, (at, kind) in enumerate(zip(places(info.channels), info.kinds, strict=True)):
        if kind != "eeg" or at is None or at[1] > 0.1:
            continue
        side, height = int(np.sign(at[0])), float(at[2] - abs(at[0]))
        if height > EAR_HEIGHT:
            continue
        if side not in best or height < best[side][0]:
            best[side] = (height, i)
    return tuple(i for _, i in best.values()) if len(best) == 2 else ()


def untold(info: StreamInfo) -> str:
    """What cannot be known of the eyes with these electrodes, in words for a person; "" where blinks are told."""
    if frontal(info):
        return ""
    if not any(at is not None for at, kind in zip(places(info.channels), info.kinds, strict=True) if kind == "eeg"):
        return (
            "Eyes cannot be told on this montage: no channel's name is a known place. Every lone slow wave is taken for a possible blink, "
            "of all channels, and small blinks stay in delta and theta."
        )
    if _frontmost(info, REACHED):
        return (
            "Eyes cannot be told on this montage: no electrode is on the forehead or in the F row. What stands out of the frontmost ones "
            "makes delta and theta suspect, and small blinks stay in them."
        )
    return "Eyes cannot be told on this montage: all electrodes are behind the ears. What large blinks add to delta and theta stays there."


class Eyes:
    """Follows the frontal electrodes; `take` gives the events that a block completes.

    Parameters
    ----------
    info : StreamInfo
    blink_uv : float or None
        Least height of a blink in the 1-10 Hz signal; None = blinks are not looked for.
    eye_uv : float or None
        Least step of the left-right difference at a horizontal eye movement; None = not looked for.
    polarity : "auto", "positive" or "negative"
        Sign of a blink at the frontal electrodes: it depends on reference and amplifier. "auto" finds it from the candidates
        themselves: those of the right sign are larger.
    """

    def __init__(
        self, info: StreamInfo, blink_uv: float | None, eye_uv: float | None, polarity: PolaritySetting, longest: int
    ) -> None:
        rate = info.sample_rate_hz
        front = frontal(info) if blink_uv is not None else ()
        self.told = bool(front)
        self._on_forehead = bool(front) and bool(_frontmost(info, FOREHEAD))
        if blink_uv is not None and not front:
            front = _frontmost(info, REACHED)
        pair = lateral(info) if eye_uv is not None else None
        by_ear = ears(info) if front else ()
        rows = [*front, *by_ear, *(pair or ())]
        self.channels = np.array(rows, dtype=np.intp)
        self._pick = pick(rows)
        self.front = np.array(front, dtype=np.intp)
        self.active = bool(rows)
        self.ears = np.array(by_ear, dtype=np.intp)
        self._n_front, self._n_ears, self._has_pair = len(front), len(by_ear), pair is not None
        self._rate_hz = rate
        self._stride = max(1, math.floor(rate / LEAST_RATE_HZ))
        self._half = half = round(LOCAL_S * rate)
        self.delay_samples = half
        self._blink_kernel, step_kernel = _blink_kernel(half, rate).tobytes(), _step_kernel(rate)
        self._step_kernel, self._step_half = step_kernel.tobytes(), len(step_kernel) // 2
        self._span = 2 * half + self._stride + 2 * longest
        self._ring: F64 = np.zeros((len(rows), 2 * self._span + 4 * longest))
        self._fill = self._next = 0
        most = 2 * longest // self._stride + 2
        self._rows: F64 = np.zeros((len(rows), most))
        n_traces = (2 if front else 0) + (2 if by_ear else 0) + (pair is not None)
        self._traces: F64 = np.zeros((n_traces, most))
        look_s = 2 * longest / rate
        self._sized_every = 2 * max(1, round(SIZED_S / look_s))
        sized_s = self._sized_every / 2 * look_s
        limit = blink_uv or 0.0
        self._blink_uv = limit
        told_uv = limit if self.told else math.inf
        self._lows: deque[tuple[int, list[float], list[float]]] = deque(
            maxlen=math.ceil((2 * SWING_LOOKS_S + COMPLETE_S) / look_s) + 1
        )
        self._looks = tuple(
            (Look(at, at + 1, told_uv, PERHAPS_SMALL * limit, limit, PERHAPS_TIMES, sized_s), Polarity(sign, rate))
            for at, sign in ((0, {"auto": 0, "positive": 1, "negative": -1}[polarity]), (2, 0))[: 2 if by_ear else 1]
        )
        self._eye_uv = eye_uv or 0.0
        self._least_eye_uv = self._eye_uv * (1.0 if pair is None else _share(info, pair))
        apart = n_traces - 1
        self._apart = Look(apart, apart, self._least_eye_uv, self._least_eye_uv, self._least_eye_uv, APART_TIMES, sized_s)
        for peaks in self._apart.peaks:
            peaks.least = self._eye_uv  # until it is known what stands out
        self._same = round(SAME_S * rate)
        self._told: deque[tuple[int, bool]] = deque(maxlen=EVIDENCE)
        self.log: deque[EyeEvent] = deque(maxlen=_LOGGED)
        self._fresh = True

    @property
    def polarity(self) -> int:
        """+1 or -1: the sign of a blink at the frontal electrodes, or against the ears where those show none; 0 while unknown."""
        return next((polarity.sign for _, polarity in self._looks if polarity.sign), 0)

    def restart(self) -> None:
        """The samples that follow do not go on from the last ones."""
        self._fresh = True
        for look in (*(look for look, _ in self._looks), self._apart):
            look.restart()

    def take(self, block: int, first: int, raw: F64) -> list[EyeEvent]:
        """Take block number `block`, mended raw samples (n_channels, n) from absolute index `first` on.

        Returns
        -------
        list of EyeEvent
            Those that every second block completes.
        """
        n, half, stride, ring = raw.shape[1], self._half, self._stride, self._ring
        if self._fresh:
            ring[:, : self._span] = raw[self.channels, :1]
            self._fill, self._fresh = self._span, False
            self._next = first - half
        if self._fill + n > ring.shape[1]:
            ring[:, : self._span] = ring[:, self._fill - self._span : self._fill].copy()
            self._fill = self._span
        ring[:, self._fill : self._fill + n] = raw[self._pick]
        self._fill += n
        if block % 2:
            return []
        # centers that have now got their whole surroundings, every stride-th sample of the grid
        end = first + n - half
        center = -(-self._next // stride) * stride
        count = -((center - end) // stride)
        self._next = end
        if count <= 0:
            return []
        start = self._fill - (first + n - center) - half
        samples = range(center, center + count * stride, stride)
        rows, traces = self._traced(start, count)
        # most looks end here: nothing has changed that a peak is made of
        tops, bottoms = np.maximum.reduce(traces, axis=1).tolist(), np.minimum.reduce(traces, axis=1).tolist()
        found: list[EyeEvent] = []
        perhaps: list[EyeEvent] = []
        ends = block % self._sized_every == 0
        if self._n_front:
            quiet = True
            if not self._on_forehead:
                self._lows.append((center, tops, bottoms))
            for look, polarity in self._looks:
                if look.size(tops, bottoms, ends) and self.told and not self._on_forehead:
                    counts_uv = max(F_ROW_TIMES * look.usual_uv, F_ROW_LEAST * self._blink_uv)
                    for peaks in look.peaks:
                        peaks.least = counts_uv
                quiet = look.idle(tops, bottoms) and not polarity.waits and quiet
            if not quiet:
                found, perhaps = self._blinks(rows, traces, tops, bottoms, samples)
        if self._has_pair:
            # a step gives each side half of itself: in a loud front, a smaller one than what may be a blink there is nothing
            if self._n_front:
                in_front = self._looks[0][0].standing_out_uv
                self._apart.most_uv = min(max(self._least_eye_uv, APART_OF_FRONT * in_front), CERTAIN_TIMES * self._eye_uv)
            if self._apart.size(tops, bottoms, ends):
                told = min(max(self._least_eye_uv, APART_TOLD * self._apart.standing_out_uv), CERTAIN_TIMES * self._eye_uv)
                for peaks in self._apart.peaks:
                    peaks.least = told
            if not self._apart.idle(tops, bottoms):
                moved, perhaps_moved = self._movements(rows[-2:], traces, tops, bottoms, samples)
                found, perhaps = [*found, *moved], [*perhaps, *perhaps_moved]
        if found:
            self.log.extend(found)
        return [*perhaps, *found] if perhaps else found

    def _traced(self, start: int, count: int) -> tuple[F64, F64]:
        """The filtered rows, (n_rows, count), and what peaks are looked for in: the frontal electrodes' largest and least value, both
        against the ears, and the difference of the pair (where these are there)."""
        n_front, n_plain = self._n_front, self._n_front + self._n_ears
        rows, traces = self._rows[:, :count], self._traces[:, :count]
        if n_front:
            self._filter(rows[:n_plain], 0, start, count, self._blink_kernel)
            front = rows[:n_front]
            largest, least = np.maximum.reduce(front, axis=0, out=traces[0]), np.minimum.reduce(front, axis=0, out=traces[1])
            if self._n_ears:
                by_ear = rows[n_front:n_plain]
                # both ears must see it: one electrode's own trouble does not make a blink
                np.subtract(largest, np.maximum.reduce(by_ear, axis=0), out=traces[2])
                np.subtract(least, np.minimum.reduce(by_ear, axis=0), out=traces[3])
        if self._has_pair:
            self._filter(rows[n_plain:], n_plain, start + self._half - self._step_half, count, self._step_kernel)
            np.subtract(rows[-2], rows[-1], out=traces[-1])
        return rows, traces

    def _filter(self, out: F64, row: int, start: int, count: int, kernel: bytes) -> None:
        """`kernel` over the samples of `len(out)` rows that begin at `start`, and at every stride after it."""
        bands = _bands(kernel, self._stride, count)
        np.matmul(self._ring[row : row + len(out), start : start + len(bands)], bands, out=out)

    def _blinks(
        self, rows: F64, traces: F64, tops: list[float], bottoms: list[float], samples: range
    ) -> tuple[list[EyeEvent], list[EyeEvent]]:
        """Blinks, and what may be one: too small, or of a sign of which nobody knows yet whether it is the blinks'."""
        found: list[EyeEvent] = []
        perhaps: list[EyeEvent] = []
        for look, polarity in self._looks:
            against_ears = look.top > 0

            def shared(i: int, sign: int, against_ears: bool = against_ears) -> bool:
                values = rows[: self._n_front + self._n_ears, i].tolist()
                front, by_ear = values[: self._n_front], values[self._n_front :]
                ear = (max(by_ear) if sign > 0 else min(by_ear)) if against_ears else 0.0
                heights = sorted(sign * (value - ear) for value in front)
                return len(heights) < 2 or heights[-2] >= SHARED * heights[-1]

            found += [EyeEvent("blink", when, high, against_ears) for when, high in polarity.settle(samples[0])]
            for sample, sign, height in look.candidates(look.peaks, traces, tops, bottoms, samples, shared):
                if not self._on_forehead and self._swings_back(look, sample, sign, height):
                    perhaps.append(EyeEvent("blink", sample, sign * height, against_ears, perhaps=True))
                    continue
                found += [EyeEvent("blink", when, high, against_ears) for when, high in polarity.take(sample, sign, height)]
                if not polarity.sign:
                    perhaps.append(EyeEvent("blink", sample, sign * height, against_ears, perhaps=True))
            known = polarity.sign or (self.polarity if against_ears else 0)
            perhaps += [
                EyeEvent("blink", sample, sign * height, against_ears, perhaps=True)
                for sample, sign, height in look.candidates(look.small, traces, tops, bottoms, samples, shared)
                if sign == known or not known
            ]
        if not found:
            return found, perhaps
        told = []
        for event in sorted(found, key=lambda e: (e.sample, e.against_ears)):
            if all(abs(event.sample - at) > self._same or look == event.against_ears for at, look in self._told):
                told.append(event)
            self._told.append((event.sample, event.against_ears))
        return told, perhaps

    def _swings_back(self, look: Look, sample: int, sign: int, height: float) -> bool:
        """Whether the look holds as much of the other sign around a peak as a wave does: then it is no blink."""
        near = SWING_LOOKS_S * self._rate_hz
        around = [(tops, bottoms) for at, tops, bottoms in self._lows if abs(at - sample) <= near]
        back = [-bottoms[look.bottom] if sign > 0 else tops[look.top] for tops, bottoms in around]
        return max(back, default=0.0) > SWINGS_BACK * height

    def _movements(
        self, pair: F64, traces: F64, tops: list[float], bottoms: list[float], samples: range
    ) -> tuple[list[EyeEvent], list[EyeEvent]]:
        """Gaze steps, and what may be small ones: the electrodes beside the two eyes move apart, in opposite directions."""

        def opposed(i: int, _sign: int) -> bool:
            left, right = pair[:, i].tolist()
            return bool(left * right < 0 and min(abs(left), abs(right)) >= SHARED * abs(left - right))

        look = self._apart
        found, perhaps = (
            [
                EyeEvent("eye_movement", at, sign * height, perhaps=both is look.small)
                for at, sign, height in look.candidates(both, traces, tops, bottoms, samples, opposed)
            ]
            for both in (look.peaks, look.small)
        )
        return found, perhaps


@lru_cache(maxsize=32)
def _bands(kernel_bytes: bytes, stride: int, count: int) -> F64:
    """A kernel at `count` strides, one a column: one product a look, and the same array for every headset like this one."""
    kernel = np.frombuffer(kernel_bytes)
    bands = np.zeros((len(kernel) + (count - 1) * stride, count))
    for j in range(count):
        bands[j * stride : j * stride + len(kernel), j] = kernel
    bands.flags.writeable = False
    return bands


def _raised_cosine(half: int) -> F64:
    t = np.arange(-half, half + 1)
    weights = 0.5 + 0.5 * np.cos(np.pi * t / (half + 1))
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _blink_kernel(half: int, rate_hz: float) -> F64:
    kernel = -_raised_cosine(half)
    smooth = max(1, round(SMOOTH_S * rate_hz))
    kernel[half - smooth : half + smooth + 1] += _raised_cosine(smooth)
    return kernel


def _step_kernel(rate_hz: float) -> F64:
    near = round(STEP_FROM_S * rate_hz)
    side = np.ones(1)
    for stretch_s in STEP_MEANS_S:
        n = max(1, round(stretch_s * rate_hz))
        side = np.convolve(side, np.full(n, 1.0 / n))
    return np.asarray(np.concatenate([-side, np.zeros(2 * near + 1), side]), dtype=np.float64)

"""Artifacts of the body and of electrodes, found in every block as it comes: what, which channels, which blocks.

One pass over a finished block gives all channels' steepness, noise at the top of the pass band, level and extremes; everything else
works on those few numbers. Slow verdicts (`dsp.contact`) follow every 2.5 s. Blocks and such stretches lie on the absolute grid.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from dsp.background import EVERY_S, Background
from dsp.codes import OF_THE_BODY, Code
from dsp.contact import STRETCH_S, Contact
from dsp.drift import Drift
from dsp.electrodes import places
from dsp.eyes import EyeEvent, Eyes
from dsp.heartbeat import Heartbeat
from dsp.jumps import Jumps
from dsp.spread import Spread
from dsp.window import Grid, Ranges
from eegloop.line import QualitySettings
from eegloop.signal import F64, Bool, StreamInfo

_REFERENCE_RATE_HZ = 250.0  # steepness is stated per sample of 4 ms
MUSCLE_TIMES = 2.5  # this many times the person's own median
# From this share of the limit on it is no muscle that anybody is told of, but what is made of fast frequencies does not lean on it.
MUSCLE_PERHAPS = 0.8
_MUSCLE_UNKNOWN = 2.0  # before there is one: this many times the setting
STRONG = 4.0  # times the limit's power: one such block spoils a window
_BASELINE, _BASELINE_LEAST, _REFRESH = 24, 3, 3  # stretches: a minute, 7.5 s, 7.5 s
BLINK_BEFORE_S, BLINK_AFTER_S = 0.15, 0.25
# An excursion that is as large behind as in front is no blink but the head or its cable moving. Not so if all behind goes the other
# way: then the reference lies in the eyes' field (a Muse's on Fpz), and what is behind shows the reference's own part of the blink.
EVERYWHERE = 0.8
APART_S = 0.3
# Before the look at the eyes has seen what follows: a level, free of alpha, this many times the usual one at every frontal electrode may
# be a blink's (the median of a Gaussian signal's size is 0.67 SD: 2.7 SD), if it is at least this share of the limit; the limit always is.
PERHAPS_TIMES = 4.0
PERHAPS_LEAST = 0.5
RHYTHM_LEVELS = (
    2.5  # the same for a rhythm that has set in: a sine's peaks are 1.4 times its usual level, and something rides on it
)
EARS_PERHAPS = 1.5  # alpha there is larger than in front
# A slow wave that stands out of the person's own last minute, this many times its usual level in 100 ms (0.67 SD of a Gaussian signal: 4
# SD) and at least so many µV, is a movement, sweat, a pop's tail, or the one slow wave of a drowsy minute: nobody can tell, and what is
# made of slow frequencies does not lean on it. Waves that come again and again are the person's delta, as in sleep: they do not stand out.
LONE_TIMES = 6.0
LONE_UV = 10.0
# What a blink may add to a channel that no electrode of the eyes is: this many times its usual level (1.2 SD of a
# height in 1-10 Hz, which is 0.6-0.7 of the blink), and so many µV at least.
BEARS_TIMES, BEARS_UV = 1.8, 3.0
_DEAD_UV = 0.05  # a stretch with so little was no head: a headset not worn yet, zeros, a rail
_OF_THE_PERSON = OF_THE_BODY | {Code.MOVEMENT}
_COVARIANCE_RATE_HZ = 125.0
_LOGGED = 4096


class Finding(NamedTuple):
    """Blocks `first` to `last` of these channels are an artifact; with `spoils`, so is every window that holds one of them.

    `only` "perhaps": it may be one, the look at the eyes will tell when it has seen what follows; "slow": what there is of it lies
    below `EYES_HZ`; "drift": below `DRIFT_HZ`; "fast": above `MUSCLE_HZ`.
    """

    code: Code
    first: int
    last: int
    channels: Bool
    spoils: bool
    only: Literal["", "perhaps", "slow", "drift", "fast"] = ""


@dataclass(frozen=True, slots=True)
class ArtifactEvent:
    """A blink, gaze step or movement: its peak's absolute sample and height (µV, signed as at the electrode)."""

    kind: Literal["blink", "eye_movement", "movement"]
    sample: int
    height_uv: float


class Artifacts:
    """`block` takes every block that was fed whole, in order; `restart` says that the next does not go on from the last."""

    def __init__(self, info: StreamInfo, settings: QualitySettings, grid: Grid, eeg: Bool, slow_response: F64 | None) -> None:
        c, rate = info.n_channels, info.sample_rate_hz
        longest = grid.block_lengths[-1]
        self._settings, self._grid, self._eeg, self._rate_hz = settings, grid, eeg, rate
        self.eyes = Eyes(info, settings.blink_uv, settings.eye_uv, settings.blink_polarity, longest)
        where = [p if kind == "eeg" else None for p, kind in zip(places(info.channels), info.kinds, strict=True)]
        at = np.array([(0.0, -2.0, 0.0) if p is None else p for p in where])
        self._near_eyes: Bool = (at[:, 1] > 0.3) & (at[:, 1] > -1.5)
        self._near_eyes[self.eyes.channels] = True
        self._near_eyes |= np.array([kind == "eog" for kind in info.kinds])
        self._behind: Bool = eeg & (at[:, 1] < 0.3)
        self._beside: Bool = self._near_eyes & (np.abs(at[:, 0]) > 0.25)
        self._neck: Bool = (at[:, 1] < -0.75) & (at[:, 1] > -1.5) & (at[:, 2] < 0.25)
        self._front = self.eyes.front
        self._spread = Spread(where, eeg, self._front.tolist())
        self._bears_uv: F64 = np.full(c, LONE_UV)
        self._at_front: list[int] = self.eyes.front.tolist()
        self._at_ears: list[int] = self.eyes.ears.tolist()
        # Without one known place: so many channels with a lone wave at once may be a blink's.
        self._nowhere = 0 if any(p is not None for p in where) else min(2, int(eeg.sum()))
        self._leveled_every = max(1, round(EVERY_S * rate / longest))
        self._background = Background(self._leveled_every * longest / rate)
        self._perhaps_uv = settings.blink_uv or 0.0
        self._per_stretch = max(1, round(STRETCH_S * rate / float(grid.block_length)))
        self._depth = self._per_stretch + 4
        self._steepness: F64 = np.zeros((self._depth, c))
        self._levels: F64 = np.zeros((self._depth, c))  # twice the middle of a block's range
        self._means: F64 = np.zeros((self._depth, c))
        self._extremes: F64 = np.zeros((self._depth, c))
        self._last: F64 = np.zeros(c)  # of the block before
        self._steps: F64 = np.zeros((c, longest))
        self._per_sample_uv = rate / _REFERENCE_RATE_HZ
        # 50 µV from sample to sample at 250 Hz and above; in the same time at lower rates
        self._gradient_uv = (settings.gradient_uv or np.inf) * max(1.0, _REFERENCE_RATE_HZ / rate)
        self._jumps = None if settings.gradient_uv is None else Jumps(eeg, rate)
        self._jumped: Bool | None = None  # in the block before
        self._muscle_uv2 = np.inf if settings.muscle_uv is None else settings.muscle_uv**2
        self._muscle_limit: F64 = np.full(c, self._muscle_uv2 * _MUSCLE_UNKNOWN**2)
        self._least_muscle_limit = float(self._muscle_limit.min())
        self._own: deque[F64] = deque(maxlen=_BASELINE)
        self._shares = {n: np.full(n, 1.0 / n) for n in grid.block_lengths}
        self._usual: deque[F64] = deque(maxlen=_BASELINE)
        self._lone_usual_uv: F64 = np.full(c, np.inf)
        self._lone_uv = self._lone_usual_uv
        self._least_lone_uv = np.inf
        self._since_refresh = 0
        self._steep_at: int | None = None
        self._steep: Bool = np.zeros(c, dtype=np.bool_)
        self._stride = max(1, int(rate / _COVARIANCE_RATE_HZ))
        # of the stretch's blocks, thinned samples, and which of them hold an artifact of the body
        self._thinned: F64 = np.zeros((c, self._per_stretch, -(-longest // self._stride)))
        self._disturbed: Bool = np.zeros(self._per_stretch, dtype=np.bool_)
        self._calm_blocks = 0
        self._zero_mean = slow_response is not None
        self._since = 0  # blocks in a row
        self.contact = Contact(info, eeg, settings.drift_uv_per_s)
        self._heartbeat = Heartbeat(eeg, rate / self._stride)
        self._drift = None if slow_response is None else Drift(eeg, slow_response)
        self.log: deque[ArtifactEvent] = deque(maxlen=_LOGGED)

    def restart(self) -> None:
        self._since = 0
        self._steep_at = None
        self._jumped = None
        if self.eyes.active:
            self.eyes.restart()

    def block(self, block: int, first: int, raws: list[F64], filtered: F64, ranges: Ranges) -> list[Finding]:
        """Look at a block.

        Parameters
        ----------
        block, first : int
            Its number and the absolute index of its first sample.
        raws : list of (n_channels, n) float64
            The newest blocks that were whole, in a row; the last is this one.
        filtered : (n_channels, n) float64
        ranges : Ranges
            Theirs.
        """
        n = filtered.shape[1]
        found: list[Finding] = []
        steps = self._steps[:, :n]
        np.subtract(filtered[:, 1:], filtered[:, :-1], steps[:, 1:])
        np.subtract(filtered[:, 0], self._last if self._since else filtered[:, 0], steps[:, 0])
        self._last[:] = filtered[:, -1]
        slot = block % self._depth
        steepness = self._steepness[slot]
        np.vecdot(steps, steps, steepness)
        np.multiply(steepness, self._per_sample_uv**2 / n, steepness)
        np.add(ranges.low, ranges.high, self._levels[slot])
        self._extremes[slot] = extreme = ranges.extreme
        self._since += 1
        steepest = float(np.maximum.reduce(steepness))
        no_muscle, self._jumped = self._jumped, None
        jumps = None if self._jumps is None else self._jumps.look(raws, steepness, steepest)
        if jumps is not None:
            self._jumped, large = jumps
            since = max(block - 1, block - self._since + 1)
            found.append(Finding(Code.GRADIENT, since, block, self._jumped, spoils=False, only="slow"))
            found.append(Finding(Code.GRADIENT, since, block, self._jumped, spoils=False, only="fast"))
            if large.any():
                found.append(Finding(Code.GRADIENT, since, block, large, spoils=True))
            no_muscle = self._jumped if no_muscle is None else no_muscle | self._jumped
        if steepest > MUSCLE_PERHAPS**2 * self._least_muscle_limit:
            self._muscle(block, steepness, no_muscle, found)
        if self._steep_at is not None:
            self._gradient_or_step(block, found)
        limit = self._gradient_uv
        # no step can be larger than the root of all steps' squares: most blocks need no second look
        if steepest * n > (limit * self._per_sample_uv) ** 2:
            largest = np.maximum(steps.max(1), -steps.min(1))
            steep = largest > limit
            if steep.any():
                self._steep_at, self._steep = block, steep
                found.append(Finding(Code.GRADIENT, block, block, steep, spoils=False))
        means = np.matmul(filtered, self._shares[n], self._means[slot])  # a mean over 100 ms holds no alpha
        levels: list[float] = means.tolist()
        least = self._least_lone_uv
        if ranges.loudest > least and (max(levels) > least or min(levels) < -least):
            lone = np.abs(means) > self._lone_uv
            if lone.any():
                first_lone = block
                if self._nowhere and int(np.count_nonzero(lone)) >= self._nowhere:
                    # a blink, for all anybody knows: it reaches others that show it less
                    lone, first_lone = self._eeg, block - 1
                elif self._everywhere(lone):
                    # the head or its cable moves: delta of those that show it less holds some of it too
                    found.append(Finding(Code.MOVEMENT, block, block, self._eeg & ~lone, spoils=False, only="drift"))
                found.append(Finding(Code.MOVEMENT, first_lone, block, lone, spoils=False, only="slow"))
        if self._drift is not None and self._drift.any:
            found.append(Finding(Code.DRIFT, block, block, self._drift.on, spoils=False, only="drift"))
            if self._drift.any_theta:
                found.append(Finding(Code.DRIFT, block, block, self._drift.theta, spoils=False, only="slow"))
        if self._heartbeat.any:
            for only in ("slow", "fast"):
                found.append(Finding(Code.HEARTBEAT, block, block, self._heartbeat.on, spoils=False, only=only))
            if self._heartbeat.all_bands.any():
                found.append(Finding(Code.HEARTBEAT, block, block, self._heartbeat.all_bands, spoils=False))
        if self.eyes.active:
            self._look_at_eyes(block, first, raws[-1], levels, extreme, found)
        thinned = filtered[:, -first % self._stride :: self._stride]  # evenly, also from block to block
        if not self._zero_mean:
            thinned = thinned - thinned.mean(1, keepdims=True)
        place = (block - 1) % self._per_stretch  # in order: a stretch ends with a multiple
        self._thinned[:, place, : thinned.shape[1]] = thinned
        if found and any(finding.code in _OF_THE_PERSON and not finding.only for finding in found):
            self._disturbed[place] = True
        else:
            self._calm_blocks += 1
        return found

    def _covariance(self) -> F64:
        """Sums of products of the stretch's samples without those of blocks with an artifact of the body, if half of it is left."""
        samples = self._thinned
        # What never stops is no blink and no clench: a bad electrode or reference looks like them all the time.
        if self._calm_blocks < self._per_stretch and 2 * self._calm_blocks >= self._per_stretch:
            samples = samples[:, ~self._disturbed]  # a blink makes all frontal channels alike for a moment
        samples = samples.reshape(len(samples), -1)
        return np.asarray(samples @ samples.T, dtype=np.float64)

    def _in_a_row(self, block: int) -> F64:
        """(n_channels, n) the thinned samples of the stretch that ends with `block`, without the empty places of shorter blocks."""
        thinned, per = self._thinned, self._per_stretch
        ends = [self._grid.block_end(at) // -self._stride for at in range(block - per, block + 1)]
        if ends[0] - ends[-1] == per * thinned.shape[2]:
            return thinned.reshape(len(thinned), -1)
        held = np.array([start - end for start, end in pairwise(ends)])
        return thinned[:, np.arange(thinned.shape[2]) < held[:, np.newaxis]]

    def _everywhere(self, lone: Bool) -> bool:
        """Whether lone waves leave no part of the head out: half of all electrodes, and two thirds of those that no eye reaches."""
        n, n_behind = np.count_nonzero(lone), np.count_nonzero(lone & self._behind)
        return bool(2 * n >= np.count_nonzero(self._eeg) and 3 * n_behind > 2 * np.count_nonzero(self._behind) > 2)

    # -- muscle, steps -------------------------------------------------------------------------

    def _muscle(self, block: int, steepness: F64, jumped: Bool | None, found: list[Finding]) -> None:
        over = steepness / self._muscle_limit
        perhaps = (over > MUSCLE_PERHAPS**2) & self._eeg
        if jumped is not None:  # what a jump leaves behind the filters looks like muscle: it is named after the jump
            left = perhaps & jumped
            if left.any():
                found.append(Finding(Code.GRADIENT, block, block, left, spoils=False, only="fast"))
            perhaps &= ~jumped
        if not perhaps.any():
            return
        channels = perhaps & (over > 1.0)
        strongest = int(np.argmax(np.where(perhaps, over, 0.0)))
        code = Code.NECK_MUSCLE if self._neck[strongest] else Code.JAW_MUSCLE
        found.append(Finding(code, block, block, perhaps, spoils=False, only="fast"))
        if not channels.any():
            return
        found.append(Finding(code, block, block, channels, spoils=False))
        strong = channels & (over > STRONG)
        if strong.any():
            found.append(Finding(code, block, block, strong, spoils=True))

    def _gradient_or_step(self, block: int, found: list[Finding]) -> None:
        """The block after a steep one: has the level stayed where it went?"""
        at = self._steep_at
        self._steep_at = None
        limit = self._settings.step_uv
        if at is None or limit is None or at != block - 1 or self._since < 3:
            return
        moved = np.abs(self._levels[block % self._depth] - self._levels[(block - 2) % self._depth]) > 2 * limit
        moved &= self._steep
        if moved.any():
            found.append(Finding(Code.STEP, at, block, moved, spoils=True))

    # -- eyes ----------------------------------------------------------------------------------

    def _look_at_eyes(self, block: int, first: int, raw: F64, levels: list[float], extreme: F64, found: list[Finding]) -> None:
        blink_uv = self._settings.blink_uv
        if blink_uv is not None and self._at_front:
            height = extreme.item
            front, ears = [height(i) for i in self._at_front], [height(i) for i in self._at_ears]
            if self.eyes.told and min(front) > blink_uv and max(front) > 2 * blink_uv:
                # too early to say what it is, but no window may use it as brain
                found.append(Finding(Code.BLINK, block, block, self._near_eyes & (extreme > blink_uv / 2), spoils=False))
            # without a high pass an offset is no height
            if self._zero_mean and (
                self._perhaps(block, levels, min(front), blink_uv) or (ears and min(ears) > EARS_PERHAPS * blink_uv)
            ):
                near = self._near_eyes.copy()
                near[self.eyes.ears] = True
                near &= extreme > blink_uv / 2
                near |= self._spread.reached(max(front), self._bears_uv)
                found.append(Finding(Code.BLINK, block, block, near, spoils=False, only="perhaps"))
        for event in self.eyes.take(block, first, raw):
            self._eye_event(event, block, found)

    def _perhaps(self, block: int, levels: list[float], extreme: float, blink_uv: float) -> bool:
        """Whether all frontal electrodes, the least of whose extremes is `extreme`, lie unusually far off, to the same side."""
        sized = block % self._leveled_every == 0
        if not sized and extreme <= self._perhaps_uv:
            return False
        at_front = [levels[i] for i in self._at_front]
        if sized and self._background.take(sum(map(abs, at_front)) / len(at_front)):
            usual = max(PERHAPS_TIMES * self._background.middle, RHYTHM_LEVELS * self._background.recent)
            self._perhaps_uv = min(max(usual, PERHAPS_LEAST * blink_uv), blink_uv)
        return bool(max(min(at_front), -max(at_front)) > self._perhaps_uv)

    def _eye_event(self, event: EyeEvent, block: int, found: list[Finding]) -> None:
        before, after = round(BLINK_BEFORE_S * self._rate_hz), round(BLINK_AFTER_S * self._rate_hz)
        from_block = max(self._grid.block_of(event.sample - before), block - self._depth + 1, block - self._since + 1)
        to_block = min(self._grid.block_of(event.sample + after), block)
        if event.perhaps:
            if from_block <= to_block:
                code, near = (Code.BLINK, self._near_eyes) if event.kind == "blink" else (Code.EYE_MOVEMENT, self._beside)
                if event.kind == "blink":
                    near = near | self._spread.reached(event.height_uv, self._bears_uv)
                found.append(Finding(code, from_block, to_block, near, spoils=False, only="slow"))
            return
        if from_block > to_block:
            self.log.append(ArtifactEvent(event.kind, event.sample, event.height_uv))
            return
        own = self._extremes[np.arange(from_block, to_block + 1) % self._depth].max(0)
        size = float(own[self._front].max()) if self._front.size else 0.0
        plain = event.kind == "blink" and not event.against_ears  # against the ears, what moves everything moves nothing
        everywhere = plain and self._behind.any() and float(np.median(own[self._behind])) > EVERYWHERE * size
        moved = self._moved(self._levels, event.sample, block) if everywhere or event.against_ears else None
        moved = None if moved is None else moved / 2  # levels are twice the middle of a range
        if everywhere and not self._opposed(moved, event.height_uv):
            self.log.append(ArtifactEvent("movement", event.sample, event.height_uv))
            large = self._eeg & (own > 2 * abs(event.height_uv) / 3)
            found.append(Finding(Code.MOVEMENT, from_block, to_block, large, spoils=True))
            return
        self.log.append(ArtifactEvent(event.kind, event.sample, event.height_uv))
        code = Code.BLINK if event.kind == "blink" else Code.EYE_MOVEMENT
        near = self._near_eyes if event.kind == "blink" else self._beside
        floor = (self._settings.blink_uv if event.kind == "blink" else self._settings.eye_uv) or 0.0
        far = near
        if event.kind == "blink":
            if plain and (level := self._moved(self._means, event.sample, block)) is not None:
                self._spread.take(level)
            far = near | self._spread.reached(event.height_uv, self._bears_uv)
        if moved is not None:
            # the reference lies in the eyes' field: whatever it has moved shows a blink too
            near = near | (self._eeg & (np.abs(moved) > floor / 3))
        touched = near & (own > floor / 2)
        found.append(Finding(code, from_block, to_block, far | near, spoils=False, only="slow"))
        found.append(Finding(code, from_block, to_block, touched, spoils=False))
        ruled = touched & (own > 2 * floor)
        if ruled.any():
            found.append(Finding(code, from_block, to_block, ruled, spoils=True))

    def _moved(self, levels: F64, sample: int, block: int) -> F64 | None:
        """How far each channel's level lies in the block of `sample` from that `APART_S` before and after; None if those are not known."""
        reach = max(1, round(APART_S * self._rate_hz / float(self._grid.block_length)))
        peak = self._grid.block_of(sample)
        oldest = block - min(self._since, self._depth) + 1
        around = [at for at in (peak - reach, peak + reach) if oldest <= at <= block]
        if peak < oldest or not around:
            return None
        return np.asarray(levels[peak % self._depth] - levels[np.array(around) % self._depth].mean(0), dtype=np.float64)

    def _opposed(self, moved: F64 | None, height_uv: float) -> bool:
        """Whether all channels behind move against the frontal ones."""
        if moved is None:
            return False
        return bool(np.all(moved[self._behind] * height_uv < 0) and np.mean(moved[self._front]) * height_uv > 0)

    # -- once a stretch ------------------------------------------------------------------------

    def stretch_ends(self, block: int) -> bool:
        return block % self._per_stretch == 0

    def stretch(self, block: int, dead: F64, line_uv2: F64 | None, impedance_kohm: F64 | None) -> bool:
        """The stretch that ends with `block`; False if it was not whole and nothing is concluded."""
        whole = self._since >= self._per_stretch
        if whole:
            rows = np.arange(block - self._per_stretch + 1, block + 1) % self._depth
            noise = np.add.reduce(self._steepness[rows], axis=0) / len(rows)
            shift = (self._levels[rows[-1]] - self._levels[rows[0]]) / 2
            self.contact.stretch(self._covariance(), noise, shift, dead, line_uv2, impedance_kohm)
            self._own.append(noise)
            means = self._means[rows]
            self._usual.append(np.partition(np.abs(means), len(rows) // 2, axis=0)[len(rows) // 2].copy())
            samples = self._in_a_row(block)
            self._heartbeat.take(samples)
            if self._drift is not None:
                self._drift.take(samples)
            self._since_refresh += 1
            if self._since_refresh >= _REFRESH and len(self._own) >= _BASELINE_LEAST:
                self._since_refresh = 0
                own = np.sort(self._own, axis=0)
                middle = (own[(len(own) - 1) // 2] + own[len(own) // 2]) / 2
                self._muscle_limit = np.maximum(self._muscle_uv2, MUSCLE_TIMES**2 * middle)
                self._least_muscle_limit = float(self._muscle_limit.min())
                if self._jumps is not None:
                    self._jumps.usual(middle)
                if self._zero_mean:
                    usual = _usual_alive(self._usual)
                    self._bears_uv = np.maximum(BEARS_TIMES * usual, BEARS_UV)
                    self._lone_usual_uv = np.where(self._eeg, np.maximum(LONE_TIMES * usual, LONE_UV), np.inf)
            # a rhythm that has set in is no row of lone waves
            self._lone_uv = np.maximum(self._lone_usual_uv, RHYTHM_LEVELS * self._usual[-1])
            self._least_lone_uv = float(self._lone_uv.min())
        else:
            self._heartbeat.restart()
            if self._drift is not None:
                self._drift.restart()
        self._thinned[:] = 0.0
        self._disturbed[:] = False
        self._calm_blocks = 0
        return whole


def _usual_alive(levels: deque[F64]) -> F64:
    """Each channel's median level of the stretches in which it was alive; infinite where these are too few to know."""
    ordered = np.sort(levels, axis=0)
    n_dead = np.count_nonzero(ordered < _DEAD_UV, axis=0)
    n_alive = len(ordered) - n_dead
    middle = np.minimum(n_dead + n_alive // 2, len(ordered) - 1)
    usual = np.take_along_axis(ordered, middle[np.newaxis], axis=0)[0]
    return np.where(n_alive >= _BASELINE_LEAST, usual, np.inf)

"""Slow drift that lasts: sweat, breathing and a rocking head, told from slow waves of the brain by what lies below delta, and how regularly.

A lone slow wave stands out of the person's last minute (`dsp.artifacts`). Drift that never stops does not: it is the last minute. Three
things tell it. What lies below delta leaks into it through the taper, and where a third of a delta value is such leakage, nobody sees the
person's own. An electrode that wanders (sweat, a potential that has not settled) has a spectrum of 1/f² from far below delta through
it; a brain's is flatter, or as steep above 1 Hz only: below it, a brain's grows no more than 1/f (He et al., Neuron 2010, on the cortex).
And a head or cable that is rocked moves every electrode at once, at one frequency, for many seconds: slow waves of the brain are broad,
and they travel.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from dsp.contact import STRETCH_S, Lasting
from eegloop.signal import F64, Bool

_POINTS = 50  # means a stretch, of 50 ms each: nothing of alpha or theta comes back below 4 Hz
_STRETCHES = 4  # 10 s, tapered: 0.1 Hz between bins
_EVERY = 2  # stretches: half of the next 10 s are the last ones
_NEWEST, _KEPT = 3, 10  # of these spectra, 20 and 55 s in all
_TAPER_S = 2.0  # of the delta value that is protected
_DELTA_HZ = (1.0, 4.0)
_SPACING_HZ = 1.0 / (_STRETCHES * STRETCH_S)
FREQUENCY_HZ: F64 = np.arange(71, dtype=np.float64) * _SPACING_HZ
# Below this nothing is delta, and of the brain's own there is little behind the high pass: a slow oscillation of deep sleep lies above it.
BELOW_HZ = 0.75
# Share of delta that comes from below it: a third makes the value half as much again. A 1/f² brain has 0.15, a 1/f³ one 0.25. Of fewer
# spectra it varies more.
LEAKED, CLEARED = 0.33, 0.24
_LEAKED_SOONER = 0.48, 0.4  # of one spectrum, of two
# The exponent between what lies below delta and what lies from there to theta, before the filters; and that within the upper span, where a
# brain that is as steep is steeper still, and a drift with a brain under it flatter.
_LOW_HZ, _HIGH_HZ = (0.2, 0.6), (1.5, 5.0)
_WHITE = 1.7  # bins are weighed by f to this power before they are summed: none counts more than others
FEWEST, MIXED, MIXED_MORE = 4, 1.5, 1.0  # of n spectra, drift on a brain: from MIXED + MIXED_MORE / n up
_MOST_MIXED = 1.9
_LEAST_LOWER = 1.6  # exponent below delta alone: a brain's is 1
PURE, PURE_MORE = 1.82, 0.5  # nothing but drift, likewise
_MOST_PURE, _STEEPEST = (
    2.2,
    2.25,
)  # an upper span above the one is a brain's; above the other, it breathes or sways far below delta
_PURE_SPREAD = 1.2  # of n spectra, of one electrode alone
_LOOSER = 0.1  # than these until it is over
_OVER = 1.4  # of the newest `FEWEST`
_WANDERS = 0.5  # share of delta that the line of 1/f² through what lies below it holds
_THETA_HZ = (4.0, 7.0)
THETA, THETA_CLEARED = 0.33, 0.25  # the same of theta: half as much again
_ROCKING_HZ = 0.3, 2.0
# One frequency's share of delta, 0.2 Hz to either side (the taper's own width): as above. 1/f noise of 20 s has a third by chance.
LINE = 0.5
# Share of these channels' line that is one pattern, the same at every instant; the rest is what else is there. A wave of 1 Hz that takes
# 0.12 s over the head, as those of sleep do, has less; and no brain's are as regular over 20 s.
TOGETHER = 0.95
_FEWEST_ROCKED = 3

# One event this large (a rail left behind, a knock) would be most of a minute's sum. It is told by itself: 10 s that hold it say nothing here.
TOO_LARGE_UV = 150.0


class Drift:
    """`take` is given every whole stretch in order.

    Parameters
    ----------
    eeg : (n_channels,) bool
    response : (71,) float64
        The filters' power response at `FREQUENCY_HZ`.

    Attributes
    ----------
    on : (n_channels,) bool
        Where what is made of frequencies below 2 Hz is not the person's.
    theta : (n_channels,) bool
        Where that goes for theta too.
    any, any_theta : bool
    """

    def __init__(self, eeg: Bool, response: F64) -> None:
        c, n = len(eeg), _POINTS * _STRETCHES
        self._eeg = eeg
        self._trace: F64 = np.zeros((c, n))
        self._held = 0
        self._edges: dict[int, tuple[NDArray[np.intp], F64]] = {}
        self._taper: F64 = np.hanning(n + 1)[:n]
        f = FREQUENCY_HZ
        self._before: F64 = np.maximum(response * np.sinc(f * STRETCH_S / _POINTS) ** 2, 1e-30)
        reach = _reach(f)
        self._reach = reach
        self._first, self._last = (int(np.searchsorted(f, hz - 1e-9)) for hz in _ROCKING_HZ)
        at = np.maximum(f, _SPACING_HZ)
        low, high = _within(_LOW_HZ), _within(_HIGH_HZ)
        self._span = np.log(at[high]).mean() - np.log(at[low]).mean()
        self._slopes: F64 = np.array([_slope(_within((_LOW_HZ[0], BELOW_HZ))), _slope(high)])
        below, theta = f < BELOW_HZ - 1e-9, _within(_THETA_HZ)
        # what is made of a spectrum: delta, what of it lies below, the two spans, theta, and the line of 1/f²
        self._sums: F64 = np.array(
            [
                reach,
                np.where(below, reach, 0.0),
                np.where(low, at**_WHITE / self._before, 0.0) / low.sum(),
                np.where(high, at**_WHITE / self._before, 0.0) / high.sum(),
                np.where(theta, 1.0 / self._before, 0.0),
                np.where(low, at**2 / self._before, 0.0) / low.sum(),
            ]
        ).T.copy()
        # of a line of 1/f² that is 1 at 1 Hz
        self._line_in_delta = float(np.where(below, 0.0, reach * self._before / at**2).sum())
        self._line_in_theta = float(np.where(theta, at**-2.0, 0.0).sum())
        self._spectra: deque[NDArray[np.complex128]] = deque(maxlen=_NEWEST)
        self._powers: deque[F64] = deque(maxlen=_KEPT)
        self._kept: deque[F64] = deque(maxlen=_KEPT)
        self._rocked = Lasting((c,))
        self._leaking: Bool = np.zeros(c, dtype=np.bool_)
        self._wandering: Bool = self._leaking
        self.on = self.theta = self._leaking
        self.any = self.any_theta = False

    def restart(self) -> None:
        """The stretches that follow do not go on from the last one. What is known of the last minute stands."""
        self._held = 0

    def take(self, samples_uv: F64) -> None:
        """One more stretch.

        Parameters
        ----------
        samples_uv : (n_channels, n) float64
            High-passed samples, evenly spaced, at least 50.
        """
        trace, n = self._trace, samples_uv.shape[1]
        known = self._edges.get(n)
        if known is None:
            edges = np.arange(_POINTS + 1) * n // _POINTS
            known = self._edges[n] = edges[:-1], 1.0 / np.diff(edges)
        edges, shares = known
        trace[:, :-_POINTS] = trace[:, _POINTS:]
        np.multiply(np.add.reduceat(samples_uv, edges, axis=1), shares, trace[:, -_POINTS:])
        self._held += 1
        if self._held < _STRETCHES or (self._held - _STRETCHES) % _EVERY:
            return
        spectrum = np.fft.rfft((trace - trace.mean(1, keepdims=True)) * self._taper)[:, : len(FREQUENCY_HZ)]
        lost = (trace.max(1) > TOO_LARGE_UV) | (trace.min(1) < -TOO_LARGE_UV)
        if lost.any():
            spectrum[lost] = 0.0
        power = spectrum.real**2 + spectrum.imag**2
        self._spectra.append(spectrum)
        self._powers.append(power)
        self._kept.append((power @ self._sums).T)
        kept = list(self._kept)
        delta, below = np.add.reduce(kept[-_NEWEST:])[:2]
        delta = np.where(delta > 0, delta, 1.0)
        limit = LEAKED if len(kept) >= _NEWEST else _LEAKED_SOONER[len(kept) - 1]
        self._leaking = (below > np.where(self._leaking, CLEARED, limit) * delta) & self._eeg
        if len(kept) >= FEWEST:
            self._wanders(np.add.reduce(kept), np.add.reduce(kept[-FEWEST:]))
        if len(kept) >= _NEWEST:
            rocked = self._rocking(delta)
            self._rocked.take(rocked, ~rocked)
        self.on = self._leaking | self._wandering | self._rocked.on
        self.any, self.any_theta = bool(self.on.any()), bool(self.theta.any())

    def _wanders(self, sums: F64, newest: F64) -> None:
        """Channels whose slow waves are mostly a walk; sums as of `_sums`, of all spectra kept and of the newest ones."""
        n, looser = len(self._kept), np.where(self._wandering, _LOOSER, 0.0)
        mixed, pure = MIXED + MIXED_MORE / n - looser, PURE + PURE_MORE / n - looser
        with np.errstate(divide="ignore", invalid="ignore"):
            steep = np.log(sums[2] / sums[3]) / self._span + _WHITE
            steep_now = np.log(newest[2] / newest[3]) / self._span + _WHITE
            wandering = (steep > np.minimum(mixed, pure)) & (steep_now > _OVER) & self._eeg
            if wandering.any():
                delta, below, _, _, theta, line = sums
                lower, upper = self._slopes @ np.log(np.add.reduce(self._powers) / self._before).T
                # a dead electrode's is none, and says nothing of the others'
                known = self._eeg & np.isfinite(lower) & np.isfinite(upper)
                wandering &= known
                wandering &= upper < _MOST_PURE + _PURE_SPREAD / n  # blinks, and slow waves of the one electrode
                # all electrodes see one brain: most of what is told of one is told by all
                everybody = known if known.any() else self._eeg
                upper = upper / 4 + 3 * np.median(upper[everybody]) / 4
                wandering &= (lower + np.median(lower[everybody])) / 2 > _LEAST_LOWER - looser
                wandering &= (steep + np.median(steep[everybody])) / 2 < _STEEPEST
                on_a_brain = (steep > mixed) & (upper < np.minimum(steep + 0.1, _MOST_MIXED))
                alone = (steep > pure) & (upper < np.minimum(steep + 0.15, _MOST_PURE))
                wandering &= (on_a_brain | alone) & (below + line * self._line_in_delta > (_WANDERS - looser) * delta)
                share = line * self._line_in_theta / theta
                self.theta = wandering & (share > np.where(self.theta, THETA_CLEARED, THETA))
            else:
                self.theta = wandering
        self._wandering = wandering

    def _rocking(self, delta: F64) -> Bool:
        """Channels whose delta, (n_channels,), is mostly one frequency, the same for all and in step in all."""
        first, last = self._first - 2, self._last + 2
        newest = list(self._powers)[-_NEWEST:]
        power = sum(one[:, first : last + 1] for one in newest) * self._reach[first : last + 1]
        n = last - first - 3
        running = power[:, :n] + power[:, 1 : n + 1] + power[:, 2 : n + 2] + power[:, 3 : n + 3] + power[:, 4:]
        running /= delta[:, np.newaxis]
        at = int((self._eeg @ running).argmax())
        rocked = (running[:, at] > LINE) & self._eeg
        if int(np.count_nonzero(rocked)) < _FEWEST_ROCKED:
            return np.zeros_like(self._eeg)
        at += first
        line = np.hstack([one[rocked, at : at + 5] for one in self._spectra])
        # the largest eigenvalue of the real part of line* lineᵀ, which has one for every electrode: these few columns have the same
        parts = np.hstack((line.real, line.imag))
        shared = parts.T @ parts
        together = float(np.linalg.eigvalsh(shared)[-1]) / float(shared.trace())
        return rocked if together > TOGETHER else np.zeros_like(self._eeg)


def _within(span_hz: tuple[float, float]) -> Bool:
    lowest, highest = span_hz[0] - 1e-9, span_hz[1] + 1e-9
    return np.asarray(np.greater(FREQUENCY_HZ, lowest) & np.less(FREQUENCY_HZ, highest), dtype=np.bool_)


def _slope(span: Bool) -> F64:
    """What makes the exponent of 1/f within the span of the logarithm of a spectrum: least squares, every bin alike."""
    log = np.where(span, np.log(np.maximum(FREQUENCY_HZ, _SPACING_HZ)), 0.0)
    log[span] -= log[span].mean()
    return np.asarray(-log / (log @ log), dtype=np.float64)


def _reach(frequency_hz: F64) -> F64:
    """What a Hann taper of 2 s lets of power at each frequency into the sum of delta's bins, 1 for a frequency in the middle of delta."""
    spacing = 1.0 / _TAPER_S
    offset = (frequency_hz - np.arange(_DELTA_HZ[0], _DELTA_HZ[1], spacing)[:, np.newaxis]) / spacing
    taper = np.sinc(offset) + 0.5 * (np.sinc(offset - 1.0) + np.sinc(offset + 1.0))
    reached = np.add.reduce(taper**2)
    return np.asarray(reached / reached.max(), dtype=np.float64)

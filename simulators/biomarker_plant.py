"""The virtual brain at biomarker level: one row of alpha biomarkers a decision, for large numbers of sessions.

The noise is not modeled but measured: a `Profile` holds an hour of windowed log alpha power of the sample-level brain, artifacts
and all, around its mean; a session strings random stretches of it together. The mean follows stimulation through the same
equations as the sample level: each region's alpha is scaled in a few hundred measured windows and the log power averaged anew.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eegloop.signal import F64, Bool
from simulators.brain import Brain, BrainSettings
from simulators.faults import Faults, Gone, Loss, Packet, parse
from simulators.head import load_head
from simulators.ongoing import vigilance, wandering
from simulators.patients import Patient
from simulators.response import alpha_factor, drive_per_ma

ALPHA_HZ = (8.0, 13.0)
STRETCH_ROWS = 120
"""Rows of measured noise that stay together, so that its memory over seconds is kept."""
KEPT_WINDOWS = 300
SETTLE_S = 3.5
"""How long after a current or a gap the line's filters are not to be trusted: measured on the sample level (seed 100,001)."""
PACKET_S = 0.1
_CURRENT_MA = np.linspace(-4.0, 4.0, 33)
_CURRENT_FIRST_MA, _CURRENT_STEP_MA = -4.0, 0.25
_LN_SCALE = np.linspace(-2.5, 1.5, 9)
_LN_SCALES = [float(ln) for ln in _LN_SCALE]

Complex = NDArray[np.complex128]


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """What the sample-level brain of one patient shows in windows of `window_s`, every `hop_s`, unstimulated, eyes as set.

    Attributes
    ----------
    channels : tuple of str
    residual : (n_rows, n_channels) float64
        ln alpha power less its mean over the windows kept below: with `ln_alpha`, which stands on those few, it gives what is
        measured, whatever their own mean is by chance.
    bad : (n_rows, n_channels) bool
        More than 30 % of the window beyond `amplitude_uv` after a 1 Hz high pass or at the rail, or mains above `line_ratio`
        times the power in 1-45 Hz: the line's own rules by default.
    sources : (n_kept, n_bins, n_regions) complex128
        Tapered spectra of the regions' alpha in 8-13 Hz of some good windows, scaled so that |x|^2 sums to (nA m)^2.
    rest : (n_kept, n_bins, n_channels) complex128
        The same of everything else at the electrodes, uV.
    mixing : (n_regions, n_channels) float64
    """

    window_s: float
    hop_s: float
    channels: tuple[str, ...]
    residual: F64
    bad: Bool
    sources: Complex
    rest: Complex
    mixing: F64
    forms: F64 = field(init=False, repr=False, compare=False)
    """(n_pairs, n_kept * n_channels): a window's power is a quadratic form of the factors; its coefficients, once for all."""

    def __post_init__(self) -> None:
        # power = sum over bins of |rest + sum over regions of factor * source * mixing|^2, multiplied out
        parts = np.concatenate((self.rest[..., None], np.einsum("kbr,rc->kbcr", self.sources, self.mixing)), axis=3)
        products = np.einsum("kbci,kbcj->ijkc", parts.conj(), parts).real
        low, high = np.triu_indices(parts.shape[3])
        weight = np.where(low == high, 1.0, 2.0)[:, None]
        object.__setattr__(self, "forms", weight * products[low, high].reshape(len(low), -1))

    def ln_alpha(self, factors: F64) -> F64:
        """(n, n_channels) mean ln alpha power when regions' alpha amplitudes are `factors` (n, n_regions) times what was measured."""
        whole = np.hstack((np.ones((len(factors), 1)), factors))
        low, high = np.triu_indices(whole.shape[1])
        power = (whole[:, low] * whole[:, high]) @ self.forms
        return np.asarray(np.log(power).reshape(len(factors), -1, len(self.channels)).mean(axis=1))

    def save(self, path: Path) -> None:
        """Write as .npz."""
        np.savez_compressed(
            path,
            window_s=self.window_s,
            hop_s=self.hop_s,
            channels=np.array(self.channels),
            residual=self.residual,
            bad=self.bad,
            sources=self.sources,
            rest=self.rest,
            mixing=self.mixing,
        )

    @staticmethod
    def load(path: Path) -> Profile:
        """Read what `save` wrote."""
        with np.load(path) as file:
            return Profile(
                window_s=float(file["window_s"]),
                hop_s=float(file["hop_s"]),
                channels=tuple(str(name) for name in file["channels"]),
                residual=file["residual"],
                bad=file["bad"],
                sources=file["sources"],
                rest=file["rest"],
                mixing=file["mixing"],
            )


def stationary(settings: BrainSettings) -> BrainSettings:
    """The same brain without what changes over minutes; that part is known and added to each session by itself."""
    return settings.model_copy(update={"alpha_wander": 0.0, "alpha_drift_per_h": 0.0, "drowsy_from_s": 86_400.0})


def measure(
    settings: BrainSettings,
    *,
    window_s: float = 2.0,
    hop_s: float = 1.0,
    seconds: float = 3600.0,
    amplitude_uv: float = 150.0,
    line_ratio: float = 0.5,
) -> Profile:
    """Run the sample-level brain for `seconds` of its own time and measure what `Profile` holds.

    Raises
    ------
    ValueError
        If eyes alternate (measure each state by itself) or the time is too short.
    """
    if settings.eyes == "alternating":
        raise ValueError("measure: eyes alternate; measure open and closed each by itself")
    if seconds < 2 * STRETCH_ROWS * hop_s:
        raise ValueError(f"measure: {seconds:g} s are too few; at least {2 * STRETCH_ROWS * hop_s:g} s")
    brain = Brain(stationary(settings))
    rate_hz = settings.sample_rate_hz
    window, hop = round(window_s * rate_hz), round(hop_s * rate_hz)
    taper = np.hanning(window + 1)[:-1]
    f_hz = np.fft.rfftfreq(window, 1 / rate_hz)
    inside = (f_hz >= ALPHA_HZ[0]) & (f_hz < ALPHA_HZ[1])
    at_mains, wide = np.abs(f_hz - settings.line_hz) <= 1.0, (f_hz >= 1.0) & (f_hz <= 45.0)
    # one-sided density of a Hann window, summed over bins, is power: each bin counts 2 / (n * sum of squares)
    scale = math.sqrt(2.0 / (window * float((taper**2).sum())))
    mixing = load_head().mixing(settings.montage, settings.reference)
    # 1 Hz high pass as a moving average taken off: its first zero is at 2.3 Hz, its 3 dB point at about 1 Hz
    span = round(0.44 * rate_hz)

    ln_power: list[F64] = []
    bad: list[Bool] = []
    sources: list[Complex] = []
    rest: list[Complex] = []
    kept: list[int] = []
    keep_every = max(1, round(seconds / hop_s / KEPT_WINDOWS))
    samples, moments = np.empty((0, len(settings.montage))), np.empty((0, len(brain.regions)))
    while len(ln_power) < seconds / hop_s:
        samples = np.vstack((samples, brain.advance(round(60 * rate_hz)).astype(np.float64)))
        truth = brain.truth()
        moments = np.vstack((moments, truth.alpha_nam * np.cos(truth.alpha_phase_rad)))
        sums = np.cumsum(np.vstack((np.zeros(samples.shape[1]), samples)), axis=0)
        rows = np.arange(len(samples))
        begin, end = np.maximum(rows - span // 2, 0), np.minimum(rows + span // 2 + 1, len(samples))
        fast = samples - (sums[end] - sums[begin]) / (end - begin)[:, None]
        wrong = (np.abs(fast) > amplitude_uv) | (np.abs(samples) >= 0.99 * settings.rail_uv)
        start = 0
        while start + window <= len(samples):
            piece = slice(start, start + window)
            spectrum = scale * np.fft.rfft((samples[piece] - samples[piece].mean(axis=0)) * taper[:, None], axis=0)
            power, seen = np.abs(spectrum) ** 2, spectrum[inside]
            mains = power[at_mains].sum(axis=0) > line_ratio * power[wide].sum(axis=0)
            ln_power.append(np.log((np.abs(seen) ** 2).sum(axis=0)))
            bad.append((wrong[piece].mean(axis=0) > 0.3) | mains)
            if len(ln_power) % keep_every == 0 and not bad[-1].any():
                region = scale * np.fft.rfft(moments[piece] * taper[:, None], axis=0)[inside]
                kept.append(len(ln_power) - 1)
                sources.append(region)
                rest.append(seen - region @ mixing)
            start += hop
        samples, moments = samples[start:], moments[start:]
    if not sources:
        raise ValueError("measure: every window is bad; there is nothing to measure")
    powers, dirty = np.array(ln_power), np.array(bad)
    mean = powers[kept].mean(axis=0)
    return Profile(window_s, hop_s, settings.montage, powers - mean, dirty, np.array(sources), np.array(rest), mixing)


@dataclass(frozen=True, slots=True)
class Reading:
    """Alpha biomarkers of one window: ln power in 8-13 Hz (uV^2) by channel, NaN where not good."""

    t_s: float
    ln_alpha: tuple[float, ...]
    good: tuple[bool, ...]
    effect_ma: float


class Answers:
    """What is expected of a person's alpha under the whole effect of a current: the same in every session, tabulated when first needed."""

    def __init__(self, patient: Patient, profile: Profile) -> None:
        self.settings = patient.settings(montage=profile.channels)
        self.profile = profile
        self.drive = drive_per_ma(self.settings)
        self._tables: dict[tuple[int, float], list[list[float]]] = {}

    def table(self, kind: int, ln_scale: float) -> list[list[float]]:
        """[current][channel] mean ln alpha power under direct (kind 0) or alternating current (1), all alpha scaled by exp(ln_scale)."""
        table = self._tables.get((kind, ln_scale))
        if table is None:
            factors = alpha_factor(self.settings, _CURRENT_MA[:, None] * self.drive[kind])
            table = self._tables[kind, ln_scale] = self.profile.ln_alpha(math.exp(ln_scale) * factors).tolist()
        return table

    def asymmetry(self, left: int, right: int) -> tuple[list[float], list[float]]:
        """(current mA, mean asymmetry under the whole effect of it), for a person awake: what is true behind the noise."""
        return _CURRENT_MA.tolist(), [row[right] - row[left] for row in self.table(0, 0.0)]


class BiomarkerPlant:
    """One session of one patient; `step` is one decision period of `profile.hop_s`."""

    def __init__(
        self,
        patient: Patient,
        profile: Profile,
        *,
        seed: int,
        settle_s: float = SETTLE_S,
        rows: int = 3600,
        answers: Answers | None = None,
    ) -> None:
        """`settle_s`: how long after the last current or gap a window may begin; `rows`: the longest session in decisions;
        `answers`: this patient's, where an earlier session has made them."""
        self._answers = answers or Answers(patient, profile)
        settings = self._answers.settings
        self._settings = settings
        self._profile = profile
        draw = np.random.default_rng((seed, 40))
        n_stretches = math.ceil(rows / STRETCH_ROWS)
        starts = draw.integers(0, len(profile.residual) - STRETCH_ROWS + 1, n_stretches)
        order = (starts[:, None] + np.arange(STRETCH_ROWS)).ravel()[:rows]
        t_s: F64 = (np.arange(rows, dtype=np.float64) + 1) * profile.hop_s
        center_s = np.maximum(t_s - profile.window_s / 2, 0.0)
        ln_scale = wandering(settings, center_s, draw.uniform(0.0, 2 * np.pi, 3)) + np.log(vigilance(settings, center_s))
        self._scales = _places(ln_scale, _LN_SCALE)
        bad = profile.bad[order]
        if patient.faults:
            bad |= _touched(patient.faults, t_s, profile.window_s + settle_s)[:, None]
        self._noise = profile.residual[order].tolist()
        self._bad = bad.tolist()
        self._rows = rows
        self._row = 0
        n_channels = len(profile.channels)
        self._nothing = (math.nan,) * n_channels, (False,) * n_channels
        hop_s = profile.hop_s
        self._onset, self._washout = math.exp(-hop_s / settings.onset_s), math.exp(-hop_s / settings.washout_s)
        self._direct_ma = self._alternating_ma = 0.0
        self._quiet_rows = 10**9
        self._settle_rows = math.ceil((settle_s + profile.window_s) / hop_s)
        lag = max(1, round(profile.window_s / 2 / hop_s))
        self._past: deque[tuple[float, float]] = deque([(0.0, 0.0)] * lag)
        self._steady = not ln_scale.any()

    @property
    def channels(self) -> tuple[str, ...]:
        """Order of `Reading.ln_alpha`."""
        return self._profile.channels

    def step(self, amplitude_ma: float, frequency_hz: float = 0.0) -> Reading:
        """One decision period under a current that stays as given; good is a reading whose window no current could touch.

        Raises
        ------
        IndexError
            After `rows` steps.
        """
        row = self._row
        if row >= self._rows:
            raise IndexError(f"this session was made for {self._rows} decisions; make it with more rows")
        self._row = row + 1
        steady = amplitude_ma if frequency_hz == 0 else 0.0
        swinging = 0.0
        if frequency_hz > 0 and amplitude_ma != 0:
            detuned = (frequency_hz - self._settings.individual_alpha_hz) / 1.5
            swinging = self._settings.alternating_effect * abs(amplitude_ma) * math.exp(-0.5 * detuned * detuned)
        direct, alternating = self._direct_ma, self._alternating_ma
        self._past.append((direct, alternating))
        seen_direct, seen_alternating = self._past.popleft()
        keep = self._onset if steady * direct >= 0 and abs(steady) > abs(direct) else self._washout
        self._direct_ma = steady + (direct - steady) * keep
        keep = self._onset if swinging > alternating else self._washout
        self._alternating_ma = swinging + (alternating - swinging) * keep
        self._quiet_rows = 0 if amplitude_ma != 0 else self._quiet_rows + 1

        t_s = (row + 1) * self._profile.hop_s
        if self._quiet_rows < self._settle_rows:
            return Reading(t_s, *self._nothing, self._direct_ma)
        good = [not wrong for wrong in self._bad[row]]
        seen = zip(self._expected(seen_direct, seen_alternating, row), self._noise[row], good, strict=True)
        values = [mean + residual if ok else math.nan for mean, residual, ok in seen]
        return Reading(t_s, tuple(values), tuple(good), self._direct_ma)

    def _expected(self, direct_ma: float, alternating_ma: float, row: int) -> list[float]:
        """Mean ln alpha power at each electrode under these effects, in the state the person is in at this row."""
        if direct_ma != 0.0 and alternating_ma != 0.0:
            drive = direct_ma * self._answers.drive[0] + alternating_ma * self._answers.drive[1]
            j, share = self._scales[row]
            ln_scale = _LN_SCALES[j] + share * (_LN_SCALES[j + 1] - _LN_SCALES[j])
            mean: list[float] = self._profile.ln_alpha(math.exp(ln_scale) * alpha_factor(self._settings, drive[None]))[0].tolist()
            return mean
        kind = 0 if alternating_ma == 0.0 else 1
        ma = direct_ma if alternating_ma == 0.0 else alternating_ma
        place = min(max((ma - _CURRENT_FIRST_MA) / _CURRENT_STEP_MA, 0.0), len(_CURRENT_MA) - 1.0)
        i = min(int(place), len(_CURRENT_MA) - 2)
        if self._steady:
            table = self._answers.table(kind, 0.0)
            return _between(table[i], table[i + 1], place - i)
        j, share = self._scales[row]
        below, above = self._answers.table(kind, _LN_SCALES[j]), self._answers.table(kind, _LN_SCALES[j + 1])
        low, high = _between(below[i], below[i + 1], place - i), _between(above[i], above[i + 1], place - i)
        return _between(low, high, share)


def asymmetry(reading: Reading, left: int, right: int) -> float:
    """Frontal alpha asymmetry, ln right less ln left; NaN if either is not good."""
    return reading.ln_alpha[right] - reading.ln_alpha[left]


@cache
def _lost(faults: tuple[str, ...], n_packets: int) -> Bool:
    """Which packets never arrive, as the headset's own faults say."""
    headset = Faults([fault for fault in map(parse, faults) if isinstance(fault, Gone | Loss)], ())
    nothing = np.empty((0, 0), dtype=np.float32)
    times_s = [number * PACKET_S for number in range(n_packets)]
    return np.array([not headset.deliver(Packet(t_s, nothing, t_s, t_s, ())) for t_s in times_s])


def _touched(faults: tuple[str, ...], t_s: F64, reach_s: float) -> Bool:
    """Rows whose window, or the settling before it, has a lost packet in it."""
    lost = _lost(faults, round(float(t_s[-1]) / PACKET_S))
    before = np.concatenate(((0,), np.cumsum(lost)))
    end = np.minimum(np.round(t_s / PACKET_S).astype(int), len(lost))
    begin = np.maximum(end - round(reach_s / PACKET_S), 0)
    return np.asarray(before[end] > before[begin])


def _places(values: F64, grid: F64) -> list[tuple[int, float]]:
    """For each value the grid point below it and the share of the way to the next, held at the grid's ends."""
    place = np.clip((values - grid[0]) / (grid[1] - grid[0]), 0.0, len(grid) - 1.0)
    below = np.minimum(place.astype(int), len(grid) - 2)
    return list(zip(below.tolist(), (place - below).tolist(), strict=True))


def _between(a: list[float], b: list[float], share: float) -> list[float]:
    return [x + (y - x) * share for x, y in zip(a, b, strict=True)]

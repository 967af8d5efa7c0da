"""What the brain does by itself: per-region oscillators over an aperiodic background, in stretches of about four seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eegloop.signal import F64
from simulators.head import load_head
from simulators.noise import ShapedNoise, bump, power_law, slow
from simulators.settings import BrainSettings

BANDS = ("delta", "theta", "beta")
_CENTER_HZ = {"delta": (2.0, 0.5), "theta": (6.0, 0.8), "beta": (20.0, 3.0)}
_ALPHA_SHARE = {
    "frontopolar": 0.25,
    "frontal": 0.45,
    "frontal_midline": 0.12,
    "central": 0.35,
    "temporal": 0.22,
    "parietal": 0.7,
    "occipital": 1.0,
}
_POSTERIOR = ("parietal", "occipital")


@dataclass(frozen=True, slots=True)
class OngoingStretch:
    """Samples first to first + n of the unstimulated brain.

    Attributes
    ----------
    background_nam : (n, n_regions) float64
        Aperiodic part, moment in nA m.
    bands_nam : (n, 3, n_regions) float64
        Delta, theta and beta oscillators.
    alpha_nam, alpha_phase_rad : (n, n_regions) float64
        Amplitude and free-running phase (not wrapped); the oscillator is amplitude * cos(phase).
    cos_phase, sin_phase : (n, n_regions) float64
    vigilance : (n,) float64
        1 awake, towards 0 drowsy.
    """

    first_sample: int
    background_nam: F64
    bands_nam: F64
    alpha_nam: F64
    alpha_phase_rad: F64
    cos_phase: F64
    sin_phase: F64
    vigilance: F64


def eyes_open(settings: BrainSettings, t_s: F64) -> F64:
    """0 (closed) to 1 (open) over 0.4 s at each change; same shape as `t_s`."""
    if settings.eyes == "open":
        return np.ones_like(t_s)
    if settings.eyes == "closed":
        return np.zeros_like(t_s)
    period_s = settings.eyes_period_s
    inside_s = np.mod(t_s, 2 * period_s)
    opening = np.clip((inside_s - period_s) / 0.4, 0.0, 1.0)
    closing = np.where(t_s < period_s, 0.0, np.clip(1.0 - inside_s / 0.4, 0.0, 1.0))
    return np.asarray(np.where(inside_s < period_s, closing, opening))


def vigilance(settings: BrainSettings, t_s: F64) -> F64:
    """1 awake; after `drowsy_from_s` down to 0.1 and back each period."""
    since_s = np.maximum(t_s - settings.drowsy_from_s, 0.0)
    return np.asarray(1.0 - 0.45 * (1.0 - np.cos(2 * np.pi * since_s / settings.drowsy_period_s)))


def wandering(settings: BrainSettings, t_s: F64, phases_rad: F64) -> F64:
    """(n,) what is added to log alpha amplitude over minutes and hours; `phases_rad` (3,) makes each person's own."""
    minutes = np.sin(2 * np.pi * t_s[:, None] / np.array([170.0, 290.0, 470.0]) + phases_rad).sum(axis=1) * np.sqrt(2 / 3)
    return np.asarray(settings.alpha_wander * minutes + settings.alpha_drift_per_h * t_s / 3600.0)


class Ongoing:
    """`stretch(k)` for k = 0, 1, 2, ... in this order (the phase runs on from one to the next)."""

    def __init__(self, settings: BrainSettings, hop: int) -> None:
        self._settings = settings
        self._hop = hop
        self._regions = load_head().regions
        rate_hz = settings.sample_rate_hz
        f_hz = ShapedNoise.frequencies(hop, rate_hz)
        n_regions = len(self._regions)
        densities = [power_law(f_hz, settings.aperiodic_exponent, settings.background_nam)] * n_regions
        for band in BANDS:
            densities += [bump(f_hz, *_CENTER_HZ[band], self._band_rms(band, region)) for region in self._regions]
        self._fast = ShapedNoise(settings.seed, 1, hop, rate_hz, np.array(densities))
        # the posterior regions share one rhythm (column 0); every other region has its own
        self._group = np.array([0 if region.startswith(_POSTERIOR) else 1 + i for i, region in enumerate(self._regions)])
        modulation = (
            [slow(f_hz, 0.5, settings.alpha_spread_hz)] * (n_regions + 1)
            + [slow(f_hz, 0.25, 0.35)] * n_regions  # rad: phase wander of one region against its group
            + [slow(f_hz, 0.3, settings.alpha_waxing)] * (n_regions + 1)
        )
        self._modulation = ShapedNoise(settings.seed, 2, hop, rate_hz, np.array(modulation))
        draw = np.random.default_rng((settings.seed, 3))
        self._start_phase = draw.uniform(-np.pi, np.pi, n_regions + 1)
        self._wander = draw.uniform(0.0, 2 * np.pi, 3)
        posterior_offset = draw.normal(0.0, 0.3, n_regions)
        self._offset = np.where(self._group == 0, posterior_offset, 0.0)
        self._alpha_nam = settings.alpha_nam * np.array([self._share(region) for region in self._regions])
        half = settings.frontal_asymmetry / 4  # power ratio over two sides: amplitude changes by a quarter each
        self._alpha_nam[self._regions.index("frontal_left")] *= np.exp(-half)
        self._alpha_nam[self._regions.index("frontal_right")] *= np.exp(half)
        self._posterior = np.array([region.startswith(_POSTERIOR) for region in self._regions])

    def _band_rms(self, band: str, region: str) -> float:
        rms = {"delta": self._settings.delta_nam, "theta": self._settings.theta_nam, "beta": self._settings.beta_nam}[band]
        if band == "theta" and region == "frontal_midline":
            return 3 * rms
        return 2 * rms if band == "beta" and region.startswith("central") else rms

    @staticmethod
    def _share(region: str) -> float:
        return _ALPHA_SHARE.get(region, _ALPHA_SHARE.get(region.rsplit("_", 1)[0], 0.0))

    def stretch(self, k: int) -> OngoingStretch:
        """Samples k * hop to (k + 1) * hop."""
        settings, hop, n_regions = self._settings, self._hop, len(self._regions)
        first = k * hop
        t_s = (first + np.arange(hop)) / settings.sample_rate_hz
        fast = self._fast.half(k)
        modulation = self._modulation.half(k)
        awake = vigilance(settings, t_s)
        bands = fast[:, n_regions:].reshape(hop, len(BANDS), n_regions)
        bands[:, 0] *= (2.0 - awake)[:, None]
        bands[:, 1] *= (2.5 - 1.5 * awake)[:, None]

        step_rad = (2 * np.pi / settings.sample_rate_hz) * (settings.individual_alpha_hz + modulation[:, : n_regions + 1])
        run = np.cumsum(np.vstack((self._start_phase, step_rad)), axis=0)
        self._start_phase = np.mod(run[-1], 2 * np.pi)
        phase = run[:-1][:, self._group] + self._offset + modulation[:, n_regions + 1 : 2 * n_regions + 1]

        waxing = modulation[:, 2 * n_regions + 1 :]
        # regions of one group wax together for the most part
        log_amplitude = 0.8 * waxing[:, self._group] + 0.6 * waxing[:, 1:]
        log_amplitude += wandering(settings, t_s, self._wander)[:, None]
        opened = eyes_open(settings, t_s)[:, None]
        # opening the eyes blocks posterior alpha fully, the rest half as much
        blocked = 1.0 - opened * (1.0 - settings.alpha_open) * np.where(self._posterior, 1.0, 0.5)
        amplitude = self._alpha_nam * np.exp(log_amplitude) * blocked * awake[:, None]
        return OngoingStretch(first, fast[:, :n_regions], bands, amplitude, phase, np.cos(phase), np.sin(phase), awake)

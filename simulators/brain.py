"""The plant: a virtual brain under a virtual headset. Seeded, chunk invariant, responds to stimulation, hides nothing.

    brain = Brain(BrainSettings(seed=7))
    samples_uv = brain.advance(5, Stimulation(amplitude_ma=1.0))     # (5, 8) float32
    brain.truth().alpha_phase_rad                                    # of those five samples

Not a model of a person: amplitudes, spectra and topographies are typical, the dose-response is chosen so that a controller has
something to control (people's responses to weak currents are smaller and far less certain).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eegloop.signal import F32, F64
from simulators.artifacts import Artifacts, Event
from simulators.head import load_head
from simulators.ongoing import BANDS, Ongoing, OngoingStretch
from simulators.response import NO_CURRENT, Answer, Response, Stimulation
from simulators.settings import DEFAULT_MONTAGE, BrainSettings

__all__ = ["BANDS", "DEFAULT_MONTAGE", "NO_CURRENT", "Brain", "BrainSettings", "Event", "Stimulation", "Truth"]

STRETCH_S = 4.0
"""Randomness is drawn for stretches of this length, at absolute sample numbers; the slowest rhythm drawn is 1 / (2 STRETCH_S)."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Hidden states of the samples first_sample to first_sample + n.

    Attributes
    ----------
    regions : tuple of str
    alpha_nam, alpha_phase_rad : (n, n_regions) float64
        Amplitude (nA m) and phase (0 = surface-positive peak, -pi to pi) of each region's alpha, stimulation included.
    bands_nam : (n, 3, n_regions) float64
        Delta, theta, beta moments before stimulation changes their size.
    excitability : (n, n_regions) float64
        Shift as a share of its limit, -1 to 1.
    effect_ma, current_ma : (n,) float64
        Direct current as integrated by the tissue; instantaneous current.
    vigilance : (n,) float64
        1 awake, towards 0 drowsy.
    brain_uv, clean_uv, artifact_uv : (n, n_channels) float64
        Brain alone; brain with body and electrode artifacts but without contamination by stimulation; that contamination
        (before the amplifier's rail). Delivered = clip(clean + artifact).
    events : tuple of Event
        Blinks, saccades, clenches, movements and pops that start in these samples.
    """

    first_sample: int
    sample_rate_hz: float
    regions: tuple[str, ...]
    alpha_nam: F64
    alpha_phase_rad: F64
    bands_nam: F64
    excitability: F64
    effect_ma: F64
    current_ma: F64
    vigilance: F64
    brain_uv: F64
    clean_uv: F64
    artifact_uv: F64
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Everything of one stretch that stimulation does not change; `*_uv` (n, n_channels) are already at the electrodes.

    `still_brain_uv` is the part of the brain that never moves, `still_uv` that and all artifacts but stimulation's;
    `resting_uv` what a brain at rest adds to them.
    """

    ongoing: OngoingStretch
    resting: Answer
    resting_uv: F64
    still_brain_uv: F64
    still_uv: F64
    heart: F64
    events: tuple[Event, ...]


class Brain:
    """One virtual brain. `advance` gives the next samples; how the time is cut into calls never changes them."""

    def __init__(self, settings: BrainSettings | None = None) -> None:
        self.settings = settings or BrainSettings()
        self._hop = round(STRETCH_S * self.settings.sample_rate_hz)
        self._ongoing = Ongoing(self.settings, self._hop)
        self._artifacts = Artifacts(self.settings, self._hop)
        self._response = Response(self.settings)
        self._unstimulated = Response(self.settings)
        self._mixing = load_head().mixing(self.settings.montage, self.settings.reference)
        draw = np.random.default_rng((self.settings.seed, 30))
        self._heart_hz, self._heart_rad, self._breath_rad = draw.uniform(0.95, 1.3), *draw.uniform(0.0, 2 * np.pi, 2)
        self._sample = 0
        self._stretches: dict[int, _Stretch] = {}
        self._last: list[tuple[Answer, _Stretch, int, int, F64]] = []

    @property
    def sample(self) -> int:
        """Number of the next sample (the first is 0)."""
        return self._sample

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the region axis of `Truth`."""
        return load_head().regions

    def prepare(self) -> bool:
        """Do the next stretch's work now if it is due within half a stretch, so that no `advance` is late; True if it was."""
        ahead = (self._sample + self._hop // 2) // self._hop
        if ahead in self._stretches:
            return False
        self._stretch(self._sample // self._hop)
        self._stretch(ahead)
        return True

    def advance(self, n_samples: int, stimulation: Stimulation = NO_CURRENT) -> F32:
        """The next samples under a current that stays as described over them.

        Returns
        -------
        (n_samples, n_channels) float32
            uV, within +- rail_uv.
        """
        if n_samples < 1:
            raise ValueError(f"advance({n_samples}): at least one sample")
        end = self._sample + n_samples
        out = np.empty((n_samples, len(self.settings.montage)), dtype=np.float32)
        begin = self._sample
        self._last = []
        while self._sample < end:
            k = self._sample // self._hop
            stretch = self._stretch(k)
            stop = min(end, (k + 1) * self._hop)
            rows = slice(self._sample - k * self._hop, stop - k * self._hop)
            if self._response.at_rest(self._sample, stop, stimulation):
                answer, moved_uv = stretch.resting.part(rows), stretch.resting_uv[rows]
            else:
                answer = self._response.advance(stretch.ongoing, stretch.heart, self._sample, stop, stimulation)
                moved_uv = _mixed(answer.moment_nam, self._mixing)
            delivered = stretch.still_uv[rows] + moved_uv
            if answer.artifact_uv is not None:
                delivered += answer.artifact_uv
            np.clip(delivered, -self.settings.rail_uv, self.settings.rail_uv, out=delivered)
            out[self._sample - begin : stop - begin] = delivered
            self._last.append((answer, stretch, rows.start, rows.stop, moved_uv))
            self._sample = stop
            if stop % self._hop == 0:
                self._response.forget()
        return out

    def truth(self) -> Truth:
        """Hidden states of the samples of the last `advance`.

        Raises
        ------
        RuntimeError
            Before the first `advance`.
        """
        if not self._last:
            raise RuntimeError("truth: nothing was advanced yet")
        rate_hz = self.settings.sample_rate_hz
        first = self._last[0][1].ongoing.first_sample + self._last[0][2]
        begin_s, end_s = first / rate_hz, self._sample / rate_hz
        joined: dict[str, list[F64]] = {}
        events: list[Event] = []
        for answer, stretch, start, stop, moved_uv in self._last:
            rows = slice(start, stop)
            artifact = answer.artifact_uv if answer.artifact_uv is not None else np.zeros_like(moved_uv)
            for name, values in (
                ("alpha_nam", answer.alpha_nam),
                ("alpha_phase_rad", np.mod(answer.alpha_phase_rad + np.pi, 2 * np.pi) - np.pi),
                ("bands_nam", stretch.ongoing.bands_nam[rows]),
                ("excitability", answer.excitability),
                ("effect_ma", answer.effect_ma),
                ("current_ma", answer.current_ma),
                ("vigilance", stretch.ongoing.vigilance[rows]),
                ("brain_uv", stretch.still_brain_uv[rows] + moved_uv),
                ("clean_uv", stretch.still_uv[rows] + moved_uv),
                ("artifact_uv", artifact),
            ):
                joined.setdefault(name, []).append(values)
            events += [event for event in stretch.events if begin_s <= event.t_s < end_s and event not in events]
        arrays = {name: np.concatenate(parts) for name, parts in joined.items()}
        return Truth(first_sample=first, sample_rate_hz=rate_hz, regions=self.regions, events=tuple(events), **arrays)

    def _stretch(self, k: int) -> _Stretch:
        if k in self._stretches:
            return self._stretches[k]
        ongoing = self._ongoing.stretch(k)
        artifacts = self._artifacts.stretch(k)
        brain_uv = (ongoing.background_nam + ongoing.bands_nam.sum(axis=1)) @ self._mixing
        t_s = (ongoing.first_sample + np.arange(self._hop)) / self.settings.sample_rate_hz
        beat = np.maximum(np.cos(2 * np.pi * self._heart_hz * t_s + self._heart_rad), 0.0) ** 2
        breath = 2.5 * np.sin(2 * np.pi * 0.25 * t_s + self._breath_rad)
        resting = self._unstimulated.advance(ongoing, t_s, ongoing.first_sample, ongoing.first_sample + self._hop, NO_CURRENT)
        stretch = _Stretch(
            ongoing=ongoing,
            resting=resting,
            resting_uv=_mixed(resting.moment_nam, self._mixing),
            still_brain_uv=brain_uv,
            still_uv=brain_uv + artifacts.artifact_uv,
            heart=self.settings.heart_modulation * (beat + breath),
            events=artifacts.events,
        )
        self._stretches = {number: kept for number, kept in self._stretches.items() if number >= k - 1}
        self._stretches[k] = stretch
        return stretch


def _mixed(moment_nam: F64, mixing: F64) -> F64:
    """moment @ mixing, region by region: a BLAS product may round differently for another number of rows, this cannot."""
    out: F64 = moment_nam[:, 0:1] * mixing[0]
    for region in range(1, len(mixing)):
        out += moment_nam[:, region : region + 1] * mixing[region]
    return out

"""What reaches the electrodes and is not brain: eyes, muscle, movement, bad contacts, drift, offset, mains, sensor noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eegloop.signal import F64
from simulators.head import LINKED_EARS, load_head
from simulators.noise import ShapedNoise, muscle, slow
from simulators.ongoing import eyes_open, vigilance
from simulators.settings import BrainSettings


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: `kind` is "blink", "saccade", "clench", "movement" or "pop".

    `t_s` is its start in brain time (a blink's peak is at `peak_s`, else the same), `size` its amplitude in uV (signed; of a
    saccade: where the gaze goes),
    `channel` the montage channel of a pop, else -1.
    """

    kind: str
    t_s: float
    duration_s: float
    peak_s: float
    size: float
    channel: int = -1


class _Events:
    """One kind of event as a renewal process with a random generator of its own, so the order of asking changes nothing."""

    def __init__(
        self, seed: int, stream: int, per_min: float, least_s: float, make: Callable[[np.random.Generator, float], Event]
    ) -> None:
        self._draw = np.random.default_rng((seed, stream))
        self._least_s = least_s
        self._mean_s = 60.0 / per_min - least_s if per_min > 0 else np.inf
        self._make = make
        self._next_s = self._gap_s()

    def _gap_s(self) -> float:
        return (
            self._least_s + float(self._draw.gamma(2.0, max(self._mean_s, 1e-3) / 2.0)) if np.isfinite(self._mean_s) else np.inf
        )

    def until(self, end_s: float) -> list[Event]:
        """Every event that starts before `end_s` and was not yet handed out."""
        out = []
        while self._next_s < end_s:
            out.append(self._make(self._draw, self._next_s))
            self._next_s += self._gap_s()
        return out


@dataclass(frozen=True, slots=True)
class ArtifactStretch:
    """(n, n_channels) uV of samples first to first + n, and the events that start in them."""

    first_sample: int
    artifact_uv: F64
    events: tuple[Event, ...]


class Artifacts:
    """`stretch(k)` for k = 0, 1, 2, ... in this order."""

    def __init__(self, settings: BrainSettings, hop: int) -> None:
        self._settings = settings
        self._hop = hop
        head = load_head()
        montage, rate_hz, seed = settings.montage, settings.sample_rate_hz, settings.seed
        n = len(montage)
        everyone = head.electrodes
        blink_at = head.referenced(head.blink_uv_per_nam, ("Fp1", "Fp2"), LINKED_EARS).mean()
        gaze_at = head.referenced(head.saccade_uv_per_nam, ("F8",), LINKED_EARS)[0]
        self._blink = head.referenced(head.blink_uv_per_nam, montage, settings.reference) / blink_at
        self._gaze = head.referenced(head.saccade_uv_per_nam, montage, settings.reference) / gaze_at
        # temporal muscles lie in front of T7 and T8; their interference patterns hardly correlate between electrodes
        positions = head.electrode_positions_m
        sources = (
            np.array([positions[everyone.index(a)] + positions[everyone.index(b)] for a, b in (("T7", "FT7"), ("T8", "FT8"))]) / 2
        )
        distance = np.linalg.norm(positions[[head.electrode(name) for name in montage]][:, None] - sources, axis=2)
        at_t7 = np.linalg.norm(positions[head.electrode("T7")] - sources[0])
        self._muscle = np.exp(-(distance**2 - at_t7**2) / (2 * 0.045**2)).max(axis=1) + 0.03
        draw = np.random.default_rng((seed, 10))
        bad = np.array([name in settings.noisy_electrodes for name in montage])
        self._worse = np.where(bad, settings.noisy_gain, 1.0)
        self._offset_uv = draw.uniform(-1.0, 1.0, n) * settings.offset_mv * 1000.0
        self._drift_s = draw.uniform(20.0, 120.0, (3, n))
        self._drift_rad = draw.uniform(0.0, 2 * np.pi, (3, n))
        self._drift_uv = draw.uniform(0.3, 1.0, (3, n)) * settings.drift_uv / np.sqrt(3) * np.sqrt(self._worse)
        self._line_uv = settings.line_uv * draw.lognormal(0.0, 0.4, n)
        self._line_rad = draw.uniform(0.0, 2 * np.pi, 2)
        self._move = draw.normal(0.0, 1.0, n)
        self._contact_s = draw.uniform(35.0, 85.0, (2, n))
        self._contact_rad = draw.uniform(0.0, 2 * np.pi, (2, n))

        f_hz = ShapedNoise.frequencies(hop, rate_hz)
        contact = slow(f_hz, 3.0, 1.0)
        densities = [muscle(f_hz, 1.0)] * n + [slow(f_hz, 2.0, 1.0)] + [contact] * n + [slow(f_hz, 0.2, 0.15)]
        self._noise = ShapedNoise(seed, 11, hop, rate_hz, np.array(densities))
        pop_channel_share = self._worse / self._worse.sum()

        def blink(draw: np.random.Generator, t_s: float) -> Event:
            duration_s = float(draw.uniform(0.2, 0.4))
            return Event("blink", t_s, duration_s, t_s + 0.38 * duration_s, settings.blink_uv * float(draw.uniform(0.8, 1.2)))

        def saccade(draw: np.random.Generator, t_s: float) -> Event:
            return Event("saccade", t_s, 0.04, t_s, settings.saccade_uv * float(draw.normal()))

        def clench(draw: np.random.Generator, t_s: float) -> Event:
            return Event("clench", t_s, float(draw.uniform(0.6, 2.5)), t_s, settings.clench_uv * float(draw.uniform(0.5, 1.5)))

        def movement(draw: np.random.Generator, t_s: float) -> Event:
            return Event(
                "movement", t_s, float(draw.uniform(1.0, 4.0)), t_s, settings.movement_uv * float(draw.uniform(0.5, 1.5))
            )

        def pop(draw: np.random.Generator, t_s: float) -> Event:
            channel = int(draw.choice(n, p=pop_channel_share))
            size = float(draw.uniform(40.0, 300.0) * draw.choice((-1.0, 1.0)))
            return Event("pop", t_s, float(draw.uniform(0.2, 1.5)), t_s, size, channel)

        pops_per_min = settings.pops_per_min * float(np.sqrt(self._worse.mean()))
        self._sources = (
            _Events(seed, 20, settings.blinks_per_min, 0.6, blink),
            _Events(seed, 21, settings.saccades_per_min, 0.2, saccade),
            _Events(seed, 22, settings.clenches_per_min, 5.0, clench),
            _Events(seed, 23, settings.movements_per_min, 2.0, movement),
            _Events(seed, 24, pops_per_min, 0.1, pop),
        )
        self._running: list[Event] = []
        self._looking_uv = 0.0

    def stretch(self, k: int) -> ArtifactStretch:
        """Samples k * hop to (k + 1) * hop."""
        settings, hop, n = self._settings, self._hop, len(self._settings.montage)
        rate_hz = settings.sample_rate_hz
        first = k * hop
        t_s = (first + np.arange(hop)) / rate_hz
        end_s = (first + hop) / rate_hz
        noise = self._noise.half(k)
        started = [event for source in self._sources for event in source.until(end_s) if self._happens(event)]
        for event in self._running:
            if event.kind == "saccade" and event.t_s + self._lasts_s(event) <= t_s[0]:
                self._looking_uv = event.size
        self._running = [event for event in self._running if event.t_s + self._lasts_s(event) > t_s[0]] + started

        clenched = np.full(hop, settings.tonic_muscle_uv)
        moving, gaze_uv, lids_uv = np.zeros(hop), np.full(hop, self._looking_uv), np.zeros(hop)
        out = np.empty((hop, n))
        out[:] = self._offset_uv
        for event in self._running:
            since_s = t_s - event.t_s
            if event.kind == "blink":
                lids_uv += event.size * _lid(since_s / event.duration_s)
            elif event.kind == "clench":
                clenched += event.size * _swell(since_s, event.duration_s, 0.1)
            elif event.kind == "movement":
                moving += event.size * _swell(since_s, event.duration_s, 0.4)
            elif event.kind == "pop":
                # charge steps at once and leaks away; no sample before the step
                out[:, event.channel] += np.where(
                    since_s >= 0, event.size * np.exp(-np.maximum(since_s, 0.0) / event.duration_s), 0.0
                )
        for event in sorted((event for event in self._running if event.kind == "saccade"), key=lambda event: event.t_s):
            step = np.clip((t_s - event.t_s) / event.duration_s, 0.0, 1.0)
            gaze_uv += (event.size - gaze_uv) * step

        awake = vigilance(settings, t_s)
        rolling_uv = (
            (1.0 - awake) * settings.saccade_uv * 2.0 * np.sin(2 * np.pi * 0.3 * t_s)
        )  # slow eye movements of sleep onset
        out += lids_uv[:, None] * self._blink + (gaze_uv + rolling_uv)[:, None] * self._gaze
        out += clenched[:, None] * self._muscle * noise[:, :n]
        out += moving[:, None] * (self._move * noise[:, n : n + 1] + 0.3 * noise[:, n + 1 : 2 * n + 1])
        worse = self._contact(t_s)
        out += (worse - 1.0) * 0.5 * noise[:, n + 1 : 2 * n + 1]
        for period_s, rad, uv in zip(self._drift_s, self._drift_rad, self._drift_uv, strict=True):
            out += uv * np.sin(2 * np.pi * t_s[:, None] / period_s + rad)
        line_rad = 2 * np.pi * settings.line_hz * t_s
        mains = np.sin(line_rad + self._line_rad[0])
        if 3 * settings.line_hz < rate_hz / 2:
            mains = mains + 0.15 * np.sin(3 * line_rad + self._line_rad[1])
        out += (mains * (1.0 + noise[:, -1]))[:, None] * self._line_uv * worse
        white = np.random.default_rng((settings.seed, 12, k)).standard_normal((hop, n))
        out += white * (settings.sensor_noise_uv * worse)
        return ArtifactStretch(first, out, tuple(sorted(started, key=lambda event: event.t_s)))

    def _contact(self, t_s: F64) -> F64:
        """(n, n_channels) how many times worse than good each contact is: a bad one comes and goes within minutes."""
        swing = np.sin(2 * np.pi * t_s[:, None, None] / self._contact_s + self._contact_rad).sum(axis=1)
        return np.asarray(1.0 + (self._worse - 1.0) * np.minimum(np.exp(3.0 * swing - 3.0), 1.0))

    def _happens(self, event: Event) -> bool:
        if event.kind not in ("blink", "saccade"):
            return True
        return bool(eyes_open(self._settings, np.array([event.t_s, event.t_s + event.duration_s])).min() > 0.5)

    @staticmethod
    def _lasts_s(event: Event) -> float:
        return 10 * event.duration_s if event.kind == "pop" else event.duration_s + 0.1


def _lid(x: F64) -> F64:
    """Blink waveform over its duration (x 0-1), peak 1 at 0.38: the lid closes faster than it opens."""
    closing = 0.5 - 0.5 * np.cos(np.pi * np.clip(x / 0.38, 0.0, 1.0))
    opening = 0.5 + 0.5 * np.cos(np.pi * np.clip((x - 0.38) / 0.62, 0.0, 1.0))
    return np.asarray(np.where((x > 0) & (x < 1), closing * opening, 0.0))


def _swell(since_s: F64, duration_s: float, flank_s: float) -> F64:
    """0-1 trapezoid of a burst with linear flanks."""
    return np.clip(np.minimum(since_s, duration_s - since_s) / flank_s, 0.0, 1.0)

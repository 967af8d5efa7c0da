"""How the virtual brain answers stimulation, sample by sample, and what stimulation does to the amplifier.

Direct current shifts excitability slowly (own onset and washout, saturating), seen as a change of rhythm amplitudes.
Alternating current pulls the phase of alpha towards its own (Adler's equation: locked while |detuning| < coupling, hence an
Arnold tongue) and leaves a lasting effect near the alpha frequency. A pulse turns the phase and evokes a response. None of it
depends on how the samples are cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from eegloop.signal import F64
from simulators.head import load_head
from simulators.ongoing import BANDS, OngoingStretch
from simulators.settings import BrainSettings

MOST_MA = 100.0
MOST_HZ = 10_000.0
"""Beyond these a description of a current is a mistake, whatever the device."""


@dataclass(frozen=True, slots=True)
class Stimulation:
    """The current that flows, described in the brain's own time so that it means the same however calls are cut.

    Attributes
    ----------
    amplitude_ma : float
        Direct current (signed: positive enters at the anode), or the peak of an alternating one.
    frequency_hz : float
        0 = direct; else current = amplitude_ma * sin(2 pi frequency_hz t + phase_rad), t = sample / rate.
    phase_rad : float
        Phase at the brain's sample 0.
    pulses : tuple of int
        Absolute sample numbers at which a magnetic pulse fires; those outside the call's span are not this call's.
    """

    amplitude_ma: float = 0.0
    frequency_hz: float = 0.0
    phase_rad: float = 0.0
    pulses: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not (abs(self.amplitude_ma) <= MOST_MA and 0 <= self.frequency_hz <= MOST_HZ and math.isfinite(self.phase_rad)):
            raise ValueError(f"{self}: must be finite, at most {MOST_MA:g} mA either way and 0 to {MOST_HZ:g} Hz")


NO_CURRENT = Stimulation()


@dataclass(frozen=True, slots=True)
class Answer:
    """n samples of the stimulated brain; (n, n_regions) where not said otherwise.

    `effect_ma` (n,) is the current as the tissue has integrated it so far; `moment_nam` everything but what the
    background stretch holds; `artifact_uv` (n, n_channels) is None when no trace of stimulation is left.
    """

    moment_nam: F64
    excitability: F64
    alpha_nam: F64
    alpha_phase_rad: F64
    effect_ma: F64
    current_ma: F64
    artifact_uv: F64 | None

    def part(self, rows: slice) -> Answer:
        """Some of the samples of an answer without contamination."""
        return Answer(
            self.moment_nam[rows],
            self.excitability[rows],
            self.alpha_nam[rows],
            self.alpha_phase_rad[rows],
            self.effect_ma[rows],
            self.current_ma[rows],
            None,
        )


def drive_per_ma(settings: BrainSettings) -> tuple[F64, F64]:
    """(n_regions,) each: drive of excitability by 1 mA of direct and of alternating current, 1 = half-way."""
    field = load_head().normal_field_v_per_m(settings.anode, settings.cathode)
    # inward current (negative along the outward normal) depolarizes: anodal stimulation excites;
    # entrainment leaves alpha larger whatever the polarity, so it acts in the direction that raises alpha
    direct = -field / settings.half_field_v_per_m
    return direct, np.asarray(np.sign(settings.alpha_gain) * np.abs(field) / settings.half_field_v_per_m)


def saturated(drive: F64) -> F64:
    """Excitability, -1 to 1: proportional to small drives, 71 % of its limit at drive 1."""
    return np.asarray(drive / np.sqrt(1.0 + drive * drive))


def alpha_factor(settings: BrainSettings, drive: F64) -> F64:
    """Alpha amplitude over that of the unstimulated brain."""
    return _alpha_factor(settings, saturated(drive))


def _alpha_factor(settings: BrainSettings, excitability: F64) -> F64:
    return np.asarray(np.maximum(1.0 + settings.response_gain * settings.alpha_gain * excitability, 0.05))


class Response:
    """State of tissue and amplifier under stimulation."""

    def __init__(self, settings: BrainSettings) -> None:
        self._settings = settings
        head = load_head()
        rate_hz = settings.sample_rate_hz
        self._dt_s = 1.0 / rate_hz
        field = head.normal_field_v_per_m(settings.anode, settings.cathode)
        self._direct, self._alternating = drive_per_ma(settings)
        self._site = head.closeness(settings.coil)
        self._gains = settings.response_gain * np.array([0.0, settings.theta_gain, settings.beta_gain])
        self._pull_rad = 2 * np.pi * self._dt_s * settings.entrainment_hz_per_v_per_m * np.abs(field)
        # a region whose field has the other sign is pulled to the opposite phase
        self._pull_toward = np.where(field < 0, 0.0, np.pi)
        self._onset = math.exp(-self._dt_s / settings.onset_s)
        self._washout = math.exp(-self._dt_s / settings.washout_s)
        self._charging = math.exp(-self._dt_s / settings.polarization_s)

        scalp = head.scalp_potential_uv(settings.anode, settings.cathode, settings.montage, settings.reference)
        self._scalp_uv = settings.contamination * scalp
        nearest = max(float(np.abs(scalp).max()), 1e-9)
        self._polar_uv = settings.contamination * settings.polarization_uv_per_ma * scalp / nearest
        montage_positions = head.electrode_positions_m[[head.electrode(name) for name in settings.montage]]
        from_coil = np.linalg.norm(montage_positions - head.electrode_positions_m[head.electrode(settings.coil)], axis=1)
        self._near_coil = np.exp(-from_coil / 0.08)
        self._railed = settings.contamination * (from_coil < 0.12)
        self._evoked = settings.response_gain * settings.evoked_nam * _evoked_waveform(np.arange(int(0.6 * rate_hz)) / rate_hz)
        tail_s = np.arange(int(max(0.1, 12 * settings.pulse_artifact_s) * rate_hz)) / rate_hz
        self._recovery = settings.pulse_artifact_uv * np.exp(-np.maximum(tail_s - 0.008, 0.0) / settings.pulse_artifact_s)
        self._rail_samples = max(1, math.ceil(0.008 * rate_hz))

        n_regions = len(head.regions)
        self._turned_rad = np.zeros(n_regions)  # what stimulation has added to the free-running phase
        self._direct_ma = self._alternating_ma = self._pulsed = self._polar_ma = 0.0
        self._pulses: list[int] = []

    def at_rest(self, start: int, stop: int, stimulation: Stimulation) -> bool:
        """True if samples start to stop are those of a brain that was never stimulated."""
        return (
            stimulation.amplitude_ma == self._direct_ma == self._alternating_ma == self._pulsed == self._polar_ma == 0.0
            and not self._pulses
            and not self._turned_rad.any()
            and not any(start <= pulse < stop for pulse in stimulation.pulses)
        )

    def forget(self) -> None:
        """Drop what is far too small to be seen, so that a brain long left alone costs no more than one never stimulated.

        To be called at fixed sample numbers only, or it would matter how the samples are cut.
        """
        self._direct_ma, self._alternating_ma, self._pulsed, self._polar_ma = (
            0.0 if abs(x) < 1e-12 else x for x in (self._direct_ma, self._alternating_ma, self._pulsed, self._polar_ma)
        )

    def advance(self, ongoing: OngoingStretch, heart: F64, start: int, stop: int, stimulation: Stimulation) -> Answer:
        """Samples start to stop (absolute) of one stretch; `heart` (n_stretch,) is the modulation of the contamination."""
        first, n = ongoing.first_sample, stop - start
        rows = slice(start - first, stop - first)
        fired = sorted({pulse for pulse in stimulation.pulses if start <= pulse < stop})
        current, direct, alternating, pulsed, polar = self._currents(start, n, stimulation, fired)

        if fired or (stimulation.frequency_hz > 0 and stimulation.amplitude_ma != 0):
            turned = self._turn(ongoing.alpha_phase_rad[rows], start, stimulation, fired)
        else:
            turned = self._turned_rad
        phase, swing = ongoing.alpha_phase_rad[rows], ongoing.cos_phase[rows]
        if turned.any():
            phase = phase + turned
            swing = swing * np.cos(turned) - ongoing.sin_phase[rows] * np.sin(turned)

        drive = direct[:, None] * self._direct
        if alternating.any():
            drive += alternating[:, None] * self._alternating
        if pulsed.any():
            drive += pulsed[:, None] * self._site
        excitability = saturated(drive)
        alpha = ongoing.alpha_nam[rows] * _alpha_factor(self._settings, excitability)
        moment = alpha * swing
        for band in range(len(BANDS)):
            if self._gains[band] != 0.0:
                moment += ongoing.bands_nam[rows, band] * np.maximum(self._gains[band] * excitability, -0.95)
        self._pulses += fired
        self._pulses = [pulse for pulse in self._pulses if pulse > start - max(len(self._evoked), len(self._recovery))]
        for pulse in self._pulses:
            _add_at(moment, self._evoked, pulse - start, self._site)
        artifact = self._artifact(current, polar, heart[rows], start, n)
        return Answer(moment, excitability, alpha, phase, direct, current, artifact)

    def _currents(self, start: int, n: int, stimulation: Stimulation, fired: list[int]) -> tuple[F64, F64, F64, F64, F64]:
        """(n,) each: current now, its slow direct and alternating effect, the pulses' effect, electrode charge in mA."""
        settings = self._settings
        amplitude, frequency_hz = stimulation.amplitude_ma, stimulation.frequency_hz
        if amplitude == self._direct_ma == self._alternating_ma == self._pulsed == self._polar_ma == 0.0 and not fired:
            nothing = np.zeros(n)
            return nothing, nothing, nothing, nothing, nothing
        detuned = (frequency_hz - settings.individual_alpha_hz) / 1.5
        steady = amplitude if frequency_hz == 0 else 0.0
        swinging = settings.alternating_effect * abs(amplitude) * math.exp(-0.5 * detuned**2) if frequency_hz > 0 else 0.0
        if frequency_hz == 0 and self._alternating_ma == self._pulsed == 0.0 and not fired:
            return self._direct_currents(n, amplitude)
        pulses = set(fired)
        out = np.empty((5, n))
        direct, alternating, pulsed, polar = self._direct_ma, self._alternating_ma, self._pulsed, self._polar_ma
        turn_rad = 2 * math.pi * frequency_hz * self._dt_s
        for i in range(n):
            current = steady if frequency_hz == 0 else amplitude * math.sin(turn_rad * (start + i) + stimulation.phase_rad)
            keep = self._onset if steady * direct >= 0 and abs(steady) > abs(direct) else self._washout
            direct = steady + (direct - steady) * keep
            keep = self._onset if swinging > alternating else self._washout
            alternating = swinging + (alternating - swinging) * keep
            pulsed = pulsed * self._washout + (settings.pulse_effect if start + i in pulses else 0.0)
            polar = current + (polar - current) * self._charging
            out[0, i], out[1, i], out[2, i], out[3, i], out[4, i] = current, direct, alternating, pulsed, polar
        self._direct_ma, self._alternating_ma, self._pulsed, self._polar_ma = direct, alternating, pulsed, polar
        return out[0], out[1], out[2], out[3], out[4]

    def _direct_currents(self, n: int, steady: float) -> tuple[F64, F64, F64, F64, F64]:
        """The same for a direct current alone, after which nothing else lingers: most of a session's samples."""
        direct, polar, charging = self._direct_ma, self._polar_ma, self._charging
        directs, polars = [], []
        for _ in range(n):
            keep = self._onset if steady * direct >= 0 and abs(steady) > abs(direct) else self._washout
            direct = steady + (direct - steady) * keep
            polar = steady + (polar - steady) * charging
            directs.append(direct)
            polars.append(polar)
        self._direct_ma, self._polar_ma = direct, polar
        nothing = np.zeros(n)
        return np.full(n, steady), np.array(directs), nothing, nothing, np.array(polars)

    def _turn(self, free_rad: F64, start: int, stimulation: Stimulation, fired: list[int]) -> F64:
        """(n, n_regions) rad added to the free-running phase: Adler's equation, one explicit step a sample, and resets."""
        turned = self._turned_rad
        out = np.empty_like(free_rad)
        pull = self._pull_rad * stimulation.amplitude_ma if stimulation.frequency_hz > 0 else None
        # sin(x) peaks a quarter turn after its phase is zero; alpha's phase zero is its peak
        toward = self._pull_toward + stimulation.phase_rad - math.pi / 2
        turn_rad = 2 * math.pi * stimulation.frequency_hz * self._dt_s
        reset = self._settings.pulse_reset * self._site
        for i in range(len(free_rad)):
            if start + i in fired:
                phase = free_rad[i] + turned
                turned = turned - reset * (np.mod(phase + math.pi, 2 * math.pi) - math.pi)
            out[i] = turned
            if pull is not None:
                turned = turned + pull * np.sin(turn_rad * (start + i) + toward - free_rad[i] - turned)
        self._turned_rad = turned
        return out

    def _artifact(self, current: F64, polar: F64, heart: F64, start: int, n: int) -> F64 | None:
        if not self._pulses and not current.any() and not polar.any():
            return None
        beating = current * (1.0 + heart)
        artifact = beating[:, None] * self._scalp_uv + polar[:, None] * self._polar_uv
        for pulse in self._pulses:
            _add_at(artifact, self._recovery, pulse - start, self._near_coil * self._settings.contamination)
            rail = np.full(self._rail_samples, 4.0 * self._settings.rail_uv)
            _add_at(artifact, rail, pulse - start, self._railed)
        return artifact


def _add_at(target: F64, waveform: F64, offset: int, weights: F64) -> None:
    """Add waveform (m,) times weights (k,) to rows offset ... of target (n, k), as far as they overlap."""
    begin, end = max(offset, 0), min(offset + len(waveform), len(target))
    if begin < end:
        target[begin:end] += waveform[begin - offset : end - offset, None] * weights


def _evoked_waveform(t_s: F64) -> F64:
    """Response to a magnetic pulse, largest deflection 1; peaks near 15, 30, 45, 60, 100, 180 ms as in TMS-EEG literature."""
    peaks = (
        (-0.25, 0.015, 0.004),
        (0.3, 0.03, 0.006),
        (-0.4, 0.045, 0.008),
        (0.5, 0.06, 0.010),
        (-1.0, 0.10, 0.020),
        (0.8, 0.18, 0.035),
    )
    wave = sum((size * np.exp(-0.5 * ((t_s - at_s) / width_s) ** 2) for size, at_s, width_s in peaks), np.zeros_like(t_s))
    wave *= np.clip((t_s[-1] - t_s) / 0.1, 0.0, 1.0)
    return np.asarray(wave / np.abs(wave).max())

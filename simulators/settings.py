"""Settings of the virtual brain, each with unit and range; by default an adult whose frontal asymmetry follows F3/F4 current."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from eegloop.closed import Closed
from simulators.head import AVERAGE, LINKED_EARS, load_head

DEFAULT_MONTAGE = ("Fp1", "Fp2", "F3", "F4", "P3", "P4", "O1", "O2")


class BrainSettings(Closed):
    """One virtual person under one headset."""

    seed: int = Field(default=1, ge=0, le=2**63 - 1, description="same seed and settings, same samples")

    # headset
    montage: tuple[str, ...] = Field(
        default=DEFAULT_MONTAGE, min_length=1, max_length=80, description="10-10 electrode names, in channel order"
    )
    reference: str = Field(default=LINKED_EARS, description="electrode name, A1A2 (linked ears) or average")
    sample_rate_hz: float = Field(default=250.0, ge=64.0, le=4000.0, description="Hz")
    rail_uv: float = Field(default=187_500.0, ge=100.0, le=1e7, description="uV, amplifier half range; a Cyton's by default")
    sensor_noise_uv: float = Field(default=0.3, ge=0.0, le=100.0, description="uV RMS, white, each channel its own")
    offset_mv: float = Field(default=8.0, ge=0.0, le=200.0, description="mV, electrode offsets are drawn from +- this")
    drift_uv: float = Field(
        default=30.0, ge=0.0, le=5000.0, description="uV, amplitude of slow electrode drift (periods 20-120 s)"
    )
    line_hz: Literal[50, 60] = Field(default=50, description="Hz, mains")
    line_uv: float = Field(default=1.5, ge=0.0, le=5000.0, description="uV, typical amplitude of mains pick-up")
    noisy_electrodes: tuple[str, ...] = Field(
        default=(), description="electrodes with a bad contact: more noise, mains, drift and pops"
    )
    noisy_gain: float = Field(default=20.0, ge=1.0, le=1000.0, description="how many times worse those are")
    pops_per_min: float = Field(default=0.3, ge=0.0, le=60.0, description="electrode pops a minute over the whole headset")

    # person
    eyes: Literal["open", "closed", "alternating"] = Field(
        default="open", description="alternating: closed first, then open, and so on"
    )
    eyes_period_s: float = Field(default=30.0, ge=2.0, le=3600.0, description="s each with eyes closed and open when alternating")
    blinks_per_min: float = Field(default=12.0, ge=0.0, le=60.0, description="1/min, eyes open only")
    blink_uv: float = Field(default=120.0, ge=0.0, le=1000.0, description="uV, mean peak at Fp1/Fp2 against linked ears")
    saccades_per_min: float = Field(default=6.0, ge=0.0, le=120.0, description="1/min, horizontal, eyes open only")
    saccade_uv: float = Field(default=30.0, ge=0.0, le=500.0, description="uV, typical step at F7/F8 against linked ears")
    clenches_per_min: float = Field(default=0.3, ge=0.0, le=30.0, description="1/min, jaw clenches of 0.6-2.5 s")
    clench_uv: float = Field(default=40.0, ge=0.0, le=1000.0, description="uV RMS, 20-300 Hz, at T7/T8 during a clench")
    tonic_muscle_uv: float = Field(default=1.0, ge=0.0, le=100.0, description="uV RMS, 20-300 Hz, at T7/T8 all the time")
    movements_per_min: float = Field(default=0.0, ge=0.0, le=30.0, description="1/min, head movements of 1-4 s")
    movement_uv: float = Field(default=200.0, ge=0.0, le=5000.0, description="uV RMS, 0.5-4 Hz, during a movement")
    drowsy_from_s: float = Field(
        default=86_400.0, ge=0.0, le=86_400.0, description="s from the start; then the person nods off again and again"
    )
    drowsy_period_s: float = Field(default=120.0, ge=20.0, le=3600.0, description="s, one nodding off and waking")

    # ongoing activity, moments of the regions' dipoles
    aperiodic_exponent: float = Field(default=1.2, ge=0.0, le=3.0, description="chi of the 1/f^chi background")
    background_nam: float = Field(default=17.0, ge=0.0, le=500.0, description="nA m RMS in 1-45 Hz, each region")
    delta_nam: float = Field(default=5.0, ge=0.0, le=500.0, description="nA m RMS, around 2 Hz")
    theta_nam: float = Field(
        default=5.0, ge=0.0, le=500.0, description="nA m RMS, around 6 Hz; three times that in the frontal midline"
    )
    beta_nam: float = Field(
        default=5.0, ge=0.0, le=500.0, description="nA m RMS, around 20 Hz; twice that in the central regions"
    )
    individual_alpha_hz: float = Field(default=10.0, ge=6.0, le=14.0, description="Hz, individual alpha frequency")
    alpha_nam: float = Field(default=28.0, ge=0.0, le=500.0, description="nA m, median amplitude of occipital alpha, eyes closed")
    alpha_open: float = Field(
        default=0.6, ge=0.0, le=2.0, description="posterior alpha amplitude with eyes open over eyes closed"
    )
    alpha_waxing: float = Field(
        default=0.45, ge=0.0, le=1.5, description="SD of the log amplitude as alpha waxes and wanes over seconds"
    )
    alpha_spread_hz: float = Field(default=0.5, ge=0.0, le=2.0, description="Hz SD of the instantaneous alpha frequency")
    frontal_asymmetry: float = Field(
        default=-0.2, ge=-3.0, le=3.0, description="ln alpha power of right over left frontal region, unstimulated"
    )
    alpha_drift_per_h: float = Field(default=0.0, ge=-10.0, le=10.0, description="1/h, slow change of log alpha amplitude")
    alpha_wander: float = Field(default=0.0, ge=0.0, le=1.0, description="SD of log alpha amplitude wandering over minutes")

    # response to stimulation
    anode: str = Field(default="F3", description="electrode where positive current enters")
    cathode: str = Field(default="F4", description="electrode where it leaves")
    coil: str = Field(default="F3", description="electrode above which pulses are given")
    response_gain: float = Field(default=1.0, ge=-3.0, le=3.0, description="1 responder, 0 non-responder, -1 inverted")
    half_field_v_per_m: float = Field(
        default=0.3, ge=0.01, le=10.0, description="V/m at which excitability has shifted by 71 % of its limit"
    )
    onset_s: float = Field(default=20.0, ge=0.1, le=3600.0, description="s, time constant with which the effect builds up")
    washout_s: float = Field(default=60.0, ge=0.1, le=36_000.0, description="s, time constant with which it fades")
    alpha_gain: float = Field(
        default=-0.35, ge=-0.9, le=0.9, description="relative change of alpha amplitude at the limit of excitability"
    )
    theta_gain: float = Field(default=-0.1, ge=-0.9, le=0.9, description="the same of theta")
    beta_gain: float = Field(default=0.15, ge=-0.9, le=0.9, description="the same of beta")
    alternating_effect: float = Field(
        default=0.6, ge=0.0, le=5.0, description="lasting effect of 1 mA at the alpha frequency over that of 1 mA direct"
    )
    entrainment_hz_per_v_per_m: float = Field(
        default=5.0, ge=0.0, le=100.0, description="Hz per V/m, half width of the locking range"
    )
    pulse_effect: float = Field(
        default=0.01, ge=0.0, le=1.0, description="shift of excitability (of its limit) each pulse adds below the coil"
    )
    pulse_reset: float = Field(
        default=0.8, ge=0.0, le=1.0, description="share of the way to phase zero that a pulse turns alpha below the coil"
    )
    evoked_nam: float = Field(default=40.0, ge=0.0, le=1000.0, description="nA m, largest deflection of the response to a pulse")

    # contamination of the EEG by stimulation
    contamination: float = Field(default=1.0, ge=0.0, le=10.0, description="scales every contamination; 0 = none")
    heart_modulation: float = Field(
        default=0.004,
        ge=0.0,
        le=0.2,
        description="relative modulation of the contamination by heartbeat (and 2.5 times that by breath)",
    )
    polarization_uv_per_ma: float = Field(
        default=400.0, ge=0.0, le=1e5, description="uV per mA, what electrodes nearest the pads charge up to"
    )
    polarization_s: float = Field(
        default=0.6, ge=0.01, le=600.0, description="s, time constant of that charging and of its decay afterwards"
    )
    pulse_artifact_uv: float = Field(
        default=4000.0, ge=0.0, le=1e7, description="uV after the amplifier is back from the rail, decaying"
    )
    pulse_artifact_s: float = Field(default=0.015, ge=0.0005, le=1.0, description="s, time constant of that recovery")

    @field_validator("montage", "noisy_electrodes")
    @classmethod
    def _known_electrodes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            load_head().electrode(name)
        if len(set(names)) != len(names):
            raise ValueError(f"electrodes {' '.join(names)}: each may stand once")
        return names

    @field_validator("anode", "cathode", "coil")
    @classmethod
    def _known_electrode(cls, name: str) -> str:
        load_head().electrode(name)
        return name

    @field_validator("reference")
    @classmethod
    def _known_reference(cls, name: str) -> str:
        if name not in (AVERAGE, LINKED_EARS):
            load_head().electrode(name)
        return name

    @model_validator(mode="after")
    def _two_poles(self) -> BrainSettings:
        if self.anode == self.cathode:
            raise ValueError(f"anode and cathode are both {self.anode}: no current would flow through the head")
        if self.line_hz * 2 >= self.sample_rate_hz:
            raise ValueError(f"line_hz {self.line_hz}: must lie below half the sample rate {self.sample_rate_hz:g} Hz")
        return self

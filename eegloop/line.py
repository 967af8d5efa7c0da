"""The `line:` block of config.yaml: filters, windows, spectra and signal quality of one seat."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from eegloop.closed import Closed


class QualitySettings(Closed):
    """When a channel's signal counts as artifact; measured in blocks of at most 100 ms."""

    flat_uv: float = Field(0.5, ge=0.01, le=10, description="µV; less than this peak-to-peak for 200 ms is 'flat', 0.01-10")
    amplitude_uv: float = Field(
        150.0, ge=20, le=100_000, description="µV; more than this after the filters is 'amplitude', 20-100000"
    )
    line_ratio: float = Field(
        0.5,
        ge=0.05,
        le=100,
        description="power at 50 or 60 Hz / power in 1-45 Hz above which a channel is 'line_noise', 0.05-100",
    )
    gradient_uv: float | None = Field(
        50.0,
        ge=5,
        le=10_000,
        description="µV from one sample to the next at 250 Hz and above (per 4 ms below) that is 'gradient', 5-10000; null = off",
    )
    step_uv: float | None = Field(
        100.0, ge=10, le=100_000, description="µV the level moves at such a gradient and stays: 'step', 10-100000; null = off"
    )
    drift_uv_per_s: float | None = Field(
        500.0, ge=10, le=1_000_000, description="µV/s of electrode drift for 5 s that is 'drift', 10-1000000; null = off"
    )
    blink_uv: float | None = Field(
        30.0, ge=10, le=500, description="µV in 1-10 Hz at the frontmost electrodes that is 'blink', 10-500; null = off"
    )
    blink_polarity: Literal["auto", "positive", "negative"] = Field(
        "auto", description="sign of a blink at the frontmost electrodes: auto (found from the blinks), positive or negative"
    )
    eye_uv: float | None = Field(
        60.0, ge=10, le=1000, description="µV of step between the sides of the eyes that is 'eye_movement', 10-1000; null = off"
    )
    muscle_uv: float | None = Field(
        12.0,
        ge=1,
        le=1000,
        description="µV RMS of sample-to-sample steps (per 4 ms) below which nothing is 'jaw_muscle' or 'neck_muscle', 1-1000; "
        "above it, 2.5 times the person's own median; null = off",
    )
    clean_fraction: float = Field(
        0.7, ge=0, le=1, description="share of a window that must be free of artifact for a value to be good, 0-1"
    )


class CorrectionSettings(Closed):
    """Artifact corrections, all off by default. A value made of corrected samples is suspect and says "corrected"."""

    blink_above_uv: float | None = Field(
        None,
        ge=5,
        le=500,
        description="µV; what the eyes' channels hold above this is taken out of all by regression, 5-500; null = off",
    )
    subspace_cutoff: float | None = Field(
        None, ge=3, le=100, description="SDs above the person's clean signal that are rebuilt (ASR; 20 usual), 3-100; null = off"
    )
    subspace_calibration_s: float = Field(60.0, ge=20, le=600, description="s of clean signal it learns from first, 20-600")
    track_line_hz: Literal[50, 60] | None = Field(
        None, description="Hz, 50 or 60; mains are followed in frequency, amplitude and phase and taken out; null = off"
    )
    pulse_before_ms: float = Field(2.0, ge=0, le=20, description="ms cut out before a magnetic pulse, 0-20")
    pulse_after_ms: float = Field(15.0, ge=1, le=45, description="ms cut out after it, 1-45")


class LineSettings(Closed):
    """How samples become spectra. The defaults are the line a seat runs with; null switches a filter off."""

    high_pass_hz: float | None = Field(0.75, ge=0.1, le=5, description="Hz, 0.1-5; Butterworth, causal; null = off")
    low_pass_hz: float | None = Field(
        45.0, ge=20, le=100, description="Hz, 20-100 (below half the sample rate); Butterworth, causal; null = off"
    )
    filter_order: int = Field(2, ge=1, le=6, description="order of the high pass and of the low pass each, 1-6")
    notch_hz: Literal[50, 60] | None = Field(
        50, description="Hz, 50 or 60: mains where you live; left out where half the sample rate is below it; null = off"
    )
    notch_q: float = Field(30.0, ge=5, le=60, description="center frequency / bandwidth of the notch, 5-60")
    hop_s: float = Field(0.1, ge=0.02, le=10, description="s between two rows of biomarkers, 0.02-10")
    window_s: float = Field(2.0, ge=0.25, le=30, description="s of signal behind a band power, 0.25-30")
    taper: Literal["hann", "hamming", "boxcar"] = Field(
        "hann", description="shape of a spectral window (periodic): hann, hamming or boxcar"
    )
    detrend: Literal["constant", "none"] = Field(
        "constant", description="constant: every window's mean is taken out first; none: not"
    )
    integration: Literal["sum", "trapezoid"] = Field(
        "sum", description="sum: PSD bins of [low, high) times their spacing; trapezoid: over bins of [low, high]"
    )
    glitch_uv: float | None = Field(
        2000.0,
        ge=100,
        le=1_000_000,
        description="µV, 100-1000000; a single sample that jumps off by more and back is interpolated; null = off",
    )
    reference: Literal["recorded", "average", "rest", "csd", "bipolar"] = Field(
        "recorded",
        description="recorded: as the headset gives it; average, rest (against infinity, from 19 electrodes up), "
        "csd (nearest neighbors) or bipolar: over the good channels",
    )
    quality: QualitySettings = QualitySettings()
    correction: CorrectionSettings = CorrectionSettings()

    @model_validator(mode="after")
    def _pass_band_is_open(self) -> Self:
        if self.hop_s > self.window_s:
            raise ValueError(
                f"hop_s {self.hop_s} s is longer than window_s {self.window_s} s: samples between windows would be lost"
            )
        return self

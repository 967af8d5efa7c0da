"""A session in numbers: for each biomarker the median of its clean signal before any stimulation, and one specparam fit a channel.

What is compared across days is a session's value, not a hop's. Only windows that were graded good count, and only those that ended
before the first current or pulse of the session; under `LEAST_CLEAN_S` of them there is no value (biomarkers.md section 1; a fit needs `LEAST_FIT_S`, section 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from eegloop.errors import RecordingError
from eegloop.signal import F64, BiomarkerColumn, Bool, Grade
from records.session import EventTick, RecordedSession, StimTick

LEAST_CLEAN_S = 60.0
LEAST_FIT_S = 30.0  # what an aperiodic fit needs; its windows of 2 s are whole only where two windows of the line are
FIT_WINDOW_S = 2.0
FIT_HZ = (2.0, 40.0)
ALPHA_HZ = (7.0, 13.0)
PHASE = "phase.angle"
NO_MEDIAN = "a phase runs round and round; a session of it has no median"
_CURRENT_MA = 0.005  # as the line takes for zero


@dataclass(frozen=True, slots=True)
class SessionValue:
    """One biomarker of one session.

    Attributes
    ----------
    value : float
        Median over clean windows (of a fit: its parameter); NaN where there is none.
    clean_s : float
        Seconds of clean signal behind it.
    reason : str
        Why there is no value; "" when there is one.
    """

    name: str
    channel: str
    unit: str
    value: float
    clean_s: float
    reason: str


def session_values(recorded: RecordedSession) -> list[SessionValue]:
    """Every biomarker of the session's line, then `specparam.exponent`, `.offset` and `.alpha_peak` of every EEG channel.

    Raises
    ------
    RecordingError
        If the session's settings cannot be read.
    """
    try:
        hop_s, until_s = float(recorded.setup["line"]["hop_s"]), _first_stimulation_s(recorded)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordingError(
            f"{recorded.header}: its settings cannot be read ({error}); was it written by a newer eegloop?"
        ) from None
    hops = recorded.hops()
    hops = hops[hops["t_s"] <= until_s]
    good: Bool = hops["grades"] == Grade.GOOD
    found = [
        _value(column, hops["values"][:, i][good[:, i]], float(good[:, i].sum()) * hop_s)
        for i, column in enumerate(recorded.columns)
    ]
    return found + _fits(recorded, hops["onset_s"], good, hop_s)


def _value(column: BiomarkerColumn, values: F64, clean_s: float) -> SessionValue:
    short = NO_MEDIAN if column.name == PHASE else _short(clean_s)
    return SessionValue(
        column.name, column.channel, column.unit, math.nan if short else float(np.median(values)), round(clean_s, 3), short
    )


def _short(clean_s: float, least_s: float = LEAST_CLEAN_S) -> str:
    return "" if clean_s + 1e-9 >= least_s else f"{clean_s:.0f} s of clean signal; {least_s:.0f} s are needed"


def _first_stimulation_s(recorded: RecordedSession) -> float:
    """LSL s of the first current or pulse in the session; inf if there was none."""
    boot_to_lsl_s = float(recorded.setup["boot_to_lsl_s"])
    first_s = math.inf
    for item in recorded.ticks():
        match item:
            case StimTick(state=state) if max(state.commanded_ma, abs(state.confirmed_ma or 0.0)) > _CURRENT_MA:
                first_s = min(first_s, state.boot_ns * 1e-9 + boot_to_lsl_s)
            case EventTick(kind="pulses", data=data):
                first_s = min(first_s, *(float(at_s) for at_s in data["at_s"]))
            case EventTick(kind="clock", data=data):
                boot_to_lsl_s = float(data["boot_to_lsl_s"])
    return first_s


def _fits(recorded: RecordedSession, onset_s: F64, good: Bool, hop_s: float) -> list[SessionValue]:
    """specparam (fixed mode, peak widths 1-8 Hz) on each channel's mean density over clean windows of 2 s, half overlapping."""
    samples, rate_hz = recorded.samples(), recorded.info.sample_rate_hz
    n, hops_a_window = round(FIT_WINDOW_S * rate_hz), max(1, round(FIT_WINDOW_S / hop_s))
    taper = np.hanning(n + 1)[:-1]
    scale = 2.0 / (rate_hz * float(np.sum(taper**2)))
    frequency = np.asarray(np.fft.rfftfreq(n, 1 / rate_hz), dtype=np.float64)
    found: list[SessionValue] = []
    for i, (channel, kind) in enumerate(zip(recorded.info.channels, recorded.info.kinds, strict=True)):
        if kind != "eeg":
            continue
        clean = _clean(recorded.columns, good, channel)
        total, count = np.zeros(len(frequency)), 0
        for k in range(hops_a_window - 1, len(clean), max(1, hops_a_window // 2)):
            end = round(float(onset_s[k]) * rate_hz)
            if end < n or end > len(samples) or not clean[k - hops_a_window + 1 : k + 1].all():
                continue
            x = np.asarray(samples[end - n : end, i], dtype=np.float64)
            if np.isfinite(x).all():
                total += np.abs(np.fft.rfft((x - x.mean()) * taper)) ** 2 * scale
                count += 1
        clean_s = (count + 1) * FIT_WINDOW_S / 2 if count else 0.0
        short = _short(clean_s, LEAST_FIT_S)
        fit = _fit(frequency, np.asarray(total / count, dtype=np.float64)) if not short else (math.nan, math.nan, math.nan)
        for (part, unit), value in zip((("exponent", "1"), ("offset", "1"), ("alpha_peak", "Hz")), fit, strict=True):
            reason = short or ("" if math.isfinite(value) else "no peak" if part == "alpha_peak" else "the fit failed")
            found.append(SessionValue(f"specparam.{part}", channel, unit, value, clean_s, reason))
    return found


def _clean(columns: tuple[BiomarkerColumn, ...], good: Bool, channel: str) -> Bool:
    """(n_hops,) whether the channel's band powers were good; where the line computed none, all that it computed of the channel."""
    powers = [i for i, c in enumerate(columns) if c.channel == channel and c.name.startswith("band_power.")]
    picked = powers or [i for i, c in enumerate(columns) if channel in (c.channel, *c.channel.split("-"))]
    return np.asarray(good[:, picked].all(1) if picked else np.zeros(len(good), dtype=np.bool_), dtype=np.bool_)


def _fit(frequency_hz: F64, density: F64) -> tuple[float, float, float]:
    """Exponent, offset (log10 µV²/Hz at 1 Hz) and the frequency of the highest peak in 7-13 Hz; NaN where there is none."""
    from specparam import SpectralModel

    model: Any = SpectralModel(aperiodic_mode="fixed", peak_width_limits=(1, 8), max_n_peaks=6, verbose=False)
    model.fit(frequency_hz, density, list(FIT_HZ))
    offset, exponent = (float(v) for v in model.get_params("aperiodic"))
    peaks = np.atleast_2d(model.get_params("peak"))
    alpha = [(float(p[1]), float(p[0])) for p in peaks if len(p) == 3 and ALPHA_HZ[0] <= p[0] <= ALPHA_HZ[1]]
    return exponent, offset, max(alpha)[1] if alpha else math.nan

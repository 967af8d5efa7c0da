"""The causal filter chain of the line: band pass and notch as second-order sections whose state outlives every chunk."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dsp import sections
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64

# Half range of an ADS1299 at gain 24 (OpenBCI and most portable amplifiers); used where a source names no rail.
DEFAULT_FULL_SCALE_UV = 187_500.0
SETTLED_UV = 1.0
# Blocks up to this length are filtered by one matrix product; longer ones sample by sample.
_LONGEST_MAP = 256


def design(settings: LineSettings, rate_hz: float) -> F64:
    """Second-order sections of the configured chain at this sample rate.

    A high pass and a low pass together are designed as one Butterworth band pass. A notch at or above half
    the sample rate is left out: there is nothing to remove.

    Returns
    -------
    (n_sections, 6) float64, n_sections 0 when every filter is off.

    Raises
    ------
    ConfigError
        If the low pass is not below half the sample rate, or not above the high pass.
    """
    nyquist = rate_hz / 2
    high, low = settings.high_pass_hz, settings.low_pass_hz
    if low is not None and low >= nyquist:
        raise ConfigError(
            f"line.low_pass_hz: {low:g} Hz needs a stream of more than {2 * low:g} samples per second, this one has {rate_hz:g}; "
            f"set it to at most {math.floor(0.9 * nyquist)} or to null"
        )
    parts: list[F64] = []
    if high is not None or low is not None:
        parts.append(sections.butterworth(settings.filter_order, high, low, rate_hz))
    if settings.notch_hz is not None and settings.notch_hz < nyquist:
        parts.append(sections.notch(settings.notch_hz, settings.notch_q, rate_hz))
    if not parts:
        return np.empty((0, 6))
    return np.ascontiguousarray(np.vstack(parts), dtype=np.float64)


def power_response(sos: F64, rate_hz: float, frequency_hz: F64) -> F64:
    """|H(f)|² of a chain at the given frequencies; ones for an empty chain."""
    return np.asarray(np.abs(sections.response(sos, frequency_hz, rate_hz)) ** 2, dtype=np.float64)


def settle_samples(sos: F64, full_scale_uv: float) -> int:
    """Samples until the chain's response to a step of `full_scale_uv` stays within 1 µV of its end value.

    Measured on the sections themselves, so it holds for any order, cut-off and sample rate.
    """
    if len(sos) == 0:
        return 0
    slowest = max(sections.largest_pole(section) for section in sos)
    tau = -1.0 / math.log(slowest)
    # Long enough for the slowest pole to fall a thousandfold below what is looked for, multiple poles included.
    n = math.ceil(tau * (math.log(full_scale_uv / SETTLED_UV) + 7.0) * 1.5) + 64
    step = sections.run_sections(sos, np.full((1, n), full_scale_uv), np.zeros((1, len(sos), 2)))[0]
    end = full_scale_uv * sections.dc_gain(sos)
    late = np.flatnonzero(np.abs(step - end) >= SETTLED_UV)
    return int(late[-1]) + 1 if late.size else 0


@lru_cache(maxsize=16)
def _block_map(sos_bytes: bytes, n_sections: int, n: int) -> F64:
    """[state, n inputs] @ map = [next state, n outputs] of a chain; the same array for every line with these filters."""
    sos = np.frombuffer(sos_bytes).reshape(n_sections, -1).copy()
    unit = np.eye(2 * n_sections + n)
    state = unit[:, : 2 * n_sections].copy()
    out = sections.run_sections(sos, unit[:, 2 * n_sections :], state.reshape(len(unit), n_sections, 2))
    made = np.ascontiguousarray(np.hstack([state, out]))
    made.flags.writeable = False
    return made


class FilterChain:
    """A chain's state for every channel, and the block it works on.

    `block` is the (n_channels, longest) input: write samples there, then call `run_block`; or give any
    piece to `run`. Both go on from the same state. A block of a usual length costs one matrix product:
    the chain is linear, so [state, input] @ map = [next state, output] for that length.

    A chain that passes no DC works on samples minus the level at the restart: the same output, without the
    rounding that 60 mV of electrode offset would bring.
    """

    def __init__(self, sos: F64, n_channels: int, block_lengths: tuple[int, ...]) -> None:
        self.sos = sos
        self._n_sections = len(sos)
        self._n_state = 2 * len(sos)
        longest = max(block_lengths)
        self.block: F64 = np.zeros((n_channels, longest))
        self._in = np.zeros((n_channels, self._n_state + longest))
        self._out = np.zeros_like(self._in)
        self._state: F64 = self._in[:, : self._n_state]
        self._steady: F64 = sections.steady_state(sos).reshape(-1)
        self._blocks_dc = bool(len(sos)) and bool((sos[:, :3].sum(1) == 0).any() or abs(np.prod(sos[:, :3].sum(1))) < 1e-20)
        self._level: F64 = np.zeros((n_channels, 1))
        self._views = {}
        for n in block_lengths:
            if self._n_sections and n <= _LONGEST_MAP:
                width = self._n_state + n
                self._views[n] = (
                    self.block[:, :n],
                    self._in[:, self._n_state : width],
                    self._in[:, :width],
                    _block_map(sos.tobytes(), len(sos), n),
                    self._out[:, :width],
                    self._out[:, : self._n_state],
                    self._out[:, self._n_state : width],
                )

    def restart(self, first_uv: F64, channels: NDArray[np.bool_] | None = None) -> None:
        """Set the state as if `first_uv` (n_channels,) had always been there: a DC offset makes no transient."""
        pick = slice(None) if channels is None else channels
        if self._blocks_dc:
            self._level[pick, 0] = first_uv[pick]
            self._state[pick] = 0.0
        else:
            self._state[pick] = first_uv[pick, np.newaxis] * self._steady

    def run_block(self, n: int) -> F64:
        """Filter `block[:, :n]`; the result is a view that the next call overwrites."""
        views = self._views.get(n)
        if views is None:
            return self.run(self.block[:, :n])
        block, shifted, x, step, out, state, filtered = views
        np.subtract(block, self._level, shifted)
        np.matmul(x, step, out)
        self._state[:] = state
        return filtered

    def run(self, x: F64) -> F64:
        """Filter any piece (n_channels, n) sample by sample."""
        if not self._n_sections:
            return x
        return sections.run_sections(self.sos, x - self._level, self._state.reshape(len(x), self._n_sections, 2))

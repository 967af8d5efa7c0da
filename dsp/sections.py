"""Second-order sections: Butterworth and notch design, frequency response, steady state, and SciPy's compiled filter loop.

`scipy.signal` offers the same, but importing it costs seconds (it brings statistics, interpolation and optimization
along), most of the time from `make run` to the first trace. The compiled loop itself loads in milliseconds.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from eegloop.signal import F64

C128 = NDArray[np.complex128]


def _filter_loop() -> ModuleType:
    """SciPy's compiled loop over samples and sections, without the package around it."""
    scipy = importlib.util.find_spec("scipy")
    folders = [str(Path(place) / "signal") for place in (scipy.submodule_search_locations or [])] if scipy else []
    spec = importlib.machinery.PathFinder.find_spec("_sosfilt", folders)
    if spec is None or spec.loader is None:  # a SciPy that keeps it elsewhere: the slow way round
        return importlib.import_module("scipy.signal._sosfilt")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_LOOP = _filter_loop()


def butterworth(order: int, high_pass_hz: float | None, low_pass_hz: float | None, rate_hz: float) -> F64:
    """Digital Butterworth filter: a band pass when both edges are given, else a high pass or a low pass.

    Poles of the analog prototype, mapped to the band and then by the bilinear transform with prewarped edges
    (Oppenheim & Schafer, Discrete-Time Signal Processing, ch. 7). Poles nearest the unit circle come last and are
    paired with the zeros nearest to them.

    Parameters
    ----------
    order : int
        Order of the prototype, 1 or more; a band pass has twice as many poles.
    high_pass_hz, low_pass_hz : float or None
        Half-power edges, 0 < high_pass_hz < low_pass_hz < rate_hz / 2; one of them at least.

    Returns
    -------
    (n_sections, 6) float64

    Raises
    ------
    ValueError
        If the edges are not in that order.
    """
    edges = [edge for edge in (high_pass_hz, low_pass_hz) if edge is not None]
    if not edges or not all(0 < low < high for low, high in zip([0.0, *edges][1:], [*edges[1:], rate_hz / 2], strict=True)):
        raise ValueError(f"edges {high_pass_hz} and {low_pass_hz} Hz: must rise within 0-{rate_hz / 2:g} Hz")
    k = np.arange(1, order + 1)
    prototype = -np.exp(1j * np.pi * (2 * k - order - 1) / (2 * order))
    warped = [2 * rate_hz * math.tan(math.pi * edge / rate_hz) for edge in edges]
    zeros_at_one = zeros_at_minus_one = 0
    if high_pass_hz is not None and low_pass_hz is not None:
        width, center2 = warped[1] - warped[0], warped[0] * warped[1]
        half = prototype * width / 2
        root = np.sqrt(half**2 - center2)
        poles, gain = np.concatenate([half + root, half - root]), width**order
        zeros_at_one = zeros_at_minus_one = order
    elif high_pass_hz is not None:
        poles, gain = warped[0] / prototype, 1.0
        zeros_at_one = order
    else:
        poles, gain = warped[0] * prototype, warped[0] ** order
        zeros_at_minus_one = order
    twice = 2 * rate_hz
    # Zeros at the origin of the analog plane go to 1, those at infinity to -1; both change the gain.
    gain *= twice**zeros_at_one / float(np.real(np.prod(twice - poles)))
    digital: C128 = np.asarray((twice + poles) / (twice - poles), dtype=np.complex128)
    return _paired(digital, zeros_at_one, zeros_at_minus_one, gain)


def _paired(poles: C128, zeros_at_one: int, zeros_at_minus_one: int, gain: float) -> F64:
    """Sections of two poles and the zeros nearest to them, the pole nearest the unit circle in the last one."""
    upper = poles[poles.imag > 1e-12 * np.abs(poles)]
    real = sorted(poles.real[np.abs(poles.imag) <= 1e-12 * np.abs(poles)], key=lambda p: 1 - abs(p))
    pairs = [(-2 * float(p.real), float(abs(p) ** 2), float(p.real), 1 - float(abs(p)), 2) for p in upper]
    for i in range(0, len(real), 2):
        two = real[i : i + 2]
        a2 = float(np.prod(two)) if len(two) == 2 else 0.0
        pairs.append((-float(sum(two)), a2, float(two[0]), 1 - abs(float(two[0])), len(two)))
    left = {1.0: zeros_at_one, -1.0: zeros_at_minus_one}
    sections: list[list[float]] = []
    for a1, a2, near, _, n_poles in sorted(pairs, key=lambda pair: pair[3]):
        b = np.ones(1)
        for _ in range(n_poles):
            zero = min((z for z in left if left[z]), key=lambda z: abs(z - near))
            left[zero] -= 1
            b = np.convolve(b, [1.0, -zero])
        sections.append([*b, *[0.0] * (3 - len(b)), 1.0, a1, a2])
    sos = np.array(sections[::-1])
    sos[0, :3] *= gain
    return sos


def notch(frequency_hz: float, q: float, rate_hz: float) -> F64:
    """One section that takes out `frequency_hz`, half power at ± frequency_hz / (2 q) (Orfanidis, Introduction to Signal Processing, 11.3).

    Returns
    -------
    (1, 6) float64
    """
    angle = 2 * math.pi * frequency_hz / rate_hz
    gain = 1 / (1 + math.tan(angle / q / 2))
    turn = -2 * math.cos(angle)
    return np.array([[gain, gain * turn, gain, 1.0, gain * turn, 2 * gain - 1]])


def response(sos: F64, frequency_hz: F64, rate_hz: float) -> C128:
    """Complex frequency response of a chain at the given frequencies; ones for an empty chain."""
    z = np.exp(-2j * np.pi * np.asarray(frequency_hz, dtype=np.float64) / rate_hz)
    passed = np.ones(z.shape, dtype=np.complex128)
    for b0, b1, b2, a0, a1, a2 in sos:
        passed *= (b0 + z * (b1 + z * b2)) / (a0 + z * (a1 + z * a2))
    return passed


def dc_gain(sos: F64) -> float:
    """What a chain makes of a constant 1."""
    return float(np.prod(sos[:, :3].sum(1) / sos[:, 3:].sum(1)))


def steady_state(sos: F64) -> F64:
    """State of each section (n_sections, 2) after a constant 1 that has always been there."""
    state = np.empty((len(sos), 2))
    level = 1.0
    for i, (b0, b1, b2, _, a1, a2) in enumerate(sos):
        out = level * (b0 + b1 + b2) / (1 + a1 + a2)
        state[i] = out - b0 * level, b2 * level - a2 * out
        level = out
    return state


def run_sections(sos: F64, x: F64, state: F64) -> F64:
    """Filter each row of x (n_channels, n_samples); `state` (n_channels, n_sections, 2) goes on from where it was.

    Transposed direct form II, sample by sample, one section after the other. Neither argument needs to be
    contiguous; `state` is written in place, x is not.
    """
    y = np.array(x, dtype=np.float64, order="C")
    kept = np.ascontiguousarray(state)
    _LOOP._sosfilt(sos, y, kept)
    if kept is not state:
        state[...] = kept
    return y


def largest_pole(section: F64) -> float:
    """Magnitude of the slower pole of one section (6,)."""
    return float(np.max(np.abs(np.roots(section[3:]))))


def savitzky_golay(n: int, bins: int, order: int, derivative: int, spacing: float) -> F64:
    """Matrix (n, n) whose product row @ matrix is the row's Savitzky-Golay smoothing or derivative.

    A polynomial of `order` is fitted to the `bins` (odd) values around each; at both ends to the outermost `bins`
    (Savitzky & Golay 1964).
    """
    half = bins // 2
    fit = np.linalg.pinv(np.vander(np.arange(bins) - half, order + 1, increasing=True).astype(np.float64))
    matrix = np.zeros((n, n))
    powers = np.arange(order + 1)
    falling = np.array([math.perm(int(p), derivative) for p in powers], dtype=np.float64)
    for i in range(n):
        first = min(max(i - half, 0), n - bins)
        at = i - first - half
        basis = np.where(powers >= derivative, falling * float(at) ** np.maximum(powers - derivative, 0), 0.0)
        matrix[first : first + bins, i] = basis @ fit / spacing**derivative
    return matrix

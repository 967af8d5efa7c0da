"""Makes `simulators/head.npz`, the lead field of a four-shell spherical head. By hand: `python -m simulators.make_head`.

Needs MNE (and its SciPy). Nothing else imports this file; at run time `simulators/head.py` loads the arrays with numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np

from eegloop.signal import F64

RADIUS_M = 0.09
SHELLS = (0.90, 0.92, 0.97, 1.0)
"""Outer radii of brain, CSF, skull, scalp as shares of RADIUS_M (MNE's own default)."""
CONDUCTIVITY_S_PER_M = (0.33, 1.0, 0.004, 0.33)
PAD_RADIUS_M = 0.028
"""A 25 cm2 stimulation pad taken as a spherical cap."""
N_TERMS = 400

_ROWS = (
    "Fp1 Fpz Fp2 AF9 AF7 AF5 AF3 AF1 AFz AF2 AF4 AF6 AF8 AF10 F9 F7 F5 F3 F1 Fz F2 F4 F6 F8 F10",
    "FT9 FT7 FC5 FC3 FC1 FCz FC2 FC4 FC6 FT8 FT10 T9 T7 C5 C3 C1 Cz C2 C4 C6 T8 T10",
    "TP9 TP7 CP5 CP3 CP1 CPz CP2 CP4 CP6 TP8 TP10 P9 P7 P5 P3 P1 Pz P2 P4 P6 P8 P10",
    "PO9 PO7 PO5 PO3 PO1 POz PO2 PO4 PO6 PO8 PO10 O1 Oz O2 Iz A1 A2",
)
ELECTRODES = tuple(name for row in _ROWS for name in row.split())


@dataclass(frozen=True, slots=True)
class Source:
    """A cortical patch below electrodes: its center's radius as a share of the head's, its dipoles' distance from there in m."""

    name: str
    below: tuple[str, ...]
    depth: float
    spread_m: float


REGIONS = (
    Source("frontopolar_left", ("Fp1",), 0.78, 0.014),
    Source("frontopolar_right", ("Fp2",), 0.78, 0.014),
    Source("frontal_left", ("F3",), 0.78, 0.014),
    Source("frontal_right", ("F4",), 0.78, 0.014),
    Source("frontal_midline", ("AFz", "Fz"), 0.50, 0.008),  # rostral anterior cingulate
    Source("central_left", ("C3",), 0.78, 0.014),
    Source("central_right", ("C4",), 0.78, 0.014),
    Source("temporal_left", ("T7",), 0.76, 0.014),
    Source("temporal_right", ("T8",), 0.76, 0.014),
    Source("parietal_left", ("P3",), 0.76, 0.014),
    Source("parietal_right", ("P4",), 0.76, 0.014),
    Source("occipital_left", ("O1", "PO3"), 0.74, 0.014),
    Source("occipital_right", ("O2", "PO4"), 0.74, 0.014),
)
EYES_M = {"eye_left": (-0.030, 0.066, -0.031), "eye_right": (0.030, 0.066, -0.031)}
"""Equivalent ocular dipoles, just inside the innermost shell (78.8 of 81 mm): a sphere has no orbits."""


def electrode_directions() -> F64:
    """(n_electrodes, 3) unit vectors from the center of the sphere that fits MNE's colin27_1005 best; x right, y front, z up."""
    positions = mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
    points = np.array([positions[name] for name in ELECTRODES])
    scalp = np.array(
        [p for name, p in positions.items() if name not in ("A1", "A2", "M1", "M2") and not name.endswith(("9", "10"))]
    )
    # |p|^2 = 2 p.c + (r^2 - |c|^2) is linear in the center c
    solution, *_ = np.linalg.lstsq(np.c_[2 * scalp, np.ones(len(scalp))], (scalp**2).sum(axis=1), rcond=None)
    centered = points - solution[:3]
    return np.asarray(centered / np.linalg.norm(centered, axis=1, keepdims=True))


def patch(direction: F64, depth: float, spread_m: float) -> F64:
    """(7, 3) m: a dipole at the patch's center and six around it, all at the same depth."""
    side = np.cross(direction, (0.0, 0.0, 1.0) if abs(direction[2]) < 0.9 else (0.0, 1.0, 0.0))
    side /= np.linalg.norm(side)
    other = np.cross(direction, side)
    radius_m = depth * RADIUS_M
    angles = np.arange(6) * np.pi / 3
    ring = radius_m * direction + spread_m * (np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * other)
    points = np.vstack((radius_m * direction, ring))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True) * radius_m)


def dipole_potentials_uv(positions_m: F64, orientations: F64, directions: F64) -> F64:
    """(n_dipoles, n_electrodes) uV per nA m by MNE's sphere model, against infinity."""
    names = [f"E{i}" for i in range(len(directions))]
    info = mne.create_info(names, 250.0, "eeg")
    montage = mne.channels.make_dig_montage(dict(zip(names, directions * RADIUS_M, strict=True)), coord_frame="head")
    info.set_montage(montage)
    sphere = mne.make_sphere_model(
        r0=(0.0, 0.0, 0.0), head_radius=RADIUS_M, relative_radii=SHELLS, sigmas=CONDUCTIVITY_S_PER_M, verbose="error"
    )
    n = len(positions_m)
    dipoles = mne.Dipole(np.arange(n) / 1000, positions_m, np.full(n, 1e-9), orientations, np.ones(n))
    forward, _ = mne.make_forward_dipole(dipoles, sphere, info, verbose="error")
    # `forward` has one free-orientation column per dipole time: fixed orientation, in V per A m = 1e-3 uV per nA m
    return np.asarray(forward["sol"]["data"].T * 1e-3)


def shell_coefficients() -> tuple[F64, F64]:
    """Per degree n >= 1: potential at the scalp, and factor of x^n in the brain, for a normal current density P_n at the scalp.

    Laplace's equation in concentric shells: phi_j = sum (A_j x^n + B_j x^-(n+1)) P_n with x = r / R; potential and radial
    current are continuous at each border. Multiply by R / sigma_scalp.
    """
    scalp, brain = np.zeros(N_TERMS + 1), np.zeros(N_TERMS + 1)
    for n in range(1, N_TERMS + 1):
        # start in the brain with A = 1, B = 0 and go outward in terms of value v = phi and flux f = sigma * x * dphi/dx,
        # each border's x^n factored out so that nothing overflows
        value, flux, log_scale = 1.0, CONDUCTIVITY_S_PER_M[0] * n, n * np.log(SHELLS[0])
        for inner, outer, sigma in zip(SHELLS[:-1], SHELLS[1:], CONDUCTIVITY_S_PER_M[1:], strict=True):
            grow = (value * (n + 1) + flux / sigma) / (2 * n + 1)
            fall = value - grow
            ratio = inner / outer
            # x^n grows by ratio^-n, x^-(n+1) falls by ratio^(n+1)
            fall_here = fall * ratio ** (2 * n + 1)
            value, flux = grow + fall_here, sigma * (n * grow - (n + 1) * fall_here)
            log_scale += -n * np.log(ratio)
            size = abs(value)
            value, flux, log_scale = value / size, flux / size, log_scale + np.log(size)
        scale = CONDUCTIVITY_S_PER_M[-1] / flux
        scalp[n] = value * scale
        brain[n] = np.exp(-log_scale) * scale
    return scalp, brain


def legendre(x: F64) -> F64:
    """(N_TERMS + 1, *x.shape) Legendre polynomials by the three-term recursion."""
    out = np.empty((N_TERMS + 1, *np.shape(x)))
    out[0], out[1] = 1.0, x
    for n in range(1, N_TERMS):
        out[n + 1] = ((2 * n + 1) * x * out[n] - n * out[n - 1]) / (n + 1)
    return out


def scalp_transfer_mv_per_ma(directions: F64) -> F64:
    """(n_electrodes, n_electrodes) mV at an electrode per mA entering through a pad at another, leaving evenly over the head.

    Only differences of columns (current in at one pad, out at another) have a meaning.
    """
    scalp, _ = shell_coefficients()
    cap = legendre(np.array(np.cos(PAD_RADIUS_M / RADIUS_M)))
    n = np.arange(1, N_TERMS)
    smooth = np.zeros(N_TERMS + 1)
    smooth[1:N_TERMS] = (cap[n - 1] - cap[n + 1]) / ((2 * n + 1) * (1 - cap[1]))
    polynomials = legendre(np.clip(directions @ directions.T, -1.0, 1.0))
    degree = np.arange(N_TERMS + 1)
    weights = (2 * degree + 1) * scalp * smooth
    potential_v = np.tensordot(weights, polynomials, axes=1) * 1e-3 / (4 * np.pi * CONDUCTIVITY_S_PER_M[-1] * RADIUS_M)
    return np.asarray(potential_v * 1e3)


def main() -> None:
    """Compute and write `head.npz`."""
    directions = electrode_directions()
    at = {name: directions[i] for i, name in enumerate(ELECTRODES)}
    centers, rows = [], []
    for region in REGIONS:
        direction = sum((at[name] for name in region.below), np.zeros(3))
        direction /= np.linalg.norm(direction)
        points = patch(direction, region.depth, region.spread_m)
        normals = points / np.linalg.norm(points, axis=1, keepdims=True)
        rows.append(dipole_potentials_uv(points, normals, directions).mean(axis=0))
        centers.append(region.depth * RADIUS_M * direction)
    eyes = np.array(list(EYES_M.values()))
    # corneo-retinal axis under the closing lid: forward, slightly up; Fz / Fp1 = 0.3 against linked ears, as in people
    front = np.tile((0.0, 0.995, 0.1), (2, 1))
    right = np.tile((1.0, 0.0, 0.0), (2, 1))
    target = Path(__file__).with_name("head.npz")
    np.savez_compressed(
        target,
        electrodes=np.array(ELECTRODES),
        electrode_positions_m=(directions * RADIUS_M).astype(np.float32),
        regions=np.array([region.name for region in REGIONS]),
        region_positions_m=np.array(centers).astype(np.float32),
        lead_field_uv_per_nam=np.array(rows).astype(np.float32),
        blink_uv_per_nam=dipole_potentials_uv(eyes, front, directions).mean(axis=0).astype(np.float32),
        saccade_uv_per_nam=dipole_potentials_uv(eyes, right, directions).mean(axis=0).astype(np.float32),
        scalp_mv_per_ma=scalp_transfer_mv_per_ma(directions).astype(np.float32),
    )
    print(f"{target}: {target.stat().st_size} bytes, {len(REGIONS)} regions, {len(ELECTRODES)} electrodes")


if __name__ == "__main__":
    main()

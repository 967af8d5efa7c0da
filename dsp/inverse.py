"""A linear inverse for the midline front: eLORETA on a template head, computed once a montage with MNE.

The template head is a sphere and the electrodes stand where the template puts them, so this is a spatial filter with a
name, not a picture of a person's brain: 2 % of what it reports comes from the region itself if the whole head is
equally active (`Roi` says which region). See reference/biomarkers.md, "rACC theta".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from eegloop.signal import F64

LEAST_ELECTRODES = 19
LAMBDA2 = 1.0 / 9.0
_GRID_MM = 10.0


@dataclass(frozen=True, slots=True)
class Roi:
    """A ball of gray matter in MNI coordinates, mm."""

    center_mm: tuple[float, float, float] = (0.0, 38.0, 4.0)
    radius_mm: float = 15.0


def template(labels: tuple[str, ...]) -> tuple[Any, Any]:
    import mne

    montages = mne.channels.get_builtin_montages()
    montage = mne.channels.make_standard_montage("colin27_1005" if "colin27_1005" in montages else "standard_1005")
    info = mne.create_info(list(labels), 250.0, "eeg")
    info.set_montage(montage)
    return info, montage


def forward_solution(info: Any) -> Any:
    """MNE's forward solution of a grid of sources in the template sphere, potentials against infinity."""
    import mne

    sphere = mne.make_sphere_model("auto", "auto", info, verbose="error")
    source = mne.setup_volume_source_space(pos=_GRID_MM, sphere=sphere, verbose="error")
    return mne.make_forward_solution(info, trans=None, src=source, bem=sphere, eeg=True, meg=False, verbose="error")


@lru_cache(maxsize=8)
def gram(labels: tuple[str, ...]) -> F64:
    """(n, n) G Gᵀ of the gain matrix of electrodes of these 10-10 names, scaled to a mean diagonal of 1: all that REST asks for."""
    info, _ = template(labels)
    gain = np.asarray(forward_solution(info)["sol"]["data"], dtype=np.float64)
    product = gain @ gain.T
    return np.asarray(product / product.diagonal().mean(), dtype=np.float64)


@lru_cache(maxsize=8)
def inverse_operator(labels: tuple[str, ...]) -> Any:
    """MNE's prepared eLORETA operator for electrodes of these 10-10 names, average reference."""
    import mne

    info, _ = template(labels)
    raw = mne.io.RawArray(np.zeros((len(labels), 2)), info, verbose="error").set_eeg_reference(projection=True, verbose="error")
    forward = forward_solution(raw.info)
    noise = mne.make_ad_hoc_cov(raw.info, verbose="error")
    operator = mne.minimum_norm.make_inverse_operator(
        raw.info, forward, noise, loose=1.0, depth=None, fixed=False, verbose="error"
    )
    return mne.minimum_norm.prepare_inverse_operator(
        operator, nave=1, lambda2=LAMBDA2, method="eLORETA", verbose="error"
    ), raw.info


def kernel(labels: tuple[str, ...]) -> tuple[F64, F64]:
    """Current density per volt and where: (n_sources, 3, n_channels), and (n_sources, 3) meters in the head frame."""
    import mne

    operator, info = inverse_operator(labels)
    unit = mne.EvokedArray(np.eye(len(labels)), info, tmin=0.0, verbose="error")
    estimate = mne.minimum_norm.apply_inverse(
        unit, operator, lambda2=LAMBDA2, method="eLORETA", pick_ori="vector", prepared=True, verbose="error"
    )
    source = operator["src"][0]
    return np.asarray(estimate.data, dtype=np.float64), np.asarray(source["rr"][source["vertno"]], dtype=np.float64)


@lru_cache(maxsize=8)
def power_forms(labels: tuple[str, ...], roi: Roi) -> tuple[F64, F64, int]:
    """Quadratic forms Q, Q_all with trace(Q C) the mean power of the region's and of all sources for a channel covariance C.

    Returns
    -------
    (n_channels, n_channels) float64, the same for all sources, and the number of sources in the region.

    Raises
    ------
    ValueError
        If no source lies in the region.
    """
    import mne

    weights, where = kernel(labels)
    _, montage = template(labels)
    to_head = mne.channels.compute_native_head_t(montage)
    center = mne.transforms.apply_trans(to_head, np.array(roi.center_mm) / 1000.0)
    inside = np.linalg.norm(where - center, axis=1) <= roi.radius_mm / 1000.0
    if not inside.any():
        raise ValueError(f"no source within {roi.radius_mm:g} mm of {roi.center_mm}")

    def form(part: F64) -> F64:
        flat = part.reshape(-1, part.shape[-1])
        return np.asarray(flat.T @ flat / len(part), dtype=np.float64)

    return form(weights[inside]), form(weights), int(inside.sum())

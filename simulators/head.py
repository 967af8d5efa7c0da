"""The virtual head: what a region of cortex, an eye or a stimulation current does at the electrodes (made by `make_head.py`).

One matrix serves both directions. A region's dipole p (nA m, along its outward normal) gives potentials L p at the electrodes; by
reciprocity a current I that enters at one electrode and leaves at another gives that region the normal field -(L[in] - L[out]) I.
Only numpy is needed here.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from eegloop.signal import F64

LINKED_EARS = "A1A2"
AVERAGE = "average"


@dataclass(frozen=True, slots=True)
class Head:
    """Arrays of `head.npz`, potentials against infinity.

    Attributes
    ----------
    electrodes, regions : tuple of str
        10-20 / 10-10 names; names of the cortical sources.
    electrode_positions_m : (n_electrodes, 3) float64
        x right, y front, z up, from the sphere's center.
    region_positions_m : (n_regions, 3) float64
    lead_field_uv_per_nam : (n_regions, n_electrodes) float64
        Microvolt per nanoampere meter of a region's dipole along its outward normal.
    blink_uv_per_nam, saccade_uv_per_nam : (n_electrodes,) float64
        The same for both eyes' dipole forward (a closing lid) and to the right (gaze right).
    scalp_mv_per_ma : (n_electrodes, n_electrodes) float64
        Millivolt at an electrode (row) per milliampere into a pad (column); only differences of columns mean something.
    """

    electrodes: tuple[str, ...]
    electrode_positions_m: F64
    regions: tuple[str, ...]
    region_positions_m: F64
    lead_field_uv_per_nam: F64
    blink_uv_per_nam: F64
    saccade_uv_per_nam: F64
    scalp_mv_per_ma: F64

    def electrode(self, name: str) -> int:
        """Number of an electrode.

        Raises
        ------
        ValueError
            If there is none of that name; the message names the nearest.
        """
        if name in self.electrodes:
            return self.electrodes.index(name)
        folded = {known.lower(): known for known in self.electrodes}
        near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.3)
        hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
        raise ValueError(f"electrode {name!r}: the virtual head has none of that name{hint} (10-10 names, e.g. Fp1 F3 Cz P4 O2)")

    def region(self, name: str) -> int:
        """Number of a region; raises ValueError naming all."""
        if name not in self.regions:
            raise ValueError(f"region {name!r}: the virtual head has {', '.join(self.regions)}")
        return self.regions.index(name)

    def referenced(self, potentials: F64, montage: tuple[str, ...], reference: str) -> F64:
        """Potentials (..., n_electrodes) of the whole head -> (..., len(montage)) against a reference.

        `reference` is an electrode, "A1A2" (linked ears) or "average" (of the montage).
        """
        picked = potentials[..., [self.electrode(name) for name in montage]]
        if reference == AVERAGE:
            level = picked.mean(axis=-1, keepdims=True)
        elif reference == LINKED_EARS:
            level = potentials[..., [self.electrode("A1"), self.electrode("A2")]].mean(axis=-1, keepdims=True)
        else:
            level = potentials[..., [self.electrode(reference)]]
        return np.ascontiguousarray(picked - level)

    def mixing(self, montage: tuple[str, ...], reference: str) -> F64:
        """(n_regions, len(montage)) microvolt per nA m."""
        return self.referenced(self.lead_field_uv_per_nam, montage, reference)

    def normal_field_v_per_m(self, anode: str, cathode: str) -> F64:
        """(n_regions,) V/m per mA along each region's outward normal; negative below the anode (current flows inward there)."""
        volt_per_am = (
            self.lead_field_uv_per_nam[:, self.electrode(anode)] - self.lead_field_uv_per_nam[:, self.electrode(cathode)]
        )
        # 1 uV per nA m = 1000 V per A m, and 1 mA = 1e-3 A: the factors cancel
        return np.asarray(-volt_per_am)

    def scalp_potential_uv(self, anode: str, cathode: str, montage: tuple[str, ...], reference: str) -> F64:
        """(len(montage),) microvolt per mA that the stimulation current itself leaves at the electrodes."""
        per_ma = self.scalp_mv_per_ma[:, self.electrode(anode)] - self.scalp_mv_per_ma[:, self.electrode(cathode)]
        return self.referenced(per_ma * 1000.0, montage, reference)

    def closeness(self, electrode: str, width_m: float = 0.03) -> F64:
        """(n_regions,) 0-1: Gaussian fall with the distance from the electrode under a coil, 1 at the nearest region."""
        distance = np.linalg.norm(self.region_positions_m - self.electrode_positions_m[self.electrode(electrode)], axis=1)
        return np.asarray(np.exp(-(distance**2 - distance.min() ** 2) / (2 * width_m**2)))


@lru_cache(maxsize=1)
def load_head() -> Head:
    """The head of this package; read once."""
    with np.load(Path(__file__).with_name("head.npz")) as file:
        numbers = {name: np.asarray(file[name], dtype=np.float64) for name in file.files if name not in ("electrodes", "regions")}
        return Head(
            electrodes=tuple(str(name) for name in file["electrodes"]),
            regions=tuple(str(name) for name in file["regions"]),
            **numbers,
        )

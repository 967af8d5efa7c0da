"""The virtual head: its lead field against MNE and against Laplace's equation solved the other way round."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.head import load_head

HEAD = load_head()


@pytest.fixture(scope="module")
def make_head():
    """The script that made the file; it needs MNE."""
    pytest.importorskip("mne")
    from simulators import make_head

    return make_head


def test_the_stored_lead_field_is_what_mne_computes(make_head) -> None:
    directions = make_head.electrode_directions()
    np.testing.assert_allclose(directions * make_head.RADIUS_M, HEAD.electrode_positions_m, atol=1e-6)
    for region in (make_head.REGIONS[0], make_head.REGIONS[4], make_head.REGIONS[-1]):
        direction = sum(directions[make_head.ELECTRODES.index(name)] for name in region.below)
        points = make_head.patch(direction / np.linalg.norm(direction), region.depth, region.spread_m)
        normals = points / np.linalg.norm(points, axis=1, keepdims=True)
        fresh = make_head.dipole_potentials_uv(points, normals, directions).mean(axis=0)
        stored = HEAD.lead_field_uv_per_nam[HEAD.region(region.name)]
        np.testing.assert_allclose(stored, fresh, rtol=1e-4, atol=1e-6)


def test_reciprocity_current_into_electrodes_gives_the_field_that_the_lead_field_says(make_head) -> None:
    """The potential of currents into the scalp, from the shells' series, differentiated inside the brain: no dipole anywhere."""
    directions = make_head.electrode_directions()
    _, brain = make_head.shell_coefficients()
    anode, cathode = (directions[make_head.ELECTRODES.index(name)] for name in ("F3", "P4"))
    scale = 1e-3 / (4 * np.pi * make_head.CONDUCTIVITY_S_PER_M[-1] * make_head.RADIUS_M)  # 1 mA
    n = np.arange(make_head.N_TERMS + 1)
    expected = []
    for region in make_head.REGIONS:
        direction = sum(directions[make_head.ELECTRODES.index(name)] for name in region.below)
        points = make_head.patch(direction / np.linalg.norm(direction), region.depth, region.spread_m)
        unit = points / np.linalg.norm(points, axis=1, keepdims=True)
        difference = make_head.legendre(unit @ anode) - make_head.legendre(unit @ cathode)
        slope = (2 * n + 1) * brain * n * region.depth ** (n - 1.0) / make_head.RADIUS_M
        expected.append(-scale * (slope @ difference).mean())
    got = HEAD.normal_field_v_per_m("F3", "P4")
    np.testing.assert_allclose(got, expected, atol=0.02 * np.abs(expected).max())


def test_shells_of_one_conductivity_are_a_homogeneous_sphere(make_head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_head, "CONDUCTIVITY_S_PER_M", (0.33, 0.33, 0.33, 0.33))
    scalp, brain = make_head.shell_coefficients()
    n = np.arange(1, 60)
    np.testing.assert_allclose(scalp[1:60], 1 / n, rtol=1e-9)
    np.testing.assert_allclose(brain[1:60], 1 / n, rtol=1e-9)


def test_one_milliampere_between_f3_and_f4_gives_tenths_of_a_volt_per_meter_below_the_pads_only() -> None:
    field = dict(zip(HEAD.regions, HEAD.normal_field_v_per_m("F3", "F4"), strict=True))
    assert -0.45 < field["frontal_left"] < -0.15, "current flows inward below the anode"
    assert 0.15 < field["frontal_right"] < 0.45
    assert abs(field["occipital_left"]) < 0.05
    swapped = HEAD.normal_field_v_per_m("F4", "F3")
    np.testing.assert_allclose(swapped, -HEAD.normal_field_v_per_m("F3", "F4"))


def test_the_scalp_transfer_is_reciprocal_and_falls_with_distance() -> None:
    np.testing.assert_allclose(HEAD.scalp_mv_per_ma, HEAD.scalp_mv_per_ma.T, atol=1e-4)
    near, far = HEAD.scalp_potential_uv("F3", "F4", ("AF3", "O1"), "Cz")
    assert near > 10_000 and abs(far) < near / 4


def test_references() -> None:
    potentials = np.arange(float(len(HEAD.electrodes)))
    montage = ("Fp1", "Cz", "O2")
    assert abs(HEAD.referenced(potentials, montage, "average").sum()) < 1e-12
    assert HEAD.referenced(potentials, montage, "Cz")[1] == 0.0
    ears = (potentials[HEAD.electrode("A1")] + potentials[HEAD.electrode("A2")]) / 2
    assert HEAD.referenced(potentials, montage, "A1A2")[0] == potentials[HEAD.electrode("Fp1")] - ears


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'Fp1'"):
        HEAD.electrode("FP1")
    with pytest.raises(ValueError, match="frontal_left"):
        HEAD.region("left")


def test_blink_topography_is_frontal_and_both_sided() -> None:
    blink = HEAD.referenced(HEAD.blink_uv_per_nam, ("Fp1", "Fp2", "Fz", "O1"), "A1A2")
    assert blink[0] == pytest.approx(blink[1], rel=0.05)
    assert 0.2 < blink[2] / blink[0] < 0.45 and blink[3] / blink[0] < 0.1
    gaze = HEAD.referenced(HEAD.saccade_uv_per_nam, ("F7", "F8"), "A1A2")
    assert gaze[1] > 0 and gaze[0] == pytest.approx(-gaze[1], rel=0.05)

"""The vetting of one biomarker: what may move a dose, and why not."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from control.watch import DROWSINESS, DROWSY_SHARE, FROZEN_HOPS, FROZEN_HOPS_HZ, Watch, look
from eegloop.signal import BiomarkerColumn, Biomarkers, Grade
from tests.unit.test_control_seat import rows

ALPHA = ("relative_power.alpha", "F3")


def test_a_good_value_is_usable_and_fresh_once() -> None:
    watch, reading = look(Watch(), rows(0.2, 7, 50.0), *ALPHA)
    assert reading == dataclasses.replace(reading, value=0.2, unit="1", window_s=2.0, t_s=50.0, fresh=True, reason="")
    assert watch == Watch(hop=7, value=0.2, same_n=1, usable=True, good_s=50.0)
    again, second = look(watch, rows(0.2, 7, 50.0), *ALPHA)
    assert again == watch and not second.fresh and second.value == 0.2


def test_nothing_yet_and_a_biomarker_that_is_not_computed() -> None:
    watch, reading = look(Watch(usable=True), None, *ALPHA)
    assert not watch.usable and reading.value is None and reading.reason == "no biomarkers yet"
    watch, reading = look(Watch(usable=True), rows(0.2, 1, 1.0), "faa", "n/a")
    assert not watch.usable and reading.value is None and "no biomarker faa@n/a" in reading.reason


@pytest.mark.parametrize("grade", [Grade.SUSPECT, Grade.INVALID])
def test_only_good_moves_a_dose(grade: Grade) -> None:
    before = Watch(hop=1, value=0.2, same_n=1, usable=True, good_s=49.0)
    watch, reading = look(before, rows(0.2, 7, 50.0, grade, reason="blink"), *ALPHA)
    assert reading.value is None and reading.reason == "blink" and not watch.usable and watch.good_s == 49.0
    assert look(before, rows(0.2, 7, 50.0, grade), *ALPHA)[1].reason == "not good enough to act on"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 101.0, -101.0])
def test_numbers_no_head_makes(value: float) -> None:
    watch, reading = look(Watch(), rows(value, 1, 1.0), *ALPHA)
    assert reading.value is None and reading.reason and not watch.usable
    assert (watch.value is None) == (not math.isfinite(value))


def test_units_that_are_not_known_are_taken_if_finite_and_not_absurd() -> None:
    row = rows(5e8, 1, 1.0)
    odd = dataclasses.replace(row, columns=(dataclasses.replace(row.columns[0], unit="dB"), *row.columns[1:]))
    assert look(Watch(), odd, *ALPHA)[1].value == 5e8
    assert look(Watch(), dataclasses.replace(odd, values=np.full(3, 2e9)), *ALPHA)[1].value is None


def test_a_window_without_a_time() -> None:
    assert look(Watch(), rows(0.2, 1, math.nan), *ALPHA)[1].reason == "its time is not a number"


def test_frozen_is_the_same_number_many_times_and_ends_with_another() -> None:
    watch = Watch()
    for hop in range(1, FROZEN_HOPS):
        watch, reading = look(watch, rows(0.2, hop, float(hop)), *ALPHA)
        assert reading.value == 0.2
    for hop in range(FROZEN_HOPS, FROZEN_HOPS + 5):
        watch, reading = look(watch, rows(0.2, hop, float(hop)), *ALPHA)
        assert reading.value is None and "frozen" in reading.reason
    watch, reading = look(watch, rows(0.21, 99, 99.0), *ALPHA)
    assert reading.value == 0.21


def test_a_peak_frequency_may_repeat_for_longer() -> None:
    watch = Watch()
    for hop in range(1, FROZEN_HOPS_HZ + 1):
        watch, reading = look(watch, rows(10.0, hop, float(hop)), "iaf.peak", "n/a")
        assert (reading.value is None) == (hop == FROZEN_HOPS_HZ)


def beside_vigilance(share: float, grade: Grade) -> Biomarkers:
    """A good row of a line that computes vigilance, too."""
    row = rows(0.2, 7, 50.0)
    return dataclasses.replace(
        row,
        columns=(*row.columns, BiomarkerColumn(*DROWSINESS, "1", 30.0)),
        values=np.append(row.values, share),
        grades=np.append(row.grades, np.uint8(grade)),
        reasons=(*row.reasons, ""),
    )


def test_a_drowsy_persons_biomarkers_move_nothing() -> None:
    watch, reading = look(Watch(good_s=49.0), beside_vigilance(DROWSY_SHARE, Grade.GOOD), *ALPHA)
    assert reading.value is None and reading.reason == "the person seems drowsy (slow waves in 50 % of the last clean seconds)"
    assert not watch.usable and watch.good_s == 49.0, "and the wait for a usable one goes on, to the fallback"
    for share, grade in ((0.49, Grade.GOOD), (0.9, Grade.SUSPECT), (math.nan, Grade.INVALID), (math.nan, Grade.GOOD)):
        assert look(Watch(), beside_vigilance(share, grade), *ALPHA)[1].value == 0.2
    assert look(Watch(), beside_vigilance(0.9, Grade.GOOD), *DROWSINESS)[1].value == 0.9, "drowsiness itself can be a target"

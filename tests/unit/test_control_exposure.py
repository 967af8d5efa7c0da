"""S7: a sample counts as clean only if it lies in zero output that the device confirmed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from control.exposure import (
    GUARD_S,
    ON_TIME_S,
    PULSE_AFTER_S,
    PULSE_BEFORE_S,
    PULSE_GRACE_S,
    SILENT_AFTER_S,
    UNPROVEN_AFTER_S,
    Exposure,
    came,
    clean,
    commanded,
    heard,
    pulsed,
    silence,
)
from eegloop.signal import Chunk
from eegloop.stim import StimState

RATE = 250.0


def state(at_s: float, zero_since_s: float = 0.0, **fields: object) -> StimState:
    base = StimState(
        boot_ns=round(at_s * 1e9), mode="armed", reason="", session="s", granted_ma=0.0, commanded_ma=0.0, confirmed_ma=0.0,
        confirmed_ns=1, zero_since_ns=round(zero_since_s * 1e9), frequency_hz=0.0, ceiling_ma=1.0, lease_left_ms=400, sequence=1,
        refused=0, refusal="", delivered_uc=0, delivered_ms=0, device="simulated", readback="measured",
    )  # fmt: skip
    return replace(base, **fields)  # type: ignore[arg-type]


def chunk(t0_s: float, n: int = 50) -> Chunk:
    return Chunk(np.zeros((n, 2), np.float32), 0, t0_s, t0_s + n / RATE)


def test_before_anything_was_commanded_everything_is_clean() -> None:
    assert clean(Exposure(), chunk(3.0), RATE) is None


def test_after_a_command_nothing_is_clean_until_zero_is_confirmed_after_it() -> None:
    exposure = commanded(heard(Exposure(), state(9.9, zero_since_s=1.0), 0.0), 10.0)
    mask = clean(exposure, chunk(10.0), RATE)
    assert mask is not None and not mask.any()
    stale = heard(exposure, state(10.01, zero_since_s=1.0), 0.0)
    assert math.isinf(stale.clean_from_s), "a zero from before the command proves nothing"
    flowing = heard(exposure, state(11.0, confirmed_ma=0.4, commanded_ma=0.4, granted_ma=0.4), 0.0)
    assert math.isinf(flowing.clean_from_s)
    over = heard(flowing, state(20.0, zero_since_s=19.5), 0.0)
    mask = clean(over, chunk(19.5, 100), RATE)
    assert mask is not None
    first = int(np.argmax(mask))
    assert first == math.ceil(GUARD_S * RATE) and mask[first:].all()
    assert clean(over, chunk(19.5 + GUARD_S + 1e-6), RATE) is None


@pytest.mark.parametrize(
    "fields",
    [{"granted_ma": 0.1}, {"commanded_ma": 0.1}, {"confirmed_ma": None}, {"confirmed_ma": 0.1}, {"confirmed_ma": math.nan}],
)
def test_zero_that_is_not_wholly_zero_is_no_zero(fields: dict[str, object]) -> None:
    exposure = heard(commanded(Exposure(), 3.0), state(5.0, zero_since_s=4.0, **fields), 0.0)
    assert math.isinf(exposure.clean_from_s)


def test_without_a_device_a_headset_can_be_watched_until_something_is_commanded() -> None:
    alone = heard(Exposure(), state(5.0, confirmed_ma=None), 0.0)
    assert clean(alone, chunk(5.0), RATE) is None
    mask = clean(commanded(alone, 6.0), chunk(6.0), RATE)
    assert mask is not None and not mask.any()


def test_a_command_that_was_never_taken_frees_the_signal_again_later() -> None:
    exposure = commanded(Exposure(), 10.0)
    exposure = heard(exposure, state(10.0 + UNPROVEN_AFTER_S, zero_since_s=1.0), 0.0)
    assert math.isinf(exposure.clean_from_s)
    exposure = heard(exposure, state(10.01 + UNPROVEN_AFTER_S, zero_since_s=1.0), 0.0)
    assert exposure.clean_from_s == 10.0 + UNPROVEN_AFTER_S + GUARD_S


def test_a_silent_interlock_leaves_nothing_clean() -> None:
    exposure = heard(commanded(Exposure(), 0.5), state(5.0, zero_since_s=1.0), 0.0)
    assert silence(exposure, 5.0 + SILENT_AFTER_S) == exposure
    assert math.isinf(silence(exposure, 5.01 + SILENT_AFTER_S).clean_from_s)
    idle = heard(Exposure(), state(5.0, zero_since_s=1.0), 0.0)
    assert silence(idle, 1e9) == idle, "nothing was ever commanded, so nothing can flow"


def test_the_two_clocks_are_compared_on_one() -> None:
    exposure = heard(Exposure(), state(105.0, zero_since_s=104.0), -100.0)
    assert exposure.clean_from_s == pytest.approx(4.0 + GUARD_S) and exposure.heard_s == pytest.approx(5.0)


def test_what_a_pulse_can_touch_is_not_clean_and_what_it_cannot_is() -> None:
    exposure = heard(pulsed(Exposure(), 10.0), state(10.11, 1.0), 0.0)
    mask = clean(exposure, chunk(9.9, 125), RATE)
    times_s = 9.9 + np.arange(125) / RATE
    assert mask is not None
    np.testing.assert_array_equal(mask, (times_s < 10.0 - PULSE_BEFORE_S) | (times_s > 10.0 + PULSE_AFTER_S))
    assert clean(exposure, chunk(9.7), RATE) is None and clean(exposure, chunk(10.0 + PULSE_AFTER_S + 0.001), RATE) is None


def test_from_its_deadline_on_nothing_is_clean_until_a_pulse_is_over_for_sure() -> None:
    """The interlock hangs in the very write of the pulse: nobody knows when it comes, and it says nothing until then."""
    exposure = pulsed(heard(Exposure(), state(9.99, 1.0), 0.0), 10.0)
    assert clean(exposure, chunk(9.78), RATE) is None
    for t0_s in (10.0 + PULSE_AFTER_S + 0.1, 60.0):
        mask = clean(exposure, chunk(t0_s), RATE)
        assert mask is not None and not mask.any()
    for at_s, settled in ((10.0, False), (9.999 + PULSE_GRACE_S, False), (10.001 + PULSE_GRACE_S, True)):
        mask = clean(heard(exposure, state(at_s, 1.0), 0.0), chunk(10.0 + PULSE_AFTER_S + 0.1), RATE)
        assert (mask is None) is settled, "its command is no longer good, and what was written before is over"
    mask = clean(pulsed(heard(exposure, state(11.0, 1.0), 0.0), 12.0), chunk(11.9), RATE)
    assert mask is not None and mask[:20].all() and not mask[23:].any(), (
        "the next one, two seconds ahead, costs nothing before it"
    )


def test_when_a_late_pulse_came_is_not_clean_either() -> None:
    exposure = heard(pulsed(Exposure(), 10.0), state(10.71, 1.0), 0.0)
    assert clean(exposure, chunk(10.6), RATE) is None
    for at_s, touched in ((10.6, True), (10.0 + ON_TIME_S, False), (10.0, False), (9.0, False)):
        mask = clean(came(exposure, at_s), chunk(10.6), RATE)
        assert (mask is not None) is touched, at_s
    assert came(Exposure(), 10.6) == Exposure(), "a pulse that this line did not ask for is cut out of its signal only"
    two = pulsed(exposure, 10.65)
    assert came(two, 10.6).pulses_s == (10.0, 10.65, 10.6), "the next one may have been asked for before it is known"


def test_samples_that_come_late_still_meet_the_pulses_of_their_time() -> None:
    """As many pulses as can be asked for, ten a second, and up to 2 s ahead: a chunk that comes a second late is touched all the same."""
    exposure = Exposure()
    for i in range(100):
        exposure = pulsed(exposure, i * 0.1)
    mask = clean(exposure, chunk(9.9 - 3.0), RATE)
    assert mask is not None and not mask.any()
    assert len(exposure.pulses_s) < 50, "and no more are kept than that takes"

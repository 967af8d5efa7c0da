"""Whatever an interlock says and whatever is ordered: what a blinded session is told hides no stop, no fault and no output for longer than its way down."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from control.exposure import AMISS_MA, ZERO_MA
from control.would_be import END, FALLBACK, TOO_LATE, begin, go_down, halt, hear, take_level
from tests.unit.test_control_seat import demo_prescription, state_of

S = 1_000_000_000
SIGNED = replace(demo_prescription("p1", 0.0), fallback_ms=2_000)
DOWN_S = SIGNED.amplitude_ua / SIGNED.ramp_ua_per_s  # the longest way down
CONFIRMED_MA = st.sampled_from([0.0, 0.0, 0.0, 0.004, 0.02, 0.05, 0.06, 1.0, -1.0, None, float("nan"), float("inf")])
RUNNING = [("said", "armed", 0.0), ("set", "stimulate", SIGNED.amplitude_ma), ("time", 10.0, None)]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("said"), st.sampled_from(["armed", "armed", "fallback", "stopped", "stopped"]), CONFIRMED_MA),
        st.tuples(st.just("set"), st.sampled_from(["stimulate", "sense"]), st.floats(0.0, SIGNED.amplitude_ma)),
        st.tuples(st.just("down"), st.sampled_from([END, FALLBACK]), st.none()),
        st.tuples(st.just("said"), st.just("stopped"), CONFIRMED_MA),
        st.tuples(st.just("halt"), st.none(), st.none()),
        st.tuples(st.just("trip"), st.booleans(), st.none()),
        st.tuples(st.just("anew"), st.booleans(), st.none()),
        st.tuples(st.just("time"), st.floats(0.0, 30.0), st.none()),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=200)
@given(st.booleans(), st.sampled_from(["lower_only", "within_bounds"]), STEPS)
def test_nothing_that_is_true_and_matters_stays_hidden(delivers: bool, authority: str, steps: list[tuple[str, Any, Any]]) -> None:
    would = begin(replace(SIGNED, authority=authority), delivers)
    now_s, halts, session, down_s = 10.0, 0, "s1", 0.0
    true, told = state_of(), state_of()
    for what, how, more in RUNNING + steps:
        match what:
            case "set":
                would = take_level(would, how, more, round(now_s * S))
            case "down":
                down_s = now_s if not would.ending else down_s
                would = go_down(would, how, round(now_s * S))
            case "halt":
                would = halt(would)
            case "trip":
                halts += 1
            case "anew":  # the interlock was started anew, or another session is armed
                halts, session = (0, "") if how else (halts, session + "x")
            case "time":
                now_s += how
            case "said":
                now_s += 0.05
                zero_since_ns = 1 if more is not None and abs(more) <= ZERO_MA else 0
                began = would.running
                true = replace(
                    state_of(), boot_ns=round(now_s * S), mode=how, reason=how, session=session, halts=halts, confirmed_ma=more,
                    zero_since_ns=zero_since_ns, refusal=f"mode: {TOO_LATE}" if how == "stopped" else "lockout: too soon",
                )  # fmt: skip
                would, told = hear(would, true)
                assert told.zero_since_ns == 0 or true.zero_since_ns > 0, "a zero that the device did not confirm"
                same = told.confirmed_ma is true.confirmed_ma or told.confirmed_ma == true.confirmed_ma
                assert (
                    told.confirmed_ma is None or same or (told.confirmed_ma == 0.0 and abs(true.confirmed_ma or 0.0) <= ZERO_MA)
                )
                assert told.halts >= true.halts and told.refusal in ("", true.refusal) and (told.refusal or how == "stopped")
                assert told.mode == "stopped" or true.mode != "stopped" or began, "nothing ran"
                if true.mode == "stopped" and told.mode != "stopped":  # only a sham arm's way down is told on, and not for long
                    assert not delivers and would.ending and not would.halting
                    assert true.confirmed_ma is not None and abs(true.confirmed_ma) <= AMISS_MA
                    assert true.halts == would.halts and now_s - down_s <= DOWN_S + 1.0
                if delivers:
                    assert told.mode == true.mode
                if told.mode == "stopped":
                    assert same, "stopped: what the device says is told"

"""Mutants that change nothing anybody could observe, each with the reason. `module:function: what` as the report names them."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {
    "interlock.judge:Judge.__init__: `0`: 0 -> 1 (#6)": "the time of the arming is looked at only while armed, and each arming sets it",
    "interlock.judge:Judge._arm: `0`: 0 -> 1": "no pulse is due in the first nanosecond after the machine's start",
    "interlock.judge:Judge.__init__: `0`: 0 -> 1 (#5)": "the lease's end is looked at only while armed, and each arming sets it",
    "interlock.refusals:budget_gone: `0.0`: 0.0 -> 1.0": "no session is signed for less than 1,000 ms, so 1 ms used before it begins refuses nothing",
    "interlock.limits:device_amplitude_ma: `value >= 0.0`: GtE -> Gt": "a device that states zero gives zero, and so does one whose statement is refused",
    "eegloop.single:only_one: `time.sleep(0.02)`: statement removed": "it asks for the lock more often and gets it no sooner",
    "eegloop.single:only_one: `0.02`: 0.02 -> 1.02": "it asks for the lock less often within the same time",
    "interlock.log:LogWriter._run: `self._wake.clear()`: statement removed": "the thread looks again at once: more work, no other result",
    "control.envelope:_caps: `cap_ma >= 0.0`: GtE -> Gt": "a cap of exactly zero becomes zero either way",
    "control.envelope:_whole_ua: `amplitude_ma <= 0.0`: LtE -> Lt": "exactly zero, rounded down to whole microamperes, is zero",
}

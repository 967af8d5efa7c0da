"""Mutants that change nothing anybody could observe, each with the reason. `module:function: what` as the report names them."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {
    "interlock.judge:Judge.__init__: `0`: 0 -> 1 (#6)": "the time of the arming is looked at only while armed, and each arming sets it",
    "interlock.judge:Judge._arm: `0`: 0 -> 1 (#2)": "no pulse is due in the first nanosecond after the machine's start",
    "interlock.judge:Judge.__init__: `0`: 0 -> 1 (#5)": "the lease's end is looked at only while armed, and each arming sets it",
    "interlock.refusals:budget_gone: `0.0`: 0.0 -> 1.0": "no session is signed for less than 1,000 ms, so 1 ms used before it begins refuses nothing",
    "interlock.limits:device_amplitude_ma: `value >= 0.0`: GtE -> Gt": "a device that states zero gives zero, and so does one whose statement is refused",
    "eegloop.single:only_one: `time.sleep(0.02)`: statement removed": "it asks for the lock more often and gets it no sooner",
    "eegloop.single:only_one: `0.02`: 0.02 -> 1.02": "it asks for the lock less often within the same time",
    "interlock.log:LogWriter._run: `self._wake.clear()`: statement removed": "the thread looks again at once: more work, no other result",
    "interlock.ed25519:_decode: `3`: 3 -> 4": "p + 3 is a multiple of 8, so p + 4 divided by 8 and rounded down is the same number",
    "interlock.ed25519:verify: `_P - key[3]`: Sub -> Add": "a sum computes its fourth coordinate anew and uses those it is given only squared or times zero",
    "interlock.ed25519:verify: `s >= _ORDER`: GtE -> Gt": "nobody can make a signature whose s is the order: R would have to be a multiple of the key by its own hash",
    "interlock.keys:_go_on_from: `number > kept`: Gt -> GtE": "the number that is kept already is written once more",
    "interlock.anchor:Anchor.move: `0`: 0 -> 1": "the wall clock is past the first second of 1970",
    "interlock.log:LogWriter._run: `0.2 if self._error else None`: condition True": "the thread looks again five times a second: more work, no other result",
    "interlock.loop:Loop._drain_signals: `4096`: 4096 -> 4097": "there are not so many signals, and what is left wakes the next turn",
    "interlock.loop:Loop._fire_on_time: `boot_ns() < fire_ns`: Lt -> LtE": "it looks at the clock once more in the very nanosecond of the pulse",
    "interlock.loop:Loop._tick: `if fault != self.judge.log_fault:`: condition True": "the same fault said again finds the judge stopped already",
    "interlock.loop:_listen: `512`: 512 -> 513": "one more may wait to be accepted",
    "control.prescription:_scalar: `loader.dispose()`: statement removed": "a loader that nobody holds is freed anyway",
    "control.prescription:parse_yaml: `True`: True -> False": "these bytes are only read again at once, in any order of their fields",
    "control.prescription:parse_yaml: `False`: False -> True": "what was read has whole numbers and texts only",
    "control.prescription:_with_line: `found.group(1) if found is not None else ''`: condition True": "there is no line where nothing was found",
    "control.envelope:_caps: `cap_ma >= 0.0`: GtE -> Gt": "a cap of exactly zero becomes zero either way",
    "control.envelope:_whole_ua: `amplitude_ma <= 0.0`: LtE -> Lt": "exactly zero, rounded down to whole microamperes, is zero",
}

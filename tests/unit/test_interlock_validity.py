"""What flows comes down by the prescription's own end, and when nobody stands behind its signature any more."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import pytest

from interlock.effects import Refusal
from interlock.refusals import MS
from interlock.signed import read_prescription
from interlock.vouched import UNSEEN, WITHIN_NS, Vouched
from tests.coil_bench import Coil
from tests.interlock_bench import WALL_S, Seat, Signer, stopped, valid_now, wait_until, write_keys, write_signed
from tests.still_loop import Still

END = "the prescription ends at 2027-01-15 08:00:30 UTC"
"""As the page says it; `WALL_S` is 2027-01-15 08:00:00 UTC."""
UNTIL_S = WALL_S + 30
REVOKED = "the signature no longer counts (signed.signatures[0].key (Dr A): is revoked)"


# ---- the prescription's own end --------------------------------------------------------------------------------------


def test_the_ramp_down_begins_so_early_that_it_is_over_at_the_prescriptions_end() -> None:
    seat = Seat(valid_until_s=UNTIL_S, ramp_ua_per_s=100)
    seat.run_at(0.5)
    while not seat.judge.ending:
        seat.pass_ms(10)
    left_s = UNTIL_S - seat.wall_ns / 1e9
    assert 5.0 <= left_s <= 5.1, "0.5 mA at 0.1 mA/s, and one longest step"
    assert seat.judge.reason == f"on the way down: {END}" and seat.mode == "armed"
    seat.jump(1)
    answer = seat.send("set", amplitude_ma=0.5)
    assert answer is not None and (answer["field"], answer["reason"]) == ("mode", "already on the way down")
    before = len(seat.outputs)
    while seat.mode == "armed":
        seat.pass_ms(10)
    assert seat.judge.reason == END and seat.wall_ns / 1e9 <= UNTIL_S
    down = [ma for _, ma, _, _ in seat.outputs[before:]]
    assert all(0.0 <= a - b <= 0.00101 for a, b in itertools.pairwise(down)), "the signed ramp, not a step"
    stopped(seat, END)


def test_nothing_is_armed_past_the_end() -> None:
    seat = Seat(valid_until_s=UNTIL_S)
    seat.pass_ms(30_010, heartbeats=False)
    answer = seat.send("arm")
    assert answer is not None and answer["field"] == "prescription.valid_until_s"


def test_at_zero_it_is_over_at_once_and_nothing_is_raised_any_more() -> None:
    seat = Seat(valid_until_s=UNTIL_S)
    seat.arm()
    seat.pass_ms(29_900)
    assert seat.mode == "armed"
    seat.pass_ms(60)
    answer = seat.send("set", amplitude_ma=0.5)
    assert answer is not None and answer["field"] == "mode" and seat.judge.level_ma == seat.judge.target_ma == 0.0
    stopped(seat, END)


def test_it_is_over_one_longest_step_before_the_end_and_not_before_that() -> None:
    seat = Seat(valid_until_s=UNTIL_S)
    seat.arm()
    seat.pass_ms(UNTIL_S * 1_000 - 50 - seat.wall_ns // MS)
    assert seat.wall_ns == (UNTIL_S * 1_000 - 50) * MS and seat.mode == "armed"
    seat.pass_ms(1)
    stopped(seat, END)


@pytest.mark.parametrize("part_ms", [-900, 0, 900])
def test_a_wall_clock_set_back_prolongs_nothing_and_one_set_forward_ends_it(part_ms: int) -> None:
    """Within the second by which the two clocks may part; beyond it they stop everything (S3.clocks)."""
    seat = Seat(valid_until_s=UNTIL_S)
    seat.run_at(0.2)
    seat.wall_ns += part_ms * MS
    began_ns = seat.now_ns
    while not seat.judge.ending:
        seat.pass_ms(10)
    by_boot_s = WALL_S + (seat.now_ns - 5_000_000_000_000) / 1e9
    assert seat.now_ns > began_ns and 2.0 <= UNTIL_S - by_boot_s - max(0, part_ms) / 1000 <= 2.1


def test_an_hour_or_a_day_is_a_trip_in_either_direction() -> None:
    for jump_s in (3_600, 86_400, -3_600, -86_400):
        seat = Seat()
        seat.run_at(0.2)
        seat.wall_ns += jump_s * 10**9
        seat.pass_ms(10)
        stopped(seat, "wall clock and boot clock part by more than 1 s")


def test_a_coil_is_disarmed_at_the_end() -> None:
    coil = Coil(valid_until_s=UNTIL_S).ready()
    coil.ask(coil.now_ns + 100 * MS)
    coil.pass_ms(29_850)
    assert coil.mode == "armed" and len(coil.fires_ns) == 1
    coil.pass_ms(100)
    assert coil.mode == "stopped" and coil.judge.reason == END and coil.orders[-1][1] == "disarm"


# ---- nobody stands behind it any more --------------------------------------------------------------------------------


def withdrawn(seat: Seat, reason: str) -> None:
    seat.perform(seat.judge.tick(seat.now_ns, seat.wall_ns, seat.monotonic_ns, reason))


def test_a_withdrawn_signature_falls_back_from_wherever_it_is() -> None:
    seat = Seat(fallback_ms=2000)
    seat.run_at(0.5)
    withdrawn(seat, REVOKED)
    assert seat.mode == "fallback" and seat.judge.reason == f"on the way down: fallback: {REVOKED}"
    answer = seat.send("set", amplitude_ma=0.5)
    assert answer is not None and answer["field"] == "mode"
    began_ns = seat.now_ns
    seat.pass_ms(1_000)
    assert 0.2 < seat.judge.level_ma < 0.3, "a ramp, not a step"
    withdrawn(seat, REVOKED)  # it is said at every tick
    while seat.mode == "fallback":
        seat.pass_ms(10)
    assert seat.now_ns - began_ns <= 2_100 * MS
    stopped(seat, f"fallback: {REVOKED}")
    withdrawn(seat, REVOKED)
    assert seat.judge.reason == f"fallback: {REVOKED}"


def test_a_ramp_that_is_on_its_way_down_becomes_the_faster_one() -> None:
    seat = Seat(fallback_ms=1000)
    seat.run_at(1.0)
    seat.send("end")
    seat.pass_ms(100)
    assert seat.judge.ending == "session ended"
    withdrawn(seat, REVOKED)
    began_ns = seat.now_ns
    while seat.mode == "fallback":
        seat.pass_ms(10)
    assert seat.now_ns - began_ns <= 1_100 * MS and REVOKED in seat.judge.reason


def test_the_loop_asks_since_the_arming_at_every_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    still = Still(tmp_path, monkeypatch)
    still.armed()
    still.objection = REVOKED
    still.loop._tick(still.now_ns)
    assert still.judge.reason == f"fallback: {REVOKED}", "from zero it is over at once"
    still.close()


# ---- who looks -------------------------------------------------------------------------------------------------------


class Looks:
    """Looks at what the test says, as often as the test lets it."""

    def __init__(self) -> None:
        self.now_ns = 1_000
        self.found: Refusal | None = None
        self.n = 0
        self.turn = threading.Semaphore(0)
        self.slept_s: list[float] = []
        self.vouched = Vouched(self._look, lambda: self.now_ns, self._rest)
        wait_until(lambda: len(self.slept_s) == 1)

    def _look(self) -> Refusal | None:
        self.n += 1
        return self.found

    def _rest(self, s: float) -> None:
        self.slept_s.append(s)
        self.turn.acquire()

    def again(self) -> None:
        n = len(self.slept_s)
        self.turn.release()
        wait_until(lambda: len(self.slept_s) == n + 1)


def test_what_a_look_finds_counts_if_it_began_after_the_arming() -> None:
    looks = Looks()
    assert looks.slept_s == [2.0] and looks.vouched.objection(1_000, 1_001) == ""
    looks.found = Refusal("trusted.json", None, None, "interlock", "cannot be read")
    looks.now_ns = 2_000
    looks.again()
    assert looks.vouched.objection(1_999, 2_000) == "the signature no longer counts (trusted.json: cannot be read)"
    assert looks.vouched.objection(2_000, 2_001) == "", "the arm read for itself"
    looks.found, looks.now_ns = None, 3_000
    looks.again()
    assert looks.vouched.objection(1_999, 3_001) == ""


def test_a_look_that_does_not_end_is_an_objection_after_ten_seconds() -> None:
    looks = Looks()
    assert looks.vouched.objection(0, 1_000 + WITHIN_NS) == "" and looks.vouched.objection(0, 1_001 + WITHIN_NS) == UNSEEN
    assert looks.vouched.objection(5_000, 5_000 + WITHIN_NS) == "", "the arm read for itself"
    assert looks.vouched.objection(5_000, 5_001 + WITHIN_NS) == UNSEEN


def test_a_file_of_keys_that_the_disk_does_not_give_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only one that cannot be opened: a bad block is an error of the reading."""
    signer = Signer()
    path = write_signed(tmp_path, valid_now(), [signer], tmp_path / "trusted.json")

    def bad_block(_descriptor: int, _n: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("interlock.strict.os.read", bad_block)
    with pytest.raises(ValueError, match=r"prescription\.signed: cannot be read \(Input/output error\)"):
        read_prescription(path, tmp_path, "virtual", "simulated", time.time())


def test_a_list_that_is_gone_cut_or_says_revoked_is_never_read_as_nothing_revoked(tmp_path: Path) -> None:
    signer = Signer()
    path = write_signed(tmp_path, valid_now(), [signer], tmp_path / "trusted.json")
    trusted = tmp_path / "trusted.json"
    whole = trusted.read_bytes()

    def refused(because: str) -> None:
        with pytest.raises(ValueError, match=because):
            read_prescription(path, tmp_path, "virtual", "simulated", time.time())

    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        trusted.write_bytes(whole[:cut])
        refused("trusted: not JSON")
    trusted.write_bytes(b'{"keys":[]}')
    refused("is not among this machine's trusted keys")
    trusted.unlink()
    refused("trusted.json: cannot be read")
    write_keys(tmp_path, [{**signer.entry, "revoked": True}])
    refused(r"\(Dr A\): is revoked")
    write_keys(tmp_path, [signer.entry])
    assert read_prescription(path, tmp_path, "virtual", "simulated", time.time()).id == "course-1"

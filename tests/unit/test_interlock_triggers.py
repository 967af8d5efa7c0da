"""The book-keeping of pulses, number by number: what is refused, counted, owed and timed."""

from __future__ import annotations

import pytest

from interlock.refusals import MS
from interlock.triggers import Triggers
from tests.coil_bench import Coil, listed
from tests.interlock_bench import make_program


def why(coil: Coil, deadline_ns: int) -> tuple[str, object, object, str]:
    """Field, value, limit and who set it, of what a pulse at this time would break."""
    assert coil.judge.triggers is not None
    refusal = coil.judge.triggers.beyond(deadline_ns) or coil.judge.triggers.untimely(deadline_ns, coil.now_ns)
    assert refusal is not None
    return refusal.field, refusal.value, refusal.limit, refusal.set_by


def test_every_refusal_names_field_value_limit_and_who_set_it() -> None:
    coil = Coil({"train_pulses": 2, "trains": 1, "session_pulses": 5}).ready()
    assert why(coil, coil.now_ns + 2_001 * MS) == ("deadline_ns", coil.now_ns + 2_001 * MS, coil.now_ns + 2_000 * MS, "interlock")
    start_ns = coil.now_ns + 10 * MS
    coil.at(start_ns)
    assert why(coil, start_ns + 99 * MS) == ("deadline_ns", 99 * MS, 100 * MS, "prescription")
    assert why(coil, start_ns + 101 * MS) == ("train_ms", 201, 200, "prescription")
    coil.ask(start_ns + 100 * MS)
    assert why(coil, start_ns + 100 * MS)[:3] == ("deadline_ns", start_ns + 100 * MS, "one at a time")
    coil.pass_ms(50)
    coil.now_ns = start_ns + 100 * MS
    coil.perform(coil.judge.shoot(coil.now_ns))
    assert why(coil, start_ns + 200 * MS) == ("train_pulses", 3, 2, "prescription")
    assert why(coil, start_ns + 5_100 * MS) == ("trains", 2, 1, "prescription")
    assert coil.judge.triggers is not None
    coil.judge.triggers.given = 5
    assert why(coil, start_ns + 5_100 * MS) == ("pulses", 6, 5, "prescription")
    coil.judge.triggers.late_in_a_row = 3
    coil.judge.triggers.given = 0
    coil.judge.triggers.trains = 0
    assert why(coil, start_ns + 5_100 * MS)[:3] == ("deadline_ns", 3, 3)


def test_a_burst_counts_whole() -> None:
    coil = Coil(listed("itbs")).ready()
    coil.train(10, period_ms=200)
    triggers = coil.judge.triggers
    assert triggers is not None and triggers.last_ns is not None
    assert why(coil, triggers.last_ns + 200 * MS)[:3] == ("train_pulses", 33, 30)
    triggers.given = 598
    assert why(coil, triggers.last_ns + 8_000 * MS)[:3] == ("pulses", 601, 600)


def test_an_arming_begins_with_nothing_counted() -> None:
    triggers = Triggers(make_program(), 7, 3, 4)
    assert (triggers.fired, triggers.skipped, triggers.late, triggers.late_in_a_row) == (0, 0, 0, 0)
    assert (triggers.trains, triggers.in_train, triggers.last_ns, triggers.waiting, triggers.written) == (0, 0, None, None, None)
    assert (triggers.given, triggers.paid, triggers.most, triggers.wire_ns, triggers.free_ns) == (3, 3, 7, 7, 0)
    assert triggers.due(10**18, True) is None and triggers.done(10**18) is None and triggers.write_at_ns() is None


def test_a_skipped_pulse_is_no_pulse_of_the_train() -> None:
    coil = Coil().ready()
    coil.at(coil.now_ns + 20 * MS, 2 * MS)
    triggers = coil.judge.triggers
    assert triggers is not None and (triggers.skipped, triggers.trains, triggers.in_train, triggers.given) == (1, 0, 0, 0)


def test_the_ledger_is_eight_seconds_ahead_and_written_again_at_half() -> None:
    triggers = Triggers(make_program(), 0, 0, 600)
    assert triggers.owed() == 81
    triggers.unwritten.append((1, 81))
    assert triggers.owed() is None, "one entry at a time"
    triggers.on_disk(0)
    assert triggers.paid == 0
    triggers.on_disk(1)
    assert triggers.paid == 81 and triggers.owed() is None
    triggers.given = 40
    assert triggers.owed() is None
    triggers.given = 41
    assert triggers.owed() == 122
    triggers.given = 590
    assert triggers.owed() == 600
    triggers.paid = 600
    assert triggers.owed() is None
    slow = Triggers(make_program(train_millihz=100), 0, 0, 600)
    assert slow.owed() == 2


@pytest.mark.parametrize(("after_us", "late"), [(-200, False), (500, False), (1_000, False), (1_001, True)])
def test_the_error_is_that_of_the_pulse_and_not_of_the_write(after_us: int, late: bool) -> None:
    triggers = Triggers(make_program(), 3 * MS, 0, 600)
    triggers.paid = 10
    triggers.take(7, 100 * MS)
    assert triggers.due(97 * MS - 1, True) is None
    due = triggers.due(97 * MS, True)
    assert due is not None and due[1] and due[0].sequence == 7
    done = triggers.done(97 * MS + after_us * 1000)
    assert done is not None and done[1] == after_us * 1000
    assert (triggers.late, triggers.late_in_a_row) == (int(late), int(late))
    assert triggers.free_ns == (200 * MS + after_us * 1000 if late else 0)


def test_bursts_are_written_ahead_whole() -> None:
    triggers = Triggers(make_program(**listed("itbs")), 0, 0, 600)
    assert triggers.owed() == 40 * 3 + 3

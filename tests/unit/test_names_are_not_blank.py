"""Who did, signed or answered something has a name: nothing, or only what cannot be seen, is none (hazard 27, 28)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from control.forms import FORMS, Answer, AnswerError, checked
from control.prescription import parse_trusted
from control.session import OperatorEvent
from control.state import Inputs
from control.tick import Tick
from control.watch import Reading
from eegloop.stim import Prescription, PrescriptionError
from interlock.keys import known_keys
from tests.interlock_bench import Signer, make_prescription

READING = Reading(None, "", 0.0, 0.0, False, "")
BLANK = ("", " ", "\t\n", "\u00a0\u2003")


@pytest.mark.parametrize("who", BLANK)
def test_of_an_answer(who: str) -> None:
    form = next(iter(FORMS.values()))
    with pytest.raises(AnswerError, match="name of who answered"):
        checked(Answer(form.id, (0,) * len(form.items), 1.0, who))


@pytest.mark.parametrize("name", BLANK)
def test_of_a_key_on_both_sides(tmp_path: Path, name: str) -> None:
    entry = {**Signer().entry, "name": name}
    data = json.dumps({"keys": [entry]}).encode()
    (tmp_path / "trusted.json").write_bytes(data)
    (tmp_path / "trusted.json").chmod(0o600)
    with pytest.raises(PrescriptionError, match="name"):
        known_keys(tmp_path)
    with pytest.raises(PrescriptionError, match="name"):
        parse_trusted(data)


@pytest.mark.parametrize("name", BLANK)
def test_of_a_signer_and_of_whom_a_prescription_is_for(name: str) -> None:
    for field, value in (("signers", (name,)), ("signers", ("Dr A", name)), ("patient", name), ("id", name)):
        with pytest.raises(PrescriptionError, match=f"prescription.{field}") as refused:
            Prescription.from_bytes(replace(make_prescription(), **{field: value}).to_bytes())
        assert refused.value.value is not None and refused.value.set_by == "format"


def inputs(events: tuple[OperatorEvent, ...]) -> Inputs:
    return Inputs(0.0, None, None, 0.0, 0.0, 0.0, events=events)


@pytest.mark.parametrize("who", BLANK)
def test_of_whoever_starts_re_arms_or_ends(who: str) -> None:
    events = (OperatorEvent("start", who), OperatorEvent("start", "Ann"))
    tick = Tick(inputs(events[:1]), make_prescription(), READING, None, None)
    assert tick.who("start") == "" and replace(tick, inputs=inputs(events)).who("start") == "Ann"

"""Start codes: one home session each, made by the clinic only, and only where the ledger has the same dose (S5)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from control.start_code import START_DOMAIN, sign_start_code
from eegloop.stim import PrescriptionError
from interlock.limits import rules
from interlock.signed import read_start_code
from tests.interlock_bench import DEVICE, WALL_S, Seat, Signer, make_prescription, write_keys

HOME = {
    "device": "pulse_pal",
    "device_serial": "7",
    "authority": "lower_only",
    "lockout_ms": 43_200_000,
    "day_sessions": 1,
    "week_sessions": 5,
}
COURSE = rules(make_prescription(**HOME), None, DEVICE).course
UNTIL_S = WALL_S + 100


class Clinic:
    """A trusted key, and where its codes are read."""

    def __init__(self, folder: Path, **entry: Any) -> None:
        self.signer = Signer(**{"scope": "any", "valid_from_s": WALL_S - 10, "valid_until_s": WALL_S + 1000, **entry})
        self.folder = folder
        write_keys(folder, [self.signer.entry])

    def write(
        self, session: int = 1, dose_uc: int = 0, patient: str = "virtual", course: str = COURSE, until_s: int = UNTIL_S
    ) -> None:
        seed = self.signer.private.private_bytes_raw()
        (self.folder / "start.code").write_bytes(sign_start_code([seed], patient, course, session, dose_uc, until_s))

    def read(self, now_s: float = float(WALL_S)) -> tuple[int, int]:
        return read_start_code(self.folder / "start.code", self.folder, "virtual", COURSE, "pulse_pal", now_s)


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    return Clinic(tmp_path)


def test_a_code_is_read(clinic: Clinic) -> None:
    clinic.write(4, 3_600_000)
    assert clinic.read() == (4, 3_600_000)
    assert clinic.read(float(UNTIL_S)) == (4, 3_600_000)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"patient": "other"}, "start_code.patient"),
        ({"course": "0" * 32}, "start_code.course"),
        ({"until_s": WALL_S - 1}, "start_code.valid_until_s"),
    ],
)
def test_codes_for_somebody_or_something_else(clinic: Clinic, changes: dict[str, Any], field: str) -> None:
    clinic.write(**changes)
    with pytest.raises(PrescriptionError, match=f"^{field}"):
        clinic.read()


def test_no_code_an_altered_one_and_one_of_a_stranger(clinic: Clinic, tmp_path: Path) -> None:
    with pytest.raises(PrescriptionError, match="cannot be read"):
        clinic.read()
    clinic.write(2)
    signed = json.loads((tmp_path / "start.code").read_text())
    payload = base64.b64decode(signed["payload"]).replace(b'"session":2', b'"session":3')
    (tmp_path / "start.code").write_text(json.dumps({**signed, "payload": base64.b64encode(payload).decode()}))
    with pytest.raises(PrescriptionError, match="does not fit"):
        clinic.read()
    stranger = Signer()
    code = sign_start_code([stranger.private.private_bytes_raw()], "virtual", COURSE, 1, 0, UNTIL_S)
    (tmp_path / "start.code").write_bytes(code)
    with pytest.raises(PrescriptionError, match="not among this machine's trusted keys"):
        clinic.read()


def test_a_prescriptions_signature_is_no_start_code(clinic: Clinic, tmp_path: Path) -> None:
    payload = b'{"course":"c","dose_uc":0,"patient":"virtual","session":1,"valid_until_s":1}'
    body = {
        "format": "eegloop-start-1",
        "payload": base64.b64encode(payload).decode(),
        "signatures": [clinic.signer.sign(payload)],
    }
    (tmp_path / "start.code").write_text(json.dumps(body))
    with pytest.raises(PrescriptionError, match="does not fit"):
        clinic.read()


def test_a_prescription_is_no_start_code(clinic: Clinic, tmp_path: Path) -> None:
    clinic.write()
    text = (tmp_path / "start.code").read_text().replace("eegloop-start-1", "eegloop-signed-1")
    (tmp_path / "start.code").write_text(text)
    with pytest.raises(PrescriptionError, match=r"^signed\.format"):
        clinic.read()


@pytest.mark.parametrize("value", [True, 1.0, "1", -1, 2**53, None])
@pytest.mark.parametrize("field", ["session", "dose_uc", "valid_until_s"])
def test_numbers_that_are_none(clinic: Clinic, tmp_path: Path, field: str, value: object) -> None:
    body = {"patient": "virtual", "course": COURSE, "session": 1, "dose_uc": 0, "valid_until_s": UNTIL_S, field: value}
    payload = json.dumps(body).encode()
    signature = clinic.signer.private.sign(START_DOMAIN + payload).hex()
    signed = {"format": "eegloop-start-1", "payload": base64.b64encode(payload).decode()}
    (tmp_path / "start.code").write_text(
        json.dumps({**signed, "signatures": [{"key": clinic.signer.key, "signature": signature}]})
    )
    with pytest.raises(PrescriptionError, match=rf"^start_code\.{field}"):
        clinic.read()


@pytest.mark.parametrize(
    ("changes", "said"), [({"session": 0}, "session"), ({"dose_uc": -1}, "dose_uc"), ({"session": True}, "session")]
)
def test_codes_that_cannot_be_made(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PrescriptionError, match=said):
        sign_start_code([b"k" * 32], **{"patient": "p", "course": "c", "session": 1, "dose_uc": 0, "valid_until_s": 1, **changes})
    with pytest.raises(PrescriptionError, match="private key"):
        sign_start_code([], "p", "c", 1, 0, 1)


# ---- at the arm ------------------------------------------------------------------------------------------------------


def at_home(**changes: Any) -> Seat:
    """A seat whose person wears the device, which has said its serial number."""
    seat = Seat()
    seat.prescription = make_prescription(**{**HOME, **changes})
    seat.judge.identify("7", rules(seat.prescription, None, DEVICE))
    return seat


def test_without_a_code_no_home_session_begins() -> None:
    answer = at_home().send("arm")
    assert answer is not None and (answer["field"], answer["value"]) == ("start_code", "none")


@pytest.mark.parametrize("code", [(0, 0), (2, 0), (1, 1)])
def test_a_code_for_another_session_or_another_dose(code: tuple[int, int]) -> None:
    seat = at_home()
    seat.judge.start_code = code
    answer = seat.send("arm")
    assert answer is not None and answer["field"] == ("start_code.session" if code[0] != 1 else "start_code.dose_uc")


def test_a_code_opens_one_session_which_may_be_armed_again_and_no_second_one() -> None:
    seat = at_home()
    seat.judge.start_code = (1, 0)
    seat.run_at(0.2)
    seat.perform(seat.judge.stop("person", seat.now_ns))
    seat.pass_ms(100)
    seat.judge.start_code = "none"
    seat.arm()
    seat.perform(seat.judge.stop("person", seat.now_ns))
    seat.jump(2 * 86_400_000)
    seat.tick_and_report()
    given_uc = seat.judge.book.given(seat.judge.rules.course)
    assert given_uc[0] == 1 and given_uc[1] > 0
    for code, field in (((1, 0), "start_code.session"), ((2, 0), "start_code.dose_uc")):
        seat.judge.start_code = code
        answer = seat.send("arm", session="s2")
        assert answer is not None and answer["field"] == field
    seat.judge.start_code = (2, given_uc[1])
    seat.arm(session="s2")


def test_a_ledger_that_was_begun_anew_does_not_fit_the_clinics_count() -> None:
    seat = at_home()
    seat.judge.start_code = (5, 14_400_000)
    answer = seat.send("arm")
    assert answer is not None and answer["field"] == "start_code.session" and answer["limit"] == 1


def test_in_the_clinic_and_on_the_simulated_stimulator_none_is_asked_for() -> None:
    at_home(profile="clinic").arm()
    Seat(profile="home").arm()

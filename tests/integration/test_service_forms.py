"""The forms over the real service: what is due keeps a session from beginning, answers stop it, and all of it survives a restart."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from running_service import PageClient, Script, Stimulator, running, seat_config, sign_prescriptions, until, write_config

from control.clinic_note import Note, sign_note
from daemon.audit import verify_chain

SEAT = "one"
SHORT = {"baseline_ms": 1_000, "start_ua": 100, "authority": "lower_only", "lockout_ms": 3_600_000}


def press(page: PageClient, name: str) -> dict[str, object]:
    return page.ask(type="command", seat=SEAT, name=name)


def phase(page: PageClient, *names: str) -> bool:
    return page.seat(SEAT).get("phase") in names


def findings(page: PageClient) -> set[tuple[str, str]]:
    return {(f["form"], f["item"]) for f in page.seat(SEAT)["forms"]["findings"]}


@pytest.mark.timeout(180)
def test_forms_from_the_first_question_to_the_clinics_release(tmp_path: Path) -> None:
    data = tmp_path / "data"
    seat = seat_config(
        SEAT, {"kind": "lsl", "name": "forms-one", "type": "EEG"}, person="p7", contacts=["Dr. Bo, 030 1", "Dr. Cy, 030 2"]
    )
    key = sign_prescriptions(data, [seat], **SHORT)
    config = write_config(tmp_path / "config.yaml", [seat])
    board = Script("board", "-m", "simulators.board", "--seat", SEAT, "--data", str(data), "--name", "forms-one")
    stimulator = Stimulator(data, SEAT)
    try:
        with running("run", config, data) as service:
            page = service.page()
            until(lambda: phase(page, "stopped"), 30, "a headset")
            refuses_what_is_no_answer(page)
            re_armed(page)
            assert press(page, "start")["ok"]
            until(lambda: page.seat(SEAT)["forms"]["due"], 5, "the forms")
            due = page.seat(SEAT)["forms"]["due"]
            assert due == ["screening", "pads", "skin", "side_effects", "phq9", "mania", "pain_before"]
            refused = press(page, "screened")
            assert refused["ok"] is False and "not answered yet" in str(refused["error"])
            assert page.fill_in(SEAT, "pads", dry=1).status_code == 200
            until(lambda: "pads" not in page.seat(SEAT)["forms"]["due"], 5, "one form less")
            page.fill_in_all(SEAT)
            until(lambda: findings(page) == {("pads", "dry")}, 5, "the dry pad blocks")
            assert phase(page, "screen") and page.seat(SEAT)["forms"]["open"] == ["pads"]
            assert page.fill_in(SEAT, "pads", left=5).status_code == 200
            until(lambda: phase(page, "contact", "baseline"), 5, "on, with the answer that was the last one needed")
            until(lambda: phase(page, "on"), 40, "stimulation")

            assert page.fill_in(SEAT, "during", pain=5).status_code == 200
            until(lambda: phase(page, "fallback"), 2, "pain of 5 pauses")
            assert page.fill_in(SEAT, "during", pain=1).status_code == 200
            until(lambda: findings(page) == set() and page.seat(SEAT)["output"]["zero_confirmed"], 10, "better")
            until(lambda: press(page, "rearm")["ok"] or phase(page, "contact", "ramp_up", "on"), 10, "re-armed")
            until(lambda: phase(page, "on"), 40, "stimulation again")
            assert page.fill_in(SEAT, "during", pain=8).status_code == 200
            until(lambda: phase(page, "stopped") and page.seat(SEAT)["output"]["zero_confirmed"], 2, "pain of 8 stops")
            assert page.fill_in(SEAT, "phq9", self_harm=2).status_code == 200
            alert = until(lambda: [a for a in page.seat(SEAT)["alarms"] if a["id"] == "alert_phq9_self_harm"], 5, "the alert")[0]
            assert alert["priority"] == "high" and "Dr. Bo" in alert["advice"]
            page.close()
            assert service.stop() == 0
        answers = data / "persons" / "p7" / "answers.jsonl"
        assert verify_chain(answers) == [], "answers are a sound chain of their own"

        stimulator.end()
        stimulator = Stimulator(data, SEAT)  # the first service's end took the sockets with it
        with running("run", config, data) as service:
            page = service.page()
            until(lambda: page.seat(SEAT).get("forms"), 30, "the state after a restart")
            until(lambda: {("phq9", "self_harm"), ("during", "pain")} <= findings(page), 5, "what held before, holds")
            assert any(a["id"] == "alert_phq9_self_harm" for a in page.seat(SEAT)["alarms"])
            assert page.seat(SEAT)["forms"]["wait_s"] > 3_000, "the lockout goes on, too"
            until(lambda: phase(page, "stopped"), 30, "a headset")
            assert press(page, "rearm")["ok"] is False
            for form, item in (("phq9", "self_harm"), ("during", "pain")):
                note = sign_note(Note("release", "p7", form, item, int(time.time())), key)
                (answers.parent / "notes" / f"{form}.json").write_bytes(note)
            until(lambda: not {("phq9", "self_harm"), ("during", "pain")} & findings(page), 10, "the clinic's release")
            assert page.seat(SEAT)["alarms"] == [] or all("alert" not in a["id"] for a in page.seat(SEAT)["alarms"])
            re_armed(page)
            locked = press(page, "start")
            assert locked["ok"] is False and "The next session is possible from" in str(locked["error"])
            page.close()
    finally:
        stimulator.end()
        board.end()


def re_armed(page: PageClient) -> None:
    """Press until it took: a re-arm is refused while the interlock has not confirmed zero, or no page has answered a challenge yet."""
    said: list[object] = []

    def took() -> bool:
        said.append(press(page, "rearm")["error"])
        return phase(page, "off") or said[-1] == ""

    try:
        until(took, 20, "re-armed")
    except AssertionError as error:
        raise AssertionError(f"{error}: {said[-1]}") from None


def refuses_what_is_no_answer(page: PageClient) -> None:
    """Without a token, from elsewhere, or with answers that do not fit: refused, and nothing is kept."""
    url, fits = f"{page.url}/api/v1/seats/{SEAT}/answers", {"form": "pads", "values": [0, 0, 0, 0, 0]}
    own = {"origin": page.url, "authorization": f"Bearer {page.tokens['token']}"}
    assert httpx.post(url, json=fits, headers={"origin": page.url}).status_code == 401
    stop_only = {**own, "authorization": f"Bearer {page.tokens['stop_token']}"}
    assert httpx.post(url, json=fits, headers=stop_only).status_code == 401
    assert httpx.post(url, json=fits, headers={**own, "origin": "http://evil.example"}).status_code == 403
    for values in ([0, 0, 0], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]):
        answer = httpx.post(url, json={"form": "pads", "values": values}, headers=own)
        assert answer.status_code == 409 and "pads" in answer.json()["detail"], answer.text
    assert httpx.post(url, json={"form": "magic", "values": [0]}, headers=own).status_code == 409
    for wrong in (0.5, 1.0, "1", True, [0]):
        answer = httpx.post(url, json={"form": "pads", "values": [0, wrong, 0, 0, 0]}, headers=own)
        assert (answer.status_code, answer.json()["detail"]) == (
            422,
            "values.1: must be a whole number, or null where it was not asked",
        )
    json_sent = {**own, "content-type": "application/json"}
    for body, said in ((b"[]", "the body must be a JSON object"), (b"{", "the body is no JSON"), (b"{}", "form: is missing")):
        answer = httpx.post(url, content=body, headers=json_sent)
        assert (answer.status_code, answer.json()["detail"]) == (422, said)
    answer = httpx.post(url, content=b'{"form": "pads", "values": [' + b"9" * 3900 + b", 0, 0, 0, 0]}", headers=json_sent)
    assert answer.status_code == 409, answer.text[:300]
    assert "a number that large" in answer.json()["detail"] and len(answer.json()["detail"]) < 200
    assert httpx.post(url.replace(SEAT, "two"), json=fits, headers=own).status_code == 409
    assert page.seat(SEAT)["forms"]["findings"]

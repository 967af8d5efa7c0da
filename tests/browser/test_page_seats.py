"""Several seats on one page: who looks at one person does not miss another; and a seat is there before its headset is."""

from __future__ import annotations

from typing import Any

URGENT = {"id": "stopped", "priority": "high", "text": "The interlock stopped.", "advice": "Take the headset off.", "age_s": 3.0}


def _tile(seen: Any, seat: str) -> str:
    return str(seen.page.locator(f".seat[data-seat={seat}]").inner_text())


def test_an_alarm_at_another_seat_is_seen_and_one_press_away(clinic, visit, sign_in):
    seen = visit(clinic, width=360, height=740, fragment=sign_in(clinic))
    seen.until_live()
    assert "Running" in _tile(seen, "seat2") and " mA" in _tile(seen, "seat2")
    clinic.script(seat="seat2", interlock="silent")
    seen.until("document.querySelector('.seat[data-seat=seat2]').innerText.includes('Output unknown')", 4)
    clinic.script(seat="seat2", interlock="answers", alarms=[URGENT], latched=True)
    seen.until("document.querySelector('.seat[data-seat=seat2]').innerText.includes('Urgent: stopped')", 3)
    assert "Urgent at another seat" in seen.page.locator(".others").inner_text()
    assert "Urgent" not in _tile(seen, "seat1")
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert seen.axe("light", "dark") == []
    seen.page.locator(".others button").click()
    seen.page.get_by_role("heading", name="Virtual person 2").wait_for()
    assert "The interlock stopped." in seen.page.locator(".alarm-high").inner_text()
    assert seen.page.locator(".others").count() == 0, "it is on the screen now"
    assert seen.faults == []


def test_before_its_headset_is_there_a_seat_is_and_says_so(clinic, visit, sign_in):
    clinic.script(headsets=False, session="off")
    try:
        seen = visit(clinic, fragment=sign_in(clinic))
        seen.page.get_by_role("heading", name="Virtual person 1").wait_for()
        assert "Waiting for the headset" in seen.page.locator(".plot").inner_text()
        assert seen.page.locator("#why-start").inner_text() == "no headset yet"
        assert "Virtual person 1" in seen.page.locator("#stop").inner_text()
        seen.page.keyboard.press("Escape")
        seen.until_stop_says("confirmed 0.00 mA", 3)
    finally:
        clinic.script(headsets=True)
    seen.until_live()
    assert seen.page.locator(".labels .label").count() == 8
    assert seen.faults == []

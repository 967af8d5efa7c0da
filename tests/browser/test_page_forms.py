"""The forms on a phone: one question at a time, answered with a thumb; what an answer forbids is said, and kept answers count."""

from __future__ import annotations

import pytest

PHONE = (360, 740)


def question(seen) -> str:
    return seen.page.locator(".question").inner_text()


def choose(seen, value: int) -> None:
    """Answer the question that is shown, and wait until it is another one or the form is gone."""
    name = seen.page.locator(".form").get_attribute("data-question")
    seen.page.locator(f'.choice[data-value="{value}"]').click()
    seen.until(f"document.querySelector('.form')?.dataset.question !== '{name}'", 5)


@pytest.fixture
def asked(clinic, visit, sign_in):
    clinic.script(session="screen")
    seen = visit(clinic, *PHONE, fragment=sign_in(clinic))
    seen.until("document.querySelector('.form') !== null", 10)
    yield seen
    clinic.script(session="on")


def test_a_form_is_answered_at_phone_width(asked):
    """Every choice is a target of at least 44 px, in view with its question, and nothing scrolls sideways."""
    seen = asked
    assert "epilepsy" in question(seen) and "1 of 12" in seen.page.locator(".form-head").inner_text()
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    for box in seen.page.locator(".choice").all():
        size = box.bounding_box()
        assert size["height"] >= 44 and size["width"] >= 44 and size["x"] >= 0 and size["x"] + size["width"] <= PHONE[0]
    seen.page.locator(".form").scroll_into_view_if_needed()
    choose(seen, 0)
    choose(seen, 0)
    assert "3 of 12" in seen.page.locator(".form-head").inner_text()
    seen.page.locator("#back").click()
    seen.until("document.querySelector('.form').dataset.question === 'head_metal'", 2)
    assert seen.page.locator('.choice.is-chosen[data-value="0"]').count() == 1, "what was answered is shown"
    for _ in range(11):
        choose(seen, 0)
    seen.until("document.querySelector('.form').dataset.form === 'pads'", 5)
    for _ in range(4):
        choose(seen, 0)
    assert "how many unused pairs" in question(seen).lower() and seen.page.locator(".choice").count() == 11
    assert seen.axe("light") == []
    choose(seen, 7)
    seen.until("document.querySelector('.form').dataset.form === 'skin'", 5)
    assert seen.faults == []


def test_an_answer_that_forbids_a_session_says_so_and_can_be_answered_again(asked):
    seen = asked
    for i in range(12):
        choose(seen, int(i == 10))  # alcohol
    seen.until("document.querySelector('.finding') !== null", 5)
    assert "Alcohol" in seen.page.locator(".finding").inner_text()
    assert seen.page.locator(".form").get_attribute("data-form") == "pads", "the other forms are asked all the same"


def test_thoughts_of_self_harm_are_answered_with_care_and_hold(asked):
    seen = asked
    while seen.page.locator(".form").get_attribute("data-form") != "phq9":
        choose(seen, 0)
    for _ in range(8):
        choose(seen, 0)
    assert "better off dead" in question(seen)
    choose(seen, 1)
    seen.until("document.querySelector('.finding.is-bad') !== null", 5)
    said = seen.page.locator(".finding.is-bad").inner_text()
    assert "Thank you for telling us" in said and "emergency number" in said


def test_how_it_feels_during_stimulation_stops_without_waiting_for_more_questions(clinic, visit, sign_in):
    """Pain of 7 is sent at once, without answers to what was not asked yet; that is asked now."""
    sent = []
    seen = visit(clinic, *PHONE, fragment=sign_in(clinic))
    seen.page.on("request", lambda r: sent.append(r.post_data_json) if r.url.endswith("/answers") else None)
    seen.until_live()
    seen.page.locator('.again[data-form="during"]').click()
    seen.until("document.querySelector('.form')?.dataset.question === 'pain'", 3)
    seen.page.locator('.choice[data-value="7"]').click()
    seen.until("document.querySelector('.finding.is-bad')?.innerText.includes('Pain 7 of 10')", 5)
    seen.until("document.querySelector('.form')?.dataset.question === 'tingling'", 3)
    assert [body["values"] for body in sent] == [[7, *[None] * 8]]
    clinic.script(session="on")


FOCUS = "document.activeElement"


def test_stopped_the_page_says_what_is_allowed_and_lets_a_form_be_opened_and_closed(service, visit):
    """The demo, stopped in the middle of a session: its virtual person answers only what is due."""
    why = "lease over: no heartbeat with a newer tick within 400 ms"
    service.script(latched=True, forms={"due": [], "open": ["after"]}, reason=why, decided=False)
    seen = visit(service, *PHONE)
    seen.until_phase("stopped", 10)
    assert seen.page.locator("#ceiling").inner_text() == "0.00 mA while stopped"
    assert "No decision in this session yet" in seen.page.locator("#no-decision").inner_text()
    said = seen.page.locator("#output-reason")
    assert "The service answered too late" in said.inner_text() and "lease" not in said.inner_text()
    assert said.get_attribute("title") == why, "the engineer's words stay at hand"
    opener = seen.page.locator('.again[data-form="after"]')
    opener.focus()
    seen.page.keyboard.press("Enter")
    seen.until(f"document.querySelector('.form')?.dataset.form === 'after' && {FOCUS}.id === 'form-question'", 3)
    assert seen.page.locator("#virtual").count() == 0
    seen.page.locator("#close-form").focus()
    seen.page.keyboard.press("Enter")
    seen.until(f"document.querySelector('.form') === null && {FOCUS}.dataset.form === 'after'", 3)
    service.script(forms={"due": ["after"], "open": []})
    seen.until("document.querySelector('#virtual') !== null", 3)
    assert seen.page.locator("#close-form").count() == 0, "what is due stays"
    assert "After the session" in seen.page.locator("#form-news").inner_text(), "what comes by itself is told, and takes no focus"
    assert seen.page.evaluate(f"{FOCUS}.id") != "form-question"
    service.script(forms={"due": ["during"], "open": []})
    seen.until("document.querySelector('.form')?.dataset.form === 'during'", 3)
    seen.page.locator('.choice[data-value="7"]').focus()
    service.script(forms={"due": [], "open": []})
    seen.until(f"document.querySelector('.form') === null && {FOCUS}.id === 'session-title'", 3)
    service.script(latched=False, forms={})


def test_the_lockout_clock_says_when_the_next_session_is_possible(clinic, visit, sign_in):
    clinic.script(session="off", forms={"next_session_s": 4_102_444_800.0, "wait_s": 41_000.0})
    seen = visit(clinic, *PHONE, fragment=sign_in(clinic))
    seen.until_phase("off", 10)
    said = seen.page.locator("#next-session").inner_text()
    assert "Next session possible from" in said and "11 h 24 min" in said
    assert seen.page.locator("#start").get_attribute("aria-disabled") == "true"
    assert "from" in seen.page.locator("#why-start").inner_text()
    clinic.script(session="on", forms={})

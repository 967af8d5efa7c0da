"""A session by hand: somebody watches, the screening is answered, contact is guided, and what was asked in vain is told."""

from __future__ import annotations

from service_rig import wait_for

HIDE = "(state) => { Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => state }); "
HIDE += "document.dispatchEvent(new Event('visibilitychange')) }"


def enabled(seen) -> list[str]:
    """The ids of what a person can press now in the session card."""
    return seen.page.locator(".session .button[aria-disabled=false], #screened").evaluate_all("all => all.map(e => e.id)")


def test_the_page_answers_challenges_only_while_it_is_in_view(clinic, visit, sign_in):
    """S13: the line asks every 0.5 s here; the age is that of the newest question that was answered."""
    seen = visit(clinic, fragment=sign_in(clinic))
    seen.until_live()
    wait_for(lambda: (clinic.supervision_s() or 99.0) < 1.2, 5, "an answered challenge")
    seen.page.evaluate(HIDE, "hidden")
    hidden_s = wait_for(lambda: age if (age := clinic.supervision_s() or 0.0) > 2.5 else None, 10, "silence of a hidden page")
    assert hidden_s > 2.5
    assert seen.probe()["freshness"] == "live"  # the socket is open and samples come: only nobody looks
    seen.page.evaluate(HIDE, "visible")
    wait_for(lambda: (clinic.supervision_s() or 99.0) < 1.2, 3, "an answer from the page in view again")
    seen.page.goto("about:blank")  # the tab is closed
    wait_for(lambda: (clinic.supervision_s() or 0.0) > 2.0, 10, "silence of a closed page")


def answer_all(seen) -> list[str]:
    """Answer every form that is due with the first choice, by hand; the questions that were asked."""
    asked: list[str] = []
    while seen.page.locator(".form").count():
        before = seen.page.locator(".form").get_attribute("data-form"), seen.page.locator(".form").get_attribute("data-question")
        asked.append(seen.page.locator(".question").inner_text())
        seen.page.locator(".choice").first.click()
        seen.until(
            f"(f => !f || f.dataset.form + ' ' + f.dataset.question !== '{before[0]} {before[1]}')(document.querySelector('.form'))",
            5,
        )
    return asked


def test_a_person_goes_from_stop_to_session(clinic, visit, sign_in):
    clinic.script(latched=True, bad={"F3": "flat", "O2": "line_noise"})
    seen = visit(clinic, 390, 844, fragment=sign_in(clinic))
    seen.until_phase("stopped", 10)
    assert enabled(seen) == ["rearm"]
    assert "re-arm first" in seen.page.locator("#why-start").inner_text()
    seen.page.locator("#rearm").click()
    seen.until_phase("off", 3)
    assert enabled(seen) == ["start"]
    seen.page.locator("#start").click()
    seen.until_phase("screen", 3)
    assert enabled(seen) == ["end"], "nobody goes on past the questions"
    questions = " ".join(answer_all(seen))
    for word in (
        "seizure",
        "implant",
        "pacemaker",
        "skull",
        "skin",
        "Pregnant",
        "mood",
        "18",
        "medicine",
        "Slept",
        "pads",
        "pain",
    ):
        assert word in questions
    seen.until_phase("contact", 3)
    guide = seen.page.locator(".guide").inner_text()  # the worst one by name and place, and one action
    assert "F3" in guide and "front of the head, left" in guide and "press" in guide
    assert "contact 21 %, 180 kΩ" in guide
    assert "6 electrodes of 8" in guide and "Then: O2" in guide
    assert "worst contact: F3 (contact 21 %, 180 kΩ)" in seen.page.locator(".traces .worst-contact").inner_text()
    clinic.script(bad={})
    seen.until_phase("on", 3)
    assert enabled(seen) == ["end"]
    assert "Keep this page open" in seen.page.locator(".session").inner_text()
    seen.page.locator("#end").click()
    seen.until_phase("off", 3)
    assert seen.faults == []


def test_what_was_asked_in_vain_is_told(service, visit):
    service.script(latched=True, refuse=True)
    seen = visit(service)
    seen.until_phase("stopped", 10)
    seen.page.locator("#rearm").click()
    seen.until("document.querySelector('.answer').innerText.includes('no page is watching')", 3)
    assert "was not possible" in seen.page.locator(".answer").inner_text()
    assert seen.page.locator("#phase").get_attribute("data-phase") == "stopped"


def test_a_silent_interlock_makes_the_output_unknown_and_nothing_else(service, visit):
    seen = visit(service)
    seen.until_live()
    service.script(interlock="silent")
    seen.until("document.querySelector('#confirmed').innerText.includes('Unknown')", 3)
    assert "Unknown" in seen.page.locator("#commanded").inner_text()
    assert seen.page.locator(".pairs dd").all_inner_texts()[1:] == ["Unknown"] * 4
    seen.until_live()
    assert seen.faults == []

"""Everybody can use the page, and nobody can who may not: axe-core, small screens, sign-in by link."""

from __future__ import annotations

import itertools
from typing import Any


def alarm(priority: str) -> dict[str, Any]:
    return {
        "id": priority,
        "priority": priority,
        "text": "Contact of F3 is poor",
        "advice": "Part the hair and press.",
        "age_s": 2.0,
    }


def test_axe_finds_nothing(service, visit):
    service.script(bad={"Fp2": "flat"}, alarms=[alarm("high"), alarm("medium"), alarm("technical")])
    seen = visit(service, 1280, 800)
    seen.until_live()
    seen.page.locator(".label.is-bad").wait_for()
    assert seen.axe("light", "dark") == []
    service.script(session="screen", alarms=[])
    seen.until_phase("screen", 3)
    assert seen.axe("dark") == []
    service.script(session="contact")
    seen.until_phase("contact", 3)
    assert seen.axe("light") == []


def test_axe_finds_nothing_on_a_phone_with_an_unconfirmed_stop(service, visit):
    service.script(confirms=False, confirmed_ma=0.5, block="stimulate")
    seen = visit(service, 360, 640)
    seen.until_live()
    seen.page.keyboard.press("Escape")
    seen.until_stop_says("NOT CONFIRMED", 10)
    assert seen.axe("dark") == []


def test_no_sideways_scroll(service, visit):
    service.script(bad={"O1": "line_noise"}, alarms=[alarm("high")])
    seen = visit(service, 320, 800)
    seen.until_live()
    seen.page.get_by_role("button", name="Show all").click()
    sticking_out = "(w) => [...document.querySelectorAll('main *')]"
    sticking_out += ".filter(e => e.getBoundingClientRect().right > w + 1 && !e.closest('.spoken, svg')).map(e => e.className)"
    for phase in ("on", "screen", "contact"):
        service.script(session=phase)
        seen.until_phase(phase, 3)
        for width in (320, 360, 390, 640, 768, 1024, 1280, 1920) if phase == "on" else (320, 768, 1024):
            seen.page.set_viewport_size({"width": width, "height": 800})
            seen.until(f"document.documentElement.scrollWidth <= {width}", 2)
            assert seen.page.evaluate(sticking_out, width) == []


def test_labels_do_not_overlap(service, visit):
    """The longest reasons on every channel, in the lowest rows."""
    service.script(bad=dict.fromkeys(("Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2"), "line_noise"))
    seen = visit(service, 1280, 800)
    seen.until_live()
    seen.until("document.querySelectorAll('.label.is-bad').length === 8", 3)
    boxes = seen.page.locator(".label").evaluate_all(
        "all => all.map(e => [...e.children].map(c => c.getBoundingClientRect())).map(r => [Math.min(...r.map(b => b.top)), Math.max(...r.map(b => b.bottom))])"
    )
    assert all(above[1] <= below[0] + 1 for above, below in itertools.pairwise(boxes))


def test_reduced_motion_slows_the_traces(service, visit):
    seen = visit(service, reduced_motion="reduce")
    seen.until("window.__eegloop.samples > 400 && window.__eegloop.frames >= 1", 10)
    assert seen.probe()["frames"] < 60


def test_a_link_opens_the_page_once_and_leaves_the_address(clinic, visit, sign_in):
    stranger = visit(clinic)
    stranger.page.get_by_role("heading", name="Not signed in").wait_for()
    assert stranger.page.evaluate("sessionStorage.length") == 0
    assert stranger.axe("light") == []
    stranger.page.keyboard.press("Escape")
    stranger.until_stop_says("NOT CONFIRMED", 10)

    fragment = sign_in(clinic)
    seen = visit(clinic, fragment=fragment)
    seen.until_live()
    assert fragment not in seen.page.url
    assert "#" not in seen.page.url
    assert seen.page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"
    assert "Demo" not in seen.page.locator(".banner").inner_text()
    seen.page.reload()
    seen.until_live()

    again = visit(clinic, fragment=fragment)
    again.page.get_by_text("already used").wait_for()
    # A link typed into a page that is open already works too.
    again.page.evaluate("(s) => { location.hash = s }", sign_in(clinic))
    again.until_live()

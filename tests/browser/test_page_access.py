"""Everybody can use the page, and nobody can who may not: axe-core, small screens, sign-in by link."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.web.access import create_link
from eegloop.layout import Layout

AXE = Path(__file__).absolute().parents[2] / "dashboard/node_modules/axe-core/axe.min.js"
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def violations(seen) -> list[Any]:
    """What axe-core finds in light and in dark."""
    assert AXE.is_file(), f"{AXE} is missing: npm ci in dashboard/ (the build hook does it)"
    seen.page.evaluate(AXE.read_text(encoding="utf-8") + ";0")
    every = []
    for scheme in ("light", "dark"):
        seen.page.emulate_media(color_scheme=scheme)
        found = seen.page.evaluate("(rules) => axe.run(document, rules)", RULES)
        assert len(found["passes"]) > 10
        every += [
            (scheme, v["id"], [n["target"] for n in v["nodes"]], v["nodes"][0]["failureSummary"]) for v in found["violations"]
        ]
    return every


def test_axe_finds_nothing(service, visit):
    service.script(bad={"Fp2": "flat"}, alarms=[alarm("high"), alarm("medium"), alarm("technical")])
    seen = visit(service, 1280, 800)
    seen.until_live()
    seen.page.locator(".label.is-bad").wait_for()
    assert violations(seen) == []
    seen.page.keyboard.press("Escape")
    seen.page.get_by_text("Stopped – confirmed").wait_for()
    assert violations(seen) == []
    service.script(mute=True)
    seen.until("document.querySelector('#status').innerText.includes('No data')", 7)
    assert violations(seen) == []


def test_axe_finds_nothing_on_a_phone_with_an_unconfirmed_stop(service, visit):
    service.script(confirms=False, confirmed_ma=0.5, block="stimulate")
    seen = visit(service, 360, 640)
    seen.until_live()
    seen.page.keyboard.press("Escape")
    seen.page.get_by_text("NOT CONFIRMED").wait_for(timeout=10_000)
    assert violations(seen) == []


def alarm(priority: str) -> dict[str, Any]:
    return {
        "id": priority,
        "priority": priority,
        "text": "Contact of F3 is poor",
        "advice": "Part the hair and press.",
        "age_s": 2.0,
    }


def test_no_sideways_scroll(service, visit):
    service.script(bad={"O1": "line_noise"}, alarms=[alarm("high")])
    seen = visit(service, 320, 800)
    seen.until_live()
    seen.page.get_by_role("button", name="Show all").click()
    sticking_out = "(w) => [...document.querySelectorAll('main *')]"
    sticking_out += ".filter(e => e.getBoundingClientRect().right > w + 1 && !e.closest('.spoken, svg')).map(e => e.className)"
    for width in (320, 360, 390, 640, 768, 1024, 1280, 1920):
        seen.page.set_viewport_size({"width": width, "height": 800})
        seen.until(f"document.documentElement.scrollWidth <= {width}", 2)
        assert seen.page.evaluate(sticking_out, width) == []


def test_reduced_motion_slows_the_traces(service, visit):
    seen = visit(service, reduced_motion="reduce")
    seen.until("window.__eegloop.samples > 750", 10)
    assert 1 <= seen.probe()["frames"] < 60


def test_a_link_opens_the_page_once_and_leaves_the_address(make_service: Callable, visit):
    service = make_service("--patient")
    stranger = visit(service)
    stranger.page.get_by_role("heading", name="Not signed in").wait_for()
    assert stranger.page.evaluate("sessionStorage.length") == 0
    assert violations(stranger) == []
    stranger.page.keyboard.press("Escape")
    stranger.until("document.querySelector('.stop-report').innerText.includes('NOT CONFIRMED')", 10)

    secret = create_link(Layout(service.data))
    seen = visit(service, fragment=f"#link={secret}")
    seen.until_live()
    assert secret not in seen.page.url
    assert "#" not in seen.page.url
    assert seen.page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"
    assert "Demo" not in seen.page.locator(".banner").inner_text()
    seen.page.reload()
    seen.until_live()

    again = visit(service, fragment=f"#link={secret}")
    again.page.get_by_text("already used").wait_for()
    # A link typed into a page that is open already works too.
    again.page.evaluate("(s) => { location.hash = 'link=' + s }", create_link(Layout(service.data)))
    again.until_live()

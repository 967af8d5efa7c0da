"""STOP on the page: always there, one tap or key, and never says more than the device confirmed."""

from __future__ import annotations

import signal
import time

import pytest

STOPPED = "Stopped – confirmed 0.00 mA"
NOT_CONFIRMED = "NOT CONFIRMED"


REMEMBER_REPORTS = """() => {
  const report = document.querySelector('.stop-report');
  window.reports = [];
  const remember = () => { if (report.innerText !== '') window.reports.push(report.innerText) };
  new MutationObserver(remember).observe(report, { childList: true, subtree: true, characterData: true });
}"""


def stop_box(seen) -> dict[str, float]:
    box = seen.page.locator("#stop").bounding_box()
    assert box is not None
    return box


@pytest.mark.parametrize(("width", "height"), [(360, 640), (320, 568), (768, 1024), (1280, 800)])
def test_stop_is_large_and_visible_without_scrolling(service, visit, width, height):
    seen = visit(service, width, height)
    seen.until_live()
    for scroll in (0, 100_000):
        seen.page.evaluate(f"window.scrollTo(0, {scroll})")
        box = stop_box(seen)
        assert box["height"] >= 64
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert box["y"] >= 0 and box["y"] + box["height"] <= height
        on_top = "(p) => document.elementFromPoint(p[0], p[1]).closest('#stop') !== null"
        assert seen.page.evaluate(on_top, [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])


def test_one_tap_stops_and_says_so_when_confirmed(service, visit, record_property):
    seen = visit(service, 360, 640, has_touch=True, is_mobile=True, device_scale_factor=3)
    seen.until_live()
    start_s = time.monotonic()
    seen.page.locator("#stop").tap()
    seen.page.get_by_text(STOPPED).wait_for(timeout=3000)
    took_s = time.monotonic() - start_s
    record_property("tap_to_confirmed_s", took_s)
    assert took_s < 1.0
    seen.until("document.querySelector('#phase').dataset.phase === 'stopped'", 2)
    assert seen.faults == []


@pytest.mark.parametrize("keys", [("Tab", "Enter"), ("Tab", "Space"), ("Escape",)])
def test_stop_is_the_first_tab_stop_and_escape_stops(service, visit, keys):
    seen = visit(service)
    seen.until_live()
    for key in keys:
        seen.page.keyboard.press(key)
    seen.page.get_by_text(STOPPED).wait_for(timeout=3000)


def test_a_device_that_does_not_confirm_is_not_called_stopped(service, visit):
    service.script(confirms=False, confirmed_ma=0.85)
    seen = visit(service)
    seen.until_live()
    seen.page.evaluate(REMEMBER_REPORTS)
    seen.page.keyboard.press("Escape")
    seen.page.get_by_text(NOT_CONFIRMED).wait_for(timeout=10_000)
    reports = seen.page.evaluate("window.reports")
    assert "Stopping…" in reports[0] and NOT_CONFIRMED in reports[-1]
    report = seen.page.locator(".stop-report").inner_text()
    assert "take the headset off" in report and "switch the stimulator off" in report
    assert seen.page.get_by_text(STOPPED).count() == 0
    service.script(confirms=True, confirmed_ma="follow")  # the device answers after all: the page kept asking
    seen.page.get_by_text(STOPPED).wait_for(timeout=5000)


def test_with_the_server_dead_the_third_state_comes_and_stop_goes_through_once_it_is_back(service, visit, record_property):
    seen = visit(service)
    seen.until_live()
    service.web.kill()
    start_s = time.monotonic()
    seen.page.keyboard.press("Escape")
    seen.page.get_by_text(NOT_CONFIRMED).wait_for(timeout=10_000)
    record_property("not_confirmed_after_s", time.monotonic() - start_s)
    assert seen.page.get_by_text(STOPPED).count() == 0
    service.start_web()
    seen.page.get_by_text(STOPPED).wait_for(timeout=5000)


def test_with_the_server_frozen_the_third_state_comes(service, visit):
    seen = visit(service)
    seen.until_live()
    service.web.process.send_signal(signal.SIGSTOP)
    try:
        seen.page.locator("#stop").click()
        seen.page.get_by_text(NOT_CONFIRMED).wait_for(timeout=10_000)
        assert seen.page.get_by_text(STOPPED).count() == 0
    finally:
        service.web.process.send_signal(signal.SIGCONT)


def test_after_a_stop_a_person_re_arms_and_starts(service, visit):
    seen = visit(service)
    seen.until_live()
    seen.page.keyboard.press("Escape")
    seen.page.get_by_text(STOPPED).wait_for(timeout=3000)
    start = seen.page.get_by_role("button", name="Start")
    assert start.get_attribute("aria-disabled") == "true"
    assert "re-arm first" in seen.page.locator("#why-start").inner_text()
    rearm = seen.page.get_by_role("button", name="Re-arm")
    seen.until("document.querySelectorAll('.button')[2].getAttribute('aria-disabled') === 'false'", 3)
    rearm.click()
    seen.until("document.querySelector('#phase').dataset.phase === 'off'", 3)
    seen.until("!document.body.innerText.includes('Stopped – confirmed')", 3)
    start.click()
    seen.until("document.querySelector('#phase').dataset.phase === 'on'", 3)
    seen.page.get_by_role("button", name="End").click()
    seen.until("document.querySelector('#phase').dataset.phase === 'off'", 3)
    assert seen.faults == []

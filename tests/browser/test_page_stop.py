"""STOP on the page: always there, one tap or key, and never says more than the device confirmed."""

from __future__ import annotations

import time

from service_rig import wait_for

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


def test_stop_is_large_and_visible_without_scrolling(service, visit):
    seen = visit(service)
    seen.until_live()
    for width, height in ((360, 640), (320, 568), (768, 1024), (1280, 800)):
        seen.page.set_viewport_size({"width": width, "height": height})
        for scroll in (0, 100_000):
            seen.page.evaluate(f"window.scrollTo(0, {scroll})")
            box = stop_box(seen)
            assert box["height"] >= 64
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
            assert box["y"] >= 0 and box["y"] + box["height"] <= height
            on_top = "(p) => document.elementFromPoint(p[0], p[1]).closest('#stop') !== null"
            assert seen.page.evaluate(on_top, [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])


def test_one_tap_stops_and_says_so_when_confirmed(service, visit, slowed, record_property):
    seen = visit(service, 360, 640, has_touch=True, is_mobile=True, device_scale_factor=3)
    seen.until_live()
    start_s = time.monotonic()
    seen.page.locator("#stop").tap()
    seen.until_stop_says(STOPPED, 3)
    took_s = time.monotonic() - start_s
    record_property("tap_to_confirmed_s", took_s)
    assert took_s < slowed(1.0)
    seen.until_phase("stopped", 2)
    assert seen.faults == []


def test_stop_is_the_first_tab_stop_and_escape_stops(service, visit):
    seen = visit(service)
    seen.until_live()
    for key in ("Tab", "Enter", "Space", "Escape"):
        seen.page.keyboard.press(key)
        if key == "Tab":
            assert seen.page.evaluate("document.activeElement.id") == "stop"
            continue
        seen.until_stop_says(STOPPED, 3)
        seen.until_phase("stopped", 3)
        # Re-armed, the report is history. (The page's STOP goes two ways: the second may arrive after a first re-arm.)
        wait_for(lambda: service.script(latched=False) or seen.stop_report() == "", 5, "an empty report")


def test_a_device_that_does_not_confirm_is_not_called_stopped(service, visit):
    service.script(confirms=False, confirmed_ma=0.85)
    seen = visit(service)
    seen.until_live()
    seen.page.evaluate(REMEMBER_REPORTS)
    seen.page.keyboard.press("Escape")
    seen.until_stop_says(NOT_CONFIRMED, 10)
    reports = seen.page.evaluate("window.reports")
    assert "Stopping…" in reports[0] and NOT_CONFIRMED in reports[-1]
    report = seen.stop_report()
    assert "take the headset off" in report and "switch the stimulator off" in report
    assert STOPPED not in report
    service.script(confirms=True, confirmed_ma="follow")  # the device answers after all: the page kept asking
    seen.until_stop_says(STOPPED, 5)


def test_two_seats_are_kept_apart(clinic, visit, sign_in):
    seen = visit(clinic, fragment=sign_in(clinic))
    seen.until_live()
    assert seen.page.locator(".seats button").count() == 2
    seen.page.get_by_role("button", name="Virtual person 2").click()
    seen.page.get_by_role("heading", name="Virtual person 2").wait_for()
    seen.until_live()
    assert "Virtual person 2" in seen.page.locator("#stop").inner_text()
    seen.page.keyboard.press("Escape")
    seen.until_stop_says(STOPPED, 3)
    seen.page.get_by_role("button", name="Virtual person 1").click()
    seen.page.get_by_role("heading", name="Virtual person 1").wait_for()
    assert seen.page.locator("#phase").get_attribute("data-phase") == "on"
    assert seen.faults == []

"""Nothing old looks like now: a silent headset, daemon or server turns every live number into "Unknown", and STOP stays truthful."""

from __future__ import annotations

import signal
import time

STOPPED = "Stopped – confirmed 0.00 mA"
NOT_CONFIRMED = "NOT CONFIRMED"
NO_DATA = "document.querySelector('#status').innerText.includes('No data')"
OUTPUT_UNKNOWN = "document.querySelector('#confirmed').innerText.includes('Unknown')"


def test_a_silent_headset_is_seen_within_two_seconds(service, visit, slowed, record_property):
    seen = visit(service)
    seen.until_live()
    start_s = time.monotonic()
    service.script(mute=True)
    seen.until("document.querySelector('#status').innerText.includes('Delayed')", slowed(2.0))
    record_property("delayed_after_s", time.monotonic() - start_s)
    assert "is-stale" in (seen.page.locator(".traces").get_attribute("class") or "")
    seen.until(NO_DATA, slowed(6.0) - (time.monotonic() - start_s))
    for part in (".biomarkers tbody tr", ".bar"):
        assert all("Unknown" in text for text in seen.page.locator(part).all_inner_texts())
    assert "Unknown – last report" in " ".join(seen.page.locator(".now").inner_text().split())
    assert "confirmed" in seen.page.locator("#confirmed").inner_text()  # the device still reports: its number stays
    assert seen.axe("light") == []
    seen.page.set_viewport_size({"width": 320, "height": 640})
    seen.until("document.documentElement.scrollWidth <= 320", 2)
    service.script(mute=False)
    seen.until_live(slowed(3.0))
    assert seen.faults == []


def test_a_frozen_daemon_makes_everything_unknown(service, visit, slowed, record_property):
    seen = visit(service)
    seen.until_live()
    service.line.process.send_signal(signal.SIGSTOP)
    start_s = time.monotonic()
    try:
        seen.until("!document.querySelector('#status').innerText.includes('Live')", slowed(2.0))
        seen.until(OUTPUT_UNKNOWN, 6.0)
        record_property("unknown_after_s", time.monotonic() - start_s)
        seen.until("document.querySelector('#commanded').innerText.includes('Unknown')", 3.0)
        seen.until(NO_DATA, slowed(7.0) - (time.monotonic() - start_s))
        everything = seen.page.locator("main").inner_text()
        assert "0.85 mA confirmed" not in everything
        assert seen.page.locator(".phase").count() == 0
        assert seen.page.locator("#why").count() == 0
    finally:
        service.line.process.send_signal(signal.SIGCONT)
    seen.until_live(slowed(3.0))


def test_with_the_server_dead_all_is_unknown_and_stop_goes_through_once_it_is_back(service, visit, slowed, record_property):
    seen = visit(service)
    seen.until_live()
    service.web.kill()
    start_s = time.monotonic()
    seen.page.keyboard.press("Escape")
    seen.until("!document.querySelector('#status').innerText.includes('Live')", slowed(2.0))
    seen.until_stop_says(NOT_CONFIRMED, 10 - (time.monotonic() - start_s))
    record_property("not_confirmed_after_s", time.monotonic() - start_s)
    seen.until(OUTPUT_UNKNOWN, max(0.1, slowed(4.0) - (time.monotonic() - start_s)))
    seen.until(NO_DATA, slowed(6.5) - (time.monotonic() - start_s))
    assert STOPPED not in seen.stop_report()
    service.start_web()
    record_property("live_again_after_s", seen.until_live(slowed(3.0)))
    seen.until_stop_says(STOPPED, 5)


def test_a_server_that_hangs_is_left_and_found_again(service, visit):
    seen = visit(service)
    seen.until_live()
    service.web.process.send_signal(signal.SIGSTOP)
    start_s = time.monotonic()
    try:
        seen.page.locator("#stop").click()
        seen.until(OUTPUT_UNKNOWN, 4.0)
        seen.until("window.__eegloop.link === 'lost'", 5.0)
        seen.until_stop_says(NOT_CONFIRMED, 10 - (time.monotonic() - start_s))
        assert STOPPED not in seen.stop_report()
    finally:
        service.web.process.send_signal(signal.SIGCONT)
    seen.until_live(5.0)


def test_what_the_device_has_not_said_is_unknown_and_what_differs_is_said(service, visit):
    seen = visit(service)
    seen.until_live()
    service.script(confirmed_ma=None)
    seen.until(OUTPUT_UNKNOWN, 2.0)
    service.script(confirmed_ma=0.4)
    seen.until("document.querySelector('#confirmed').innerText.includes('0.40')", 2.0)
    seen.until("document.querySelector('.mismatch') !== null", 2.0)

"""Nothing old looks like now: a silent headset, daemon or server turns every live number into "Unknown"."""

from __future__ import annotations

import signal
import time


def numbers(seen) -> str:
    return seen.page.locator(".bars, .biomarkers tbody, .now").all_inner_texts().__repr__()


def test_a_silent_headset_is_seen_within_two_seconds(service, visit, record_property):
    seen = visit(service)
    seen.until_live()
    start_s = time.monotonic()
    service.script(mute=True)
    seen.until("document.querySelector('#status').innerText.includes('Delayed')", 2.0)
    record_property("delayed_after_s", time.monotonic() - start_s)
    assert "is-stale" in (seen.page.locator(".traces").get_attribute("class") or "")
    seen.until("document.querySelector('#status').innerText.includes('No data')", 6.0 - (time.monotonic() - start_s))
    for row in seen.page.locator(".biomarkers tbody tr").all():
        assert "Unknown" in row.inner_text()
    for bar in seen.page.locator(".bar").all():
        assert "Unknown" in bar.inner_text()
    assert "Unknown – last report" in " ".join(seen.page.locator(".now").inner_text().split())
    assert "confirmed" in seen.page.locator("#confirmed").inner_text()  # the device still reports: its number stays
    service.script(mute=False)
    seen.until_live(3)
    assert seen.faults == []


def test_a_frozen_daemon_makes_everything_unknown(service, visit, record_property):
    seen = visit(service)
    seen.until_live()
    service.line.process.send_signal(signal.SIGSTOP)
    start_s = time.monotonic()
    try:
        seen.until("!document.querySelector('#status').innerText.includes('Live')", 2.0)
        seen.until("document.querySelector('#confirmed').innerText.includes('Unknown')", 6.0)
        record_property("unknown_after_s", time.monotonic() - start_s)
        seen.until("document.querySelector('#commanded').innerText.includes('Unknown')", 3.0)
        seen.until("document.querySelector('#status').innerText.includes('No data')", 7.0 - (time.monotonic() - start_s))
        everything = seen.page.locator("main").inner_text()
        assert "0.85 mA confirmed" not in everything
        assert seen.page.locator(".phase").count() == 0
        assert seen.page.locator("#why").count() == 0
    finally:
        service.line.process.send_signal(signal.SIGCONT)
    seen.until_live(3)


def test_a_server_that_is_killed_makes_everything_unknown_and_is_found_again(service, visit, record_property):
    seen = visit(service)
    seen.until_live()
    service.web.kill()
    start_s = time.monotonic()
    seen.until("!document.querySelector('#status').innerText.includes('Live')", 2.0)
    seen.until("document.querySelector('#confirmed').innerText.includes('Unknown')", 4.0)
    seen.until("document.querySelector('#status').innerText.includes('No data')", 6.0 - (time.monotonic() - start_s) + 0.5)
    service.start_web()
    took_s = seen.until_live(3.0)
    record_property("live_again_after_s", took_s)


def test_a_server_that_hangs_is_left_and_found_again(service, visit):
    seen = visit(service)
    seen.until_live()
    service.web.process.send_signal(signal.SIGSTOP)
    try:
        seen.until("document.querySelector('#confirmed').innerText.includes('Unknown')", 4.0)
        seen.until("window.__eegloop.link === 'lost'", 5.0)
    finally:
        service.web.process.send_signal(signal.SIGCONT)
    seen.until_live(5.0)


def test_what_the_device_has_not_said_is_unknown_and_what_differs_is_said(service, visit):
    seen = visit(service)
    seen.until_live()
    service.script(confirmed_ma=None)
    seen.until("document.querySelector('#confirmed').innerText.includes('Unknown')", 2.0)
    service.script(confirmed_ma=0.4)
    seen.until("document.querySelector('#confirmed').innerText.includes('0.40')", 2.0)
    seen.until("document.querySelector('.mismatch') !== null", 2.0)

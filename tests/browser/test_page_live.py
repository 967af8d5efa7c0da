"""The page shows the stream: soon, smoothly, unchanged, with its gaps and bad channels, and asks nobody else for anything."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest
from PIL import Image


@pytest.mark.parametrize(("width", "height", "ratio"), [(1280, 800, 1), (390, 844, 3)])
def test_first_trace_comes_soon_and_every_sample_is_the_one_sent(service, visit, width, height, ratio, record_property):
    tries_s: list[float] = []
    while not tries_s or (tries_s[-1] >= 2.0 and len(tries_s) < 3):  # a busy machine gets three tries, the requirement stays
        seen = visit(service, width, height, device_scale_factor=ratio)
        seen.until("window.__eegloop && window.__eegloop.frames > 0", 10)
        tries_s.append(time.monotonic() - seen.asked_s)
    assert min(tries_s) < 2.0
    seen.until("window.__eegloop.samples > 500 && window.__eegloop.fps >= 15", 10)
    probe = seen.probe()
    assert probe["renderer"] == "worker"
    assert probe["missing"] == 0
    assert probe["samples"] == probe["last_sample"] - probe["first_sample"]
    assert probe["checksum"] == service.sums(probe["first_sample"], probe["last_sample"])
    record_property("first_trace_s", min(tries_s))
    record_property("fps", probe["fps"])
    assert seen.faults == []
    assert seen.foreign == []


def test_64_channels_at_1_khz_stay_smooth(make_service: Callable, visit, record_property):
    service = make_service("--channels", "64", "--rate", "1000")
    seen = visit(service, 1280, 800)
    seen.until("window.__eegloop.samples > 3000 && window.__eegloop.fps >= 15", 20)
    probe = seen.probe()
    record_property("fps", probe["fps"])
    record_property("frame_p95_ms", probe["frame_p95_ms"])
    assert seen.page.locator(".label").count() == 64
    assert seen.faults == []


BROKEN_WORKER = """Worker = class {
  constructor() { setTimeout(() => this.onerror(new Event('error'))) }
  postMessage() {}
  terminate() {}
}"""


def ink(seen, selector: str = ".plot-canvas") -> float:
    """Share of the pixels of an element that are no background."""
    image = Image.open(io.BytesIO(seen.page.locator(selector).screenshot())).convert("L")
    histogram = image.histogram()
    background = max(range(256), key=histogram.__getitem__)
    return sum(n for level, n in enumerate(histogram) if abs(level - background) > 40) / (image.width * image.height)


def test_traces_are_drawn_without_a_worker_too(service, visit):
    without = "delete HTMLCanvasElement.prototype.transferControlToOffscreen"
    seen = visit(service, before=without)
    seen.until("window.__eegloop.frames > 60", 10)
    assert seen.probe()["renderer"] == "main"
    assert ink(seen) > 0.01
    assert seen.faults == []


def test_a_worker_that_cannot_start_is_replaced(service, visit):
    seen = visit(
        service,
        before=BROKEN_WORKER,
    )
    seen.until("window.__eegloop.frames > 30", 10)
    assert seen.probe()["renderer"] == "main"
    assert ink(seen) > 0.01


def test_offset_does_not_hide_the_signal(service, visit):
    """The electrodes lie up to 20 mV off; the drawn line has no offset and fills its row."""
    seen = visit(service)
    seen.until("window.__eegloop.frames > 200", 15)
    assert ink(seen) > 0.02
    assert seen.probe()["gain_uv"] <= 200


def test_a_gap_is_counted_and_a_bad_channel_is_named(service, visit):
    seen = visit(service)
    seen.until_live()
    service.script(lose=100, bad={"Fp2": "flat"})
    seen.until("window.__eegloop.missing === 100", 3)
    bad = seen.page.locator(".label.is-bad")
    bad.wait_for(timeout=3000)
    assert "Fp2" in bad.inner_text()
    assert "flat" in bad.inner_text()
    assert bad.locator("svg").count() == 1
    seen.until("document.querySelector('.bar').innerText.includes('1 channel left out')", 3)
    assert seen.faults == []


def test_no_backlog_after_the_page_was_hidden(service, visit):
    seen = visit(service)
    seen.until_live()
    cover = seen.context.new_page()
    cover.goto("about:blank")
    cover.bring_to_front()
    before = seen.probe()["last_sample"]
    seen.until(f"window.__eegloop.last_sample > {before + 750}", 10)
    seen.page.bring_to_front()
    seen.until_live(2)
    assert seen.probe()["missing"] == 0
    age = seen.page.locator(".pill-age").inner_text()
    assert float(age.split()[0]) < 1.0


def test_two_seats_are_listed_and_kept_apart(make_service: Callable, visit):
    service = make_service("--seats", "2")
    seen = visit(service)
    seen.until_live()
    assert seen.page.locator(".seats button").count() == 2
    seen.page.get_by_role("button", name="Virtual person 2").click()
    seen.page.get_by_role("heading", name="Virtual person 2").wait_for()
    seen.until_live()
    assert "Virtual person 2" in seen.page.locator("#stop").inner_text()
    seen.page.keyboard.press("Escape")
    seen.page.get_by_text("Stopped – confirmed 0.00 mA").wait_for(timeout=3000)
    seen.page.get_by_role("button", name="Virtual person 1").click()
    seen.page.get_by_role("heading", name="Virtual person 1").wait_for()
    assert seen.page.locator("#phase").get_attribute("data-phase") == "on"
    assert seen.faults == []

"""The page shows the stream: soon, smoothly, unchanged, with its gaps and bad channels, and asks nobody else for anything."""

from __future__ import annotations

import io
import time

import pytest
from PIL import Image


def ink(seen, selector: str = ".plot-canvas") -> float:
    """Share of the pixels of an element that are no background."""
    image = Image.open(io.BytesIO(seen.page.locator(selector).screenshot())).convert("L")
    histogram = image.histogram()
    background = max(range(256), key=histogram.__getitem__)
    return sum(n for level, n in enumerate(histogram) if abs(level - background) > 40) / (image.width * image.height)


@pytest.mark.parametrize(("width", "height", "ratio"), [(1280, 800, 1), (390, 844, 3)])
def test_first_trace_comes_soon_and_every_sample_is_the_one_sent(service, visit, slowed, width, height, ratio, record_property):
    limit_s = slowed(2.0)
    seen = visit(service, width, height, device_scale_factor=ratio)
    seen.until("window.__eegloop && window.__eegloop.frames > 0", limit_s)
    record_property("first_trace_s", time.monotonic() - seen.asked_s)
    assert time.monotonic() - seen.asked_s < limit_s
    seen.until("window.__eegloop.samples > 500 && window.__eegloop.fps >= 15", 20)
    probe = seen.probe()
    assert probe["renderer"] == "worker"
    assert probe["missing"] == 0
    assert probe["samples"] == probe["last_sample"] - probe["first_sample"]
    assert probe["checksum"] == service.sums(probe["first_sample"], probe["last_sample"])
    record_property("fps", probe["fps"])
    # The electrodes lie up to 20 mV off; the drawn line has no offset and fills its row.
    assert ink(seen) > 0.015
    assert probe["gain_uv"] <= 200
    assert (seen.faults, seen.foreign, seen.violations()) == ([], [], [])


def test_64_channels_at_1_khz_stay_smooth(wide_service, visit, record_property):
    seen = visit(wide_service, 1280, 800)
    seen.until("window.__eegloop.samples > 2000 && window.__eegloop.fps >= 15", 20)
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
NO_OFFSCREEN_CANVAS = "delete HTMLCanvasElement.prototype.transferControlToOffscreen"


@pytest.mark.parametrize("before", [NO_OFFSCREEN_CANVAS, BROKEN_WORKER])
def test_traces_are_drawn_without_a_worker_too(service, visit, before):
    seen = visit(service, before=before)
    seen.until("window.__eegloop.samples > 250 && window.__eegloop.frames > 30", 15)
    assert seen.probe()["renderer"] == "main"
    assert ink(seen) > 0.002
    assert seen.faults == []


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


def test_what_is_not_judged_is_not_called_bad(service, visit):
    every = dict.fromkeys(("Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2"), "stimulation")
    service.script(bad=every, block="stimulate")
    seen = visit(service)
    seen.until_live()
    seen.until("document.querySelector('.traces').innerText.includes('signal not judged')", 3)
    assert seen.page.locator(".label.is-bad").count() == 0
    assert "all good" not in seen.page.locator(".traces .spoken").inner_text()
    service.script(bad={**every, "F4": "rail"})
    seen.until("document.querySelector('.label.is-bad')?.innerText.includes('F4') === true", 3)


def test_no_backlog_after_the_page_was_hidden(service, visit):
    seen = visit(service)
    seen.until_live()
    cover = seen.context.new_page()
    cover.goto("about:blank")
    cover.bring_to_front()
    before = seen.probe()["last_sample"]
    seen.until(f"window.__eegloop.last_sample > {before + 400}", 10)
    seen.page.bring_to_front()
    seen.until_live(2)
    assert seen.probe()["missing"] == 0
    age = seen.page.locator(".pill-age").inner_text()
    assert float(age.split()[0]) < 1.0

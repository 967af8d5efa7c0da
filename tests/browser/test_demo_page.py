"""The page on the real thing: `eegloop demo` as a person starts it, two tabs on it, STOP against the device's own record."""

from __future__ import annotations

import csv
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from service_rig import RunningService, boot_ns, wait_for

STOPPED = "Stopped – confirmed 0.00 mA"
REMEMBER_PHASES = """new MutationObserver(() => {
  const phase = document.querySelector('#phase')?.dataset.phase;
  const words = document.querySelector('#phase')?.innerText;
  const seen = (window.phases ??= []);
  if (phase && seen.at(-1)?.[0] !== phase) seen.push([phase, words]);
}).observe(document, { childList: true, subtree: true, attributes: true, characterData: true })"""


@pytest.fixture
def demo() -> Iterator[RunningService]:
    folder = Path(tempfile.mkdtemp(prefix="eegd-", dir="/tmp"))
    with RunningService(folder) as service:
        yield service
    shutil.rmtree(folder)


def recorded_sum(demo: RunningService, first: int, last: int) -> int | None:
    """Sum of the float32 bit patterns of samples [first, last) in the recording; None until they are all on disk."""
    ticks = next(iter(demo.layout.data.glob("recordings/derivatives/**/*_ticks.tsv")), None)
    eeg = next(iter(demo.layout.data.glob("recordings/sub-*/**/*_eeg.eeg")), None)
    if ticks is None or eeg is None:
        return None
    words = np.fromfile(eeg, dtype="<u4")
    words = words[: len(words) // 8 * 8].reshape(-1, 8)
    total, have = 0, 0
    with ticks.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["kind"] != "chunk" or None in row.values():
                continue
            start, count, place = int(row["first_sample"]), int(row["count"]), int(row["file_sample"])
            begin, end = max(first, start), min(last, start + count)
            if begin < end and place + end - start <= len(words):
                total += int(words[place + begin - start : place + end - start].sum(dtype=np.uint64))
                have += end - begin
    return total % 2**32 if have == last - first else None


def press(seen, button: str) -> None:
    """Press once it can be pressed."""
    seen.until(f"document.querySelector('#{button}')?.getAttribute('aria-disabled') === 'false'", 10)
    seen.page.locator(f"#{button}").click()


def until_stimulating(demo: RunningService, seen) -> None:
    """Current in the device's record; a session that a busy machine made trip is started again, as a person would."""
    end_s = time.monotonic() + 60
    while demo.output_ma() < 0.1:
        assert time.monotonic() < end_s, (seen.page.locator(".session").inner_text(), demo.output())
        phase = seen.page.evaluate("document.querySelector('#phase')?.dataset.phase")
        if phase in ("stopped", "off"):
            seen.page.evaluate("(id) => document.getElementById(id).click()", "rearm" if phase == "stopped" else "start")
        seen.page.wait_for_timeout(100)


def test_the_demo_is_live_stops_and_starts_again(demo, visit, record_property):
    address = wait_for(lambda: re.search(r"http://127\.0\.0\.1:\d+", demo.output()), 60, "the printed address").group()
    wide = visit(address, 1280, 800, before=REMEMBER_PHASES)
    wide.until("window.__eegloop && window.__eegloop.frames > 0", 40)
    record_property("first_trace_s", time.monotonic() - wide.asked_s)
    phone = visit(address, 320, 640, has_touch=True, is_mobile=True, device_scale_factor=2)
    phone.until_live(20)

    # What the page got is what the disk holds.
    wide.until("window.__eegloop.samples > 400", 20)
    probe = wide.probe()
    assert probe["missing"] == 0
    on_disk = wait_for(lambda: recorded_sum(demo, probe["first_sample"], probe["last_sample"]), 10, "the samples on disk")
    assert on_disk == probe["checksum"]

    # STOP by tap, judged by the device's own record.
    until_stimulating(demo, phone)
    wide.until("document.querySelector('#confirmed .number')?.innerText > '0.05'", 5)
    tapped_ns = boot_ns()
    phone.page.locator("#stop").tap()
    after_ms = demo.zero_after_ms(tapped_ns)
    record_property("tap_to_zero_ms", after_ms)
    assert after_ms <= 1000
    phone.until_stop_says(STOPPED, 5)
    for seen in (phone, wide):
        seen.until_phase("stopped", 5)
        seen.until("document.querySelector('.stop-note, .stop-report p') !== null", 5)
    assert "STOP was pressed on a page" in wide.page.locator(".session").inner_text()
    moved = [phase for phase, _ in wide.page.evaluate("window.phases")]
    assert moved[-1] == "stopped" and {"contact", "baseline", "ramp_up"} & set(moved), moved

    # STOP while nothing flows yet latches too: the session must not go on to stimulate.
    press(wide, "rearm")
    wide.until_phase("off", 5)
    phone.until("document.querySelector('.stop-report').innerText === ''", 5)
    press(wide, "start")
    wide.until_phase("contact", 10)
    wide.page.keyboard.press("Escape")
    wide.until_stop_says(STOPPED, 5)
    wide.until_phase("stopped", 5)

    # Re-arm and start on the other tab, with this one behind it.
    stopped_ns = boot_ns()
    cover = wide.context.new_page()
    cover.bring_to_front()
    press(phone, "rearm")
    press(phone, "start")
    until_stimulating(demo, phone)
    phone.until("document.querySelector('#confirmed .number')?.innerText > '0.05'", 5)
    assert demo.nonzero_since(stopped_ns)
    wide.page.bring_to_front()
    wide.until_live(5)

    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 320
    assert wide.probe()["missing"] == 0
    for seen in (wide, phone):
        assert (seen.faults, seen.foreign, seen.violations()) == ([], [], [])

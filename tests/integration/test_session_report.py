"""Five sessions of one virtual person through the real line and recorder: values, specparam, and what counts as a change."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import record_stream as made

from daemon.record import SessionRecorder
from daemon.record_writer import RecordWriter
from daemon.report_command import report
from dsp.biomarkers import band_power
from dsp.change import own_change
from dsp.electrodes import POSITIONS
from dsp.pipeline import Pipeline
from eegloop.layout import Layout
from eegloop.line import LineSettings
from eegloop.signal import Chunk, StreamInfo
from eegloop.stim import StimState
from records.progress import progress, read_cohort, sessions_of
from records.session import RecordedSession
from records.session_values import session_values

MONTAGE = ("F3", "F4", "O1", "O2")
RATE = 250
SECONDS = 68
EXPONENT = 1.2


def signal(info: StreamInfo, seed: int, alpha_uv: float) -> np.ndarray:
    """(n, channels) µV: sources of 1/f^1.2 noise and of 10 Hz under each electrode, mixed as a head mixes near places."""
    random = np.random.default_rng(seed)
    n, c = RATE * SECONDS, info.n_channels
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 0.5)[:, np.newaxis]

    def noise(shape: np.ndarray) -> np.ndarray:
        x = np.fft.irfft(np.fft.rfft(random.standard_normal((n, c)), axis=0) * shape, n, axis=0)
        return np.asarray(x / x.std(0))

    sources = 9.0 * noise(frequency ** (-EXPONENT / 2)) + alpha_uv * noise(np.exp(-(((frequency - 10.0) / 0.5) ** 2)))
    places = np.array([POSITIONS[name] for name in info.channels])
    mixing = np.exp(-((np.linalg.norm(places[:, np.newaxis] - places, axis=2)) ** 2) / 0.5)
    return np.asarray(sources @ (mixing / np.linalg.norm(mixing, axis=0)))


def record(
    writer: RecordWriter, layout: Layout, info: StreamInfo, seed: int, alpha_uv: float, stim: Callable[[float], StimState | None]
) -> None:
    pipeline = Pipeline(info, LineSettings(), [("band_power", band_power.Settings())])
    setup = {"line": LineSettings().model_dump(mode="json"), "boot_to_lsl_s": 0.0}
    recorder = SessionRecorder(
        writer, layout, "s1", "p1", "rest", info, pipeline.columns, 50.0, {}, 1e9, made.SystemClock(), setup=setup
    )
    data = signal(info, seed, alpha_uv).astype(np.float32)
    for number, start in enumerate(range(0, len(data), 125), 1):
        t0_s = 1000.0 + start / RATE
        chunk = Chunk(data[start : start + 125], start, t0_s, t0_s + 0.5)
        recorder.chunk(number, chunk)
        state = stim(t0_s)
        if state is not None:
            recorder.stim(number, state)
        for row in pipeline.push(chunk):
            recorder.biomarkers(row)
    assert recorder.close(20.0)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Four sessions alike, a fifth with alpha far up, a sixth in which current flows after 30 s."""
    layout = Layout(tmp_path_factory.mktemp("report"))
    layout.create()
    info = StreamInfo("virtual", "virtual", RATE, MONTAGE, ("eeg",) * len(MONTAGE), 187_500.0)

    def current(t_s: float) -> StimState | None:
        values = json.loads(made.state(1).to_json())
        on = 1.0 if t_s >= 1030.0 else 0.0
        return StimState.from_json({**values, "boot_ns": int(t_s * 1e9), "commanded_ma": on, "confirmed_ma": on})

    with RecordWriter() as writer:
        for seed, alpha_uv in enumerate((6.0, 6.6, 5.7, 6.3, 14.0)):
            record(writer, layout, info, seed, alpha_uv, lambda _: None)
        record(writer, layout, info, 9, 6.0, current)
    return layout


def test_values_are_medians_of_clean_hops_and_specparam_finds_what_was_put_in(layout: Layout) -> None:
    headers = sessions_of(layout.recordings, "p1")
    assert len(headers) == 6
    recorded = RecordedSession(headers[0])
    values = {(v.name, v.channel): v for v in session_values(recorded)}
    hops, columns = recorded.hops(), recorded.columns
    i = next(i for i, c in enumerate(columns) if (c.name, c.channel) == ("band_power.alpha", "O1"))
    good = hops["grades"][:, i] == 0
    assert values["band_power.alpha", "O1"].value == float(np.median(hops["values"][good, i]))
    assert values["band_power.alpha", "O1"].clean_s == pytest.approx(good.sum() * 0.1, abs=1e-3)
    for channel in recorded.info.channels:
        assert values["specparam.exponent", channel].value == pytest.approx(EXPONENT, abs=0.15)
        assert values["specparam.alpha_peak", channel].value == pytest.approx(10.0, abs=0.3)


def test_what_came_after_the_first_current_does_not_count(layout: Layout) -> None:
    values = session_values(RecordedSession(sessions_of(layout.recordings, "p1")[5]))
    for v in values:
        least = "30 s are needed" if v.name.startswith("specparam") else "60 s are needed"
        assert math.isnan(v.value) and least in v.reason, v
    assert 15 < max(v.clean_s for v in values) <= 31


def test_a_planted_change_is_found_and_chance_is_named(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = sessions_of(layout.recordings, "p1")
    cohort = tmp_path / "cohort.tsv"
    cohort.write_text("biomarker\tchannel\tsd\tretest_r\tsource\nband_power.alpha\tany\t0.8\t0.85\tmade up for this test\n")
    found = progress(headers[4], headers[:4], read_cohort(cohort))
    assert found.left_out == () and len(found.baseline) == 4
    by_name = {(c.now.name, c.now.channel): c for c in found.changes}
    alpha = by_name["band_power.alpha", "O1"]
    before = [session_values(RecordedSession(h)) for h in headers[:4]]
    logs = [math.log(next(v.value for v in one if (v.name, v.channel) == ("band_power.alpha", "O1"))) for one in before]
    assert alpha.own == own_change(np.array(logs), math.log(alpha.now.value))
    assert alpha.own.verdict == "changed_up" and alpha.log
    assert alpha.reliable is not None and alpha.reliable.verdict == "changed_up"
    assert by_name["specparam.exponent", "O1"].own.verdict in ("no_reliable_change", "changed_up", "changed_down")
    few = progress(headers[3], headers[:3])
    assert {c.own.verdict for c in few.changes} <= {"too_few_sessions", "no_value"}
    # the command: text and JSON, the newest session (the sixth, with current) has no values
    assert report(headers[4], None, cohort, False) == 0
    said = capsys.readouterr().out
    assert "higher than usual" in said and "by chance alone" in said and "says nothing about an illness" in said
    assert report(layout.data, "p1", None, True) == 0
    body = json.loads(capsys.readouterr().out)
    assert len(body["baseline"]) == 5 and all(row["value"] is None for row in body["changes"])


def test_other_montages_and_damaged_files_are_left_out_by_name(layout: Layout) -> None:
    headers = sessions_of(layout.recordings, "p1")
    setup = next((layout.recordings / "derivatives/eegloop/sub-p1/ses-02/eeg").glob("*_setup.json"))
    before = setup.read_text()
    try:
        body = json.loads(before)
        body["line"]["notch_hz"] = 60
        setup.write_text(json.dumps(body))
        found = progress(headers[4], headers[:4])
        assert [(path, reason) for path, reason in found.left_out] == [(headers[1], "another line setting")]
        assert len(found.baseline) == 3 and {c.own.verdict for c in found.changes} <= {"too_few_sessions", "no_value"}
        setup.write_text("{")
        assert "cannot be read" in dict(progress(headers[4], headers[:4]).left_out)[headers[1]]
    finally:
        setup.write_text(before)

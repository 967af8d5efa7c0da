"""Real recordings over real LSL and BrainFlow into one running service with many seats: samples, powers and page against the truth."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import mne
import numpy as np
import pandas as pd
import pytest
from running_service import (
    PageClient,
    Player,
    Recorded,
    RunningService,
    Sender,
    Stimulator,
    bids_errors,
    run_command,
    running,
    seat_config,
    sign_prescriptions,
    until,
    write_config,
)

from control.exposure import GUARD_S

BANDS = ("delta", "theta", "alpha", "beta", "gamma")
TRUTHS_LINE = {
    "high_pass_hz": None, "low_pass_hz": None, "notch_hz": None, "window_s": 4.0, "hop_s": 2.0, "integration": "trapezoid",
}  # fmt: skip
EXCERPT_S = 20.0


@dataclass(frozen=True)
class Case:
    """One recording: its seat, file, where its excerpt begins, its mains, how it is sent, whether the default line runs beside."""

    seat: str
    file: str
    start_s: float
    mains_hz: int
    player: bool = False
    default_line: bool = False
    alpha_channels: tuple[str, ...] = ()


CASES = (
    Case("resting", "resting_ec_alpha_6ch", 10.0, 50, player=True),
    Case("attention", "attention_blinks_32ch", 20.0, 60, default_line=True, alpha_channels=("Oz", "POz")),
    Case("cyton", "cyton_eo_ec_blinks_jaw_8ch", 30.0, 60, default_line=True),
    Case("muse", "muse_oddball_4ch", 40.0, 50),
    Case("emotiv", "emotiv_eye_state_14ch", 75.0, 50),  # two of the four glitches of 0.7 V lie in it
)
BRAINFLOW = "cyton-file"


@dataclass
class Source:
    """A recording as float32 µV rows, (n_samples, n_channels), and its truth."""

    case: Case
    rows_uv: np.ndarray
    labels: tuple[str, ...]
    rate_hz: float
    facts: dict[str, Any]

    def mended(self, rows_uv: np.ndarray, first: int) -> np.ndarray:
        """As the truth was computed: the EPOC's single corrupt samples interpolated (float64)."""
        out = rows_uv.astype(float)
        for glitch in self.facts.get("glitch_samples", []):
            at = glitch - first
            if 0 < at < len(out) - 1:
                out[at] = (out[at - 1] + out[at + 1]) / 2
        return out


def load(shared_data: Path, case: Case) -> Source:
    facts = json.loads((shared_data / "ground_truth.json").read_text())["recordings"][case.file]
    labels = tuple(facts["ch_names"])
    if (shared_data / f"{case.file}.vhdr").exists():
        rows = mne.io.read_raw_brainvision(shared_data / f"{case.file}.vhdr", verbose="error").get_data().T * 1e6
    elif (shared_data / f"{case.file}.csv").exists():
        rows = pd.read_csv(shared_data / f"{case.file}.csv")[list(labels)].to_numpy()
    elif (shared_data / f"{case.file}_openbci_gui.txt").exists():
        text = (shared_data / f"{case.file}_openbci_gui.txt").read_text().splitlines()
        rows = np.array([line.split(",")[1:9] for line in text if line[:1].isdigit()], dtype=float)
    else:
        rows = np.load(shared_data / f"{case.file}.npz")["data_uv"].T
    assert rows.shape == (facts["n_samples"], facts["n_channels"])
    return Source(case, np.ascontiguousarray(rows, dtype=np.float32), labels, float(facts["sfreq"]), facts)


@pytest.fixture(scope="module")
def truth_code(shared_data: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("ground_truth_lib", shared_data / "ground_truth_lib.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_brainflow_file(path: Path, source: Source, rows_uv: np.ndarray) -> None:
    """The rows as a file that BrainFlow's playback board takes for a Cyton's; whole float32 precision."""
    from brainflow.board_shim import BoardIds

    from drivers.sources.brainflow import describe

    described = describe(BoardIds.CYTON_BOARD.name)
    table = np.zeros((len(rows_uv), int(described["num_rows"])))
    table[:, described["eeg_channels"]] = rows_uv
    table[:, described["package_num_channel"]] = np.arange(len(rows_uv)) % 256
    table[:, described["timestamp_channel"]] = 1_700_000_000 + np.arange(len(rows_uv)) / source.rate_hz
    np.savetxt(path, table, fmt="%.17g", delimiter="\t")


@dataclass
class Run:
    """One service, ended, that recorded every case; what was sent, what the page showed, what was written."""

    service: RunningService
    sources: dict[str, Source]
    firsts: dict[str, int]
    page: PageClient
    log: str
    health: dict[str, Any]
    code: int

    def recorded(self, seat: str) -> Recorded:
        return self.service.recorded(seat.replace("-", ""))

    def sent(self, seat: str, n: int) -> np.ndarray:
        """The `n` rows that were sent from the first recorded one on; MNE-LSL's player begins again at the end of its file."""
        rows = self.sources[seat].rows_uv
        return rows[(self.firsts[seat] + np.arange(n)) % len(rows)]


def play(shared_data: Path, folder: Path, seconds: float | None) -> Iterator[Run]:
    """Run every case through one service for `seconds` (None = the whole recordings)."""
    data = folder / "data"
    sources = {case.seat: load(shared_data, case) for case in CASES}
    seats = []
    for case in CASES:
        lsl = {"kind": "lsl", "name": case.seat, "type": "EEG", "wait_s": 30.0}
        truths = [{"kind": "band_power"}, {"kind": "relative_power"}, {"kind": "faa"}]
        seats.append(seat_config(case.seat, lsl, line=TRUTHS_LINE, biomarkers=truths))
        if case.default_line:
            iaf = {"kind": "iaf", "window_s": 16.0, "channels": list(case.alpha_channels) or None}
            marks = [{"kind": "band_power"}, {"kind": "relative_power"}, iaf]
            seats.append(seat_config(f"{case.seat}-default", lsl, line={"notch_hz": case.mains_hz}, biomarkers=marks))
    spans = {}
    for case in CASES:
        rate = sources[case.seat].rate_hz
        start = 0 if seconds is None else round(case.start_s * rate)
        spans[case.seat] = (start, len(sources[case.seat].rows_uv) if seconds is None else start + round(seconds * rate))
    cyton = sources["cyton"]
    file = folder / "cyton.tsv"
    write_brainflow_file(file, cyton, cyton.rows_uv[slice(*spans["cyton"])])
    board = {
        "kind": "brainflow", "board": "PLAYBACK_FILE_BOARD", "master_board": "CYTON_BOARD", "file": str(file),
        "channels": list(cyton.labels),
    }  # fmt: skip
    seats.append(seat_config(BRAINFLOW, board, line=TRUTHS_LINE, biomarkers=[{"kind": "band_power"}]))
    sign_prescriptions(data, seats, authority="observe")
    config = write_config(folder / "config.yaml", seats)
    senders = {
        case.seat: Sender(
            sources[case.seat].rows_uv[slice(*spans[case.seat])], sources[case.seat].labels, sources[case.seat].rate_hz,
            case.seat, folder,
        )
        for case in CASES if not case.player
    }  # fmt: skip
    player = Player({case.seat: shared_data / f"{case.file}.vhdr" for case in CASES if case.player})
    stimulators = [Stimulator(data, str(seat["id"])) for seat in seats]
    try:
        for script in (player, *senders.values()):
            script.wait("ready", 60)
        for script in stimulators:
            script.wait(".stimulator", 60)
        with running("run", config, data) as service:
            page = service.page()
            lsl_seats = {seat["id"] for seat in seats if seat["source"]["kind"] == "lsl"}

            def connected() -> bool:
                return lsl_seats <= {entry["data"]["seat"] for entry in service.audit() if entry["event"] == "source"}

            until(connected, 60, "every seat is connected to its stream")
            for sender in senders.values():
                sender.send()
            longest_s = max((stop - start) / sources[seat].rate_hz for seat, (start, stop) in spans.items())
            for sender in senders.values():
                sender.wait("sent", longest_s + 30)
            until(lambda: seconds_of(service, "resting") >= longest_s, longest_s + 30, "the players have played the span")
            until(lambda: "played to its end" in service.log(), 30, "the playback board has played its file")
            health = service.health()
            code = service.stop()
            page.close()
            firsts = {BRAINFLOW: spans["cyton"][0]}
            sources[BRAINFLOW] = cyton
            for seat in lsl_seats:
                case = next(case for case in CASES if case.seat == seat.removesuffix("-default"))
                sources[seat] = sources[case.seat]
                first = service.recorded(seat.replace("-", "")).samples()[0]
                at = (
                    np.flatnonzero((sources[seat].rows_uv == first).all(axis=1))
                    if case.player
                    else [spans[seat.removesuffix("-default")][0]]
                )
                assert len(at) == 1, f"{seat}: its first recorded sample is not one that was sent"
                firsts[seat] = int(at[0])
            yield Run(service, sources, firsts, page, service.log(), health, code)
    finally:
        for script in (player, *senders.values(), *stimulators):
            script.end()


def seconds_of(service: RunningService, person: str) -> float:
    try:
        recorded = service.recorded(person)
    except AssertionError:
        return 0.0
    return len(recorded.samples()) / 250.0


@pytest.fixture(scope="module")
def excerpts(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    yield from play(shared_data, tmp_path_factory.mktemp("recordings"), EXCERPT_S)


@pytest.fixture(scope="module")
def wholes(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    yield from play(shared_data, tmp_path_factory.mktemp("wholes"), None)


ALL_SEATS = (*(case.seat for case in CASES), *(f"{case.seat}-default" for case in CASES if case.default_line), BRAINFLOW)
TRUTH_SEATS = (*(case.seat for case in CASES), BRAINFLOW)


def check_samples(run: Run, seat: str) -> None:
    """The .eeg is what was sent, bit for bit, with nothing lost, and MNE-Python reads the same."""
    recorded = run.recorded(seat)
    rows = recorded.samples()
    source = run.sources[seat]
    np.testing.assert_array_equal(rows.view(np.uint32), run.sent(seat, len(rows)).view(np.uint32))
    raw = mne.io.read_raw_brainvision(recorded.header, preload=True, verbose="error")
    assert raw.info["sfreq"] == source.rate_hz and tuple(raw.ch_names) == source.labels
    np.testing.assert_array_equal((raw.get_data().T * 1e6).astype(np.float32), rows)
    assert [event for event in recorded.table("events.tsv") if event["trial_type"] == "BAD_gap"] == []
    sidecar = json.loads(recorded.beside("eeg.json").read_text())
    assert sidecar["SamplingFrequency"] == source.rate_hz
    assert sidecar["RecordingDuration"] == pytest.approx(len(rows) / source.rate_hz, abs=0.01)


def check_truth(run: Run, seat: str, truth_code: ModuleType, print_table: bool = True) -> None:
    """Mean of the hops' powers = the truth's own code on the same samples, within 0.1 %, every channel and band."""
    recorded, source = run.recorded(seat), run.sources[seat]
    hops, columns = recorded.hops(), recorded.columns()
    n = int(4 * source.rate_hz)
    whole = hops[hops["end_sample"] >= n]
    np.testing.assert_array_equal(whole["end_sample"], n + (np.arange(len(whole)) * 2 * source.rate_hz).astype(int))
    powers = [i for i, (name, _) in enumerate(columns) if name.startswith("band_power")]
    valid = np.isfinite(whole["values"][:, powers]).all(axis=1)
    # The line gives no value where it had not heard from its interlock for 0.3 s, which a loaded machine does to it.
    # Nor of what came before the stimulator's first confirmed zero: the headset may be there first.
    if longest_silence_s(recorded) < 0.25:
        assert valid[whole["end_sample"] - n >= first_proven_sample(recorded, source.rate_hz)].all()
    assert valid.sum() >= 3
    whole = whole[valid]
    worst = dict.fromkeys(BANDS, 0.0)
    for first in runs_of(valid):
        part = whole[first]
        end = int(part["end_sample"][-1])
        start = int(part["end_sample"][0]) - n
        span = source.mended(run.sent(seat, end)[start:], run.firsts[seat] + start)
        expected, *_ = truth_code.channel_truth(span.T, source.rate_hz, list(source.labels))
        mean = dict(zip(columns, part["values"].mean(axis=0), strict=True))
        for label in source.labels:
            for band in BANDS:
                power = mean[f"band_power.{band}", label]
                truth = expected[label]["band_power_uv2"][band]
                worst[band] = max(worst[band], abs(power / truth - 1))
                assert power == pytest.approx(truth, rel=1e-3), (label, band)
    print(
        f"{seat}: {len(whole)} of {len(valid)} hops, worst of {len(source.labels)} channels:",
        {b: f"{w:.1e}" for b, w in worst.items()},
    )
    for pair in (c for name, c in columns if name in ("faa", "prefrontal_asymmetry")):
        left, right = pair.split("-")
        name = next(name for name, c in columns if c == pair)
        if left not in source.labels:
            assert np.isnan(whole["values"][:, columns.index((name, pair))]).all()
            continue
        alpha = {c: whole["values"][:, columns.index(("band_power.alpha", c))] for c in (left, right)}
        np.testing.assert_allclose(whole["values"][:, columns.index((name, pair))], np.log(alpha[right] / alpha[left]), atol=1e-9)


def longest_silence_s(recorded: Recorded) -> float:
    """How old the newest state of the interlock was at most, when a chunk came to the loop."""
    boot_to_lsl_s = json.loads(recorded.derived("setup.json").read_text())["boot_to_lsl_s"]
    states_s = [int(row["boot_ns"]) * 1e-9 + boot_to_lsl_s for row in recorded.table("stim.tsv")]
    longest_s, heard_s, tick_s = 0.0, math.inf, 0.0
    for row in recorded.table("ticks.tsv"):
        if row["kind"] == "stim":
            heard_s = states_s[int(row["ref"])]
        elif row["kind"] in ("chunk", "idle"):
            tick_s = float(row["arrival_s"] if row["kind"] == "chunk" else row["t0_s"])
            longest_s = max(longest_s, tick_s - heard_s)
    return longest_s


def first_proven_sample(recorded: Recorded, rate_hz: float) -> float:
    """Number of the first sample after the stimulator's first confirmed zero; 0 if that was there before the headset."""
    boot_to_lsl_s = json.loads(recorded.derived("setup.json").read_text())["boot_to_lsl_s"]
    zero_ns = next(zero_ns for row in recorded.table("stim.tsv") if (zero_ns := int(row["zero_since_ns"])))
    first = next(row for row in recorded.table("ticks.tsv") if row["kind"] == "chunk")
    late_s = zero_ns * 1e-9 + boot_to_lsl_s + GUARD_S - float(first["t0_s"])
    return max(0.0, int(first["first_sample"]) + late_s * rate_hz)


def runs_of(valid: np.ndarray) -> list[slice]:
    """Runs of True, as slices of what is left when the others are taken out: the truth's windows follow one another."""
    lengths = [len(run) for run in "".join("x" if ok else " " for ok in valid).split()]
    ends = np.cumsum(lengths).tolist()
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def check_page(run: Run, seat: str) -> None:
    """What the page was sent is what was recorded: samples bit for bit, what it was too slow for told as lost, values in order."""
    recorded, source = run.recorded(seat), run.sources[seat]
    index = next(entry["index"] for entry in run.page.seats if entry["seat"] == seat)
    chunks = run.page.chunks[index]
    rows = recorded.samples()
    shown, missing, due = 0, 0, chunks[0][0]
    for at, data in chunks:
        assert at >= due, "samples came twice"
        missing += at - due
        due = at + len(data)
        shown += len(data)
        np.testing.assert_array_equal(data, rows[at:due])
    told = sum(text["lost_samples"] for text in run.page.texts if text["type"] == "gap" and text["seat"] == seat)
    assert missing <= told, "samples are missing and the page was not told"
    assert shown + told >= min(len(rows) - chunks[0][0], 15 * source.rate_hz)
    hops, columns = recorded.hops(), recorded.columns()
    values = run.page.values(seat)
    assert set(values) == set(columns)
    n_shown = 0
    for number, key in enumerate(columns):
        truth = hops["values"][:, number].tolist()
        at = 0
        for value in values[key]:
            if value is not None:
                # Raises where a value was shown that was never computed, or out of order; one may come back after a n/a.
                at = truth.index(value, max(0, at - 1)) + 1
                n_shown += 1
    assert n_shown >= len(columns)


@pytest.mark.parametrize("seat", ALL_SEATS)
def test_what_was_sent_is_recorded_to_the_bit(excerpts: Run, seat: str) -> None:
    assert len(excerpts.recorded(seat).samples()) >= 0.99 * EXCERPT_S * excerpts.sources[seat].rate_hz
    check_samples(excerpts, seat)


@pytest.mark.parametrize("seat", TRUTH_SEATS)
def test_powers_of_the_running_service_are_the_truth(excerpts: Run, seat: str, truth_code: ModuleType) -> None:
    check_truth(excerpts, seat, truth_code)


@pytest.mark.parametrize("seat", ALL_SEATS)
def test_the_page_was_sent_what_was_recorded(excerpts: Run, seat: str) -> None:
    check_page(excerpts, seat)


@pytest.mark.parametrize("seat", [case.seat for case in CASES if case.alpha_channels])
def test_alpha_frequency_of_the_default_line(excerpts: Run, seat: str, truth_code: ModuleType) -> None:
    """Individual alpha frequency of a channel with a clear peak: within 0.5 Hz of the truth's own on the same 16 s."""
    source, recorded = excerpts.sources[seat], excerpts.recorded(f"{seat}-default")
    hops, columns = recorded.hops(), recorded.columns()
    n = int(16 * source.rate_hz)
    full = hops[hops["end_sample"] >= n]
    for channel in source.case.alpha_channels:
        x = excerpts.sent(f"{seat}-default", int(hops["end_sample"][-1]))[:, source.labels.index(channel)].astype(float)
        for part, truths_name in (("peak", "peak_hz_parabolic"), ("cog", "cog_hz_7_13")):
            values = full["values"][:, columns.index((f"iaf.{part}", channel))]
            shown = np.flatnonzero(np.isfinite(values))
            if not len(shown) and longest_silence_s(recorded) >= 0.25:
                continue  # see check_truth
            assert len(shown), f"{channel}: no individual alpha frequency"
            misses = []
            for i in shown[:: max(1, len(shown) // 8)]:
                end = int(full["end_sample"][i])
                f, density, _ = truth_code.psd(x[np.newaxis, end - n : end], source.rate_hz)
                misses.append(values[i] - truth_code.alpha_stats(f, density[0])[truths_name])
            print(f"{seat} {channel} iaf.{part}: {np.median(values[shown]):.2f} Hz, off by at most {np.abs(misses).max():.2f} Hz")
            assert np.abs(misses).max() <= 0.5


def test_health_names_every_seat_and_no_person(excerpts: Run) -> None:
    body = excerpts.health
    assert {seat["seat"] for seat in body["seats"]} == set(ALL_SEATS)
    assert all(seat["recording"] == "ok" for seat in body["seats"])
    assert "Seat " not in json.dumps(body)


def test_it_ends_in_order_and_leaves_a_valid_dataset(excerpts: Run) -> None:
    assert excerpts.code == 0
    assert "Traceback" not in excerpts.service.output() + excerpts.log
    assert bids_errors(excerpts.service.layout.recordings) == []
    for seat in ALL_SEATS:
        recorded = excerpts.recorded(seat)
        assert recorded.derived("manifest.json").exists()
    done = run_command("verify", str(excerpts.service.data))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seat", ALL_SEATS)
def test_whole_recordings(wholes: Run, seat: str, truth_code: ModuleType) -> None:
    check_samples(wholes, seat)
    check_page(wholes, seat)
    if seat in TRUTH_SEATS:
        check_truth(wholes, seat, truth_code)

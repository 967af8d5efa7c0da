"""Faults of the delivered stream, each on a stream of twenty-millisecond packets, and the named patients."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from simulators.faults import KINDS, Faults, Packet, parse
from simulators.patients import PATIENTS, find_patient

LABELS = ("F3", "F4", "O1")
N = 5
START_S = 1000.0


def stream(*texts: str, seconds: float = 20.0) -> list[Packet]:
    """What arrives, in order of delivery, of a stream whose sample i of channel c is 10 i + c."""
    faults = Faults([parse(text) for text in texts], LABELS)
    out = []
    for k in range(int(seconds * 50)):
        index = k * N + np.arange(N)
        data = (10 * index[:, None] + np.arange(3)).astype(np.float32)
        t_s = k * 0.02
        out += faults.deliver(Packet(t_s, data, START_S + t_s + 0.016, START_S + t_s + 0.02, LABELS))
    return sorted(out, key=lambda packet: packet.due_s)


def first(packet: Packet) -> int:
    """Sample number of a packet's first row."""
    return round(float(packet.data_uv[0, 0]) / 10)


CLEAN = stream()


@pytest.mark.parametrize("name", KINDS)
def test_every_fault_has_defaults_is_deterministic_and_keeps_shapes(name: str) -> None:
    once, again = stream(name), stream(name)
    assert len(once) == len(again)
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a.data_uv, b.data_uv)
        assert (a.stamp_s, a.due_s, a.epoch, a.labels) == (b.stamp_s, b.due_s, b.epoch, b.labels)
        assert a.data_uv.shape == (N, len(a.labels)) and a.data_uv.dtype == np.float32


def test_without_faults_nothing_changes() -> None:
    assert [first(p) for p in CLEAN] == list(range(0, len(CLEAN) * N, N))


def test_loss_drops_its_share_and_leaves_the_rest_alone() -> None:
    kept = stream("loss:share=0.3,seed=5", seconds=60)
    assert len(kept) / 3000 == pytest.approx(0.7, abs=0.04)
    assert all(p.stamp_s == pytest.approx(START_S + first(p) * 0.004 + 0.016) for p in kept)
    assert [first(p) for p in kept] != [first(p) for p in stream("loss:share=0.3,seed=6", seconds=60)]


def test_freeze_repeats_the_last_sample_for_ten_seconds() -> None:
    packets = stream("freeze:at_s=5,for_s=10")
    frozen = [p for p in packets if 5 <= p.t_s < 15]
    assert len({row.tobytes() for p in frozen for row in p.data_uv}) == 1
    assert frozen[0].data_uv[0, 0] == packets[249].data_uv[-1, 0]
    assert first(packets[750]) == 750 * N


def test_burst_and_stall_delay_but_lose_nothing() -> None:
    burst = stream("burst:every_s=0.5")
    assert [first(p) for p in burst] == [first(p) for p in CLEAN]
    assert len({p.due_s for p in burst}) == pytest.approx(40, abs=1)
    stall = stream("stall:at_s=5,for_s=5")
    assert [first(p) for p in stall] == [first(p) for p in CLEAN]
    assert not [p for p in stall if START_S + 5.03 < p.due_s < START_S + 9.99]


def test_gone_comes_back_again_and_again() -> None:
    away = {round(p.t_s, 2) for p in CLEAN} - {round(p.t_s, 2) for p in stream("gone:at_s=3,for_s=1,every_s=6")}
    assert away == {round(k * 0.02, 2) for k in range(1000) if k >= 150 and (k - 150) % 300 < 50}


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_the_clock_steps_once(step_s: float) -> None:
    shift = [p.stamp_s - c.stamp_s for p, c in zip(stream(f"clock_step:at_s=10,step_s={step_s}"), CLEAN, strict=True)]
    assert shift[:500] == [0.0] * 500 and np.allclose(shift[500:], step_s)


def test_restart_opens_anew_with_a_new_clock() -> None:
    packets = stream("restart:at_s=10,gap_s=1,clock_s=3")
    assert [p.epoch for p in packets] == [0] * 500 + [1] * 450
    assert packets[500].stamp_s == 3.0 and packets[-1].stamp_s == pytest.approx(3.0 + 449 * 0.02)
    assert [p.epoch for p in stream("restart:at_s=5", "restart:at_s=10")][-1] == 2


def test_the_rate_is_off_by_its_factor() -> None:
    assert Faults([parse("rate:factor=1.02")], LABELS).pace == 1.02
    assert Faults([], LABELS).pace == 1.0


def test_channel_order_changes_data_and_header_together() -> None:
    late = stream("channel_order:at_s=10")[600]
    assert late.labels == ("O1", "F4", "F3") and late.epoch == 1
    assert late.data_uv[0, 0] == late.data_uv[0, 2] + 2


def test_bad_values_stay_in_their_channel_and_time_even_after_the_order_changed() -> None:
    packets = stream(
        "channel_order:at_s=5", "nan:channel=F3,at_s=10,for_s=2", "saturated:channel=O1", "flat:channel=F4,value_uv=7"
    )
    assert all((p.data_uv[:, p.labels.index("O1")] == 187_500).all() and (p.data_uv[:, 1] == 7).all() for p in packets)
    assert [bool(np.isnan(p.data_uv[:, p.labels.index("F3")]).all()) for p in packets] == [
        10 <= round(p.t_s, 3) < 12 for p in packets
    ]


def test_duplicates_and_disorder() -> None:
    twice = stream("duplicate:share=0.1")
    assert 1050 < len(twice) < 1150 and len({first(p) for p in twice}) == 1000
    swapped = [first(p) for p in stream("disorder:share=0.1")]
    assert sorted(swapped) == [first(p) for p in CLEAN][: len(swapped)]
    assert 50 < sum(a > b for a, b in pairwise(swapped)) < 150


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("los", "did you mean 'loss'"),
        ("loss:part=0.1", "share="),
        ("loss:share=much", "must be a number"),
        ("loss:share=1.5", "0 to 1"),
        ("freeze:for_s=-1", "for_s"),
        ("rate:factor=0", "factor"),
        ("flat:channel", "channel="),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(text)


def test_an_unknown_channel_is_named() -> None:
    with pytest.raises(ValueError, match="F3 F4 O1"):
        Faults([parse("flat:channel=Cz")], LABELS)


@pytest.mark.parametrize("name", PATIENTS)
def test_every_patient_can_be_made(name: str) -> None:
    patient = find_patient(name)
    settings = patient.settings(seed=3)
    assert settings.seed == 3 and patient.about
    Faults([parse(text) for text in patient.faults], settings.montage)


def test_an_unknown_patient_or_setting_is_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'responder'"):
        find_patient("respondr")
    with pytest.raises(ValidationError, match="alfa"):
        find_patient("responder").settings(alfa=1)


def test_faults_can_be_switched_while_the_stream_runs() -> None:
    faults = Faults([parse("duplicate:share=1")], LABELS)
    packet = Packet(7.0, np.ones((N, 3), np.float32), START_S, START_S, LABELS)
    assert len(faults.deliver(packet)) == 2
    faults.switch(["gone:for_s=2", "restart:at_s=3"], 7.0, LABELS)
    assert faults.deliver(packet) == []
    [back] = faults.deliver(replace(packet, t_s=9.5))
    assert back.epoch == 0
    assert faults.deliver(replace(packet, t_s=10.5)) == []  # the restart begins 3 s after the switch
    with pytest.raises(ValueError, match="fault rate"):
        faults.switch(["rate"], 11.0, LABELS)
    faults.switch([], 11.0, LABELS)
    assert faults.deliver(packet) == [packet]


def test_a_headset_that_comes_back_with_fewer_channels_says_so() -> None:
    packets = stream("channel_count:at_s=2,missing=2", seconds=4)
    assert {(p.labels, p.data_uv.shape[1], p.epoch) for p in packets} == {(LABELS, 3, 0), (LABELS[:1], 1, 1)}

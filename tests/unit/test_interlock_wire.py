"""Packets from the daemon: strict, and a STOP however broken the rest."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eegloop.stim import StimCommand
from interlock.wire import PacketError, read_command


def test_what_the_daemon_writes_is_read_back() -> None:
    command = StimCommand("set", 3, "s", "n", 9, 4, 8, "stimulate", 0.5, 10.0, "why")
    assert read_command(command.to_json()) == command


@pytest.mark.parametrize(
    ("packet", "field"),
    [
        (b"", "packet"),
        (b"\xff\xfe", "packet"),
        (b"[" * 100_000, "packet"),
        (b"7", "packet"),
        (b"{}", "kind"),
        (b'{"kind":5}', "kind"),
        (b'{"kind":"' + b"x" * 21 + b'"}', "kind"),
        (b'{"kind":"set","extra":1}', "extra"),
        (b'{"kind":"set","sequence":true}', "sequence"),
        (b'{"kind":"set","sequence":1.0}', "sequence"),
        (b'{"kind":"set","sequence":-1}', "sequence"),
        (b'{"kind":"set","tick_ns":9223372036854775808}', "tick_ns"),
        (b'{"kind":"set","amplitude_ma":"1"}', "amplitude_ma"),
        (b'{"kind":"set","amplitude_ma":null}', "amplitude_ma"),
        (b'{"kind":"set","amplitude_ma":true}', "amplitude_ma"),
        (b'{"kind":"set","amplitude_ma":1' + b"0" * 400 + b"}", "amplitude_ma"),
        (b'{"kind":"set","session":["stop"]}', "session"),
        (b'{"kind":"set","sequence":' + b"9" * 5000 + b"}", "packet"),
        (b'{"kind":"set","amplitude_ma":0.1,"amplitude_ma":2}', "packet"),
        (b'{"kind":"heartbeat","kind":"set"}', "packet"),
    ],
)
def test_refused_with_the_field(packet: bytes, field: str) -> None:
    with pytest.raises(PacketError) as error:
        read_command(packet)
    assert error.value.field == field
    json.dumps([error.value.field, error.value.value, str(error.value)], allow_nan=False)


@pytest.mark.parametrize(
    "packet",
    [
        b'{"kind":"stop"}',
        b'{"kind":"stop","reason":7,"sequence":"x","amplitude_ma":null,"more":1}',
        b'{"kind":"stop","reason":"' + b"y" * 5000 + b'"}',
        b'{"kind":"stop"',
        b'\xff{"kind":"stop"}',
        b'{"kind":"stop","sequence":' + b"9" * 5000 + b"}",
        b'{"kind":"stop","kind":"heartbeat"}',
        b'["stop"]',
    ],
)
def test_a_stop_is_understood_however_broken(packet: bytes) -> None:
    command = read_command(packet)
    assert command.kind == "stop" and len(command.reason) <= 400


def test_infinite_numbers_reach_the_judge() -> None:
    assert read_command(b'{"kind":"set","amplitude_ma":1e999}').amplitude_ma == math.inf
    assert math.isnan(read_command(b'{"kind":"set","amplitude_ma":NaN}').amplitude_ma)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200))
def test_no_bytes_break_it(packet: bytes) -> None:
    try:
        assert isinstance(read_command(packet), StimCommand)
    except PacketError as error:
        assert error.field


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda c: st.lists(c, max_size=2), max_leaves=3
)


WHOLE = json.loads(StimCommand("set", 3, "s", "n", 9, 4, 8, "stimulate", 0.5, 10.0, "why").to_json())
RIGHT = {
    "kind": st.sampled_from(["set", "heartbeat", "arm"]), "sequence": st.integers(0, 99), "session": st.text(max_size=5),
    "tick": st.integers(0, 99), "amplitude_ma": st.floats(), "reason": st.text(max_size=5),
}  # fmt: skip
KEYS = st.sampled_from([*RIGHT, "x"])
CHANGES = st.one_of(st.fixed_dictionaries({}, optional=RIGHT), st.dictionaries(KEYS, JSON, max_size=3))


def test_no_object_breaks_it() -> None:
    """Arbitrary objects, and whole commands with a field or two changed: some of them are understood, and then are what they say."""
    understood: list[StimCommand] = []

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(CHANGES, st.booleans())
    def holds(changes: dict[str, object], whole: bool) -> None:
        try:
            command = read_command(json.dumps({**WHOLE, **changes} if whole else changes).encode())
        except PacketError:
            return
        assert isinstance(command.kind, str) and isinstance(command.amplitude_ma, float) and command.sequence >= 0
        understood.append(command)

    holds()
    assert len(understood) > 5, "hardly any was a command"

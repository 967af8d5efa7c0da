"""Home unit driver against the emulated unit in virtual time: packets, freshness, faults, bytes of any kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from home_way import KEY, START_NS, UNIT, Way
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.stimulators import mqtt
from drivers.stimulators.sealed import read_key, seal, unseal
from eegloop.errors import DeviceError
from simulators.stimulators import home_unit as emulator
from simulators.stimulators.home_unit import FAULTS, MS

BODY = {"cmd": "zero", "host": "a1", "boot": "b2", "seq": 7, "heard": 3}
SEALED = b'{"body":"{\\"cmd\\":\\"zero\\",\\"host\\":\\"a1\\",\\"boot\\":\\"b2\\",\\"seq\\":7,\\"heard\\":3}","mac":"MAC"}'


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    way = Way(tmp_path)
    way.until(lambda: way.driver.poll().output_ma == 0.0)
    yield way
    way.close()


def stimulate(way: Way, amplitude_ma: float = 0.5) -> None:
    way.driver.arm()
    way.until(lambda: way.driver.poll().armed)
    way.run(2.0, amplitude_ma)
    assert abs(way.unit.output_ma - amplitude_ma) < 0.01


# ---- packets ----------------------------------------------------------------------------------------------------


def test_both_sides_seal_alike_and_the_documented_packet_is_what_they_make() -> None:
    packet = seal(KEY, "to", UNIT, BODY)
    text = json.loads(packet)["body"]
    assert packet == SEALED.replace(b"MAC", emulator.mac(KEY, "to", UNIT, text).encode())
    assert packet.decode() in (Path(__file__).parents[2] / "docs" / "home-stimulator-protocol.md").read_text()
    assert unseal(KEY, "to", UNIT, packet) == BODY


@pytest.mark.parametrize(("key", "direction", "unit"), [(bytes(32), "to", UNIT), (KEY, "from", UNIT), (KEY, "to", "HOME-0002")])
def test_another_key_direction_or_unit_does_not_fit(key: bytes, direction: str, unit: str) -> None:
    assert unseal(key, direction, unit, seal(KEY, "to", UNIT, BODY)) is None


def test_every_changed_byte_is_found() -> None:
    packet = seal(KEY, "to", UNIT, BODY)
    for i in range(len(packet)):
        changed = packet[:i] + bytes([packet[i] ^ 1]) + packet[i + 1 :]
        assert unseal(KEY, "to", UNIT, changed) in (None, BODY), changed


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_packet_is_taken_and_none_believed(packet: bytes) -> None:
    assert unseal(KEY, "from", UNIT, packet) is None
    unit = emulator.HomeUnit(UNIT, KEY, "b2")
    unit.receive(packet, START_NS)
    assert not unit.armed


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    for text, mode, word in (
        (KEY.hex(), 0o644, "others may read"),
        ("12", 0o600, "hexadecimal"),
        ("zz" * 32, 0o600, "hexadecimal"),
    ):
        file.write_text(text)
        file.chmod(mode)
        with pytest.raises(DeviceError, match=word):
            read_key(str(file))
    with pytest.raises(DeviceError, match="key_file"):
        read_key(str(tmp_path / "none"))


# ---- the way there and back -------------------------------------------------------------------------------------


def test_identify_arm_ramp_adjust_zero_disarm(way: Way) -> None:
    assert way.driver.serial == UNIT and way.driver.limits[0].value == 2.0
    stimulate(way)
    report = way.driver.poll()
    assert report.armed and abs((report.output_ma or 0.0) - 0.5) < 0.01 and 5.0 < (way.driver.impedance_kohm or 0.0) < 9.0
    way.run(0.3, 0.2)
    assert abs(way.unit.output_ma - 0.2) < 0.01
    way.driver.zero()
    way.until(lambda: way.driver.poll().output_ma == 0.0, 0.1)
    assert not way.unit.output_on and way.unit.armed
    way.driver.disarm()
    way.until(lambda: not way.driver.poll().armed, 0.1)


def test_alone_it_ends_within_its_lease(way: Way) -> None:
    worst_s = 0.0
    for phase in range(10):
        stimulate(way)
        way.run(0.005 * phase, 0.5)
        left_ns = way.now_ns
        for _ in range(300):
            way.advance()
        worst_s = max(worst_s, (way.last_nonzero_ns() - left_ns) / 1e9)
        way.until(lambda: way.driver.poll().output_ma == 0.0)
    assert 0.2 < worst_s <= mqtt.STOPS_ALONE_S


def test_commands_held_up_on_the_way_give_nothing(way: Way) -> None:
    """A broker that wakes up after a second and hands out all it kept: old by the unit's own clock."""
    way.driver.arm()
    way.until(lambda: way.driver.poll().armed)
    held = []
    for _ in range(60):
        way.advance()
        way.driver.output(0.04, 0.0, 400)
        held += way.to
        way.to.clear()
        way.driver.poll()
    for _ in range(200):
        way.advance()
    refused = way.unit.refused
    for _, packet in held:
        way.unit.receive(packet, way.now_ns)
    assert way.unit.refused >= refused + len(held) - 1 and not way.unit.output_on and not way.unit.armed


def test_reports_held_up_on_the_way_are_old(way: Way) -> None:
    way.delay_ms = 250
    way.run(1.0)
    assert way.now_ns - way.driver.poll().t_ns >= 450 * MS, "there and back again"


def test_what_was_heard_before_is_not_obeyed_again(way: Way) -> None:
    stimulate(way)
    way.driver.zero()
    way.driver.disarm()
    way.until(lambda: not way.driver.poll().armed)
    for packet in list(way.sent):
        way.unit.receive(packet, way.now_ns)
        assert not way.unit.output_on and not way.unit.armed


def test_stop_needs_no_seal_and_zero_is_obeyed_late_and_repeated(way: Way) -> None:
    for packet in (b'{"stop":1}', seal(bytes(32), "to", UNIT, {"cmd": "zero"}), seal(KEY, "to", UNIT, {"cmd": "disarm"})):
        stimulate(way)
        way.unit.receive(packet, way.now_ns)
        assert not way.unit.output_on
        way.driver.disarm()
        way.until(lambda: way.driver.poll().output_ma == 0.0 and not way.driver.poll().armed)


def test_the_units_own_limits(way: Way) -> None:
    for amplitude, word in ((2.1, "more than"), (0.2, "jump"), (float("nan"), "more than")):
        way.driver.arm()
        way.until(lambda: way.driver.poll().armed)
        way.driver._say("output", amplitude_ma=amplitude, lease_ms=400) if amplitude == amplitude else way.unit._output(
            amplitude, 400, way.now_ns, way.now_ns
        )
        way.until(lambda: word in way.driver.poll().fault)  # noqa: B023
        assert not way.unit.output_on and "unit_fault" in way.driver.poll().fault
        way.unit.complaint = ""
        way.run(0.2)


def test_alternating_current_is_refused(way: Way) -> None:
    stimulate(way)
    way.driver.output(0.5, 10.0, 400)
    assert way.driver.poll().fault.startswith("frequency")
    way.run(0.1)
    assert not way.unit.output_on


def test_a_restarted_unit_is_greeted_anew(way: Way) -> None:
    way.unit = emulator.HomeUnit(UNIT, KEY, "another life")
    way.run(0.6)
    way.until(lambda: way.driver.poll().output_ma == 0.0 and way.unit.host != "")
    stimulate(way)


def test_old_reports_of_another_life_do_not_replace_the_living(way: Way, tmp_path: Path) -> None:
    stimulate(way)
    other = emulator.HomeUnit(UNIT, KEY, "dead")
    other.report(way.now_ns)
    old = other.outbox.popleft()
    for _ in range(40):
        way.courier.send(old)
        way.run(0.02, 0.5)
    assert way.driver.poll().armed and abs(way.unit.output_ma - 0.5) < 0.01


def test_the_bridge_gone(way: Way) -> None:
    stimulate(way)
    way.courier.close()
    report = way.driver.poll()
    assert not report.connected and report.output_ma is None and way.driver.fileno() == -1


# ---- faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(way: Way, fault: str) -> None:
    stimulate(way)
    way.unit.fault = fault
    named = set()
    for _ in range(1000):
        way.advance()
        way.driver.output(min(0.5, way.unit.set_ma + 0.02), 0.0, 400)
        report = way.driver.poll()
        named.add(report.fault.partition(":")[0])
        assert way.unit.output_ma <= (0.76 if fault == "lies" else 0.51)
    assert named - {""} <= ({"unit_fault", "pads_loosening"} if fault == "dry" else {"unit_fault"})
    if fault in ("coil_hot", "charging", "dry"):
        assert named >= {"unit_fault"} and not way.unit.output_on
    if fault == "dry":
        assert "pads_loosening" in named, "told before the unit ends it by itself"
    if fault == "disarms":
        assert not way.unit.output_on and not way.driver.poll().armed
    if fault == "lies":
        assert abs((way.driver.poll().output_ma or 0.0) - 0.75) < 0.02, "what is measured tells"


def readings(*rows: tuple[float, float | None, float | None], armed: bool = True) -> list[str]:
    """What is said of (s, kΩ, V) in turn, at a compliance of 24 V."""
    pads = mqtt.PadWatch()
    return [pads.look(round(s * 1e9) + MS, kohm, volts, 24.0, armed).partition(":")[0] for s, kohm, volts in rows]


def test_contact_is_judged_as_a_trend() -> None:
    falls = [(i / 10, 9.0 - i / 20, 5.0) for i in range(60)]  # as skin does under current
    assert set(readings(*falls)) == {""}
    assert readings((0, 5.0, 5.0), (9.9, 7.49, 7.0), (10.0, 7.5, 7.0)) == ["", "", "pads_loosening"]
    assert readings((0, 5.0, 5.0), (10.1, 7.6, 7.0), (20.0, 11.4, 7.0)) == ["", "", "pads_loosening"], (
        "what is older does not count"
    )
    assert readings((0, 5.0, 5.0), (5, None, None), (6, 8.0, 5.0)) == ["", "", ""], "after a pause it begins anew"
    assert readings((0, 40.0, 5.0), (1, 40.1, 5.0)) == ["", "pads_dry"]
    assert readings((0, 5.0, 22.8), (0.49, 5.0, 24.0), (0.5, 5.0, 22.8)) == ["", "", "voltage_limit"]
    assert readings((0, 5.0, 22.8), (0.4, 5.0, 22.7), (0.6, 5.0, 24.0), (1.0, 5.0, 24.0)) == [""] * 4
    assert readings((0, None, None), (1, None, 24.0), (2, 5.0, None)) == [""] * 3
    assert readings((0, 50.0, 5.0), armed=False) == ["pads_dry"]


def test_what_was_found_stands_until_the_unit_has_disarmed() -> None:
    pads = mqtt.PadWatch()
    assert pads.look(MS, 41.0, 5.0, 24.0, armed=True).startswith("pads_dry: 41 kΩ: the pads are dry")
    assert pads.look(2 * MS, 5.0, 5.0, 24.0, armed=True).startswith("pads_dry")
    assert pads.look(3 * MS, None, None, 24.0, armed=False) == ""


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_bytes_never_crash_it_and_never_make_it_believe_off_while_on(tmp_path: Path, data: st.DataObject) -> None:
    """Packets lost, doubled, mangled, overtaken; a report of zero is never newer than output that was on by then."""
    way = Way(tmp_path)
    noise = iter(data.draw(st.lists(st.tuples(st.integers(0, 4), st.binary(max_size=12)), max_size=80)))
    kept: list[bytes] = []

    def mangle(packet: bytes) -> list[bytes]:
        kind, extra = next(noise, (0, b""))
        kept.append(packet)
        return ([packet], [], [packet, packet], [extra + packet[len(extra) :], extra], [kept[0], packet])[kind]

    way.mangle = mangle
    on: list[tuple[int, bool]] = []
    for action in data.draw(st.lists(st.sampled_from(["arm", "zero", "disarm", "output", "wait", "lose"]), max_size=30)):
        match action:
            case "arm":
                way.driver.arm()
            case "zero":
                way.driver.zero()
            case "disarm":
                way.driver.disarm()
            case "wait":
                way.advance(data.draw(st.integers(1, 900)))
            case "lose":
                way.to.clear()
        for _ in range(8):
            way.advance()
            on.append((way.now_ns, way.unit.output_on))
            if action == "output":
                way.driver.output(min(0.3, way.unit.set_ma + 0.04), 0.0, 400)
            report = way.driver.poll()
            if report.output_ma == 0.0:
                # It was off at some moment at or after the time the report is dated.
                assert any(not state for at_ns, state in on if at_ns >= report.t_ns) or not on
    way.driver.close()
    for _ in range(100):
        way.advance()
    way.close()
    assert not way.unit.output_on

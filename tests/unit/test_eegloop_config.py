"""config.yaml: what is accepted, and that each error names file, line, value, what is allowed and the key meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from eegloop.config import load, parse
from eegloop.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "config.yaml").read_text()


def changed(before: str, after: str) -> str:
    assert TEXT.count(before) >= 1, before
    return TEXT.replace(before, after, 1)


def line_of(text: str, what: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if what in line)


def test_the_shipped_file_is_accepted() -> None:
    config = load(ROOT / "config.yaml")
    assert [seat.id for seat in config.seats] == ["seat1"]
    assert config.seats[0].source.kind == "lsl"
    assert config.seats[0].line.high_pass_hz == 0.75


def test_every_key_of_the_shipped_file_is_explained_beside_it() -> None:
    sections = {
        "web:",
        "mqtt:",
        "seats:",
        "source:",
        "line:",
        "quality:",
        "biomarkers:",
        "controller:",
        "stimulator:",
        "recording:",
    }
    for number, line in enumerate(TEXT.splitlines(), 1):
        key = line.split("#")[0].strip()
        if key.startswith("- kind:") or not key or key.lstrip("- ") in sections:
            continue
        assert "#" in line, f"line {number} has no explanation: {line}"


@pytest.mark.parametrize(
    ("before", "after", "at", "said"),
    [
        ("  port: 8765", "  prot: 8765", "prot: 8765", ["web.prot", "unknown key", "did you mean 'port'"]),
        ("  port: 8765", "  port: 80", "port: 80", ["web.port", "found 80", "1024"]),
        ("kind: lsl ", "kind: lls ", "kind: lls", ["'lls' is no source", "did you mean 'lsl'"]),
        ("high_pass_hz: 0.75", "high_pas_hz: 0.75", "high_pas_hz", ["seats[0].line.high_pas_hz", "did you mean 'high_pass_hz'"]),
        ("high_pass_hz: 0.75", "high_pass_hz: fast", "high_pass_hz", ["seats[0].line.high_pass_hz", "found 'fast'", "Hz"]),
        ("flat_uv: 0.5", "flat_uv: .nan", "flat_uv", ["seats[0].line.quality.flat_uv", "nan"]),
        ("person: virtual", "person: Ana Ruiz", "person:", ["seats[0].person", "'Ana Ruiz'", "letters and digits"]),
        ("kind: simulated", "kind: simulatde", "kind: simulatde", ["no stimulator", "did you mean 'simulated'"]),
        ("version: 1", "version: 2", "version: 2", ["version", "found 2", "allowed: 1"]),
        ("  - id: seat1", "  - idd: seat1", "idd: seat1", ["seats[0].idd", "did you mean 'id'"]),
        ("task: rest", "task: [rest]", "task:", ["seats[0].recording.task", "found ['rest']"]),
    ],
)
def test_an_error_names_file_line_value_and_what_is_allowed(before: str, after: str, at: str, said: list[str]) -> None:
    text = changed(before, after)
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("here/config.yaml"))
    message = str(caught.value)
    assert f"here/config.yaml:{line_of(text, at)}: " in message
    for part in said:
        assert part in message


def test_all_findings_are_reported_at_once() -> None:
    text = changed("port: 8765", "port: 80").replace("hop_s: 0.1", "hop: 0.1")
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("config.yaml"))
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a mapping"),
        ("a: [1, 2", "config.yaml:1: not valid YAML"),
        ("version: 1\nversion: 1\n", "config.yaml:2: version: set twice (first on line 1)"),
        ("- 1\n- 2\n", "must be a mapping"),
        ("version: 1\nseats: []\n", "seats"),
        ("version: 1\nseats:\n  - 3\n", "config.yaml:3: seats[0]: found 3"),
        ("[" * 5000, "config.yaml"),
        ("a: \x00", "config.yaml"),
        ("version: 1\nseats: &a [*a]\n", "config.yaml"),
    ],
)
def test_rubbish_is_one_clear_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=None) as caught:
        parse(text, Path("config.yaml"))
    assert said in str(caught.value)


def test_two_seats_need_two_names() -> None:
    head, seat = TEXT.split("seats:", 1)
    body = seat.split("\n", 1)[1]
    with pytest.raises(ConfigError, match="used twice"):
        parse(f"{head}seats:\n{body}\n{body}", Path("config.yaml"))
    two = parse(f"{head}seats:\n{body}\n{body.replace('seat1', 'seat2')}", Path("config.yaml"))
    assert [s.id for s in two.seats] == ["seat1", "seat2"]


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--config"):
        load(tmp_path / "none.yaml")


def test_a_password_in_the_clear_is_refused_with_its_line() -> None:
    text = TEXT.replace("broker: null ", "broker: mqtt://ward@broker.home").replace(
        "password_file: null ", "password_file: secret"
    )
    with pytest.raises(ConfigError) as error:
        parse(text, Path("config.yaml"))
    line = next(number for number, found in enumerate(text.splitlines(), 1) if "password_file: secret" in found)
    message = str(error.value)
    assert message.startswith(f"config.yaml:{line}: mqtt.password_file: found 'secret'; ") and "use mqtts://" in message
    assert parse(text.replace("mqtt://ward", "mqtts://ward"), Path("config.yaml")).mqtt.password_file is not None

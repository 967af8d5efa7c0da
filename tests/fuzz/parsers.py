"""Coverage-guided fuzzing of every parser of device bytes with atheris: `make fuzz`, or `python -m tests.fuzz.parsers --seconds 60`.

A parser may drop and count what is no frame, and say so by its own exceptions; anything else is a crash. What it lets through must
be whole: a frame that came through is built anew and must be the bytes it came from, or fit them. One process a target, since atheris
ends the process; the last line says how many inputs each had.
"""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

FUZZED = (
    "drivers.stimulators.magstim_frames", "drivers.stimulators.magventure_frames", "drivers.stimulators.open_lifu_frames", "drivers.stimulators.p24",
    "drivers.stimulators.sealed", "drivers.stimulators.simulated", "interlock.wire",
)  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]


def magstim(data: bytes) -> None:
    """Any bytes as the answer to any command of any version."""
    from drivers.stimulators.magstim_frames import OutOfStep, crc, frame, read_reply

    if len(data) < 2:
        return
    letters = "QRJF@EACYZXN\\BD[^_bIxno"
    command, version = frame(letters[data[0] % len(letters)] + "@"), (5, 7, 9, 10)[data[1] % 4]
    try:
        reply = read_reply(data[2:], command, version)
    except OutOfStep:
        return
    if reply is not None:
        received = data[2 : 2 + reply.length]
        assert 0 < reply.length <= len(data) - 2
        assert reply.refusal == "not_understood" or crc(received[:-1]) == received[-1]


def magventure(data: bytes) -> None:
    from drivers.stimulators.magventure_frames import Parser, Status, frame

    parser = Parser()
    for payload in _cut(parser.feed, data):
        assert frame(*payload) in data
        if payload[0] in (0, 5):
            Status.from_byte(payload[1])


def p24(data: bytes) -> None:
    from drivers.stimulators.p24 import Parser

    parser = Parser()
    for answer in _cut(parser.feed, data):
        assert 0 <= answer.number < 64 and 0 <= answer.command < 1024 and len(answer.data) < 1200


def open_lifu(data: bytes) -> None:
    from drivers.stimulators.open_lifu_frames import Parser, frame, json_object

    parser = Parser()
    for found in _cut(parser.feed, data):
        assert frame(found.number, found.kind, found.command, found.addr, found.reserved, found.data) in data
        json_object(found.data)


def sealed(data: bytes) -> None:
    """A home unit's packet that nobody with the key has made is never believed."""
    from drivers.stimulators.sealed import seal, unseal

    key = bytes(range(32))
    assert unseal(key, "from", "HOME-0001", data) is None
    assert unseal(key, "from", "HOME-0001", seal(key, "to", "HOME-0001", {"type": "report"})) is None


def simulated(data: bytes) -> None:
    from drivers.stimulators.simulated import _read_report

    report = _read_report(data)
    assert report is None or report.output_ma == report.output_ma  # never NaN


def judge_packet(data: bytes) -> None:
    """What a daemon may send the interlock: a command or a named error, nothing else."""
    from eegloop.stim import StimCommand
    from interlock.wire import PacketError, read_command

    try:
        command = read_command(data)
    except PacketError:
        return
    assert isinstance(command, StimCommand)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (magstim, magventure, p24, open_lifu, sealed, simulated, judge_packet)
}


def _cut(feed: Callable[[bytes], list[object]], data: bytes) -> list[object]:
    """The first byte says where the stream is cut: an answer in two halves must read like a whole one."""
    if not data:
        return []
    at = data[0] % len(data)
    return [*feed(data[1 : 1 + at]), *feed(data[1 + at :])]


def _one(name: str, seconds: int, corpus: str) -> None:
    """Fuzz one target until its time is over; atheris ends the process."""
    import atheris

    with atheris.instrument_imports(include=["drivers", "interlock", "eegloop"]):
        for module in FUZZED:
            importlib.import_module(module)
    atheris.Setup([name, f"-max_total_time={seconds}", "-max_len=1400", "-print_final_stats=1", corpus], TARGETS[name])
    atheris.Fuzz()


def _seeds(folder: Path) -> None:
    """The reference's own frames, as the drivers' tests hold them, so that fuzzing begins where the protocols are."""
    texts = (ROOT / "tests" / "unit").glob("test_driver_*.py")
    frames = {found for text in texts for found in re.findall(r'"((?:[0-9A-F]{2} ?){3,})"', text.read_text(encoding="utf-8"))}
    for number, text in enumerate(sorted(frames)):
        (folder / f"seed{number}").write_bytes(b"\0" + bytes.fromhex(text))


def main(argv: list[str] | None = None) -> int:
    """Fuzz every target for its time, one after the other; 1 if one of them crashed."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--seconds", type=int, default=10, help="s for each target (default 10)")
    parser.add_argument("--only", choices=tuple(TARGETS), default=None, help="one target")
    parser.add_argument("--corpus", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.corpus:
        _one(arguments.only, arguments.seconds, arguments.corpus)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name in [arguments.only] if arguments.only else TARGETS:
            corpus = Path(folder) / name
            corpus.mkdir()
            _seeds(corpus)
            command = [sys.executable, "-m", "tests.fuzz.parsers", "--only", name, f"--seconds={arguments.seconds}"]
            done = subprocess.run([*command, "--corpus", str(corpus)], cwd=ROOT, capture_output=True, text=True, check=False)
            count = re.search(r"number_of_executed_units: (\d+)", done.stderr)
            print(f"{name}: {count[1] if count else 0} inputs, {'no crash' if done.returncode == 0 else 'CRASH'}", flush=True)
            if done.returncode != 0:
                failed = True
                print(done.stderr[-3000:])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

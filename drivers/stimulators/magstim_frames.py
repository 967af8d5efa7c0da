"""Magstim's frames: what is sent, how an answer is read, what goes wrong is called. Not a plug-in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

ENHANCED, SINGLE_PULSE, SUPPLY, COIL_READY = 0x01, 0x08, 0x10, 0x20  # bits of the Rapid's status
ONE_AT_A_TIME = "024"  # modes of a BiStim: single, master; the others discharge both at once, or wait for another's trigger


def crc(data: bytes) -> int:
    """The check byte: NOT of the sum, low 8 bits."""
    return ~sum(data) & 0xFF


ERRORS = {
    "no_answer": "the stimulator does not answer; check that it is on and the cable sits in the main unit, not in the touch screen",
    "out_of_step": "an answer was broken or unexpected; nothing is sent until the stimulator has disarmed itself",
    "not_understood": "the stimulator does not know this command; check `model` and the software version",
    "bad_data": "the stimulator did not accept a value or a check byte; try again",
    "conflict": "not allowed in this state; wait until it is ready, or disarm before changing this",
    "coil_hot": "the coil is above 40 °C; let it cool",
    "coil_missing": "no coil is plugged in; switch off, plug it in, switch on",
    "coil_replace": "the stimulator asks for another coil; replace it",
    "other_model": "it tells of a second unit or an interval, so it is a BiStim, not a 200; set `model: bistim` and have the program signed for it",
    "device_error": "the stimulator reports an error; read its screen",
    "supply_missing": "the Rapid's high-voltage supply is not connected; switch off, check its cable, switch on",
    "coil_not_ready": "the Rapid says its coil is not ready; check the coil's plug and its safety switch",
    "control_lost": "remote control was taken away; release the screen's control and arm again",
    "disarmed_itself": "the stimulator disarmed by itself; look at its screen and the coil, then arm again",
    "unplugged": "the serial port is gone; plug it in, then connect again",
}


def frame(text: str) -> bytes:
    """A command with its check byte; `text` is the letter and its data."""
    body = text.encode("latin-1")
    return body + bytes([crc(body)])


@dataclass(frozen=True, slots=True)
class Status:
    """The instrument status of one answer; exactly one of standby, armed, ready."""

    state: str
    coil_present: bool
    replace_coil: bool
    error: bool
    fatal: bool
    remote: bool

    @staticmethod
    def from_byte(byte: int) -> Status | None:
        """None if the byte cannot be a status."""
        state = {1: "standby", 2: "armed", 4: "ready"}.get(byte & 7)
        if state is None:
            return None
        return Status(state, bool(byte & 8), bool(byte & 16), bool(byte & 32), bool(byte & 64), bool(byte & 128))


def shot_pulses(model: str, power_b_percent: int | None, interval: int | None, mode: str | None, rapid: int | None) -> int | None:
    """How many pulses one shot gives by what the device has told; 0 = something else than pulses one by one, None = not told yet."""
    if model == "rapid":
        return None if rapid is None else int(rapid & (SINGLE_PULSE | ENHANCED) == SINGLE_PULSE)
    if model == "bistim":
        if mode is None or power_b_percent is None:
            return None
        return 0 if mode not in ONE_AT_A_TIME or interval == 0 else 1 if power_b_percent == 0 else 2
    return (
        0 if power_b_percent or interval else 1
    )  # a 200 has no second unit and no interval: this is a BiStim under the wrong name


COMPLAINTS = (
    "coil_missing", "coil_hot", "coil_replace", "other_model", "device_error", "control_lost", "supply_missing", "coil_not_ready",
)  # fmt: skip


def complaints(model: str, status: Status, rapid: int | None, hot: bool, paired: bool) -> Iterator[str]:
    """Names of what a status complains of, the most telling first; `paired` = it told of a second unit or an interval."""
    wrong = (
        not status.coil_present, hot, status.replace_coil, model == "200" and paired, status.error, not status.remote,
        rapid is not None and not rapid & SUPPLY, rapid is not None and not rapid & COIL_READY,
    )  # fmt: skip
    return (name for name, on in zip(COMPLAINTS, wrong, strict=True) if on)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: its letter, "" or the name of the refusal, the status, and the text after it."""

    letter: str
    refusal: str
    status: Status | None = None
    rapid: int = 0
    text: str = ""
    length: int = 0


class OutOfStep(Exception):
    """These bytes are not the answer to what was asked."""


def reply_length(command: bytes, version: int) -> int:
    """Length of the answer to a command, check byte included; 0 = until the NUL and one more."""
    letter = chr(command[0])
    if letter in "BD[^_":
        return 4
    if letter == "n":
        return 6 if version >= 10 else 4
    if letter == "o":
        return 8 if version >= 10 else 7
    if letter == "\\":
        return 24 if version >= 9 else 22 if version >= 7 else 21
    return {"J": 12, "F": 9, "X": 4, "N": 0, "I": 6, "x": 6}.get(letter, 3)


def read_reply(buffer: bytes, command: bytes, version: int = 9) -> Reply | None:
    """The answer to `command` at the head of `buffer`, None = not all here yet.

    Raises
    ------
    OutOfStep
        If the bytes cannot be that answer.
    """
    if not buffer:
        return None
    letter = chr(command[0])
    if buffer[0] == 0x3F:
        return Reply(letter, "not_understood", length=1)
    if buffer[0] != command[0]:
        raise OutOfStep(f"answer to {letter!r} begins with {buffer[0]:#04x}")
    if len(buffer) < 2:
        return None
    refusal = {0x3F: "bad_data", 0x53: "conflict"}.get(buffer[1], "")
    length = 3 if refusal else reply_length(command, version)
    if length == 0:
        end = buffer.find(0, 0, 24)
        if end < 0 and len(buffer) >= 24:
            raise OutOfStep("endless version text")
        length = end + 2 if end >= 0 else len(buffer) + 1
    if len(buffer) < length:
        return None
    if crc(buffer[: length - 1]) != buffer[length - 1]:
        raise OutOfStep(f"answer to {letter!r} has a wrong check byte")
    if refusal:
        return Reply(letter, refusal, length=length)
    if letter == "N":
        return Reply(letter, "", text=buffer[1 : length - 2].decode("latin-1"), length=length)
    status = Status.from_byte(buffer[1])
    if status is None:
        raise OutOfStep(f"answer to {letter!r} has no status")
    with_rapid = letter in "BD[^_n\\x"
    text = buffer[3 if with_rapid else 2 : length - 1].decode("latin-1")
    if letter in "JF\\o" and not (text.isascii() and text.isdigit()):
        raise OutOfStep(f"answer to {letter!r} has no numbers")
    return Reply(letter, "", status, buffer[2] if with_rapid else 0, text, length)

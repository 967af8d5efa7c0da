"""open-LIFU's frames: what is sent, how the stream is cut, and sequences that end by themselves. Not a plug-in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from eegloop.errors import DeviceError

SLICE_S = 0.5
START, END = 0xAA, 0xDD
COMMAND, ANSWER, CONTROLLER, POWER = 0xE2, 0xE3, 0xEA, 0xEB
MOST_DATA = 2048
PING, VERSION, HARDWARE_ID = (COMMAND, 0x00), (COMMAND, 0x02), (COMMAND, 0x05)
TEMPERATURE, SET_TRIGGER, GET_TRIGGER = (CONTROLLER, 0x06), (CONTROLLER, 0x13), (CONTROLLER, 0x14)
START_TRIGGER, STOP_TRIGGER = (CONTROLLER, 0x15), (CONTROLLER, 0x16)
SET_HV, GET_HV, HV_ON, HV_OFF, HV_IS_ON = (POWER, 0x31), (POWER, 0x32), (POWER, 0x33), (POWER, 0x34), (POWER, 0x3D)


def crc(data: bytes) -> int:
    """CRC-16/CCITT-FALSE."""
    value = 0xFFFF
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ (0x1021 if value & 0x8000 else 0)) & 0xFFFF
    return value


def frame(number: int, kind: int, command: int, addr: int = 0, reserved: int = 0, data: bytes = b"") -> bytes:
    """AA, number, type, command, address, reserved, length, data, check value, DD."""
    body = number.to_bytes(2, "big") + bytes([kind, command, addr, reserved]) + len(data).to_bytes(2, "big") + data
    return bytes([START]) + body + crc(body).to_bytes(2, "big") + bytes([END])


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame from the device."""

    number: int
    kind: int
    command: int
    addr: int
    reserved: int
    data: bytes


class Parser:
    """Cuts the stream into frames by length; what is none is dropped and counted."""

    def __init__(self) -> None:
        self.broken = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        self._buffer += data
        found = []
        while self._buffer:
            if self._buffer[0] != START:
                self._drop()
                continue
            if len(self._buffer) < 9:
                break
            length = int.from_bytes(self._buffer[7:9], "big")
            if length > MOST_DATA:
                self._drop()
                continue
            if len(self._buffer) < length + 12:
                break
            received = bytes(self._buffer[: length + 12])
            if received[-1] != END or crc(received[1:-3]) != int.from_bytes(received[-3:-1], "big"):
                self._drop()
                continue
            del self._buffer[: length + 12]
            found.append(_frame(received))
        return found

    def clear(self) -> None:
        self._buffer.clear()

    def _drop(self) -> None:
        """The rest may still hold a frame, from its next AA on."""
        self.broken += 1
        start = self._buffer.find(START, 1)
        del self._buffer[: start if start > 0 else len(self._buffer)]


@dataclass(frozen=True, slots=True)
class Sequence:
    """Pulses that end by themselves.

    Attributes
    ----------
    rate_hz : int
        Pulses a second.
    n_pulses, n_trains : int
        Pulses in a train, trains in the sequence.
    train_interval_us : int
        From train to train, 0 = without a pause.
    """

    rate_hz: int
    n_pulses: int
    pulse_width_us: int
    n_trains: int = 1
    train_interval_us: int = 0

    @property
    def duration_s(self) -> float:
        train_s = self.n_pulses / self.rate_hz
        return (self.n_trains - 1) * max(train_s, self.train_interval_us / 1e6) + train_s

    def to_json(self) -> bytes:
        """For "set trigger"; raises DeviceError for what is out of range or would outlast 0.5 s."""
        whole = all(
            type(v) is int for v in (self.rate_hz, self.n_pulses, self.pulse_width_us, self.n_trains, self.train_interval_us)
        )
        if not whole or min(self.rate_hz, self.n_pulses, self.pulse_width_us, self.n_trains) < 1 or self.train_interval_us < 0:
            raise DeviceError(f"open_lifu: {self}: must be whole numbers from 1 up (train_interval_us from 0)")
        if self.pulse_width_us * self.rate_hz >= 1_000_000:
            raise DeviceError(f"open_lifu: {self}: the pulse must be shorter than its period")
        if 0 < self.train_interval_us < self.n_pulses / self.rate_hz * 1e6:
            raise DeviceError(f"open_lifu: {self}: the interval must not be shorter than the train")
        if self.duration_s > SLICE_S:
            raise DeviceError(f"open_lifu: {self.duration_s:.2f} s: must end by itself within {SLICE_S} s")
        body = {
            "TriggerFrequencyHz": self.rate_hz,
            "TriggerPulseCount": self.n_pulses,
            "TriggerPulseWidthUsec": self.pulse_width_us,
            "TriggerPulseTrainInterval": self.train_interval_us,
            "TriggerPulseTrainCount": self.n_trains,
            "TriggerMode": 0,
            "ProfileIndex": 0,
            "ProfileIncrement": 0,
        }
        return json.dumps(body, separators=(",", ":")).encode()


def _frame(received: bytes) -> Frame:
    kind, command, addr, reserved = received[3:7]
    return Frame(int.from_bytes(received[1:3], "big"), kind, command, addr, reserved, received[9:-3])


def json_object(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}

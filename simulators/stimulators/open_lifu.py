"""Emulator of an Openwater open-LIFU (focused ultrasound): transmitter and high-voltage console. Not affiliated with Openwater.

`python -m simulators.stimulators.open_lifu [--model both|transmitter|console] [--interlock] [--fault F] [--record FILE]`
Built from the facts in reference/stimulators.md section 5 (open firmware, the maker's SDK). The real device has two USB
ports; `both` answers for both on one. The record has a `pulse` (width, high voltage) for each trigger pulse, also without
high voltage, where `volts` is 0. Where the reference leaves a choice the worse one is taken: nothing stops when the
host goes, unless `--interlock` (newer console firmware: high voltage off when the port closes). `coil_hot` is the
overheat flag: start is answered, and nothing starts.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from typing import Any

from simulators.stimulators.wire import FAULTS, MS, EmulatedDevice, S, serve

START, END = 0xAA, 0xDD
ACK_TYPE, COMMAND, ANSWER, CONTROLLER, POWER, ERROR = 0xE0, 0xE2, 0xE3, 0xEA, 0xEB, 0xEF
BAD_PARSE, BAD_CRC, UNKNOWN = 0xEC, 0xED, 0xEE
MOST_DATA = 2048
HALF_NS = 500 * MS
MODELS = ("both", "transmitter", "console")
FIELDS = (
    "TriggerFrequencyHz",
    "TriggerPulseCount",
    "TriggerPulseWidthUsec",
    "TriggerPulseTrainInterval",
    "TriggerPulseTrainCount",
    "TriggerMode",
    "ProfileIndex",
    "ProfileIncrement",
)


def crc(data: bytes) -> int:
    """CRC-16/CCITT-FALSE."""
    value = 0xFFFF
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ (0x1021 if value & 0x8000 else 0)) & 0xFFFF
    return value


def frame(number: int, kind: int, command: int, addr: int = 0, reserved: int = 0, data: bytes = b"") -> bytes:
    body = number.to_bytes(2, "big") + bytes([kind, command, addr, reserved]) + len(data).to_bytes(2, "big") + data
    return bytes([START]) + body + crc(body).to_bytes(2, "big") + bytes([END])


class OpenLifu(EmulatedDevice):
    """The device.

    Parameters
    ----------
    model : str
        Which of the two ports this is.
    interlock : bool
        Newer console firmware: high voltage goes off when the port closes.
    """

    def __init__(self, model: str = "both", interlock: bool = False) -> None:
        super().__init__()
        self.model = model
        self.interlock = interlock
        self.trigger: dict[str, int] = {}
        self.running = False
        self.volts_set = 0.0
        self.high_voltage = self.twelve_volts = False
        self.overheated = False
        self.temperature_c, self.ambient_c = 31.5, 25.0
        self.asynchronous = False
        self._frame = bytearray()
        self._frame_ns = self._started_ns = 0
        self._next_ns = self._pulse = self._train = 0

    # ---- time ---------------------------------------------------------------------------------------------------

    @property
    def output_on(self) -> bool:
        return self.running and (self.high_voltage or self.model == "transmitter")

    def next_ns(self) -> int | None:
        due = [self._frame_ns + HALF_NS] if self._frame else []
        if self.running:
            due.append(self._next_ns)
            if self.fault == "disarms":
                due.append(self._started_ns + 100 * MS)
        return min(due) if due else None

    def pass_time(self, now_ns: int) -> None:
        if self._frame and now_ns >= self._frame_ns + HALF_NS:
            self._frame.clear()
        if self.fault == "coil_hot" and not self.overheated:
            self.overheated, self.temperature_c = True, 71.0
            self._stop(now_ns, "overheated")
        while self.running and self._next_ns <= now_ns:
            if self.fault == "disarms" and self._next_ns >= self._started_ns + 100 * MS:
                self._stop(self._started_ns + 100 * MS, "by itself")
                break
            self._one_pulse()
        if self.running and self.fault == "disarms" and now_ns >= self._started_ns + 100 * MS:
            self._stop(now_ns, "by itself")

    def host(self, present: bool, now_ns: int) -> None:
        if not present and self.interlock and self.high_voltage:
            self.high_voltage = False
            self.record(now_ns, "level", high_voltage=0.0, why="port closed")

    def _volts(self) -> float:
        if not self.high_voltage:
            return 0.0
        return self.volts_set * (1.5 if self.fault == "lies" else 1.0)

    def _one_pulse(self) -> None:
        trigger = self.trigger
        self.record(self._next_ns, "pulse", width_us=trigger["TriggerPulseWidthUsec"], volts=self._volts())
        period_ns = S // trigger["TriggerFrequencyHz"]
        self._pulse += 1
        if self._pulse < trigger["TriggerPulseCount"] or trigger["TriggerMode"] == 1:
            self._next_ns += period_ns
            return
        self._train += 1
        if trigger["TriggerMode"] == 2 or self._train >= trigger["TriggerPulseTrainCount"]:
            self._stop(self._next_ns + period_ns, "finished")
            return
        gap_us = trigger["TriggerPulseTrainInterval"]
        train_ns = trigger["TriggerPulseCount"] * period_ns
        self._next_ns += period_ns + (gap_us * 1000 - train_ns if gap_us else 0)
        self._pulse = 0

    def _stop(self, at_ns: int, why: str) -> None:
        if self.running:
            self.running = False
            self.record(at_ns, "disarmed", why=why)

    # ---- bytes --------------------------------------------------------------------------------------------------

    def receive(self, byte: int, now_ns: int) -> None:
        if not self._frame:
            if byte != START:
                return
            self._frame_ns = now_ns
        self._frame.append(byte)
        if len(self._frame) < 9:
            return
        length = int.from_bytes(self._frame[7:9], "big")
        if length > MOST_DATA:
            self._frame.clear()
            self.say(frame(0, BAD_PARSE, 0))
        if not self._frame or len(self._frame) < length + 12:
            return
        received, self._frame = bytes(self._frame), bytearray()
        number, kind, command = int.from_bytes(received[1:3], "big"), received[3], received[4]
        self.pass_time(now_ns)
        if received[-1] != END:
            self.say(frame(number, BAD_PARSE, command))
        elif crc(received[1:-3]) != int.from_bytes(received[-3:-1], "big"):
            self.say(frame(number, BAD_CRC, command))
        else:
            self._obey(number, kind, command, received[5], received[6], received[9:-3], now_ns)

    def spoil(self, frame: bytes) -> bytes:
        return frame[:-3] + bytes([frame[-3] ^ 0x55]) + frame[-2:]

    def _obey(self, number: int, kind: int, command: int, addr: int, reserved: int, data: bytes, now_ns: int) -> None:
        answer: bytes | int | None
        if kind == COMMAND:
            answer = self._global(command, data, now_ns)
        elif kind == CONTROLLER and self.model != "console":
            answer = self._controller(command, reserved, data, now_ns)
        elif kind == POWER and self.model != "transmitter":
            answer = self._power(command, addr, data, now_ns)
        else:
            answer = None
        if answer is None:
            self.say(frame(number, UNKNOWN, command, addr))
        elif isinstance(answer, int):  # -1 = refused, else the value of the reserved byte
            self.say(frame(number, ERROR if answer < 0 else ANSWER, command, addr, max(answer, 0)))
        else:
            self.say(frame(number, ANSWER, command, addr, 0, answer))

    def _global(self, command: int, data: bytes, now_ns: int) -> bytes | int | None:
        if command == 0x0F:
            self._stop(now_ns, "reset")
            self.high_voltage = False
        return {0x00: b"", 0x02: b"v2.0.0", 0x03: data, 0x05: bytes(range(12 if self.model != "console" else 16)), 0x0F: b""}.get(
            command
        )

    def _controller(self, command: int, reserved: int, data: bytes, now_ns: int) -> bytes | int | None:
        match command:
            case 0x06 | 0x07:
                return struct.pack("<f", self.temperature_c if command == 0x06 else self.ambient_c)
            case 0x09:
                self.asynchronous = bool(data[0]) if data else self.asynchronous
                return int(self.asynchronous)
            case 0x13:
                return self._configure(data, now_ns)
            case 0x14:
                return self._told() if self.trigger else -1
            case 0x15:
                return self._start(now_ns)
            case 0x16:
                self._stop(now_ns, "told to")
                return b""
            case 0x1A:
                return b"\x01"
        return None

    def _configure(self, data: bytes, now_ns: int) -> bytes | int:
        self._stop(now_ns, "configured anew")
        if len(data) > 254:
            return -1
        try:
            body: Any = json.loads(data)
            values = {name: int(float(body.get(name, 0))) for name in FIELDS}
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return -1
        if values["TriggerFrequencyHz"] < 1 or values["TriggerMode"] not in (0, 1, 2) or min(values.values()) < 0:
            return -1
        self.trigger = values
        return self._told()

    def _told(self) -> bytes:
        running = self.running and self.fault != "lies"
        status = {"TrainCount": self._train, "TriggerStatus": "RUNNING" if running else "STOPPED"}
        return json.dumps({**self.trigger, **status}, separators=(",", ":")).encode()

    def _start(self, now_ns: int) -> bytes | int:
        if self.fault == "refuses_arm" or not self.trigger:
            return -1
        trigger = self.trigger
        period_us = 1_000_000 / trigger["TriggerFrequencyHz"]
        gap_us = trigger["TriggerPulseTrainInterval"]
        if trigger["TriggerPulseWidthUsec"] >= period_us or 0 < gap_us < trigger["TriggerPulseCount"] * period_us:
            return -1
        if not self.overheated and not self.running and trigger["TriggerPulseCount"] > 0:
            self.running = True
            self._started_ns = self._next_ns = now_ns
            self._pulse = self._train = 0
            self.record(now_ns, "armed")
        return b""

    def _power(self, command: int, addr: int, data: bytes, now_ns: int) -> bytes | int | None:
        match command:
            case 0x31:
                if len(data) != 4:
                    return -1
                (volts,) = struct.unpack(">f", data)
                if not 0.0 <= volts <= 100.0:
                    return -1
                self.volts_set = volts
            case 0x32:
                return struct.pack("<f", 0.0 if self.fault == "lies" else self._volts())
            case 0x33 | 0x34:
                self.high_voltage = command == 0x33
                self.record(now_ns, "level", high_voltage=self._volts())
            case 0x35 | 0x36:
                self.twelve_volts = command == 0x35
            case 0x37 | 0x38:
                return struct.pack("<f", self.temperature_c)
            case 0x3D:
                return int(self.high_voltage and self.fault != "lies")
            case 0x3E:
                return int(self.twelve_volts)
            case 0x42:
                self.high_voltage = self.high_voltage and addr == 1
            case _:
                return None
        return b""


def build(arguments: argparse.Namespace) -> OpenLifu:
    """The device of the command line."""
    return OpenLifu(arguments.model, arguments.interlock)


def main(argv: list[str] | None = None) -> int:
    """Run the emulator; its first line of output is the pseudo-terminal's path."""
    parser = argparse.ArgumentParser(prog="open_lifu", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", choices=MODELS, default="both", help="which port (default: both on one)")
    parser.add_argument("--interlock", action="store_true", help="newer console: high voltage off when the port closes")
    return serve(parser, build, FAULTS, argv)


if __name__ == "__main__":
    sys.exit(main())

"""Emulator of Magstim 200², BiStim² and Rapid² stimulators on their serial line (9600 8N1). Not affiliated with Magstim.

`python -m simulators.stimulators.magstim [--model 200|bistim|rapid] [--software 9.0.0] [--unlock CODE] [--fault F] [--record FILE]`
Built from the facts in reference/stimulators.md section 1: client programs and a client author's own device simulator.
No device was touched; three things are this emulator's own, as no source tells: a half command is forgotten after
1 s, a train that is above the power table is refused when it is fired, and the count of pulses rules, not the duration.
"""

from __future__ import annotations

import argparse
import re
import sys

from simulators.stimulators.wire import FAULTS, MS, EmulatedDevice, S, byte_ns, serve

BAUD = 9600
MODELS = ("200", "bistim", "rapid")
KEEP_ALIVE_NS = 1 * S
ARMING_NS = 1 * S
IDLE_DISARM_NS = 60 * S
HALF_COMMAND_NS = 1 * S
HOT_TENTHS = 400
UNLOCK = re.compile(r"[!-~]{4}-[!-~]{8}-[!-~]{2}")
UNLOCK_LENGTH = 18
FREE = frozenset("QRJF\\")


def _steps(text: str) -> tuple[tuple[int, int], ...]:
    return tuple((int(power), int(hz)) for power, _, hz in (step.partition(":") for step in text.split()))


# Power % -> Hz; between two listed powers the device may do what the lower one may (the reference lists steps).
TRAIN_HZ: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {
    (240, 0): _steps(
        "0:50 31:46 35:41 40:37 43:33 48:32 49:31 50:30 52:29 54:28 56:27 60:25 66:22 70:20 74:19 79:18 85:17 92:16 98:15"
    ),
    (240, 1): _steps("0:100 31:98 50:50 52:49 60:45 70:40 80:35 90:30 100:25"),
    (240, 2): _steps("0:100 49:98 50:97 53:91 56:87 60:80 63:74 67:71 70:68 73:65 77:60 80:57 85:53 90:49 95:45 100:41"),
    (115, 0): _steps("0:36 31:35 35:32 38:30 40:28 45:25 49:23 53:21 58:19 65:17 73:15 82:13 95:11"),
    (115, 1): _steps("0:60 38:59 40:55 45:50 50:44 55:40 60:37 67:33 75:29 83:26 90:24 97:22"),
    (115, 2): _steps("0:60 50:58 55:52 60:47 65:43 71:39 80:34 89:30 97:27 100:25"),
}


def crc(data: bytes) -> int:
    """The check byte: NOT of the sum, low 8 bits."""
    return ~sum(data) & 0xFF


class Magstim(EmulatedDevice):
    """The device: settings, state machine, keep-alive and coil.

    Parameters
    ----------
    model : str
        "200", "bistim" or "rapid".
    software : tuple of int
        Rapid's version; it decides the lengths of several frames.
    unlock : str
        Rapid from v9: the only code that gives remote control, "" = none is needed.
    rapid_type : int
        0 Rapid, 1 Super Rapid, 2 Super Rapid Plus1.
    mains_v : int
        240 or 115.
    """

    def __init__(
        self, model: str = "200", software: tuple[int, ...] = (9, 0, 0), unlock: str = "", rapid_type: int = 0, mains_v: int = 240
    ) -> None:
        super().__init__(byte_ns(BAUD))
        self.model = model
        self.software = software
        self.version = software[0]
        self.unlock = unlock
        self.limits_hz = TRAIN_HZ[mains_v, rapid_type]
        self.plus1 = rapid_type == 2
        self.remote = self.armed = False
        self.power_a = 30
        self.power_b = 30 if model == "bistim" else 0
        self.interval = 10
        self.high_resolution = False
        self.temperature_tenths = [240, 240]
        self.system_mode = b""  # of a BiStim, as set at its screen; empty = what interval and resolution make of it
        self.train_mode = False
        self.enhanced = False
        self.rate_tenths = self.duration_tenths = 0
        self.pulses = 1
        self.wait_tenths = 10 if self.version >= 9 else 1
        self.charge_delay_ms = 0
        self.error_code = "U00"
        self.coil_present = True
        self.supply_connected = self.coil_ready = True
        self.error = self.fatal = self.replace_coil = False
        self.coil_override = False
        self._command = bytearray()
        self._command_ns = 0
        self._alive_ns = self._armed_ns = self._idle_ns = 0
        self._recovered_ns = 0
        self._train: list[tuple[int, int]] = []  # pulses still to give: when, power
        self._train_end_ns = self._wait_end_ns = 0

    # ---- time ---------------------------------------------------------------------------------------------------

    @property
    def output_on(self) -> bool:
        return self.armed

    def next_ns(self) -> int | None:
        due = [self._train[0][0]] if self._train else []
        if self.armed:
            due += [self._alive_ns + KEEP_ALIVE_NS, self._idle_ns + IDLE_DISARM_NS]
            if self.fault == "disarms":
                due.append(self._armed_ns + 500 * MS)
        if self._command:
            due.append(self._command_ns + HALF_COMMAND_NS)
        return min(due) if due else None

    def pass_time(self, now_ns: int) -> None:
        if self._command and now_ns >= self._command_ns + HALF_COMMAND_NS:
            self._command.clear()
        if self.fault == "coil_hot":
            self.temperature_tenths = [412, 408]
        lapse_ns = self._alive_ns + KEEP_ALIVE_NS
        while self._train and self._train[0][0] <= min(now_ns, lapse_ns if self.armed else now_ns):
            at_ns, power = self._train.pop(0)
            self._pulse(at_ns, power)
            self._idle_ns = at_ns
        if not self.armed:
            return
        if now_ns >= lapse_ns:
            self._disarm(lapse_ns, "keep-alive lapsed")
            self.remote = False
        elif now_ns >= self._idle_ns + IDLE_DISARM_NS:
            self._disarm(self._idle_ns + IDLE_DISARM_NS, "not fired for 60 s")
        elif max(self.temperature_tenths) > HOT_TENTHS:
            self._disarm(now_ns, "coil too hot")
        elif self.fault == "disarms" and now_ns >= self._armed_ns + 500 * MS:
            self._disarm(now_ns, "by itself")

    def ready(self, now_ns: int) -> bool:
        return self.armed and now_ns >= self._armed_ns + ARMING_NS and now_ns >= self._recovered_ns and not self._train

    def _disarm(self, at_ns: int, why: str) -> None:
        if self.armed:
            self.record(at_ns, "disarmed", why=why)
        self.armed = False
        self.coil_override = False
        self._train.clear()

    def _pulse(self, at_ns: int, power: int) -> None:
        given = min(110, round(power * 1.5) + 1) if self.fault == "lies" else power
        self.record(at_ns, "pulse", power_percent=given)

    # ---- bytes --------------------------------------------------------------------------------------------------

    def receive(self, byte: int, now_ns: int) -> None:
        if not self._command:
            if chr(byte) not in self._known():
                self.say(b"?")
                return
            self._command_ns = now_ns
        self._command.append(byte)
        if len(self._command) < self._length():
            return
        command, self._command = bytes(self._command), bytearray()
        self._obey(command, now_ns)

    def spoil(self, frame: bytes) -> bytes:
        return frame[:-1] + bytes([frame[-1] ^ 0x10])

    def _known(self) -> str:
        known = "QRF@E"
        if self.model == "rapid":
            known += "N\\BD[^_bI"
            if self.version >= 9:
                known += "xno"
            return known
        return known + ("JACXYZ" if self.model == "bistim" else "J")

    def _length(self) -> int:
        """Of the whole command, check byte included."""
        letter = chr(self._command[0])
        if letter == "Q" and self.model == "rapid" and self.version >= 9 and len(self._command) > 1 and self._command[1] != 0x40:
            return UNLOCK_LENGTH
        return 2 + self._digits().get(letter, 1)

    def _digits(self) -> dict[str, int]:
        new = self.version >= 9
        return {"@": 3, "A": 3, "C": 3, "B": 4, "D": 5 if new else 4, "[": 4 if new else 3, "n": 5 if self.version >= 10 else 4}

    def _obey(self, command: bytes, now_ns: int) -> None:
        letter, data = chr(command[0]), command[1:-1]
        if crc(command[:-1]) != command[-1]:
            self._refuse(letter, "?")
            return
        if letter == "Q":
            self._take_control(data, now_ns)
            return
        if not (letter in FREE or (letter == "E" and data == b"A") or self.remote):
            if self.model != "rapid":  # newer ones say nothing at all to a host that has no control
                self._refuse(letter, "S")
            return
        if letter in self._digits() and not data.isdigit():
            self._refuse(letter, "?")
            return
        before = self._status(now_ns)
        answer = getattr(self, f"_do_{_NAMES[letter]}")(data, before, now_ns)
        if isinstance(answer, str):
            self._refuse(letter, answer)
            return
        if self.remote:
            self._alive_ns = now_ns
        self._answer(letter, answer)

    def _answer(self, letter: str, body: bytes) -> None:
        frame = letter.encode() + body
        self.say(frame + bytes([crc(frame)]))

    def _refuse(self, letter: str, why: str) -> None:
        self._answer(letter, why.encode())

    def _status(self, now_ns: int) -> bytes:
        """Instrument status; on Rapid commands that say more, `_both` adds the Rapid's own byte."""
        armed = self.armed and self.fault != "lies"
        state = 0x01 if not armed else 0x04 if self.ready(now_ns) else 0x02
        hot = max(self.temperature_tenths) > HOT_TENTHS
        worn = (0x10 if hot or self.replace_coil else 0) | (0x20 if hot or self.error else 0) | (0x40 if self.fatal else 0)
        return bytes([state | (0x08 if self.coil_present else 0) | worn | (0x80 if self.remote else 0)])

    def _rapid(self, now_ns: int) -> bytes:
        running = bool(self._train) or now_ns < self._train_end_ns
        waiting = not running and now_ns < self._wait_end_ns
        flags = (0x10 if self.supply_connected else 0) | (0x20 if self.coil_ready else 0)
        flags |= (0x01 if self.enhanced else 0) | (0x02 if running else 0) | (0x04 if waiting else 0)
        return bytes([flags | (0 if self.train_mode else 0x08)])

    def _both(self, before: bytes, now_ns: int) -> bytes:
        return before + self._rapid(now_ns)

    def _locked(self, now_ns: int) -> bool:
        """Parameters cannot change during a train and the wait after it."""
        return bool(self._train) or now_ns < self._wait_end_ns

    # ---- commands: each returns the body of the answer, or "S" or "?" -------------------------------------------

    def _take_control(self, data: bytes, now_ns: int) -> None:
        if self.unlock and self.model == "rapid" and self.version >= 9 and data.decode("latin-1") != self.unlock:
            return
        if not self.remote:
            self.record(now_ns, "remote", on=True)
        self.remote = True
        self._alive_ns = now_ns
        self._answer("Q", self._status(now_ns))

    def _do_release(self, _data: bytes, _before: bytes, now_ns: int) -> bytes:
        self._disarm(now_ns, "released")
        if self.remote:
            self.record(now_ns, "remote", on=False)
        self.remote = False
        return self._status(now_ns)

    def _do_settings(self, _data: bytes, before: bytes, _now_ns: int) -> bytes:
        interval = self.interval if self.model == "bistim" else 0
        return before + f"{self.power_a:03d}{self.power_b:03d}{interval:03d}".encode()

    def _do_temperature(self, _data: bytes, before: bytes, _now_ns: int) -> bytes:
        return before + "".join(f"{t:03d}" for t in self.temperature_tenths).encode()

    def _do_power(self, data: bytes, before: bytes, now_ns: int) -> bytes | str:
        if int(data) > (110 if self.enhanced else 100) or self._locked(now_ns):
            return "S"
        self.power_a = int(data)
        return before

    def _do_power_b(self, data: bytes, before: bytes, _now_ns: int) -> bytes | str:
        if int(data) > 100:
            return "S"
        self.power_b = int(data)
        return before

    def _do_interval(self, data: bytes, before: bytes, _now_ns: int) -> bytes | str:
        if int(data) == 0 and self.armed:
            return "S"
        self.interval = int(data)
        return before

    def _do_fine(self, _data: bytes, before: bytes, _now_ns: int) -> bytes | str:
        return self._resolution(True, before)

    def _do_coarse(self, _data: bytes, before: bytes, _now_ns: int) -> bytes | str:
        return self._resolution(False, before)

    def _resolution(self, fine: bool, before: bytes) -> bytes | str:
        if self.armed:
            return "S"
        self.high_resolution, self.interval = fine, 10
        return before

    def _do_mode(self, _data: bytes, before: bytes, _now_ns: int) -> bytes:
        return before + (self.system_mode or (b"1" if self.interval == 0 else b"4" if self.high_resolution else b"2"))

    def _do_trigger(self, data: bytes, before: bytes, now_ns: int) -> bytes | str:
        """`E`: A disarm, B arm, H fire."""
        if data == b"A":
            self._disarm(now_ns, "told to")
        elif data == b"B":
            hot = max(self.temperature_tenths) > HOT_TENTHS
            if self.armed or self.fault == "refuses_arm" or not (self.coil_present or self.coil_override) or hot:
                return "S"
            self.armed = True
            self._armed_ns = self._idle_ns = now_ns
            self.record(now_ns, "armed")
        elif data == b"H":
            if not self.ready(now_ns) or now_ns < self._wait_end_ns or not self._fire(now_ns):
                return "S"
        else:
            return "?"
        return before

    def _fire(self, now_ns: int) -> bool:
        self._idle_ns = now_ns
        if self.model == "rapid" and self.train_mode:
            return self._start_train(now_ns)
        self._pulse(now_ns, self.power_a)
        if self.model == "bistim":
            step_ns = self.interval * (MS // 10 if self.high_resolution else MS)
            self._train = [(now_ns + step_ns, self.power_b)]
            self._recovered_ns = now_ns + 4 * S
        elif self.model == "200":
            self._recovered_ns = now_ns + (2 if self.power_a < 50 else 3 if self.power_a < 80 else 4) * S
        else:
            self._recovered_ns = now_ns + (2 if self.enhanced else 1) * S
        return True

    def _start_train(self, now_ns: int) -> bool:
        most_hz = [hz for power, hz in self.limits_hz if power <= self.power_a][-1]
        if not 0 < self.rate_tenths <= most_hz * 10 or self.duration_tenths == 0:
            return False
        gap_ns = 10 * S // self.rate_tenths
        count = max(1, self.pulses)
        self._train = [(now_ns + i * gap_ns, self.power_a) for i in range(count)]
        self._train_end_ns = now_ns + count * gap_ns
        self._wait_end_ns = self._train_end_ns + max(500 * MS, self._wait_ns(count))
        self._recovered_ns = self._wait_end_ns
        self.pass_time(now_ns)
        return True

    def _wait_ns(self, count: int) -> int:
        """What the power supply needs after a train: reference section 1.6."""
        rate_hz = self.rate_tenths / 10
        energy_j = 0.0252 * self.power_a**2
        need_s = count * (rate_hz * energy_j - 1050.0) / (1050.0 * rate_hz)
        return round(max(0.0, need_s) * 1e9)

    def _do_version(self, _data: bytes, _before: bytes, _now_ns: int) -> bytes:
        return b"V" + ".".join(str(part) for part in self.software).encode() + b"\0"

    def _do_rapid_settings(self, _data: bytes, before: bytes, now_ns: int) -> bytes:
        new = self.version >= 9
        text = f"{self.power_a:03d}{self.rate_tenths:04d}{self.pulses:0{5 if new else 4}d}"
        text += f"{self.duration_tenths:0{4 if new else 3}d}{self.wait_tenths:0{4 if self.version >= 7 else 3}d}"
        return self._both(before, now_ns) + text.encode()

    def _do_rate(self, data: bytes, before: bytes, now_ns: int) -> bytes | str:
        if int(data) > 1000 or self._locked(now_ns) or not self.train_mode:
            return "S"
        rapid = self._both(before, now_ns)
        self.rate_tenths = int(data)
        return rapid

    def _do_pulses(self, data: bytes, before: bytes, now_ns: int) -> bytes | str:
        if int(data) > (6000 if self.version >= 9 else 1000) or self._locked(now_ns) or not self.train_mode:
            return "S"
        rapid = self._both(before, now_ns)
        self.pulses = int(data)
        return rapid

    def _do_duration(self, data: bytes, before: bytes, now_ns: int) -> bytes | str:
        """Also the switch between single pulses and trains: 0 and 1.0 s, in standby."""
        value = int(data)
        if self._locked(now_ns):
            return "S"
        if (value == 0 or not self.train_mode) and self.armed:
            return "S"
        if not self.train_mode and value not in (0, 10):
            return "S"
        rapid = self._both(before, now_ns)
        if value and self.enhanced:
            return "S"
        self.train_mode = value != 0
        self.duration_tenths = value
        return rapid[:1] + self._rapid(now_ns)  # the reference's exchange shows the new mode in this answer

    def _do_enhance(self, _data: bytes, before: bytes, now_ns: int) -> bytes | str:
        return self._enhance(True, before, now_ns)

    def _do_plain(self, _data: bytes, before: bytes, now_ns: int) -> bytes | str:
        return self._enhance(False, before, now_ns)

    def _enhance(self, on: bool, before: bytes, now_ns: int) -> bytes | str:
        if self.armed or self.train_mode:
            return "S"
        rapid = self._both(before, now_ns)
        self.enhanced = on
        self.power_a = self.power_a if on else min(self.power_a, 100)
        return rapid

    def _do_override(self, _data: bytes, before: bytes, _now_ns: int) -> bytes | str:
        if self.armed:
            return "S"
        self.coil_override = True
        return before

    def _do_error(self, _data: bytes, before: bytes, _now_ns: int) -> bytes:
        return before + self.error_code.encode()

    def _do_system(self, _data: bytes, before: bytes, now_ns: int) -> bytes:
        return self._both(before, now_ns) + bytes([0, (1 if self.plus1 else 0) | (4 if self.charge_delay_ms else 0)])

    def _do_delay(self, data: bytes, before: bytes, now_ns: int) -> bytes | str:
        if int(data) > (10_000 if self.version >= 10 else 2_000):
            return "S"
        body = self._do_system(data, before, now_ns) if self.version >= 10 else self._both(before, now_ns)
        self.charge_delay_ms = int(data)
        return body

    def _do_read_delay(self, _data: bytes, before: bytes, _now_ns: int) -> bytes:
        return before + f"{self.charge_delay_ms:0{5 if self.version >= 10 else 4}d}".encode()


_NAMES = {
    "R": "release", "J": "settings", "F": "temperature", "@": "power", "A": "power_b", "C": "interval", "Y": "fine", "Z": "coarse",
    "X": "mode", "E": "trigger", "N": "version", "\\": "rapid_settings", "B": "rate", "D": "pulses", "[": "duration", "^": "enhance",
    "_": "plain", "b": "override", "I": "error", "x": "system", "n": "delay", "o": "read_delay",
}  # fmt: skip


def build(arguments: argparse.Namespace) -> Magstim:
    """The device of the command line; raises ValueError naming what is wrong."""
    parts = arguments.software.split(".")
    if not parts[0] or not all(part.isdigit() for part in parts):
        raise ValueError(f"--software {arguments.software!r}: must be like 9.0.0")
    if arguments.unlock and not UNLOCK.fullmatch(arguments.unlock):
        raise ValueError(f"--unlock {arguments.unlock!r}: must be like xxxx-xxxxxxxx-xx")
    return Magstim(arguments.model, tuple(int(part) for part in parts), arguments.unlock, arguments.type, arguments.mains)


def main(argv: list[str] | None = None) -> int:
    """Run the emulator; its first line of output is the pseudo-terminal's path."""
    parser = argparse.ArgumentParser(prog="magstim", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", choices=MODELS, default="200", help="which stimulator (default 200)")
    parser.add_argument("--software", default="9.0.0", help="Rapid's software version (default 9.0.0)")
    parser.add_argument("--unlock", default="", help="Rapid from 9: the code that gives remote control (default: none needed)")
    parser.add_argument(
        "--type", type=int, choices=(0, 1, 2), default=0, help="Rapid, Super Rapid or Super Rapid Plus1 (default 0)"
    )
    parser.add_argument("--mains", type=int, choices=(115, 240), default=240, help="V (default 240)")
    return serve(parser, build, FAULTS, argv)


if __name__ == "__main__":
    sys.exit(main())

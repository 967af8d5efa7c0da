"""Emulator of MagVenture MagPro R30 and X100 stimulators on their serial line (38400 8N1). Not affiliated with MagVenture.

`python -m simulators.stimulators.magventure [--model r30|x100|r30+option|x100+option|...] [--fault F] [--record FILE]`
Built from the facts in reference/stimulators.md section 2 (client programs). No device was touched. There is no
keep-alive: an enabled device stays enabled and a train runs to its end. This emulator's own, as no source tells:
di/dt in A/us equals the amplitude in %, the coil is too hot from 41 °C, disabling ends a train, a malformed frame is
dropped (`--deaf`: the interface then hears nothing any more), the answers to 0A, 0B and 0C are laid out as set.
"""

from __future__ import annotations

import argparse
import sys

from simulators.stimulators.wire import FAULTS, MS, EmulatedDevice, S, byte_ns, serve

BAUD = 38400
MODELS = {"r30": 0, "x100": 1, "r30+option": 2, "x100+option": 3, "r30+option+mono": 4, "mst": 5}
PAGES = (1, 2, 3, 4, 6, 7, 8, 13, 15, 16, 17, 19)
HOT_C = 41
START, END = 0xFE, 0xFF
BURST = 3
TWIN, DUAL = 2, 3


def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x8C if byte & 1 else 0)
        rows.append(byte)
    return tuple(rows)


_CRC = _table()


def crc(payload: bytes) -> int:
    """CRC-8 Dallas/Maxim over the payload."""
    value = 0
    for byte in payload:
        value = _CRC[value ^ byte]
    return value


def frame(payload: bytes) -> bytes:
    return bytes([START, len(payload)]) + payload + bytes([crc(payload), END])


def interval_index(interval_ms: float, paired: bool) -> int:
    """Index under which an inter-pulse interval is read back."""
    if paired:
        for low, start, step, base in ((1000, 3000, 100, 0), (500, 1000, 50, 20), (100, 500, 10, 30), (20, 100, 1, 70)):
            if interval_ms >= low:
                return round(base + (start - interval_ms) / step)
        return round(150 + (20 - interval_ms) * 2) if interval_ms >= 10 else round(170 + (10 - interval_ms) * 10)
    if interval_ms >= 20:
        return round(100 - interval_ms)
    return round(80 + (20 - interval_ms) * 2) if interval_ms >= 10 else round(100 + (10 - interval_ms) * 10)


class MagVenture(EmulatedDevice):
    """The device: settings, status, trains.

    Parameters
    ----------
    model : str
        A key of `MODELS`.
    deaf : bool
        After a malformed frame it hears nothing any more, as one client's authors saw.
    """

    def __init__(self, model: str = "x100+option", deaf: bool = False) -> None:
        super().__init__(byte_ns(BAUD))
        self.model = MODELS[model]
        self.enabled = False
        self.mode = 0
        self.waveform = 1
        self.direction = 0
        self.amplitude = [0, 0]
        self.factor = [100, 100]
        self.temperature_c = 21
        self.coil = 60
        self.serial = b"\x00\x12\x34"
        self.page = 1
        self.burst_pulses = 3
        self.interval_ms = 20.0
        self.ratio = 1.0
        self.delays = bytes(6)
        self.train = (10, 1, 1, 10)  # rate x10, pulses, trains, interval x10
        self.timing_tail = bytes(3)
        self.control = 0
        self.count = 0
        self._deafens, self._deaf = deaf, False
        self._frame = bytearray()
        self._plan: list[tuple[int, int, bool]] = []  # pulses to give: when, amplitude, last of the train
        self._running = False
        self._enabled_ns = self._fired_ns = 0

    # ---- time ---------------------------------------------------------------------------------------------------

    @property
    def output_on(self) -> bool:
        return self.enabled

    @property
    def most_hz(self) -> int:
        """Greatest rate of pulses or bursts."""
        most = 100 if self.model in (1, 3) else 30
        if self.mode in (TWIN, DUAL):
            return 5 if self.waveform == 0 else min(most, 50)
        return min(most, 20) if self.waveform == BURST else most

    def next_ns(self) -> int | None:
        due = [self._plan[0][0]] if self._plan else []
        if self.enabled and self.fault == "disarms":
            due.append(self._enabled_ns + 500 * MS)
        return min(due) if due else None

    def pass_time(self, now_ns: int) -> None:
        if self.fault == "coil_hot" and self.temperature_c < HOT_C:
            self.temperature_c = HOT_C + 2
            self._short(3, self.temperature_c, self.coil)
        while self._plan and self._plan[0][0] <= now_ns:
            at_ns, amplitude, last = self._plan.pop(0)
            self._pulse(at_ns, amplitude)
            if self._running:
                self._short(2, amplitude, 0)
                if last:
                    self._running = False
                    self._short(8, self.page, 0)
        if not self.enabled:
            return
        if self.temperature_c >= HOT_C:
            self._disable(now_ns, "coil too hot")
            self._short(1, *self.amplitude)
        elif self.fault == "disarms" and now_ns >= self._enabled_ns + 500 * MS:
            self._disable(now_ns, "by itself")
            self._short(1, *self.amplitude)

    def turn_knob(self, amplitude: int) -> None:
        """Somebody at the front panel changes the amplitude."""
        self.amplitude[0] = amplitude
        self._short(1, *self.amplitude)

    def _disable(self, at_ns: int, why: str) -> None:
        if self.enabled:
            self.record(at_ns, "disarmed", why=why)
        self.enabled = self._running = False
        self._plan.clear()

    def _pulse(self, at_ns: int, amplitude: int) -> None:
        self.count += 1
        given = round(amplitude * 1.5) + 1 if self.fault == "lies" else amplitude
        self.record(at_ns, "pulse", amplitude_percent=given)

    # ---- bytes --------------------------------------------------------------------------------------------------

    def receive(self, byte: int, now_ns: int) -> None:
        if self._deaf or (not self._frame and byte != START):
            return
        self._frame.append(byte)
        if len(self._frame) < 2 or len(self._frame) < self._frame[1] + 4:
            return
        received, self._frame = bytes(self._frame), bytearray()
        payload = received[2:-2]
        if not payload or received[-1] != END or crc(payload) != received[-2]:
            self._deaf = self._deafens
            return
        self.pass_time(now_ns)
        self._obey(payload[0], payload[1:], now_ns)

    def spoil(self, frame: bytes) -> bytes:
        return frame[:-2] + bytes([frame[-2] ^ 0x55]) + frame[-1:]

    @property
    def status(self) -> int:
        enabled = self.enabled and self.fault != "lies"
        return self.mode | self.waveform << 2 | (0x10 if enabled else 0) | self.model << 5

    def _short(self, kind: int, first: int, second: int) -> None:
        self.say(frame(bytes([kind, first & 0xFF, second & 0xFF, self.status])))

    def _obey(self, command: int, data: bytes, now_ns: int) -> None:
        match command:
            case 0x00:
                self.say(frame(b"\x00" + self._head()))
            case 0x01 if data and max(data[:2]) <= 100:
                self.amplitude[: len(data[:2])] = data[:2]
                self._short(1, *self.amplitude)
            case 0x02 if data:
                self._enable(data[0] == 1, now_ns)
            case 0x03:
                self._fire(now_ns)
            case 0x04:
                self._toggle_train(now_ns)
            case 0x05:
                self.say(frame(b"\x05" + self._head() + bytes([0, 0, *self.factor, self.page, self._running])))
            case 0x06 if len(data) >= 8:
                self._set_train(data[:8])
                self._short(8, self.page, self._running)
            case 0x07 if data and data[0] in PAGES:
                self.page = data[0]
                self._short(8, self.page, self._running)
            case 0x08 if len(data) >= 6:
                self.delays = data[:6]
                self._short(8, self.page, self._running)
            case 0x09 if data:
                self._configure(data)
            case 0x0A if data:
                if data[0] == 1 and len(data) >= 7:
                    self.delays = data[1:7]
                self.say(frame(b"\x0a\x00" + self.delays))
            case 0x0B if data:
                if data[0] == 1 and len(data) >= 10:
                    self.control = data[1]
                    self._set_train(data[2:10])
                    self.timing_tail = data[10:13].ljust(3, b"\0")
                values = b"".join(v.to_bytes(2, "big") for v in self.train)
                self.say(frame(b"\x0b\x00" + bytes([self.control]) + values + self.timing_tail))
            case 0x0C:
                self.say(frame(b"\x0c\x00" + bytes(10) + (self.count & 0xFFFF).to_bytes(2, "big") + b"\x00" + bytes([self.page])))

    def _head(self) -> bytes:
        return bytes([self.status]) + self.serial + bytes([self.temperature_c, self.coil, *self.amplitude])

    def _enable(self, on: bool, now_ns: int) -> None:
        if not on:
            self._disable(now_ns, "told to")
        elif not self.enabled and self.fault != "refuses_arm" and self.temperature_c < HOT_C:
            self.enabled = True
            self._enabled_ns = now_ns
            self.record(now_ns, "armed")
        self._short(1, *self.amplitude)
        if on and self.model in (1, 3):  # the X100 says more
            self._short(3, self.temperature_c, self.coil)
            self._short(1, *self.amplitude)

    def _fire(self, now_ns: int) -> None:
        late_enough = now_ns - self._fired_ns >= S // self.most_hz or self._fired_ns == 0
        if not self.enabled or self._running or not late_enough:
            self._short(2, 0, 0)
            return
        self._fired_ns = now_ns
        self._plan = self._one(now_ns)
        self.pass_time(now_ns)
        self._short(2, self.amplitude[0], self.amplitude[1] if self.mode in (TWIN, DUAL) else 0)

    def _one(self, at_ns: int) -> list[tuple[int, int, bool]]:
        """The pulses of one trigger."""
        step_ns = round(self.interval_ms * MS)
        if self.mode in (TWIN, DUAL):
            second = self.amplitude[1] if self.mode == DUAL else round(self.amplitude[0] / self.ratio)
            return [(at_ns, self.amplitude[0], False), (at_ns + step_ns, min(100, second), False)]
        count = self.burst_pulses if self.waveform == BURST else 1
        return [(at_ns + i * step_ns, self.amplitude[0], False) for i in range(count)]

    def _toggle_train(self, now_ns: int) -> None:
        rate, pulses, trains, interval = self.train
        if self._running:
            self._running = False
            self._plan.clear()
        elif self.enabled and self.page in (2, 7) and 1 <= rate <= self.most_hz * 10:
            self._running = True
            gap_ns = 10 * S // rate
            at_ns = now_ns
            for _ in range(trains):
                self._plan += [pulse for i in range(pulses) for pulse in self._one(at_ns + i * gap_ns)]
                at_ns += (pulses - 1) * gap_ns + interval * S // 10
            when, amplitude, _last = self._plan[-1]
            self._plan[-1] = (when, amplitude, True)
        self._short(8, self.page, self._running)

    def _set_train(self, data: bytes) -> None:
        rate, pulses, trains, interval = (int.from_bytes(data[i : i + 2], "big") for i in (0, 2, 4, 6))
        if (
            1 <= rate <= 1000
            and (1 <= pulses <= 1000 or pulses in range(1100, 2001, 100))
            and 1 <= trains <= 500
            and 1 <= interval <= 3000
        ):
            self.train = (rate, pulses, trains, interval)

    def _configure(self, data: bytes) -> None:
        if data[0] == 0:
            index = interval_index(self.interval_ms, self.mode in (TWIN, DUAL))
            body = [self.model, self.mode, self.direction, self.waveform, 5 - self.burst_pulses, index & 0xFF, index >> 8]
            self.say(frame(b"\x09\x00" + bytes([*body, round((5 - self.ratio) * 20)])))
        elif len(data) >= 10 and not self.enabled and not self._running:
            mode, direction, waveform, burst = data[2:6]
            interval_ms, ratio = int.from_bytes(data[6:8], "big") / 10, int.from_bytes(data[8:10], "big") / 100
            fits = (
                mode <= 3 and direction <= 1 and waveform <= 3 and burst <= 3 and 0.5 <= interval_ms <= 3000 and 0.2 <= ratio <= 5
            )
            if fits:
                self.mode, self.direction, self.waveform, self.burst_pulses = mode, direction, waveform, 5 - burst
                self.interval_ms, self.ratio = interval_ms, ratio


def build(arguments: argparse.Namespace) -> MagVenture:
    """The device of the command line."""
    return MagVenture(arguments.model, arguments.deaf)


def main(argv: list[str] | None = None) -> int:
    """Run the emulator; its first line of output is the pseudo-terminal's path."""
    parser = argparse.ArgumentParser(prog="magventure", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", choices=tuple(MODELS), default="x100+option", help="which stimulator (default x100+option)")
    parser.add_argument("--deaf", action="store_true", help="a malformed frame ends the serial interface until restart")
    return serve(parser, build, FAULTS, argv)


if __name__ == "__main__":
    sys.exit(main())

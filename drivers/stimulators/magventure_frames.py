"""MagVenture's frames: what is sent, how the stream is cut, what the status byte and the read-back indices say. Not a plug-in."""

from __future__ import annotations

from dataclasses import dataclass

from eegloop.errors import DeviceError

MODELS = ("R30", "X100", "R30+Option", "X100+Option", "R30+Option+Mono", "MST")
MODES = ("standard", "power", "twin", "dual")
WAVEFORMS = ("monophasic", "biphasic", "half_sine", "biphasic_burst")
PAGES = {"main": 1, "timing": 2, "trigger": 3, "config": 4, "download": 6, "protocol": 7, "mep": 8, "service": 13}
LENGTHS = {0: 9, 1: 4, 2: 4, 3: 4, 4: 13, 5: 15, 6: 4, 7: 4, 8: 4, 9: 10}


def crc(payload: bytes) -> int:
    """CRC-8 Dallas/Maxim (reflected 0x8C, from 0) over the payload."""
    value = 0
    for byte in payload:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x8C if value & 1 else 0)
    return value


def frame(*payload: int) -> bytes:
    """FE, length, payload, check byte, FF."""
    body = bytes(payload)
    return bytes([0xFE, len(body)]) + body + bytes([crc(body), 0xFF])


STATUS, EXTENDED = frame(0), frame(5)
ENABLE, DISABLE = frame(2, 1), frame(2, 0)
FIRE, START_TRAIN = frame(3, 1), frame(4)
READ_CONFIGURATION = frame(9, 0)


def _two(value: float) -> tuple[int, int]:
    number = round(value) & 0xFFFF
    return number >> 8, number & 0xFF


def amplitude_frame(first: int, second: int | None = None) -> bytes:
    return frame(1, first) if second is None else frame(1, first, second)


def train_frame(rate_hz: float, n_pulses: int, n_trains: int, interval_s: float) -> bytes:
    return frame(6, *_two(rate_hz * 10), *_two(n_pulses), *_two(n_trains), *_two(interval_s * 10))


def page_frame(page: int) -> bytes:
    return frame(7, page)


def delays_frame(in_ms: float, out_ms: float, charge_ms: int) -> bytes:
    """The get/set form 0A 01."""
    return frame(0x0A, 1, *_two(in_ms * 10), *_two(out_ms * 10), *_two(charge_ms))


def configuration_frame(
    model: int, mode: int, direction: int, waveform: int, burst_pulses: int, interval_ms: float, ratio: float
) -> bytes:
    """No answer comes to it; read the configuration back about 0.3 s later."""
    return frame(9, 1, model, mode, direction, waveform, 5 - burst_pulses, *_two(interval_ms * 10), *_two(ratio * 100))


def interval_ms(index: int, paired: bool) -> float:
    """Inter-pulse interval of a read-back index; raises DeviceError for one that is none."""
    rows = (
        ((20, 3000, 100, 0), (30, 1000, 50, 20), (70, 500, 10, 30), (150, 100, 1, 70), (170, 20, 0.5, 150), (260, 10, 0.1, 170))
        if paired
        else ((80, 100, 1, 0), (100, 20, 0.5, 80), (195, 10, 0.1, 100))
    )
    for last, start, step, base in rows:
        if 0 <= index <= last:
            return round(start - step * (index - base), 1)
    raise DeviceError(f"magventure: interval index {index}: there is no such interval")


@dataclass(frozen=True, slots=True)
class Status:
    """The status byte every frame carries."""

    mode: str
    waveform: str
    enabled: bool
    model: str

    @staticmethod
    def from_byte(byte: int) -> Status:
        model = MODELS[byte >> 5] if byte >> 5 < len(MODELS) else "unknown"
        return Status(MODES[byte & 3], WAVEFORMS[byte >> 2 & 3], bool(byte & 16), model)


class Parser:
    """Cuts the stream into payloads, by length; what is no frame is dropped and counted."""

    def __init__(self) -> None:
        self.broken = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        found = []
        while self._buffer:
            if self._buffer[0] != 0xFE:
                self._drop()
            elif len(self._buffer) < 2:
                break
            elif not 1 <= self._buffer[1] <= 32:
                self._drop()
            elif len(self._buffer) < self._buffer[1] + 4:
                break
            else:
                end = self._buffer[1] + 4
                payload = bytes(self._buffer[2 : end - 2])
                if (
                    self._buffer[end - 1] == 0xFF
                    and crc(payload) == self._buffer[end - 2]
                    and len(payload) >= LENGTHS.get(payload[0], 1)
                ):
                    found.append(payload)
                    del self._buffer[:end]
                else:
                    self._drop()
        return found

    def clear(self) -> None:
        self._buffer.clear()

    def _drop(self) -> None:
        """The rest may still be a frame, from its next FE on."""
        self.broken += 1
        start = self._buffer.find(0xFE, 1)
        del self._buffer[: start if start > 0 else len(self._buffer)]

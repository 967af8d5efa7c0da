"""Magstim's power tables, and what a Rapid's trains keep of them: how fast, how long, and what pause after a shot. Not a plug-in."""

from __future__ import annotations

import math
from collections import deque

from eegloop.errors import DeviceError

MS = 1_000_000
MINUTE_NS = 60_000 * MS


def _steps(text: str) -> tuple[tuple[int, int], ...]:
    return tuple((int(power), int(hz)) for power, _, hz in (step.partition(":") for step in text.split()))


# Power % -> greatest train rate, Hz; between two listed powers the value of the next one holds.
TRAIN_HZ: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {
    (240, 0): _steps(
        "30:50 31:46 35:41 40:37 43:33 48:32 49:31 50:30 52:29 54:28 56:27 60:25 66:22 70:20 74:19 79:18 85:17 92:16 98:15 100:15"
    ),
    (240, 1): _steps("30:100 31:98 50:50 52:49 60:45 70:40 80:35 90:30 100:25"),
    (240, 2): _steps("48:100 49:98 50:97 53:91 56:87 60:80 63:74 67:71 70:68 73:65 77:60 80:57 85:53 90:49 95:45 100:41"),
    (115, 0): _steps("30:36 31:35 35:32 38:30 40:28 45:25 49:23 53:21 58:19 65:17 73:15 82:13 95:11 100:11"),
    (115, 1): _steps("37:60 38:59 40:55 45:50 50:44 55:40 60:37 67:33 75:29 83:26 90:24 97:22 100:22"),
    (115, 2): _steps("49:60 50:58 55:52 60:47 65:43 71:39 80:34 89:30 97:27 100:25"),
}


def most_train_hz(power_percent: int, mains_v: int = 240, rapid_type: int = 0) -> int:
    """Greatest train rate at this power, Hz; 0 above 100 % (enhanced power gives single pulses only)."""
    return next((hz for power, hz in TRAIN_HZ[mains_v, rapid_type] if power_percent <= power), 0)


def pulse_energy_j(power_percent: int) -> float:
    """Energy of one pulse, J (fit of the tabulated values, within 0.25 J)."""
    return 0.0252 * power_percent**2


def least_wait_s(power_percent: int, rate_hz: float, n_pulses: int) -> float:
    """Least pause after a train, s."""
    return max(0.5, n_pulses * (rate_hz * pulse_energy_j(power_percent) - 1050.0) / (1050.0 * rate_hz))


def most_on_time_s(power_percent: int, rate_hz: float) -> float:
    """Greatest time of trains in a minute, s; above 60 = continuous up to 6000 pulses."""
    energy_j = pulse_energy_j(power_percent)
    return 63_000.0 / (rate_hz * energy_j) if energy_j else math.inf


def least_interval_s(model: str, power_percent: int) -> float:
    """Least time between two single shots, s."""
    if model == "bistim":
        return 4.0
    if model == "rapid":
        return 1.0 if power_percent <= 100 else 2.0
    return 2.0 if power_percent < 50 else 3.0 if power_percent < 80 else 4.0


def whole(name: str, value: object, low: int, high: int) -> None:
    """Raises DeviceError for anything but a whole number in this range."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise DeviceError(f"magstim: {name} {value!r}: must be a whole number from {low} to {high}")


class Trains:
    """What one shot gives: one pulse (`chosen` None) or a train of `(rate Hz, pulses)`, within the power table.

    Parameters
    ----------
    mains_v, rapid_type : int
        Which power table holds.
    """

    def __init__(self, mains_v: int = 240, rapid_type: int = 0) -> None:
        self.chosen: tuple[float, int] | None = None
        self._table = (mains_v, rapid_type)
        self._on_time: deque[tuple[int, float]] = deque()  # trains of the last minute: when, s

    def check(self, power_percent: int, rate_hz: float, n_pulses: int, most_pulses: int) -> None:
        """Raises DeviceError for a train above the power table, the on-time of a minute or the device's counts."""
        most_hz = most_train_hz(power_percent, *self._table)
        if not 0.1 <= rate_hz <= most_hz:
            raise DeviceError(f"magstim: rate_hz {rate_hz}: must be from 0.1 to {most_hz} Hz at {power_percent} %")
        whole("n_pulses", n_pulses, 1, most_pulses)
        on_s, most_s = n_pulses / rate_hz, most_on_time_s(power_percent, rate_hz)
        if most_s < 60.0 and on_s > most_s:
            raise DeviceError(
                f"magstim: a train of {on_s:.1f} s: must be at most {most_s:.1f} s a minute at {power_percent} %, {rate_hz} Hz"
            )

    def choose(self, rate_hz: float, n_pulses: int, new: bool) -> tuple[str, ...]:
        """Take this train; the commands that set it (`new`: from software 9 on)."""
        tenths_hz, tenths_s = round(rate_hz * 10), math.ceil(n_pulses / rate_hz * 10)
        self.chosen = (tenths_hz / 10, n_pulses)
        if new:
            return ("[0010", f"B{tenths_hz:04d}", f"D{n_pulses:05d}", f"[{tenths_s:04d}")
        return ("[010", f"B{tenths_hz:04d}", f"D{n_pulses:04d}", f"[{tenths_s:03d}")

    def given(self, model: str, power_percent: int, now_ns: int) -> int:
        """A shot has just been given: when the next one may be, ns."""
        if self.chosen is None:
            return now_ns + round(least_interval_s(model, power_percent) * 1e9)
        rate_hz, n_pulses = self.chosen
        self._on_time.append((now_ns, n_pulses / rate_hz))
        return now_ns + round((n_pulses / rate_hz + least_wait_s(power_percent, rate_hz, n_pulses)) * 1e9)

    def objection(self, power_percent: int, now_ns: int) -> str:
        """Why another shot would be too much for this minute, "" = it would not."""
        if self.chosen is None:
            return ""
        rate_hz, n_pulses = self.chosen
        while self._on_time and now_ns - self._on_time[0][0] > MINUTE_NS:
            self._on_time.popleft()
        most_s = most_on_time_s(power_percent, rate_hz)
        if most_s < 60.0 and sum(s for _, s in self._on_time) + n_pulses / rate_hz > most_s:
            return f"trains may last {most_s:.1f} s a minute at this power"
        return ""

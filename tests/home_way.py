"""The home unit's driver and its emulated unit with a courier between them, in virtual time."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from drivers.stimulators.mqtt import HomeUnit
from simulators.stimulators import home_unit as emulator
from simulators.stimulators.home_unit import MS

KEY = bytes(range(32))
UNIT = "HOME-0001"
START_NS = 10**12


class Way:
    """Driver and unit with a courier between them, in virtual time; `mangle` is what happens on the way to the driver."""

    def __init__(self, folder: Path, fault: str = "", delay_ms: int = 3) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.now_ns = START_NS
        self.unit = emulator.HomeUnit(UNIT, KEY, "b2")
        self.fault, self.delay_ms = fault, delay_ms
        path = folder / "bridge"
        path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen(1)
        key_file = folder / "key"
        key_file.write_text(KEY.hex())
        key_file.chmod(0o600)
        self.driver = HomeUnit(str(path), UNIT, str(key_file), clock=lambda: self.now_ns)
        self.driver.connect()
        self.courier, _ = self.listener.accept()
        self.courier.setblocking(False)
        self.to: list[tuple[int, bytes]] = []
        self.back: list[tuple[int, bytes]] = []
        self.sent: list[bytes] = []
        self.samples: list[tuple[int, float]] = []
        self.mangle: Any = lambda packet: [packet]

    def cut(self) -> None:
        """Nothing gets through any more, not even the bridge's own stop; the driver sees its end closed."""
        self.courier.close()
        self.to.clear()
        self.back.clear()

    def close(self) -> None:
        self.driver.close()
        self.courier.close()
        self.listener.close()

    def advance(self, ms: int = 5) -> None:
        self.now_ns += ms * MS
        try:
            while self.courier.fileno() >= 0 and (packet := self.courier.recv(4096)):
                self.sent.append(packet)
                self.to.append((self.now_ns + self.delay_ms * MS, packet))
        except (BlockingIOError, ConnectionResetError):  # nothing more, or the driver dropped the connection with some unread
            pass
        while self.to and self.to[0][0] <= self.now_ns:
            self.unit.receive(self.to.pop(0)[1], self.now_ns)
        self.unit.pass_time(self.now_ns)
        self.samples.append((self.now_ns, self.unit.output_ma))
        while self.unit.outbox:
            self.back.append((self.now_ns + self.delay_ms * MS, self.unit.outbox.popleft()))
        while self.back and self.back[0][0] <= self.now_ns:
            for packet in self.mangle(self.back.pop(0)[1]):
                try:
                    self.courier.send(packet)
                except OSError:
                    pass

    def run(self, seconds: float, amplitude_ma: float | None = None) -> None:
        for _ in range(round(seconds * 200)):
            self.advance()
            if amplitude_ma is not None:
                self.driver.output(min(amplitude_ma, self.unit.set_ma + 0.02), 0.0, 400)
            report = self.driver.poll()
            assert not (report.output_ma == 0.0 and report.t_ns >= self.now_ns and self.unit.output_on)

    def until(self, true: Any, within_s: float = 1.0) -> None:
        for _ in range(round(within_s * 200)):
            if true():
                return
            self.run(0.005)
        raise AssertionError(f"not within {within_s} s")

    def last_nonzero_ns(self) -> int:
        return max((t for t, ma in self.samples if ma), default=0)

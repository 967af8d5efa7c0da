"""The loop around the judge: sockets, signals, device and clock in; the judge's effects out. STOP comes first."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from eegloop.errors import DeviceError
from eegloop.stim import DeviceReport, InterlockMode, Limit, StimCommand
from interlock.effects import Changed, Effect, Entry, Event, Order, Reply
from interlock.judge import Judge
from interlock.limits import Rules
from interlock.log import LogWriter
from interlock.refusals import MS
from interlock.told import state_of
from interlock.wire import MOST_BYTES, PacketError, read_command

TICK_NS = 10 * MS
REST_TICK_NS = 50 * MS
STATE_NS = 50 * MS
RECONNECT_NS = 200 * MS
CONFIRM_WITHIN_NS = 1_000 * MS
ALONE_NS = 10_000 * MS
FIRST_DAEMON_NS = 30_000 * MS
SPIN_NS = 2 * MS
QUIET_NS = 8 * MS
OVERDUE_NS = 20 * MS
PACKETS_A_TURN = 16
STOPPERS = 64
REASON_WITHIN_S = 0.002
ADVICE = "take the headset off / switch the stimulator off"
NO_STOP = "the socket that STOP comes through was removed; start eegloop again"
INTERNAL_ERROR = 70
SECOND_DAEMON = {
    "type": "refused", "sequence": 0, "field": "connection", "value": 2, "limit": 1, "set_by": "interlock",
    "reason": "another daemon is connected",
}  # fmt: skip


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Driver(Protocol):
    """What the loop needs of a stimulator driver (eegloop.ports.Stimulator says more).

    `fire` gives one pulse or burst; only drivers that state a limit `intensity_percent` have it, others are never told to. They also
    have `free_ns`: until when what they wrote before is on the wire, so that a pulse written now would begin then; 0 = at once.
    """

    serial: str
    free_ns: int
    limits: tuple[Limit, ...]

    def connect(self) -> None: ...
    def fileno(self) -> int: ...
    def arm(self) -> None: ...
    def disarm(self) -> None: ...
    def output(self, amplitude_ma: float, frequency_hz: float, lease_ms: int) -> None: ...
    def fire(self) -> None: ...
    def zero(self) -> None: ...
    def poll(self) -> DeviceReport: ...
    def close(self) -> None: ...


class Stopper:
    """Somebody who pressed STOP and waits to hear what the device confirmed."""

    def __init__(self, connection: socket.socket, at_ns: int, named: bool) -> None:
        self.connection = connection
        self.at_ns = at_ns
        self.named = named  # said why


class Loop:
    """Owns every descriptor of the process."""

    def __init__(
        self,
        judge: Judge,
        driver: Driver,
        log: LogWriter,
        ledger: LogWriter,
        control_path: Path,
        stop_path: Path,
        rules_for: Callable[[tuple[Limit, ...]], Rules],
        start_code: Callable[[], tuple[int, int] | str],
        withdrawn: Callable[[int, int], str],
    ) -> None:
        self.judge = judge
        self.driver = driver
        self.log = log
        self.ledger = ledger
        self.rules_for = rules_for
        self.start_code = start_code
        self.withdrawn = withdrawn
        self.paths = (stop_path, control_path)
        self.selector = selectors.DefaultSelector()
        self.stop_listener = _listen(stop_path, socket.SOCK_STREAM)
        self.stop_inode = _inode(stop_path)
        self.control_listener = _listen(control_path, socket.SOCK_SEQPACKET)
        self.waker, self.wake = socket.socketpair()
        for readable in (self.stop_listener, self.control_listener, self.waker):
            readable.setblocking(False)
            self.selector.register(readable, selectors.EVENT_READ)
        self.wake.setblocking(False)
        self.stoppers: list[Stopper] = []
        self.client: socket.socket | None = None
        self.limits = driver.limits  # those the judge goes by
        self.device_fd = -1
        self.terminate = False
        self.changed = False
        self.next_tick_ns = self.next_state_ns = self.next_connect_ns = 0
        self.alone_since_ns = boot_ns() + FIRST_DAEMON_NS - ALONE_NS
        self.unreachable_since_ns = boot_ns()
        self.errors = 0

    # ---- life ---------------------------------------------------------------------------------------------------

    def open(self, wait_s: float) -> None:
        """Write the first lines of log and ledger, and give the disk a moment to take them."""
        self._do(self.judge.open(boot_ns(), time.time_ns()))
        until = time.monotonic() + wait_s
        while (self.log.fault(boot_ns()) or self._ledger_fault(boot_ns())) and time.monotonic() < until:
            time.sleep(0.002)

    def run(self) -> int:
        """Turn until it may leave. An internal error is zero and latch; a fifth one ends the process."""
        signal.set_wakeup_fd(self.wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_terminate)
        while not self._may_leave(boot_ns()):
            try:
                self._turn()
            except Exception as error:
                self.driver.zero()
                self.errors += 1
                self._do(self.judge.trip(f"internal error: {type(error).__name__}: {error}", boot_ns()))
                if self.errors >= 5:
                    self._leave("internal errors")
                    return INTERNAL_ERROR
        self._leave("terminated" if self.terminate else "no daemon")
        return 0

    def _ledger_fault(self, now_ns: int) -> str:
        """A ledger that may not go on is not written at all, and refuses by itself (interlock/ledger.py)."""
        return "" if self.judge.book.fault else self.ledger.fault(now_ns)

    def _on_terminate(self, _number: int, _frame: object) -> None:
        self.terminate = True

    def _turn(self) -> None:
        due_ns = min(self.next_tick_ns, self.next_state_ns if self.client is not None else self.next_tick_ns)
        fire_ns = self.judge.write_at_ns()
        if fire_ns is not None:
            due_ns = fire_ns - SPIN_NS if fire_ns - boot_ns() <= QUIET_NS else min(due_ns, fire_ns - QUIET_NS)
        ready = {key.fileobj for key, _ in self.selector.select(max(0.0, (due_ns - boot_ns()) / 1e9))}
        if self.waker in ready:
            self._drain_signals()
        self._accept_stops()  # whatever is said to be ready
        if self.device_fd in ready:
            self._hear_device()
        near = self._fire_on_time()
        now_ns = boot_ns()
        quiet = near and now_ns < self.next_tick_ns + OVERDUE_NS  # no longer: one pulse after the other may be skipped
        if now_ns >= self.next_tick_ns and not quiet:
            self._tick(now_ns)
        self._hear_daemon()
        if quiet:
            return  # so near a pulse it listens to everybody and speaks to nobody
        if self.control_listener in ready:
            self._accept_daemon()
        self._answer_stoppers(boot_ns())
        self._tell_daemon(boot_ns())

    def _fire_on_time(self) -> bool:
        """Whether a pulse is near: `select` is good to a millisecond or two, the rest of the way is spent looking at the clock."""
        fire_ns = self.judge.write_at_ns()
        if fire_ns is None or fire_ns - boot_ns() > QUIET_NS:
            return False
        if fire_ns - boot_ns() <= SPIN_NS:
            while boot_ns() < max(fire_ns, min(self.driver.free_ns, fire_ns + SPIN_NS)):  # a busy wire makes it late: skipped
                pass
            self._do(self.judge.shoot(boot_ns()))
        return True

    def _tick(self, now_ns: int) -> None:
        monotonic_ns = time.monotonic_ns()
        self.judge.written(self.ledger.written)
        owed = self._ledger_fault(now_ns)
        fault = self.log.fault(now_ns) or (f"dose ledger: {owed}" if owed else "")
        if fault != self.judge.log_fault:
            self._do(self.judge.log_failed(fault, now_ns))
        if _inode(self.paths[0]) != self.stop_inode:
            self._do(self.judge.trip(NO_STOP, now_ns))
        if self.device_fd < 0 and now_ns >= self.next_connect_ns:
            self._connect_device(now_ns)
        withdrawn = self.withdrawn(self.judge.armed_ns, now_ns)
        self._do(self.judge.tick(now_ns, time.time_ns(), monotonic_ns, withdrawn))
        if self.device_fd >= 0:
            self._hear_device()  # a device that speaks only when asked: its driver asks here
        self.next_tick_ns = now_ns + (REST_TICK_NS if self.judge.mode == InterlockMode.STOPPED else TICK_NS)

    def _may_leave(self, now_ns: int) -> bool:
        """Stopped, without a daemon, and at zero, or with a device out of reach whose own lease is long over."""
        idle = self.judge.mode == InterlockMode.STOPPED and self.client is None and not self.stoppers
        unreachable = self.device_fd < 0 and now_ns - self.unreachable_since_ns > CONFIRM_WITHIN_NS
        at_zero = unreachable or (self.device_fd >= 0 and self.judge.device.fresh(now_ns) and self.judge.device.at_rest)
        return idle and at_zero and (self.terminate or now_ns - self.alone_since_ns > ALONE_NS)

    def _leave(self, why: str) -> None:
        self.driver.zero()
        self.driver.disarm()
        self.driver.close()
        self._log(Event("left", {"why": why}))
        self.log.close(0.5)
        self.ledger.close(0.5)
        for path in self.paths:
            path.unlink(missing_ok=True)

    # ---- STOP ---------------------------------------------------------------------------------------------------

    def _drain_signals(self) -> None:
        """Only SIGTERM has a handler, so whatever woke the loop was one: it means STOP."""
        self.waker.recv(4096)
        self._do(self.judge.stop("SIGTERM", boot_ns()))

    def _accept_stops(self) -> None:
        """A connection is a STOP; what it says is for the log only, and is not waited for before the device is at zero.

        Of many at once only the first is given a moment to say it, so that no crowd of silent ones keeps the next from its answer.
        """
        for before in range(PACKETS_A_TURN):
            try:
                connection, _address = self.stop_listener.accept()
            except BlockingIOError:
                return
            at_ns = boot_ns()
            self.driver.zero()
            connection.settimeout(REASON_WITHIN_S if before == 0 else 0.0)
            reason = _heard(connection)
            connection.setblocking(False)
            self._do(self.judge.stop(reason or "STOP", at_ns))
            _send(connection, {"type": "stopping", "boot_ns": at_ns}, b"\n")  # who pressed may have gone: it is done all the same
            self.stoppers.append(Stopper(connection, at_ns, bool(reason)))
            if len(self.stoppers) > STOPPERS:
                self.stoppers.pop(0).connection.close()

    def _answer_stoppers(self, now_ns: int) -> None:
        waiting = []
        for stopper in self.stoppers:
            device = self.judge.device
            confirmed = device.zero_since_ns != 0 and device.report_ns > stopper.at_ns
            after_ms = (now_ns - stopper.at_ns) // MS
            if confirmed:
                answer = {"type": "stopped", "confirmed": True, "output_ma": device.output_ma, "after_ms": after_ms}
            elif now_ns - stopper.at_ns >= CONFIRM_WITHIN_NS:
                said_ma = device.output_ma if device.report_ns > stopper.at_ns else None
                answer = {"type": "stopped", "confirmed": False, "output_ma": said_ma, "after_ms": after_ms, "advice": ADVICE}
                self._log(Event("stop_not_confirmed", {"output_ma": said_ma}))
            else:
                waiting.append(stopper)
                continue
            reason = _heard(stopper.connection)
            if reason and not stopper.named:
                self._log(Event("stop_reason", {"reason": reason}))
            _send(stopper.connection, answer, b"\n")
            stopper.connection.close()
        self.stoppers = waiting

    # ---- the device ---------------------------------------------------------------------------------------------

    def _connect_device(self, now_ns: int) -> None:
        self.next_connect_ns = now_ns + RECONNECT_NS
        try:
            self.driver.connect()
        except (DeviceError, OSError):
            return
        self.device_fd = self.driver.fileno()
        self.selector.register(self.device_fd, selectors.EVENT_READ)

    def _hear_device(self) -> None:
        report = self.driver.poll()
        if not report.connected:
            self._lose_device()
        elif (self.driver.serial, self.driver.limits) != (self.judge.device.serial, self.limits):
            self.limits = self.driver.limits
            self.judge.identify(self.driver.serial, self.rules_for(self.limits))
            self._log(Event("device", {"serial": self.driver.serial}))
        self._do(self.judge.report(report, boot_ns()))

    def _lose_device(self) -> None:
        """The driver closed its descriptor (which took it out of epoll); forget it here too."""
        with contextlib.suppress(KeyError, ValueError, OSError):
            self.selector.unregister(self.device_fd)
        self.device_fd = -1
        self.unreachable_since_ns = boot_ns()

    def _order(self, order: Order) -> None:
        if order.do == "output":
            self.driver.output(order.amplitude_ma, order.frequency_hz, order.lease_ms)
        elif order.do == "fire":
            free_ns = self.driver.free_ns
            self.driver.fire()
            self._do(self.judge.fired(max(boot_ns(), free_ns)))
        else:
            {"arm": self.driver.arm, "disarm": self.driver.disarm}.get(order.do, self.driver.zero)()
        if self.device_fd >= 0 and self.driver.fileno() < 0:
            self._lose_device()
            self._do(self.judge.report(self.driver.poll(), boot_ns()))

    # ---- the daemon ---------------------------------------------------------------------------------------------

    def _accept_daemon(self) -> None:
        connection, _address = self.control_listener.accept()
        connection.setblocking(False)
        if self.client is not None:
            _send(connection, SECOND_DAEMON)
            connection.close()
            self._log(Event("second_daemon", {}))
            return
        self.client = connection
        self.selector.register(connection, selectors.EVENT_READ)
        self.changed = True
        self._log(Event("daemon", {"connected": True}))

    def _hear_daemon(self) -> None:
        for _ in range(PACKETS_A_TURN):
            if self.client is None:
                return
            try:
                packet = self.client.recv(MOST_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lose_daemon("the daemon's connection closed")
                return
            command = _read(packet)
            if isinstance(command, StimCommand) and command.kind == "arm" and self.judge.mode == InterlockMode.STOPPED:
                self.judge.rules = self.rules_for(self.limits)  # expired, revoked or changed since?
                if self.judge.rules.start_code:
                    self.judge.start_code = self.start_code()
            self._do(self.judge.command(command, os.urandom(16).hex(), boot_ns()))

    def _lose_daemon(self, reason: str) -> None:
        if self.client is None:
            return
        self.selector.unregister(self.client)
        self.client.close()
        self.client = None
        self.alone_since_ns = boot_ns()
        self._log(Event("daemon", {"connected": False, "reason": reason}))
        self._do(self.judge.trip(reason, boot_ns()))

    def _tell_daemon(self, now_ns: int) -> None:
        """The state, 20 times a second and when it changed; a daemon that does not read misses some."""
        if self.client is None or not (self.changed or now_ns >= self.next_state_ns):
            return
        self.changed = False
        self.next_state_ns = now_ns + STATE_NS
        with contextlib.suppress(OSError):
            self.client.send(state_of(self.judge, now_ns).to_json(), socket.MSG_NOSIGNAL)

    # ---- effects ------------------------------------------------------------------------------------------------

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Order):
                self._order(effect)
            elif isinstance(effect, Event):
                self._log(effect)
            elif isinstance(effect, Entry):
                self.ledger.put(effect.event, effect.data, effect.boot_ns, effect.wall_s)
            elif isinstance(effect, Changed):
                self.changed = True
            elif isinstance(effect, Reply) and self.client is not None and not _send(self.client, effect.body):
                self._lose_daemon("the daemon does not read its answers")

    def _log(self, event: Event) -> None:
        self.log.put(event.event, event.data, boot_ns(), time.time())


def _send(connection: socket.socket, body: dict[str, Any], end: bytes = b"") -> bool:
    """Send if there is room; True if it went out."""
    try:
        connection.send(json.dumps(body, allow_nan=False).encode() + end, socket.MSG_NOSIGNAL)
    except OSError:
        return False
    return True


def _heard(connection: socket.socket) -> str:
    """The reason somebody gave with a STOP, "" if none has arrived."""
    try:
        said = connection.recv(200)
    except OSError:
        return ""
    return said.partition(b"\n")[0].decode("utf-8", "replace").strip()


def _inode(path: Path) -> int:
    """Which file stands at this path; 0 = none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _read(packet: bytes) -> StimCommand | PacketError:
    if len(packet) > MOST_BYTES:
        stop = StimCommand(kind="stop", reason="stop in a packet that is too long")
        return stop if b'"stop"' in packet else PacketError("packet", f"{MOST_BYTES}+ bytes", "too long")
    try:
        return read_command(packet)
    except PacketError as error:
        return error


def _listen(path: Path, kind: socket.SocketKind) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, kind)
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(socket.SOMAXCONN)  # as many as the kernel lets wait
    return listener

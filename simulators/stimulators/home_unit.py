"""A tDCS unit for the home: its current source, electrodes, own limits and lease, and the packets it takes. Pure; time comes in.

Built from docs/home-stimulator-protocol.md alone (it shares no code with the driver). Electrodes and skin are a resistance that
falls under current, as Hahn 2013 describes; the numbers are this emulator's own, no unit was measured.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections import deque
from typing import Any

from simulators.stimulators import wire

MS = 1_000_000
LEASE_NS = 400 * MS
REPORT_NS = 40 * MS
BEACON_NS = 250 * MS
BOUND_NS = 2_000 * MS
MOST_STEP_MA = 0.05
COMPLIANCE_V = 24.0
COMPLIANCE_NS = 500 * MS
MOST_KOHM = 40.0
FRESH_KOHM, SETTLED_KOHM, SETTLES_S = 9.0, 5.0, 40.0
DRY_KOHM_PER_S = 10.0
LONGEST = 2048
FAULTS = (*wire.FAULTS, "dry", "charging")


def mac(key: bytes, direction: str, unit: str, text: str) -> str:
    """HMAC-SHA256 over domain, direction, unit and body, parted by NUL."""
    return hmac.new(key, f"eegloop home v1\0{direction}\0{unit}\0{text}".encode(), hashlib.sha256).hexdigest()


def wrong_mac(packet: bytes) -> bytes:
    """The packet with one digit of its signature changed."""
    return packet[:-3] + (b"0" if packet[-3:-2] != b"0" else b"1") + packet[-2:]


class HomeUnit:
    """The unit.

    Parameters
    ----------
    unit, boot : str
        Serial number; a name for this life of it, new at every start.
    key : bytes
        Of the pairing.
    max_ma : float
        The unit's own maximum, mA.
    """

    def __init__(self, unit: str, key: bytes, boot: str, max_ma: float = 2.0) -> None:
        self.unit, self.key, self.boot, self.max_ma = unit, key, boot, max_ma
        self.fault = ""  # what goes wrong, one of FAULTS
        self.complaint = ""  # what the unit itself complains of
        self.armed = False
        self.set_ma = 0.0
        self.host = ""
        self.heard = 0
        self.refused = 0
        self.outbox: deque[bytes] = deque()
        self.lease_end_ns = 0
        self._made: deque[tuple[int, int]] = deque(maxlen=64)  # reports: number, when
        self._number = 0
        self._report_ns = self._heard_ns = self._high_ns = 0
        self._now_ns = self._armed_ns = 0
        self._flowed_s = self._dry_s = 0.0

    # ---- the current --------------------------------------------------------------------------------------------

    @property
    def load_kohm(self) -> float:
        """Of electrodes and skin now."""
        settled = SETTLED_KOHM + (FRESH_KOHM - SETTLED_KOHM) * math.exp(-self._flowed_s / SETTLES_S)
        return settled + DRY_KOHM_PER_S * self._dry_s

    @property
    def output_ma(self) -> float:
        """What flows, mA: the source gives what was set as long as its voltage reaches."""
        wanted = self.set_ma * (1.5 if self.fault == "lies" else 1.0)
        return min(wanted, COMPLIANCE_V / self.load_kohm)

    @property
    def output_on(self) -> bool:
        return self.output_ma != 0.0

    def pass_time(self, now_ns: int) -> None:
        """The unit's own lease and its own checks."""
        since_s = max(0.0, (now_ns - self._now_ns) / 1e9) if self._now_ns else 0.0
        self._now_ns = now_ns
        self._flowed_s += since_s if self.set_ma > 0.0 else 0.0
        self._dry_s += since_s if self.fault == "dry" else 0.0
        if self.armed and now_ns >= self.lease_end_ns:
            self._down("", now_ns)
        if self.armed and self.fault == "disarms" and now_ns - self._armed_ns >= 300 * MS:
            self._down("", now_ns)
        if self.fault == "coil_hot" and not self.complaint:
            self._down("the unit is too warm", now_ns)
        if self.fault == "charging" and not self.complaint:
            self._down("it is being charged; unplug the charger", now_ns)
        if self.set_ma > 0.0:
            self._check_load(now_ns)
        bound = now_ns - self._heard_ns <= BOUND_NS
        if now_ns - self._report_ns >= (REPORT_NS if bound else BEACON_NS):
            self.report(now_ns)

    def _check_load(self, now_ns: int) -> None:
        at_limit = self.output_ma < 0.95 * self.set_ma
        self._high_ns = (self._high_ns or now_ns) if at_limit else 0
        if self.load_kohm > MOST_KOHM:
            self._down("the electrodes are dry or loose (above 40 kohm)", now_ns)
        elif self._high_ns and now_ns - self._high_ns >= COMPLIANCE_NS:
            self._down("the voltage does not reach; wet the electrodes", now_ns)

    def _down(self, complaint: str, now_ns: int) -> None:
        self.set_ma, self.armed, self._high_ns = 0.0, False, 0
        self.complaint = complaint or self.complaint
        self.report(now_ns)

    # ---- packets ------------------------------------------------------------------------------------------------

    def receive(self, packet: bytes, now_ns: int) -> None:
        """Whatever asks to stop is obeyed, sealed or not; the rest only if it is sealed, new, and fresh."""
        self.pass_time(now_ns)
        outer = _object(packet[:LONGEST])
        text = outer.get("body")
        body = _object(text.encode("utf-8", "replace")) if isinstance(text, str) else {}
        if outer.get("stop") or body.get("cmd") in ("zero", "disarm"):
            self._stop(body.get("cmd") == "zero")
        given = outer.get("mac")
        genuine = isinstance(text, str) and isinstance(given, str) and given.isascii()
        if genuine and hmac.compare_digest(mac(self.key, "to", self.unit, _plain(text)), str(given)):
            self._obey(body, now_ns)
        elif not outer.get("stop"):
            self.refused += 1
        else:
            self.report(now_ns)

    def _stop(self, stay_armed: bool) -> None:
        self.set_ma = 0.0
        self.armed = self.armed and stay_armed

    def _obey(self, body: dict[str, Any], now_ns: int) -> None:
        command, host, sequence, heard = (body.get(name) for name in ("cmd", "host", "seq", "heard"))
        made_ns = next((at for number, at in self._made if number == heard), None)
        known = body.get("boot") == self.boot and isinstance(host, str) and type(sequence) is int
        if not known or made_ns is None or now_ns - made_ns > LEASE_NS:
            self.refused += 1
            return
        if host != self.host:
            if command != "hello":
                self.refused += 1
                return
            self._stop(False)
            self.host, self.heard, self.complaint = str(host), 0, ""
        assert type(sequence) is int
        if sequence <= self.heard:
            self.refused += 1
            return
        self.heard, self._heard_ns = sequence, now_ns
        if command == "arm":
            self._arm(made_ns, now_ns)
        elif command == "output":
            self._output(body.get("amplitude_ma"), body.get("lease_ms"), made_ns, now_ns)
        if command != "arm":  # that one has reported already
            self.report(now_ns)

    def _arm(self, made_ns: int, now_ns: int) -> None:
        if self.fault != "refuses_arm" and not self.complaint and not self.armed:
            self.armed, self._armed_ns = True, now_ns
            self.lease_end_ns = made_ns + LEASE_NS
        self.report(now_ns)

    def _output(self, amplitude_ma: object, lease_ms: object, made_ns: int, now_ns: int) -> None:
        if not self.armed:
            return
        wanted, lease = _number(amplitude_ma), _number(lease_ms)
        if wanted is None or lease is None or not 0.0 <= wanted <= self.max_ma:
            self._down("asked for more than this unit gives", now_ns)
        elif wanted - self.set_ma > MOST_STEP_MA:
            self._down("asked for a jump of the current", now_ns)
        else:
            self.lease_end_ns = min(made_ns + LEASE_NS, now_ns + round(max(0.0, lease) * MS))
            self.set_ma = wanted

    def report(self, now_ns: int) -> None:
        """One report into the outbox."""
        self._number += 1
        self._report_ns = now_ns
        self._made.append((self._number, now_ns))
        measured_ma = round(self.output_ma, 3)
        flows = measured_ma >= 0.05
        text = json.dumps(
            {
                "type": "report",
                "serial": self.unit,
                "model": "eegloop emulated home unit",
                "boot": self.boot,
                "n": self._number,
                "host": self.host,
                "heard": self.heard,
                "armed": self.armed,
                "set_ma": self.set_ma,
                "measured_ma": measured_ma,
                "max_ma": self.max_ma,
                "voltage_v": round(measured_ma * self.load_kohm, 2),
                "compliance_v": COMPLIANCE_V,
                "impedance_kohm": round(self.load_kohm, 2) if flows else None,
                "battery_percent": 80,
                "fault": self.complaint,
            }
        )
        self.outbox.append(json.dumps({"body": text, "mac": mac(self.key, "from", self.unit, text)}).encode())


def _plain(text: object) -> str:
    """Without lone surrogates, which no UTF-8 text has: such a packet's seal then does not fit."""
    return str(text).encode("utf-8", "replace").decode()


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)

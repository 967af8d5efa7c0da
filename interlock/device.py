"""What the stimulator says of itself, and whether that is what it was told. Pure."""

from __future__ import annotations

import math

from eegloop.stim import DeviceReport, Shot
from interlock.refusals import MS, SILENT_NS

MISMATCH_NS = 500 * MS
ZERO_MA = 0.005
TOLERANCE_MA = 0.05  # 5 % of 1 mA; of less than that a readback is not good to 5 %
TOLERANCE_SHARE = 0.05


class Device:
    """The last thing it said. `zero_since_ns`: since when it has confirmed zero without a break; 0 = it does not.

    Parameters
    ----------
    readback : str
        "measured", "acknowledged" or "none": with "none" there is nothing to compare with.
    """

    __slots__ = (
        "armed",
        "connected",
        "fault",
        "mismatch_since_ns",
        "output_ma",
        "readback",
        "report_ns",
        "serial",
        "shot",
        "zero_since_ns",
    )

    def __init__(self, readback: str) -> None:
        self.readback = readback
        self.serial = ""
        self.connected = False
        self.fault = ""
        self.armed = False
        self.output_ma: float | None = None
        self.shot: Shot | None = None
        self.report_ns = 0
        self.zero_since_ns = 0
        self.mismatch_since_ns = 0

    def fresh(self, now_ns: int) -> bool:
        """It is there, and its last report is no older than it may be."""
        return self.connected and now_ns - self.report_ns <= SILENT_NS

    @property
    def at_rest(self) -> bool:
        """It has confirmed zero and disarmed."""
        return self.zero_since_ns != 0 and not self.armed

    def forget(self) -> None:
        """It is gone: nothing is known of it."""
        self.output_ma, self.armed, self.zero_since_ns, self.fault, self.shot = None, False, 0, "", None

    def believe(self, report: DeviceReport, now_ns: int) -> bool:
        """Take in what it delivers. False for a report that says nothing, is no number, or is older than the last or from the future."""
        output_ma = report.output_ma
        if output_ma is None or not math.isfinite(output_ma) or not self.report_ns < report.t_ns <= now_ns:
            return False
        self.report_ns, self.output_ma, self.armed = report.t_ns, output_ma, report.armed
        if abs(output_ma) > ZERO_MA:
            self.zero_since_ns = 0
        elif self.zero_since_ns == 0:
            self.zero_since_ns = report.t_ns
        return True

    def objection(self, level_ma: float, most_ma: float, behind_ma: float = 0.0) -> str:
        """Why this cannot go on: it delivers more than any limit, or something else than it is told for half a second; "" = it can.

        `behind_ma`: how far it may be behind on its way down, since what it says is a moment old.
        """
        if self.readback == "none" or self.output_ma is None:
            return ""
        tolerance_ma = max(TOLERANCE_MA, TOLERANCE_SHARE * level_ma)
        if not abs(self.output_ma) <= most_ma + tolerance_ma:
            return f"the stimulator delivers {self.output_ma:.3f} mA, above every limit"
        if abs(self.output_ma - level_ma) <= tolerance_ma + behind_ma:
            self.mismatch_since_ns = 0
        elif self.mismatch_since_ns == 0:
            self.mismatch_since_ns = self.report_ns
        elif self.report_ns - self.mismatch_since_ns >= MISMATCH_NS:
            return f"the stimulator delivers {self.output_ma:.3f} mA instead of {level_ma:.3f} mA"
        return ""

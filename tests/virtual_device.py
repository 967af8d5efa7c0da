"""A stimulator that does at once what the judge orders: the output of benches in virtual time."""

from __future__ import annotations

from interlock.effects import Order


class VirtualDevice:
    """Armed or not, and what it gives (mA)."""

    output_ma = 0.0
    armed = False

    def carry_out(self, order: Order) -> None:
        if order.do == "output":
            self.output_ma = order.amplitude_ma if self.armed else 0.0
        elif order.do == "arm":
            self.armed = True
        elif order.do in ("disarm", "zero"):
            self.output_ma = 0.0
            self.armed = self.armed and order.do == "zero"

"""Steps of a bounded controller: how far it may go from the present amplitude, and how it says so."""

from __future__ import annotations

from eegloop.ports import Snapshot
from eegloop.stim import StimRequest, finite

SAME_MA = 0.0005  # half a µA


def present(snapshot: Snapshot) -> float:
    """The present amplitude, 0 if it is no number."""
    return max(0.0, snapshot.present_ma) if finite(snapshot.present_ma) else 0.0


def hold(snapshot: Snapshot, sentence: str) -> StimRequest:
    """Keep the present amplitude."""
    return StimRequest(amplitude_ma=present(snapshot), frequency_hz=snapshot.frequency_hz, hold=True, reason=sentence)


def doubted(snapshot: Snapshot, doubt: str) -> StimRequest:
    """Keep the present amplitude because the estimate may not move it."""
    return hold(snapshot, f"Held at {present(snapshot):.2f} mA: {doubt}.")


def go_to(snapshot: Snapshot, wanted_ma: float, because: str) -> StimRequest:
    """Ask for `wanted_ma` brought inside floor and ceiling; hold if that is where it is, or if a number is broken.

    `because` is the first half of the sentence, without full stop ("Alpha power at F3 18 % under target for 6 s").
    """
    if not finite(wanted_ma, snapshot.present_ma, snapshot.floor_ma, snapshot.ceiling_ma):
        return hold(snapshot, f"{because}, but a number is missing, so it stays.")
    bounded_ma = min(max(wanted_ma, snapshot.floor_ma, 0.0), max(0.0, snapshot.ceiling_ma))
    change_ma = bounded_ma - snapshot.present_ma
    if abs(change_ma) <= SAME_MA:
        end = f"{snapshot.present_ma:.2f} mA is as {'much' if wanted_ma > snapshot.present_ma else 'little'} as is allowed"
        if abs(wanted_ma - snapshot.present_ma) <= SAME_MA:
            end = f"{snapshot.present_ma:.2f} mA is right"
        return hold(snapshot, f"{because}, but {end}, so it stays.")
    direction = "more" if change_ma > 0.0 else "less"
    return StimRequest(
        amplitude_ma=bounded_ma,
        frequency_hz=snapshot.frequency_hz,
        hold=False,
        reason=f"{because}, so {amount(abs(change_ma))} mA {direction}.",
    )


def amount(ma: float) -> str:
    """A change in mA with two or three digits, never "0.00"."""
    return f"{ma:.2f}" if round(ma * 1000) % 10 == 0 else f"{ma:.3f}"


def far(value: float, edge: float, size: float) -> str:
    """How far a value is from the edge of its band, in per cent of `size` (the edge itself, mostly)."""
    return f"{abs(value - edge) / size * 100.0:.0f} %" if size > 0.0 else "just"

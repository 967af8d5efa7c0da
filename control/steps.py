"""Steps of a bounded controller: how far it may go from the present amplitude, and how it says so."""

from __future__ import annotations

from control.estimate import Estimate
from control.program import Target
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


def down_to(snapshot: Snapshot, safe_ma: float, step_ma: float, because: str) -> StimRequest:
    """A step down towards the safe amplitude, never up to it."""
    safe_ma = min(safe_ma, present(snapshot))
    towards_ma = present(snapshot) - step_ma
    return go_to(snapshot, towards_ma if towards_ma > safe_ma + SAME_MA else safe_ma, because)


def amount(ma: float) -> str:
    """A change in mA with two or three digits, never "0.00"."""
    return f"{ma:.2f}" if round(ma * 1000) % 10 == 0 else f"{ma:.3f}"


def excursion(target: Target, seen: Estimate, side: str, since_s: float) -> str:
    """The first half of a sentence about a biomarker outside its band: by how much and for how long.

    In per cent of the band's edge, or of its width where the edge is so near zero that per cent say nothing.
    """
    edge = seen.low if side == "under" else seen.high
    beyond = edge - seen.value if side == "under" else seen.value - edge
    width = seen.high - seen.low
    if beyond <= 0.0:
        how = f"only just back from {side} target"
    elif abs(edge) >= width:
        how = f"{beyond / abs(edge) * 100.0:.0f} % {side} target"
    else:
        how = f"{max(0.1, beyond / width):.1f} band widths {side} target"
    lasting_s = seen.t_s - since_s
    return f"{target.words()} {how}" + (f" for {lasting_s:.0f} s" if lasting_s >= 0.5 else "")

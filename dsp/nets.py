"""Dense nets whose electrodes have numbers: which of them stand where a blink is looked for.

The electrodes nearest to 10-10 places by the makers' coordinates, as MNE-Python ships them (GSN-HydroCel-128, -256;
biosemi64, 128, 160, 256). Only what the look at the eyes needs, and the places around it: no value is made of these names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_PLACES = ["Fp1", "Fpz", "Fp2", "AF7", "AF8", "F7", "F8", "F3", "F4", "Fz", "Cz", "T7", "T8", "TP9", "TP10", "Pz", "O1", "O2"]
# number of electrodes: those at `_PLACES`, "-" where two places would share one
_HYDROCEL = {
    128: "E21 - E14 E25 E8 E33 E122 E24 E124 E11 E7 E39 E115 E57 E100 E62 E70 E83",
    256: "E37 E31 E18 E46 E10 E54 E1 E35 E4 E22 E9 E69 E202 E93 E201 E101 E116 E149",
}
_BIOSEMI = {
    64: "A1 B1 B2 A2 B3 A7 B10 A5 B8 B6 B16 A15 B20 A24 B29 A31 A27 B32",
    128: "C29 C17 C16 C30 C8 D7 C7 C32 C10 C21 A1 D23 B26 D32 B10 A4 A16 A29",
    160: "D9 D8 C32 D22 C18 D23 C17 D19 C21 D4 A1 E9 B32 E17 B18 A4 A16 A29",
    256: "E28 E12 E11 F10 D24 F12 D22 F7 D27 E17 A1 G11 C18 G32 B31 A5 A11 A28",
}
_NUMBERED = re.compile(r"^(?:eeg|raw)?[\s_.:-]*e0*(\d+)$")
_LETTERED = re.compile(r"^(?:eeg|raw)?[\s_.:-]*([a-h])0*(\d+)$")


def nearest(labels: Sequence[str]) -> list[str | None]:
    """The 10-10 place that each label's electrode is nearest to, None for all others and where the labels are no whole net.

    A whole net: E1 to E128 or E256 (with or without the vertex), or a BioSemi cap's A1 to B32, D32, E32 or H32. Smaller numbered sets may be
    any amplifier's.
    """
    low = [label.strip().lower() for label in labels]
    lettered = {f"{m[1]}{int(m[2])}".upper(): i for i, name in enumerate(low) if (m := _LETTERED.match(name))}
    numbered = {f"E{int(m[1])}": i for i, name in enumerate(low) if (m := _NUMBERED.match(name))}
    given: list[str | None] = [None] * len(labels)
    for nets, found, all_of in ((_BIOSEMI, lettered, _cap), (_HYDROCEL, numbered, _net)):
        size = next((n for n in sorted(nets, reverse=True) if all_of(n) <= found.keys()), None)
        if size is None:
            continue
        for place, name in zip(_PLACES, nets[size].split(), strict=True):
            if name != "-":
                given[found[name]] = place
        break
    return given


def _net(n: int) -> frozenset[str]:
    return frozenset(f"E{i}" for i in range(1, n + 1))


def _cap(n: int) -> frozenset[str]:
    return frozenset(f"{letter}{i}" for letter in "ABCDEFGH"[: n // 32] for i in range(1, 33))

"""Why a channel's window is not good: the codes of the whole signal line, their words, their grades."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from eegloop.signal import U8, Grade


class Code(IntEnum):
    """Up to `SETTLING` a value is there but suspect; from `SETTLING` on there is none."""

    GOOD = 0
    ARTIFACT = 1
    FLAT = 2
    LINE_NOISE = 3
    AMPLITUDE = 4
    RAIL = 5
    BLINK = 6
    EYE_MOVEMENT = 7
    JAW_MUSCLE = 8
    NECK_MUSCLE = 9
    MOVEMENT = 10
    GRADIENT = 11
    STEP = 12
    DRIFT = 13
    BRIDGED = 14
    REFERENCE_FAULT = 15
    DISAGREES = 16
    CONTACT = 17
    GLITCH = 18
    PACKET_LOSS = 19
    PULSE = 20
    CORRECTED = 21
    UNCLEAR_PEAK = 22
    REREFERENCED = 23
    SETTLING = 32
    SEGMENT = 33
    GAP = 34
    STIMULATION = 35
    LOST = 36
    NO_POWER = 37
    NO_PEAK = 38
    TOO_FEW = 39


REASONS: tuple[str, ...] = tuple(
    "" if i == 0 else Code(i).name.lower() if i in set(Code) else "unknown" for i in range(max(Code) + 1)
)
GRADES: U8 = np.array(
    [Grade.GOOD if i == 0 else Grade.INVALID if i >= Code.SETTLING else Grade.SUSPECT for i in range(max(Code) + 1)],
    dtype=np.uint8,
)
# The same for a place by place look-up: plain numbers, because members of an Enum take a quarter of a microsecond to name.
GRADE_OF: tuple[int, ...] = tuple(GRADES.tolist())
NO_VALUE = int(Code.SETTLING)
# What eyes do lies below this (Hz): a value made of higher frequencies alone stays good if the blink was a small one.
EYES_HZ = 8.0
# What lasting drift leaks into lies below this (Hz).
DRIFT_HZ = 2.0
# What a passing tension of muscles adds lies above this (Hz): a value made of lower frequencies alone stays good if it was a weak one.
MUSCLE_HZ = 20.0
# The person does these; the electrodes are as good as before.
OF_THE_BODY = frozenset({Code.BLINK, Code.EYE_MOVEMENT, Code.JAW_MUSCLE, Code.NECK_MUSCLE, Code.PULSE, Code.CORRECTED})
# The link does these.
OF_THE_LINK = frozenset({Code.PACKET_LOSS, Code.GLITCH})
# The line does this: the channel is well, but what it is taken against is no longer what was asked for.
OF_THE_REFERENCE = frozenset({Code.REREFERENCED})

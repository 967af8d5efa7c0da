"""Where 10-10 electrodes lie: directions from the center of a spherical head (x right, y front, z up).

From MNE's standard_1005 template, about the center of the sphere fitted to these electrodes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dsp.nets import nearest
from eegloop.signal import F64

# label: unit vector
POSITIONS: dict[str, tuple[float, float, float]] = {
    "Fp1": (-0.2896, 0.9556, -0.0535),
    "Fpz": (-0.0071, 1.0000, -0.0030),
    "Fp2": (0.2759, 0.9597, -0.0541),
    "AF9": (-0.4741, 0.7624, -0.4405),
    "AF7": (-0.5476, 0.8318, -0.0904),
    "AF5": (-0.4606, 0.8846, 0.0734),
    "AF3": (-0.3400, 0.9137, 0.2226),
    "AF1": (-0.1864, 0.9256, 0.3295),
    "AFz": (-0.0060, 0.9347, 0.3554),
    "AF2": (0.1825, 0.9267, 0.3286),
    "AF4": (0.3394, 0.9128, 0.2273),
    "AF6": (0.4524, 0.8888, 0.0735),
    "AF8": (0.5371, 0.8385, -0.0916),
    "AF10": (0.4724, 0.7613, -0.4441),
    "F9": (-0.6853, 0.5571, -0.4690),
    "F7": (-0.7677, 0.6316, -0.1082),
    "F5": (-0.7000, 0.6866, 0.1963),
    "F3": (-0.5301, 0.7173, 0.4522),
    "F1": (-0.2844, 0.7319, 0.6193),
    "Fz": (-0.0054, 0.7395, 0.6732),
    "F2": (0.2872, 0.7379, 0.6107),
    "F4": (0.5279, 0.7282, 0.4370),
    "F6": (0.7011, 0.6885, 0.1857),
    "F8": (0.7619, 0.6380, -0.1119),
    "F10": (0.6838, 0.5575, -0.4707),
    "FT9": (-0.8267, 0.2978, -0.4773),
    "FT7": (-0.9322, 0.3443, -0.1112),
    "FC5": (-0.8747, 0.3885, 0.2897),
    "FC3": (-0.6632, 0.4210, 0.6187),
    "FC1": (-0.3562, 0.4289, 0.8302),
    "FCz": (-0.0048, 0.4343, 0.9008),
    "FC2": (0.3502, 0.4383, 0.8278),
    "FC4": (0.6623, 0.4285, 0.6147),
    "FC6": (0.8715, 0.3983, 0.2861),
    "FT8": (0.9261, 0.3597, -0.1136),
    "FT10": (0.8215, 0.2999, -0.4849),
    "T9": (-0.8797, 0.0020, -0.4755),
    "T7": (-0.9957, 0.0001, -0.0931),
    "C5": (-0.9355, 0.0262, 0.3523),
    "C3": (-0.7088, 0.0471, 0.7039),
    "C1": (-0.3755, 0.0613, 0.9248),
    "Cz": (-0.0044, 0.0674, 0.9977),
    "C2": (0.3785, 0.0659, 0.9233),
    "C4": (0.7129, 0.0552, 0.6991),
    "C6": (0.9371, 0.0369, 0.3472),
    "T8": (0.9953, 0.0119, -0.0957),
    "T10": (0.8750, -0.0034, -0.4842),
    "TP9": (-0.8491, -0.2994, -0.4351),
    "TP7": (-0.9420, -0.3297, -0.0622),
    "CP5": (-0.8752, -0.3320, 0.3519),
    "CP3": (-0.6574, -0.3162, 0.6840),
    "CP1": (-0.3484, -0.2995, 0.8882),
    "CPz": (-0.0044, -0.2964, 0.9551),
    "CP2": (0.3603, -0.2980, 0.8840),
    "CP4": (0.6661, -0.3100, 0.6784),
    "CP6": (0.8807, -0.3211, 0.3482),
    "TP8": (0.9424, -0.3284, -0.0638),
    "TP10": (0.8440, -0.3067, -0.4400),
    "P9": (-0.7258, -0.5673, -0.3891),
    "P7": (-0.7871, -0.6167, -0.0117),
    "P5": (-0.7118, -0.6297, 0.3111),
    "P3": (-0.5352, -0.6236, 0.5697),
    "P1": (-0.2819, -0.6169, 0.7349),
    "Pz": (-0.0050, -0.6124, 0.7905),
    "P2": (0.2933, -0.6085, 0.7374),
    "P4": (0.5408, -0.6169, 0.5718),
    "P6": (0.7087, -0.6330, 0.3117),
    "P8": (0.7846, -0.6198, -0.0124),
    "P10": (0.7188, -0.5743, -0.3919),
    "PO9": (-0.5318, -0.7821, -0.3249),
    "PO7": (-0.5637, -0.8249, 0.0424),
    "PO5": (-0.4953, -0.8374, 0.2311),
    "PO3": (-0.3722, -0.8449, 0.3841),
    "PO1": (-0.1978, -0.8556, 0.4783),
    "POz": (-0.0063, -0.8561, 0.5168),
    "PO2": (0.1902, -0.8576, 0.4779),
    "PO4": (0.3608, -0.8519, 0.3796),
    "PO6": (0.4924, -0.8388, 0.2325),
    "PO8": (0.5571, -0.8294, 0.0419),
    "PO10": (0.5202, -0.7885, -0.3281),
    "O1": (-0.2980, -0.9492, 0.1008),
    "Oz": (-0.0074, -0.9870, 0.1603),
    "O2": (0.2873, -0.9525, 0.1010),
    "Iz": (-0.0081, -0.9783, -0.2069),
}
# Names of the older 10-20 nomenclature.
OLDER = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}

_BY_LOWER = {label.lower(): label for label in POSITIONS} | {old.lower(): new for old, new in OLDER.items()}
# Files and headsets dress a name up: "EEG FP1-REF", "EEG.AF3", "RAW_TP9", "Fc5.", "C3-A2".
_DRESS = re.compile(r"^(?:eeg|raw|pol(?=[\s_]))[\s_.:-]*(?=[a-z])|(?<=[\dz])[\s_]*(?:[(\[][uµμ]v[)\]]|[\s_][uµμ]v)$")
# What a name is taken against, where that is the ears, an average or simply "the reference"; another electrode makes it a pair of two.
_AGAINST = re.compile(
    r"[\s_:/-]+(?P<what>[vc]?ref|reference|org|lm|linked|avg?|ave|average|car|ar|le|linked ?ears|nose|(?P<ears>[am][12](?:[\s_+/-]?[am][12])?))$"
)
_EARS = frozenset({"a1", "a2", "m1", "m2"})


@lru_cache(maxsize=4096)
def bare(label: str) -> str:
    """An electrode's name in lower case without what a file adds: "EEG FP1-REF", "Fp1.." and "Fp1-A2" are fp1.

    A pair of scalp electrodes ("Fp1-F7", "Fpz-Cz") is no electrode and stays as it is.
    """
    name = _DRESS.sub("", label.strip().lower()).strip(". ")
    against = _AGAINST.search(name)
    if against is None:
        return name
    first = name[: against.start()].strip(". ")
    return name if against["ears"] and first in _EARS else first


def canonical(label: str) -> str | None:
    """The 10-10 name of a label in any case or dress (`bare`) or of the older nomenclature; None if it is none."""
    return _BY_LOWER.get(bare(label))


def pick(channels: Sequence[int]) -> slice | NDArray[np.intp]:
    """What picks these channels of an array: a slice, which copies nothing, where they lie side by side in rising order."""
    first = channels[0] if len(channels) else 0
    if list(channels) == list(range(first, first + len(channels))):
        return slice(first, first + len(channels))
    return np.array(channels, dtype=np.intp)


def direction(label: str) -> F64 | None:
    """Unit vector (3,) of an electrode, None if its label is no 10-10 name."""
    known = canonical(label)
    return None if known is None else np.array(POSITIONS[known])


def places(labels: Sequence[str]) -> list[F64 | None]:
    """`direction` of each label; of a known net, what stands where eyes are looked for (`dsp.nets`)."""
    return [
        direction(label) if name is None else np.array(POSITIONS[name])
        for label, name in zip(labels, nearest(labels), strict=True)
    ]

"""What a biomarker sees at the end of a hop, and the port it implements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dsp.codes import DRIFT_HZ, EYES_HZ, MUSCLE_HZ
from dsp.electrodes import bare, canonical
from dsp.quality import GRADES, REASONS
from dsp.spectrum import C128, SpectrumEngine, SpectrumNeed, transform
from dsp.window import Grid, SampleRing
from eegloop.closed import Closed
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, Grade, StreamInfo

if TYPE_CHECKING:
    from dsp.quality import ChannelQuality


class Hop:
    """The newest hop: spectra and channel verdicts, each computed once however many ask.

    Attributes
    ----------
    number, end_sample : int
        As in `eegloop.signal.Biomarkers`.
    grid : Grid
    row_values, row_grades, row_reasons :
        What this hop's biomarkers have given so far, by the line's columns: for those that are made of others.
    """

    def __init__(
        self,
        grid: Grid,
        needs: dict[tuple[int, str, str, int], SpectrumNeed],
        engines: dict[tuple[int, str, str, int], SpectrumEngine],
        quality: ChannelQuality,
        samples: SampleRing | None,
    ) -> None:
        self.grid = grid
        self.number = 0
        self.end_sample = 0
        self.samples = samples
        self._block = 0
        self._needs, self._engines = needs, engines
        self._quality = quality
        self._densities: dict[tuple[int, str, str, int], F64] = {}
        self._transforms: dict[tuple[int, str, str, int], C128] = {}
        self._codes: dict[tuple[int, bool, bool, bool], U8] = {}
        self._weights: dict[tuple[int, str, str, int], F64] = {}
        self._powers: dict[tuple[int, str, str, int], F64] = {}
        self._fed_from = 0
        self.all_good = quality.all_good
        self.row_values: F64 = np.empty(0)
        self.row_grades: U8 = np.empty(0, dtype=np.uint8)
        self.row_reasons: tuple[str, ...] = ()

    def open(self, number: int, block: int, end_sample: int, fed_from: int) -> None:
        """Move on to the hop that ends with `block`; samples from `fed_from` on are unbroken."""
        self.number, self._block, self.end_sample, self._fed_from = number, block, end_sample, fed_from
        self._densities.clear()
        self._transforms.clear()
        self._powers.clear()
        self._codes.clear()

    def frequencies(self, need: SpectrumNeed) -> F64:
        return self._engines[need.key].frequency_hz

    @property
    def pulsed(self) -> bool:
        """Whether a magnetic pulse may still reach the newest samples: nothing is good then, whatever it is made of."""
        return self._quality.pulsed(self._block)

    def whole(self, n_samples: int) -> bool:
        """Whether every sample of the window is there (settled or not)."""
        return self.end_sample - n_samples >= self._fed_from

    def density(self, need: SpectrumNeed) -> F64:
        """(n_channels, n_bins) µV²/Hz of the need's window that ends here; only meaningful if `whole`.

        Bins go from 0 Hz to the need's `f_max_hz` or beyond (another biomarker may have asked for more): `frequencies`.
        """
        density = self._densities.get(need.key)
        if density is None:
            window = self.samples.window(need.n_samples) if self.samples is not None else None
            density = self._engines[need.key].density(self._block, self.end_sample, window)
            self._densities[need.key] = density
        return density

    def weigh(self, need: SpectrumNeed, weights: F64) -> slice:
        """Have (n, n_bins) weights applied to the need's density at every hop, once for all who ask; their rows in `powers`."""
        before = self._weights.get(need.key)
        self._weights[need.key] = weights if before is None else np.vstack((before, weights))
        self._powers.pop(need.key, None)
        first = 0 if before is None else len(before)
        return slice(first, first + len(weights))

    def powers(self, need: SpectrumNeed) -> F64:
        """(n_weights, n_channels): everybody's `weigh` times the need's density of the window that ends here."""
        powers = self._powers.get(need.key)
        if powers is None:
            powers = self._powers[need.key] = self._weights[need.key] @ self.density(need).T
        return powers

    def transform(self, need: SpectrumNeed) -> C128:
        """(n_channels, n_bins) complex bins of the window that ends here, |.|² = `density`; for `complex_bins` needs."""
        bins = self._transforms.get(need.key)
        if bins is None:
            bins = self._transforms[need.key] = transform(self.window(need.n_samples), self._needs[need.key], self.grid.rate_hz)
        return bins

    def window(self, n_samples: int) -> F64:
        """(n_channels, n_samples) filtered samples that end here (`SampleNeed` only); valid until the next hop."""
        assert self.samples is not None
        return self.samples.window(n_samples)

    def codes(self, n_samples: int, lowest_hz: float = 0.0, highest_hz: float = math.inf) -> U8:
        """`dsp.quality.Code` of each channel for the window that ends here; `all_good` itself when nothing is wrong.

        `lowest_hz` and `highest_hz` are the lowest and the highest frequency a value is made of: from `EYES_HZ` up, small blinks and
        gaze steps do no harm, from `DRIFT_HZ` up lasting drift, and up to `MUSCLE_HZ`, weak muscle.
        """
        key = (n_samples, lowest_hz >= DRIFT_HZ, lowest_hz >= EYES_HZ, highest_hz <= MUSCLE_HZ)
        codes = self._codes.get(key)
        if codes is None:
            codes = self._codes[key] = self._quality.codes(n_samples, self._block, self.end_sample, lowest_hz, highest_hz)
        return codes


@dataclass(frozen=True, slots=True)
class SampleNeed:
    """Filtered samples some biomarker asks for: the newest `n_samples` at any hop."""

    n_samples: int


class Biomarker(Protocol):
    """One file of `dsp/biomarkers`: keeps its own state, reads nothing but the hop.

    A module offers `Settings(Closed)` and `build(info, settings, line) -> Biomarker`; both are looked up by
    the `kind` in config.yaml.
    """

    columns: tuple[BiomarkerColumn, ...]
    needs: tuple[SpectrumNeed | SampleNeed, ...]

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        """Fill this hop's values and grades (a slot a column); returns the reasons. NaN exactly where INVALID."""


@runtime_checkable
class Derived(Protocol):
    """A biomarker made of others: it learns their columns before the first hop and is computed after them."""

    def bind(self, columns: Sequence[BiomarkerColumn]) -> None:
        """Sets the biomarker's own `columns` and `needs`; raises ConfigError for what is not there."""


class Build(Protocol):
    def __call__(self, info: StreamInfo, settings: Closed, line: LineSettings) -> Biomarker: ...


def measured(info: StreamInfo) -> tuple[int, ...]:
    """Channels whose samples are microvolts of a body: all but "misc"."""
    return tuple(i for i, kind in enumerate(info.kinds) if kind != "misc")


def electrode(info: StreamInfo, label: str) -> int | None:
    """Index of an EEG channel by its label, in any case, with or without what a file adds to it ("EEG F3-REF"), or by the
    10-20 name's other form (T5 is P7); None if there is none."""
    eeg = [(i, name) for i, (name, kind) in enumerate(zip(info.channels, info.kinds, strict=True)) if kind == "eeg"]
    wanted, place = label.strip().lower(), canonical(label)
    exact_ones = [i for i, name in eeg if name.strip().lower() == wanted]
    alike = [i for i, name in eeg if bare(name) == bare(label)]
    same_place = [i for i, name in eeg if place is not None and canonical(name) == place]
    return next(iter(exact_ones or alike or same_place), None)


def placed(info: StreamInfo) -> list[tuple[int, str]]:
    """(index, 10-10 name) of every EEG channel whose place is known, in the stream's order; the first one only where two share a place."""
    found: dict[str, int] = {}
    for i, (label, kind) in enumerate(zip(info.channels, info.kinds, strict=True)):
        place = canonical(label) if kind == "eeg" else None
        if place is not None:
            found.setdefault(place, i)
    return sorted((i, place) for place, i in found.items())


def reasons_of(codes: U8) -> tuple[str, ...]:
    return tuple(REASONS[code] for code in codes.tolist())


class Graded:
    """Grades and reasons of values by their channels' codes, made anew only when a code has changed: they stay for many hops."""

    def __init__(self) -> None:
        self._known = b""
        self._grades: U8 = np.empty(0, dtype=np.uint8)
        self._invalid: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self._reasons: tuple[str, ...] = ()

    def give(self, codes: U8, values: F64, grades: U8) -> tuple[str, ...]:
        """Grade values, which repeat the channels of `codes` any number of times; values without grade become NaN."""
        key = codes.tobytes()
        if key != self._known or len(self._grades) != len(grades):
            repeats = len(grades) // max(1, len(codes))
            self._known, self._reasons = key, reasons_of(codes) * repeats
            self._grades = np.tile(GRADES[codes], repeats)
            self._invalid = np.flatnonzero(self._grades == Grade.INVALID)
        grades[:] = self._grades
        if self._invalid.size:
            values[self._invalid] = np.nan
        return self._reasons

"""The line from chunks to biomarkers: gaps, repair, filters, quality, spectra, biomarkers, one row a hop.

Samples are collected into blocks (a hop, or its equal parts of at most 100 ms) whose edges lie on the
absolute sample grid, and each block is worked through at once. So the result cannot depend on how the
stream was cut into chunks, and a hop costs a handful of matrix products.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsp.artifacts import ArtifactEvent, Artifacts, Finding
from dsp.correction import Correction
from dsp.drift import FREQUENCY_HZ
from dsp.eyes import untold
from dsp.filters import DEFAULT_FULL_SCALE_UV, FilterChain, design, power_response, settle_samples
from dsp.hop import Biomarker, Derived, Hop, SampleNeed
from dsp.leak import Leak
from dsp.line_noise import LineNoise
from dsp.pulses import Pulses
from dsp.quality import ChannelQuality, Code
from dsp.reference import Rereference
from dsp.repair import ABSURD_UV, Repair, plausible
from dsp.spectrum import BlockSpectrum, DirectSpectrum, SpectrumEngine, SpectrumNeed, band_weights
from dsp.window import Grid, Ranges, SampleRing
from eegloop import plugins
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, BiomarkerColumn, Biomarkers, Bool, Chunk, Quality, StreamInfo

BRIDGE_S = 0.05
# Of one interruption at most this many rows are given, its last ones (and that of the hop it began in);
# hop numbers stay those of the grid, so they say how many were left out.
MOST_GAP_ROWS = 600
_TOTAL_HZ = (1.0, 45.0)
_RATES_HZ = (50.0, 20_000.0)
_MOST_CHANNELS = 1024


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The density behind the newest hop's band powers.

    Attributes
    ----------
    frequency_hz : (n_bins,) float64
    density_uv2_hz : (n_channels, n_bins) float64
        After the filters; divide by `Pipeline.power_response` for the density of the raw signal.
    whole : bool
        Every sample of the window was there. Filters may still have been settling.
    """

    frequency_hz: F64
    density_uv2_hz: F64
    whole: bool


@dataclass(slots=True)
class _Part:
    """A stretch of a broken block: fed (`code` GOOD), or not and why. `restart`: the filters start anew at its first sample."""

    start: int
    stop: int
    code: Code
    restart: bool = False
    bridged: int = 0


class Pipeline:
    """One stream's line. Pure: the state is in here, time comes in with the chunks.

    Parameters
    ----------
    info : StreamInfo
    settings : LineSettings
    biomarkers : sequence of (kind, settings)
        Modules of `dsp/biomarkers`, in the order of the columns.

    Raises
    ------
    ConfigError
        If filters or biomarkers do not fit the stream; names the key.

    Notes
    -----
    An interruption (a gap over 50 ms, a new segment, unclean samples) resets the filters; they start at the
    next sample's own level. Windows stay invalid until it and `settle_samples` are past. Hops that end inside an interruption
    are emitted, invalid, when the next samples arrive, at most the last `MOST_GAP_ROWS` of them.
    """

    def __init__(self, info: StreamInfo, settings: LineSettings, biomarkers: Sequence[tuple[str, Closed]]) -> None:
        rate, c = info.sample_rate_hz, info.n_channels
        if not _RATES_HZ[0] <= rate <= _RATES_HZ[1]:
            raise ConfigError(
                f"source: {info.name!r} gives {rate:g} samples per second; the line works at {_RATES_HZ[0]:g}-{_RATES_HZ[1]:g}"
            )
        if not 1 <= c <= _MOST_CHANNELS or len(info.kinds) != c:
            raise ConfigError(
                f"source: {info.name!r} has {c} channels and {len(info.kinds)} channel types; needed: 1-{_MOST_CHANNELS} of each"
            )
        twice = next((label for i, label in enumerate(info.channels) if label in info.channels[:i]), None)
        if twice is not None:
            raise ConfigError(
                f"source: {info.name!r} has two channels labelled {twice!r}; every channel needs a label of its own"
            )
        self.info, self.settings = info, settings
        self._grid = grid = Grid.of(rate, settings.hop_s)
        if grid.block_length < 2:
            raise ConfigError(
                f"line.hop_s: {settings.hop_s:g} s is {float(grid.block_length):.2g} samples at {rate:g} Hz; needed: at least 2"
            )
        self._sos = design(settings, rate)
        self._chain = FilterChain(self._sos, c, grid.block_lengths)
        self.settle_samples = settle_samples(self._sos, info.full_scale_uv if info.full_scale_uv > 0 else DEFAULT_FULL_SCALE_UV)
        self._biomarkers: list[Biomarker] = [
            plugins.find("biomarker", kind).build(info, plug_settings, settings) for kind, plug_settings in biomarkers
        ]
        self._biomarkers.sort(key=lambda b: isinstance(b, Derived))
        plain = tuple(column for b in self._biomarkers if not isinstance(b, Derived) for column in b.columns)
        for derived in (b for b in self._biomarkers if isinstance(b, Derived)):
            derived.bind(plain)
        self.columns: tuple[BiomarkerColumn, ...] = tuple(column for b in self._biomarkers for column in b.columns)
        self._refuse_twins()
        self._slices, at = [], 0
        for biomarker in self._biomarkers:
            self._slices.append(slice(at, at + len(biomarker.columns)))
            at += len(biomarker.columns)
        self._n_columns = at

        self.spectrum_need = SpectrumNeed(
            grid.window_samples(settings.window_s), min(_TOTAL_HZ[1], rate / 2), settings.taper, settings.detrend
        )
        needs: dict[tuple[int, str, str, int], SpectrumNeed] = {self.spectrum_need.key: self.spectrum_need}
        asked = [need for b in self._biomarkers for need in b.needs]
        for need in (n for n in asked if isinstance(n, SpectrumNeed)):
            needs[need.key] = needs[need.key].joined(need) if need.key in needs else need
        self._engines: dict[tuple[int, str, str, int], SpectrumEngine] = {
            key: BlockSpectrum(need, grid, c) if BlockSpectrum.fits(need, grid) else DirectSpectrum(need, rate)
            for key, need in needs.items()
        }
        self._block_engines = [e for e in self._engines.values() if isinstance(e, BlockSpectrum)]
        kept = [n.n_samples for n in asked if isinstance(n, SampleNeed)]
        longest = max([n.n_samples for n in needs.values()] + kept)
        kept += [n.n_samples for n in needs.values() if n.complex_bins or isinstance(self._engines[n.key], DirectSpectrum)]
        self._samples = SampleRing(c, max(*kept, grid.block_lengths[-1])) if kept else None
        self._noise = LineNoise(rate, c)
        leak = power_response(self._sos, rate, np.asarray(self._noise.lines_hz))
        # where mains are tracked and taken out, what is left of them is measured, not foretold
        self._left_noise = None if settings.correction.track_line_hz is None else LineNoise(rate, c)
        eeg, judged = (np.array([kind == "eeg" for kind in info.kinds]), np.array([kind != "misc" for kind in info.kinds]))
        # what cannot be known of the eyes with these electrodes, for a person to read; "" where blinks are told or not asked for
        self.eyes_untold = "" if settings.quality.blink_uv is None else untold(info)
        slow = None if settings.high_pass_hz is None else power_response(self._sos, rate, FREQUENCY_HZ)
        self._artifacts = Artifacts(info, settings.quality, grid, eeg, slow)
        self._quality = ChannelQuality(
            settings.quality,
            grid,
            eeg,
            judged,
            info.full_scale_uv,
            settings.high_pass_hz is not None,
            longest,
            leak,
            self._noise.lines_hz,
            self._artifacts.contact,
        )
        self._correction = Correction(info, settings.correction, grid, eeg)
        self._reference = None if settings.reference == "recorded" else Rereference(info, settings.reference, grid, eeg)
        self._leak = Leak(settings.quality, grid, eeg)
        self._changes = self._correction.active or self._reference is not None
        self._pulses = Pulses(settings.correction, rate, self._sos)
        self._cut = 0  # samples of the open block that a pulse has cost
        self._hop = Hop(grid, needs, self._engines, self._quality, self._samples)
        frequency = self._engines[self.spectrum_need.key].frequency_hz
        self._total_weights = band_weights(frequency, *_TOTAL_HZ, "sum")

        self._ranges = Ranges(c, grid.block_lengths[-1])
        self._longest_bridge = int(BRIDGE_S * rate + 1e-9)
        self._repair = Repair(c, self._longest_bridge, settings.glitch_uv)
        self._end: int | None = None  # one past the newest sample of the grid that is dealt with
        self._segment = 0
        self._block = 0
        self._block_start = self._block_end = 0
        self._fed_from = 0
        self._restart = True  # the next fed sample starts the filters
        self._unbroken = False
        self._parts: list[_Part] = []  # of the open block, in order; kept only when it is broken

    def _refuse_twins(self) -> None:
        seen: set[tuple[str, str]] = set()
        for column in self.columns:
            if (column.name, column.channel) in seen:
                raise ConfigError(f"biomarkers: {column.name}@{column.channel} is computed twice; remove one of the two entries")
            seen.add((column.name, column.channel))

    # -- what the outside asks -----------------------------------------------------------------

    def spectrum(self) -> Spectrum:
        """The density of the newest hop's `window_s` window (before the first hop: zeros, not whole)."""
        need = self.spectrum_need
        return Spectrum(
            self._hop.frequencies(need), self._hop.density(need), self._end is not None and self._hop.whole(need.n_samples)
        )

    def power_response(self, frequency_hz: F64) -> F64:
        """|H(f)|² of the filter chain."""
        return power_response(self._sos, self.info.sample_rate_hz, frequency_hz)

    @property
    def artifact_events(self) -> tuple[ArtifactEvent, ...]:
        """The newest blinks, gaze steps and movements that were recognized, in order of time (at most some thousands)."""
        return tuple(self._artifacts.log)

    @property
    def blink_polarity(self) -> int:
        """+1 or -1: the sign of this person's blinks at the frontmost electrodes; 0 while unknown."""
        return self._artifacts.eyes.polarity

    def pulse(self, sample: int) -> None:
        """A magnetic pulse falls on this absolute sample; say so before the samples around it are pushed.

        The samples around it (`correction.pulse_before_ms`, `pulse_after_ms`) are cut out and interpolated before any
        filter. Suspect is every value of a window that holds one, or that begins before the amplifier's recovery is over
        (`dsp/pulses.py`); until then a value held from many windows is, too. What of the cut lies in blocks that are done
        stays in the values, which are suspect from the next hop on all the same.
        """
        pulses = self._pulses
        if pulses.expected(sample):
            return
        end = sample + pulses.after
        if self._end is None or end > self._block_start:
            pulses.expect(sample)
        if self._end is not None and sample - pulses.before < self._block_start:
            for block in range(self._grid.block_of(max(0, sample - pulses.before)), self._grid.block_of(end - 1) + 1):
                if block < self._block:
                    self._quality.pulse(block)
            self._quality.recovering(np.full(self.info.n_channels, end + pulses.recovery))

    def push(self, chunk: Chunk, clean: Bool | None = None) -> list[Biomarkers]:
        """Take the next chunk; returns a row for every hop that ended.

        Parameters
        ----------
        chunk : Chunk
        clean : (n_samples,) bool or None
            False where stimulation could have touched the sample. Such samples are not looked at at all.

        Raises
        ------
        ValueError
            If the chunk does not fit the stream: wrong channels, overlapping samples, a mask of another length.
        """
        rows: list[Biomarkers] = []
        n = chunk.data_uv.shape[0]
        if chunk.data_uv.ndim != 2 or chunk.data_uv.shape[1] != self.info.n_channels:
            raise ValueError(f"chunk of shape {chunk.data_uv.shape}; this stream has {self.info.n_channels} channels")
        if clean is not None and clean.shape != (n,):
            raise ValueError(f"clean mask of shape {clean.shape} for a chunk of {n} samples")
        if n == 0:
            return rows
        if chunk.impedance_kohm is not None:
            self._quality.impedance_kohm = chunk.impedance_kohm
        data = chunk.data_uv.T
        goes_on = chunk.first_sample == self._end and chunk.segment == self._segment
        if clean is None or clean.all():
            if not goes_on:
                self._join(chunk, data[:, 0], True, rows)
            self._feed(data, chunk, rows)
            return rows
        if not goes_on:
            self._join(chunk, data[:, 0], bool(clean[0]), rows)
        for start, stop, is_clean in _runs(clean):
            if is_clean:
                self._feed(data[:, start:stop], chunk, rows)
            else:
                self._skip(stop - start, Code.STIMULATION, chunk, rows)
        return rows

    # -- the sample grid -----------------------------------------------------------------------

    def _join(self, chunk: Chunk, first_uv: NDArray[np.float32], first_is_clean: bool, rows: list[Biomarkers]) -> None:
        """The chunk does not simply go on: the first one, a gap, or a new segment."""
        if self._end is None:
            self._segment = chunk.segment
            self._end = chunk.first_sample
            self._open_block(self._grid.block_of(chunk.first_sample))
            self._break()
            return
        gap = chunk.first_sample - self._end
        if gap < 0:
            raise ValueError(
                f"chunk starts at sample {chunk.first_sample}, but samples up to {self._end} were already given; "
                "a source must keep one rising sample grid, also across segments"
            )
        if chunk.segment != self._segment:
            self._segment = chunk.segment
            self._skip(gap, Code.SEGMENT, chunk, rows)
            self._break()
            fill = self._end - self._block_start
            self._parts.append(_Part(fill, fill, Code.SEGMENT))
            self._restart = True
        elif gap > self._longest_bridge or self._restart or not first_is_clean:
            self._skip(gap, Code.GAP if first_is_clean and not self._restart else Code.STIMULATION, chunk, rows)
        else:
            fill = self._end - self._block_start
            last = plausible(self._chain.block[:, fill - 1]) if fill else self._repair.last_uv
            step = np.arange(1, gap + 1) / (gap + 1)
            self._feed(last[:, np.newaxis] + (plausible(first_uv) - last)[:, np.newaxis] * step, chunk, rows, bridging=True)

    def _open_block(self, block: int) -> None:
        self._block = block
        self._block_start, self._block_end = self._grid.block_end(block - 1), self._grid.block_end(block)
        self._unbroken = True
        self._quality.open_block(block)

    def _break(self) -> None:
        """From here on the parts of the block are listed one by one."""
        if self._unbroken:
            assert self._end is not None
            fill = self._end - self._block_start
            self._unbroken = False
            self._parts = [_Part(0, fill, Code.GOOD)] if fill else []

    def _feed(self, data: NDArray[np.floating], chunk: Chunk, rows: list[Biomarkers], bridging: bool = False) -> None:
        """Samples (n_channels, n) that go into the filters."""
        assert self._end is not None
        n, done, block_in = data.shape[1], 0, self._chain.block
        while done < n:
            if bridging or self._restart:
                self._break()
            fill = self._end - self._block_start
            take = min(n - done, self._block_end - self._end)
            block_in[:, fill : fill + take] = data if take == n else data[:, done : done + take]
            done += take
            self._end += take
            if not self._unbroken:
                if self._restart or not self._parts or self._parts[-1].code != Code.GOOD:
                    self._parts.append(_Part(fill, fill, Code.GOOD, self._restart))
                    self._restart = False
                part = self._parts[-1]
                part.stop += take
                part.bridged += take if bridging else 0
            if self._end == self._block_end:
                self._finish_block(chunk, rows)

    def _skip(self, n: int, code: Code, chunk: Chunk, rows: list[Biomarkers]) -> None:
        """`n` samples that are missing, or that nobody may look at."""
        if n == 0:
            return
        assert self._end is not None
        target = self._end + n
        while self._end < target:
            self._break()
            take = min(target, self._block_end) - self._end
            fill = self._end - self._block_start
            self._parts.append(_Part(fill, fill + take, code))
            self._restart = True
            self._end += take
            if self._end < self._block_end:
                break
            self._finish_block(chunk, rows)
            last_block = self._grid.block_of(target) - 1
            kept = MOST_GAP_ROWS * self._grid.blocks_per_hop
            if last_block - self._block >= kept:
                self._quality.forget()
                self._open_block(last_block - kept + 1)
                self._end = self._block_start

    # -- one block -----------------------------------------------------------------------------

    def _finish_block(self, chunk: Chunk, rows: list[Biomarkers]) -> None:
        n = self._block_end - self._block_start
        raw = self._chain.block[:, :n]
        if self._pulses.active:
            self._cut, free_from = self._pulses.cut(raw, self._block_start, self._repair.last_uv, self._unbroken)
            if free_from is not None:
                self._quality.recovering(free_from)
        if self._unbroken and not self._repair.pending:
            ranges = self._ranges
            ranges.take(raw)
            if ranges.lowest >= -ABSURD_UV and ranges.highest <= ABSURD_UV and ranges.widest <= self._repair.calm_uv:
                self._repair.accept(raw[:, -1])
                self._work(n, raw, self._chain.run_block(n), whole=True, unbroken=True)
                self._close_block(chunk, rows)
                return
        self._finish_broken_block(n, raw)
        self._close_block(chunk, rows)

    def _finish_broken_block(self, n: int, raw: F64) -> None:
        """A block with a gap, a restart or a bad sample in it: part by part, in order."""
        whole = self._unbroken
        filtered = np.zeros_like(raw)
        fed, fed_whole = False, True
        for part in [_Part(0, n, Code.GOOD)] if whole else self._parts:
            first = self._block_start + part.start
            if part.code != Code.GOOD:
                raw[:, part.start : part.stop] = 0.0
                self._quality.interrupted(part.code)
                self._quality.unfed(self._block, part.stop - part.start)
                if part.code == Code.GAP:
                    self._quality.lost(self._block, part.stop - part.start)
                fed_whole = False
                continue
            if part.restart:
                fed_whole = False
                self._repair.restart()
                self._noise.interrupted(first)
                if self._left_noise is not None:
                    self._left_noise.interrupted(first)
                self._fed_from = first
                self._chain.restart(np.zeros(len(raw)))
            self._feed_part(first, raw[:, part.start : part.stop], filtered[:, part.start : part.stop])
            if part.bridged:
                self._quality.bridged(self._block, np.full(len(raw), part.bridged))
                self._quality.lost(self._block, part.bridged)
            fed = True
        if fed:
            self._ranges.take(raw)
            self._work(n, raw, filtered, whole=whole, unbroken=fed_whole)
        else:
            self._artifacts.restart()  # a gap that begins with a block is one, too: no stretch in it is judged

    def _feed_part(self, first: int, raw: F64, filtered: F64) -> None:
        """Mend and filter samples from absolute index `first` on; channels that come back start anew."""
        mended = self._repair.mend(raw)
        done = 0
        for offset, channels in mended.returns:
            if offset > done:
                filtered[:, done:offset] = self._chain.run(raw[:, done:offset])
                done = offset
            self._chain.restart(raw[:, offset], channels)
            self._quality.restarted(first + offset, channels, self.settle_samples)
        filtered[:, done:] = self._chain.run(raw[:, done:])
        if self._cut:
            self._quality.pulse(self._block)
            mended = mended._replace(replaced=np.maximum(mended.replaced - self._cut, 0))
            self._cut = 0
        if mended.replaced.any():
            self._quality.bridged(self._block, mended.replaced * ~mended.glitched)
            if mended.glitched.any():
                self._quality.bridged(self._block, mended.replaced * mended.glitched, Code.GLITCH)
        if mended.out.any():
            self._quality.out(mended.out)
            self._chain.restart(np.zeros(len(raw)), mended.out)

    def _work(self, n: int, raw: F64, filtered: F64, whole: bool, unbroken: bool) -> None:
        """A block whose `_ranges` are known, mended and filtered."""
        ranges = self._ranges
        tracked: Bool | None = None
        if self._correction.tracks:
            filtered = filtered.copy()
            tracked = self._correction.take_mains(self._block, self._block_end, filtered, unbroken)
        ranges.take_filtered(filtered)
        self._quality.block(self._block, n, raw, ranges, whole)
        if unbroken:
            found = self._artifacts.block(self._block, self._block_start, self._quality.recent or [raw], filtered, ranges)
            if found:
                self._quality.found(found)
        else:
            found = []
            self._artifacts.restart()
        if tracked is not None:
            self._quality.mains_taken(tracked)
        if self._changes:
            filtered = self._change(filtered, found, unbroken=unbroken)
        self._noise.add(self._block_start, raw)
        if self._left_noise is not None:
            self._left_noise.add(self._block_start, filtered)
        for engine in self._block_engines:
            engine.add(self._block, self._block_start, filtered)
        if self._samples is not None:
            self._samples.append(filtered, self._block_end)

    def _change(self, filtered: F64, found: list[Finding], unbroken: bool) -> F64:
        """Corrections and the reference, on a copy: the artifacts of the next block are looked for in what was recorded."""
        x = filtered.copy()
        block = self._block
        if self._correction.active:
            if not unbroken:
                self._correction.restart()
            clean = unbroken and all(finding.code == Code.HEARTBEAT for finding in found)
            self._quality.corrected(block, self._correction.apply(x, clean))
        if self._reference is not None:
            if not unbroken:
                self._leak.restart()
            reference, loud = self._reference, self._quality.loud()
            before = reference.map
            made_of = reference.apply(x, self._quality.unusable(), loud)
            self._leak.take(block, made_of, before, reference.map)
            findings = list(self._leak.findings(found, loud, reference.moving))
            far = reference.far
            if far.any():
                findings.append(Finding(Code.REREFERENCED, block, block, far, spoils=True))
            self._quality.found(findings)
            self._quality.lacking = reference.lacking
        return x

    def _close_block(self, chunk: Chunk, rows: list[Biomarkers]) -> None:
        if self._artifacts.stretch_ends(self._block):
            quality = self._quality
            if self._artifacts.stretch(self._block, quality.dead_share(), quality.mains_uv2, quality.impedance_kohm):
                quality.judged()
        hop, rest = divmod(self._block, self._grid.blocks_per_hop)
        if rest == 0:
            rows.append(self._row(hop, chunk))
        self._open_block(self._block + 1)

    # -- one hop -------------------------------------------------------------------------------

    def _row(self, number: int, chunk: Chunk) -> Biomarkers:
        hop, end = self._hop, self._block_end
        hop.open(number, self._block, end, self._fed_from if not self._restart else end + 1)
        need = self.spectrum_need
        density = hop.density(need)
        if self._noise.fresh:
            self._noise.fresh = False
            left_uv2 = None if self._left_noise is None else self._left_noise.power_uv2
            self._quality.line(self._noise.power_uv2, density @ self._total_weights, hop.codes(need.n_samples), left_uv2)
        values, grades = np.empty(self._n_columns), np.zeros(self._n_columns, dtype=np.uint8)
        reasons: tuple[str, ...] = ()
        hop.row_values, hop.row_grades = values, grades
        for biomarker, span in zip(self._biomarkers, self._slices, strict=True):
            hop.row_reasons = reasons
            reasons += biomarker.compute(hop, values[span], grades[span])
            if len(reasons) != span.stop:  # every other's reasons would stand at the wrong column
                told = len(reasons) - span.start
                raise ValueError(f"{type(biomarker).__module__}: {told} reasons for {span.stop - span.start} columns")
        quality: Quality = self._quality.hop(self._block, end, self._quality.clean_fraction(need.n_samples, self._block, end))
        t_s = chunk.t0_s + (end - chunk.first_sample) / self.info.sample_rate_hz
        return Biomarkers(self.columns, values, grades, reasons, number, end, t_s, quality)


def _runs(clean: Bool) -> tuple[tuple[int, int, bool], ...]:
    """(start, stop, clean) of every run of equal values."""
    edges = [0, *(np.flatnonzero(clean[1:] != clean[:-1]) + 1).tolist(), len(clean)]
    return tuple((a, b, bool(clean[a])) for a, b in itertools.pairwise(edges))

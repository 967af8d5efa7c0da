"""Is this brain? What is wrong with each channel, block by block, and what that means for a window."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from dsp.artifacts import Finding
from dsp.codes import DRIFT_HZ, EYES_HZ, MUSCLE_HZ, NO_VALUE, OF_THE_BODY, OF_THE_LINK, OF_THE_REFERENCE
from dsp.codes import GRADES as GRADES
from dsp.codes import REASONS as REASONS
from dsp.codes import Code as Code
from dsp.contact import Contact
from dsp.window import Grid, Ranges
from eegloop.line import QualitySettings
from eegloop.signal import F64, U8, Bool, Quality

NEVER = 2**62

BRIDGED_LIMIT = 0.05  # share of a window that may be bridged (DESIGN section 3)
FLAT_S = 0.2
RAIL_SHARE = 0.99

# Reasons that a channel itself can have, in the order they are listed.
_LISTED = [
    Code.FLAT,
    Code.RAIL,
    Code.AMPLITUDE,
    Code.LINE_NOISE,
    Code.REFERENCE_FAULT,
    Code.BRIDGED,
    Code.DISAGREES,
    Code.CONTACT,
    Code.STEP,
    Code.GRADIENT,
    Code.DRIFT,
    Code.MOVEMENT,
    Code.BLINK,
    Code.EYE_MOVEMENT,
    Code.JAW_MUSCLE,
    Code.NECK_MUSCLE,
    Code.HEARTBEAT,
    Code.GLITCH,
    Code.PACKET_LOSS,
    Code.PULSE,
    Code.CORRECTED,
    Code.REREFERENCED,
    Code.GAP,
    Code.SEGMENT,
    Code.STIMULATION,
    Code.LOST,
    Code.SETTLING,
]
_LISTED_NAMES = [code.name.lower() for code in _LISTED]
_BAD_ROWS = [i for i, code in enumerate(_LISTED) if code not in OF_THE_BODY | OF_THE_LINK | OF_THE_REFERENCE]
PACKET_LOSS_S = 10.0
PACKET_LOSS = 0.02  # share of the samples of the last 10 s that were missing or bridged
_KEPT_NAMES = 64  # the same few combinations come again and again
EYES_KNOWN_S = 0.7  # after this a blink has been told
MAINS_TIMES, MAINS_S = 4.0, 3  # one of 50 and 60 Hz this much stronger for this long is the mains


class ChannelQuality:
    """Every channel's marks, by block, and the verdict on windows that end with the newest block.

    Attributes
    ----------
    recent : list of (n_channels, n) float64
        Copies of the newest raw blocks, at most three in a row, the newest last; empty behind one that was not whole.
    """

    def __init__(
        self,
        settings: QualitySettings,
        grid: Grid,
        eeg: Bool,
        judged: Bool,
        rail_uv: float,
        has_high_pass: bool,
        longest_window: int,
        line_leak: F64,
        lines_hz: tuple[float, ...],
        contact: Contact,
    ) -> None:
        c = len(eeg)
        self._settings, self._grid, self._eeg, self._judged = settings, grid, eeg, judged
        self._rail_uv = RAIL_SHARE * rail_uv if rail_uv > 0 else float("inf")
        self._has_high_pass = has_high_pass
        self._line_leak = line_leak[:, np.newaxis]
        self._depth = longest_window // max(1, int(grid.block_length)) + 3
        self._marked: NDArray[np.int64] = np.zeros((self._depth, c), dtype=np.int64)
        self._bridged: NDArray[np.int64] = np.zeros((self._depth, c), dtype=np.int64)
        self._mark_code = np.zeros(c, dtype=np.uint8)
        self._spoiled_at = np.full(c, -NEVER, dtype=np.int64)
        self._spoil_code = np.zeros(c, dtype=np.uint8)
        self._eyed_at = np.full(c, -NEVER, dtype=np.int64)  # the newest block with a blink or gaze step, however small
        self._eyed_code = np.zeros(c, dtype=np.uint8)
        self._perhaps_at = np.full(c, -NEVER, dtype=np.int64)
        self._undecided = math.ceil(EYES_KNOWN_S * grid.rate_hz / float(grid.block_length))
        self._tensed_at = np.full(c, -NEVER, dtype=np.int64)  # the newest block with muscle, however weak
        self._tensed_code = np.zeros(c, dtype=np.uint8)
        self._drifted_at = np.full(c, -NEVER, dtype=np.int64)  # the newest block with lasting drift
        self._pulsed_at = np.full(c, -NEVER, dtype=np.int64)  # the newest block that a magnetic pulse may still reach
        self._last_mark = self._last_spoil = self._last_bridge = -NEVER
        self._last_eyed = self._last_perhaps = self._last_tensed = self._last_drifted = self._last_pulsed = -NEVER
        self.valid_from = np.full(c, NEVER, dtype=np.int64)
        self._why = np.full(c, Code.SETTLING, dtype=np.uint8)
        self._valid_from_all = NEVER
        self._worse_of: tuple[int, int] = (0, -NEVER)
        self._worse_codes: U8 | None = None
        self._n_eeg = int(eeg.sum())
        self._standing: U8 | None = None  # what `codes` gives while nothing but lasting faults and mains is wrong
        self._present: Bool = np.zeros((max(Code) + 1, c), dtype=np.bool_)
        self._any_present = False
        self._flat_n = max(1, round(FLAT_S * grid.rate_hz))
        self.recent: list[F64] = []
        self._flat_run = np.zeros(c, dtype=np.int64)
        self._flat_low, self._flat_high = np.zeros(c), np.zeros(c)
        self._was_flat = False
        self.line_ratio: F64 = np.full(c, np.nan)
        self._noisy: Bool = np.zeros(c, dtype=np.bool_)
        self._leaky: Bool = np.zeros(c, dtype=np.bool_)
        self._any_noisy = self._any_leaky = False
        self._lines_hz, self._mains_run = lines_hz, 0
        self._middle = self._n_eeg // 2 if eeg.any() else -1
        self.mains_hz = float("nan")
        self._mains: int | None = None
        self.mains_uv2: F64 | None = None
        self.contact = contact
        self._faults: tuple[tuple[Code, Bool], ...] = ()
        self._fault_code: U8 = np.zeros(c, dtype=np.uint8)
        self._dead: NDArray[np.int64] = np.zeros(c, dtype=np.int64)
        self._dead_n = 0
        self._loss_blocks = max(1, round(PACKET_LOSS_S * grid.rate_hz / float(grid.block_length)))
        self._losses: deque[tuple[int, int]] = deque()
        self.impedance_kohm: F64 | None = None
        self.lacking: Bool | None = None  # channels that have nothing to be referenced to
        self._newest = -NEVER
        self.all_good: U8 = np.zeros(c, dtype=np.uint8)
        self._good: Bool = np.ones(c, dtype=np.bool_)
        self._named: dict[bytes, tuple[Bool, tuple[tuple[str, ...], ...]]] = {}
        self._no_reasons: tuple[tuple[str, ...], ...] = ((),) * c
        for array in (self.all_good, self._good):
            array.flags.writeable = False

    # -- what happened -------------------------------------------------------------------------

    def interrupted(self, code: Code, channels: Bool | None = None) -> None:
        """From now on no window is valid (for these channels) until `restarted`."""
        pick = slice(None) if channels is None else channels
        self.valid_from[pick] = NEVER
        self._why[pick] = code
        self._valid_from_all = NEVER
        self._note(code, channels)

    def restarted(self, sample: int, channels: Bool, settle_samples: int) -> None:
        """These channels' filters started anew at `sample`."""
        self.valid_from[channels] = sample + settle_samples
        self._valid_from_all = int(self.valid_from.max())

    def out(self, channels: Bool) -> None:
        """These channels have been without a usable value for longer than can be bridged."""
        fresh = channels & (self.valid_from < NEVER)
        if fresh.any():
            self.interrupted(Code.LOST, fresh)
        lasting = channels & (self._why == Code.LOST)
        if lasting.any():
            self._note(Code.LOST, lasting)

    def open_block(self, block: int) -> None:
        """Forget the marks of the block that had this slot."""
        if block - self._last_mark <= self._depth:
            self._marked[block % self._depth] = 0
        if block - self._last_bridge <= self._depth:
            self._bridged[block % self._depth] = 0

    def unfed(self, block: int, n: int) -> None:
        """`n` samples of this block are missing or not looked at."""
        marked = self._marked[block % self._depth]
        np.minimum(marked + n, self._grid.block_lengths[-1], out=marked)
        self._last_mark = block
        self.recent.clear()
        self._flat_run[:] = 0

    def lost(self, block: int, n: int) -> None:
        """`n` samples of this block never came."""
        self._losses.append((block, n))

    def forget(self) -> None:
        """A gap was so long that nothing before it lies in any window."""
        self._marked[:] = self._grid.block_lengths[-1]
        self._bridged[:] = 0

    def bridged(self, block: int, counts: NDArray[np.int64], code: Code = Code.LOST) -> None:
        """So many samples of each channel were replaced in this block."""
        self._bridged[block % self._depth] += counts
        self._last_bridge = block
        self._note(code, counts > 0)

    # -- one block -----------------------------------------------------------------------------

    def block(self, block: int, n: int, raw: F64, ranges: Ranges, whole: bool) -> None:
        """Judge one block: raw (n_channels, n) and its ranges."""
        settings = self._settings
        self._newest = block
        if whole:
            if self._was_flat or ranges.narrowest < settings.flat_uv:
                self._flat(block, n, raw, ranges.low, ranges.high, ranges.span)
            self._remember(raw)
        else:
            self.recent.clear()
        limit = settings.amplitude_uv
        if self._has_high_pass:
            if ranges.loudest > limit:
                self._spoil(block, n, ranges.extreme > limit, Code.AMPLITUDE)
        elif ranges.widest / 2 > limit:
            self._spoil(block, n, ranges.span / 2 > limit, Code.AMPLITUDE)
        if ranges.highest >= self._rail_uv or ranges.lowest <= -self._rail_uv:
            railed = (ranges.high >= self._rail_uv) | (ranges.low <= -self._rail_uv)
            self._spoil(block, n, railed, Code.RAIL)
            self._dead += n * railed
        self._dead_n += n

    def found(self, findings: list[Finding]) -> None:
        """Marks, also on blocks that are past: what is told late counts for every window that still holds them."""
        oldest = self._grid.block_of(0) if not findings else max(f.last for f in findings) - self._depth + 1
        gone = self.valid_from == NEVER if self._valid_from_all == NEVER else None
        for code, first, last, seen, spoils, only in findings:
            channels = seen if gone is None else seen & ~gone  # a channel without signal has no artifact either
            if only == "perhaps":
                self._perhaps_at[channels] = self._last_perhaps = last
                continue
            if only == "slow":
                self._eyed_at[channels] = np.maximum(self._eyed_at[channels], last)
                self._eyed_code[channels] = code
                self._last_eyed = max(self._last_eyed, last)
                continue
            if only == "drift":
                self._drifted_at[channels] = self._last_drifted = last
                continue
            if only == "fast":
                self._tensed_at[channels] = np.maximum(self._tensed_at[channels], last)  # it may be told late, behind a newer one
                self._last_tensed = max(self._last_tensed, last)
                self._tensed_code[channels] = code
                continue
            for block in range(max(first, oldest), last + 1):
                self._mark(block, self._grid.block_end(block) - self._grid.block_end(block - 1), channels, code)
            if spoils:
                # what is too large for any cause keeps its name
                named = channels & (
                    (self._spoiled_at < last) | (self._spoil_code != Code.AMPLITUDE) & (self._spoil_code != Code.RAIL)
                )
                self._spoil_code[named] = code
                self._spoiled_at[channels] = np.maximum(self._spoiled_at[channels], last)
                self._last_spoil = max(self._last_spoil, last)

    def _remember(self, raw: F64) -> None:
        if len(self.recent) == 3:
            oldest = self.recent.pop(0)
            if oldest.shape == raw.shape:
                oldest[:] = raw
                self.recent.append(oldest)
                return
        self.recent.append(raw.copy())

    def _flat(self, block: int, n: int, raw: F64, low: F64, high: F64, span: F64) -> None:
        """Flat for 200 ms: by whole blocks, and at a flat stretch's ends by every position of a 200 ms window."""
        limit = self._settings.flat_uv
        still = span < limit
        low_all, high_all = np.minimum(self._flat_low, low), np.maximum(self._flat_high, high)
        goes_on = still & (self._flat_run > 0) & (high_all - low_all < limit)
        ended = (self._flat_run > 0) & ~goes_on
        self._flat_low, self._flat_high = np.where(goes_on, low_all, low), np.where(goes_on, high_all, high)
        self._flat_run = np.where(goes_on, self._flat_run + n, np.where(still, n, 0))
        flat: Bool = self._flat_run >= self._flat_n
        edge = (still | ended) & ~flat
        if edge.any() and self.recent:
            recent = np.concatenate([*(r[edge] for r in self.recent), raw[edge]], axis=1)
            reach = self._flat_n + n - 1
            if recent.shape[1] >= self._flat_n:
                windows = np.lib.stride_tricks.sliding_window_view(recent[:, -reach:], self._flat_n, axis=1)
                flat[edge] |= (windows.max(-1) - windows.min(-1) < limit).any(1)
        self._was_flat = bool(still.any())
        flat &= self._why_is_not_lost()
        if flat.any():
            self._mark(block, n, flat, Code.FLAT)
            self._dead += n * flat

    def _why_is_not_lost(self) -> Bool:
        return np.asarray((self.valid_from < NEVER) | (self._why != Code.LOST), dtype=np.bool_)

    def _note(self, code: Code, channels: Bool | None) -> None:
        row = self._present[code]
        if channels is None:
            row[:] = True
        else:
            row |= channels
        self._any_present = True

    def _mark(self, block: int, n: int, channels: Bool, code: Code) -> None:
        self._note(code, channels)
        self._marked[block % self._depth, channels] = n
        self._mark_code[channels] = code
        self._last_mark = max(self._last_mark, block)

    def _spoil(self, block: int, n: int, channels: Bool, code: Code) -> None:
        self._mark(block, n, channels, code)
        self._spoiled_at[channels] = block
        self._spoil_code[channels] = code
        self._last_spoil = block

    # -- one hop -------------------------------------------------------------------------------

    def line(self, power_uv2: F64, total_uv2: F64, codes: U8, left_uv2: F64 | None = None) -> None:
        """A new second of line noise, (n_lines, n_channels), against the 1-45 Hz power of the newest window.

        `left_uv2`: what is left of it behind filters and corrections, where that is measured; None: what the filters let through.
        """
        usable = total_uv2 > 0
        if codes is not self.all_good:
            usable &= codes < NO_VALUE
        ratio = power_uv2 / np.where(usable, total_uv2, np.nan)
        self.line_ratio = np.fmax.reduce(ratio, axis=0) if len(ratio) else np.full(len(codes), np.nan)
        limit = self._settings.line_ratio
        with np.errstate(invalid="ignore"):
            self._noisy = np.greater(self.line_ratio, limit)
            left = ratio * self._line_leak if left_uv2 is None else left_uv2 / np.where(usable, total_uv2, np.nan)
            self._leaky = np.logical_or.reduce(left > limit, axis=0)
        self._any_noisy, self._any_leaky = True in self._noisy.tolist(), True in self._leaky.tolist()
        self._standing = None
        self._find_mains(power_uv2)

    def corrected(self, block: int, values: Bool) -> None:
        """These channels' values were changed by a correction in this block."""
        if values.any():
            n = self._grid.block_end(block) - self._grid.block_end(block - 1)
            # what is too large for any cause keeps its name: nobody leans on it
            loud = self.loud()
            self._spoil(block, n, values & ~loud, Code.CORRECTED)
            self._note(Code.CORRECTED, values)

    def mains_taken(self, channels: Bool) -> None:
        """Mains were taken out of these channels in the newest block, which costs no value its grade."""
        if channels.any():
            self._note(Code.CORRECTED, channels)

    def pulse(self, block: int) -> None:
        """A magnetic pulse was cut out of this block, or lies in it uncut because it was told too late."""
        if block <= self._newest - self._depth:
            return
        n = self._grid.block_end(block) - self._grid.block_end(block - 1)
        everywhere = np.ones(len(self._eeg), dtype=np.bool_)
        if block >= self._newest:
            self._spoil(block, n, everywhere, Code.PULSE)
            return
        self._mark(block, n, everywhere, Code.PULSE)
        self._spoil_code[self._spoiled_at < block] = Code.PULSE
        np.maximum(self._spoiled_at, block, out=self._spoiled_at)
        self._last_spoil = max(self._last_spoil, block)

    def recovering(self, until_sample: NDArray[np.int64]) -> None:
        """After a pulse: no channel's window that begins before its sample here is good."""
        np.maximum(self._pulsed_at, [self._grid.block_of(int(sample) - 1) for sample in until_sample], out=self._pulsed_at)
        self._last_pulsed = int(self._pulsed_at.max())

    def pulsed(self, block: int) -> bool:
        """Whether a magnetic pulse may still reach this block."""
        return block <= self._last_pulsed

    def unusable(self) -> Bool:
        """Channels that no other channel may lean on now: gone, settling, flat, at the rail or with a lasting fault."""
        recent = (self._spoiled_at == self._newest) & (self._spoil_code == Code.RAIL)
        return np.asarray(
            (self.valid_from == NEVER) | (self._fault_code > 0) | (self._flat_run >= self._flat_n) | recent, dtype=np.bool_
        )

    def loud(self) -> Bool:
        """Channels too large for any cause, or at the rail, in the newest block."""
        too_large = (self._spoil_code == Code.AMPLITUDE) | (self._spoil_code == Code.RAIL)
        return np.asarray((self._spoiled_at == self._newest) & too_large, dtype=np.bool_)

    def _find_mains(self, power_uv2: F64) -> None:
        """Which of 50 and 60 Hz the mains are: the one that stands out for seconds; once found, the other must do so."""
        typical = np.sort(power_uv2[:, self._eeg], axis=1)[:, self._middle].tolist() if self._middle >= 0 else []
        if len(typical) > 1 and all(map(math.isfinite, typical)):
            strongest = typical.index(max(typical))
            stands_out = typical[strongest] > MAINS_TIMES * max(value for i, value in enumerate(typical) if i != strongest)
            self._mains_run = self._mains_run + 1 if stands_out and strongest != self._mains else 0
            if self._mains_run >= MAINS_S:
                self._mains, self._mains_run, self.mains_hz = strongest, 0, self._lines_hz[strongest]
        if len(power_uv2):
            # one bad contact shows its mains long before the whole montage does
            self.mains_uv2 = np.fmax.reduce(power_uv2, axis=0) if self._mains is None else power_uv2[self._mains]

    def dead_share(self) -> F64:
        """Share of the samples since the last call that were flat or at the rail, a channel."""
        share = self._dead / max(1, self._dead_n)
        self._dead[:] = 0
        self._dead_n = 0
        return share

    def judged(self) -> None:
        """Take over what `contact` has concluded from another stretch."""
        contact = self.contact
        self._faults = tuple(
            (code, channels)
            for code, channels in (
                (Code.DRIFT, contact.drifting),
                (Code.CONTACT, contact.poor),
                (Code.DISAGREES, contact.disagrees),
                (Code.BRIDGED, contact.bridged),
                (Code.REFERENCE_FAULT, contact.reference),
            )
            if channels.any()
        )
        self._standing = None
        self._fault_code[:] = 0
        for code, channels in self._faults:
            self._fault_code[channels] = code

    def codes(self, n_samples: int, block: int, end_sample: int, lowest_hz: float = 0.0, highest_hz: float = math.inf) -> U8:
        """`Code` of each channel for the window of `n_samples` that ends with `block` at `end_sample`.

        A window that holds any blink or gaze step at all is no good for what is made of frequencies below `EYES_HZ`, one that holds
        lasting drift for what is made of those below `DRIFT_HZ`, one that holds any muscle for what is made of those above `MUSCLE_HZ`.
        """
        start = end_sample - n_samples
        slow, slowest, fast = lowest_hz < EYES_HZ, lowest_hz < DRIFT_HZ, highest_hz > MUSCLE_HZ
        first = self._grid.block_of(start)
        if (
            start >= self._valid_from_all
            and first > self._last_mark
            and first > self._last_spoil
            and first > self._last_bridge
            and first > self._last_pulsed
            and not (slow and (first <= self._last_eyed or block - self._last_perhaps <= self._undecided))
            and not (slowest and first <= self._last_drifted)
            and not (fast and first <= self._last_tensed)
            and self.lacking is None
        ):
            if not self._any_leaky and not self._faults:
                return self.all_good
            if self._standing is None:
                self._standing = np.where(self._leaky, np.uint8(Code.LINE_NOISE), self._fault_code)
                self._standing.flags.writeable = False
            return self._standing
        code = self._fault_code.copy()
        if self.lacking is not None:
            code[self.lacking & (code == 0)] = Code.REFERENCE_FAULT
        if slow:
            code[(block - self._perhaps_at <= self._undecided) & (code == 0)] = Code.BLINK
            eyed = (self._eyed_at >= first) & (code == 0)
            code[eyed] = self._eyed_code[eyed]
        if slowest and first <= self._last_drifted:
            code[(self._drifted_at >= first) & (code == 0)] = Code.DRIFT
        if fast and first <= self._last_tensed:
            tensed = (self._tensed_at >= first) & (code == 0)
            code[tensed] = self._tensed_code[tensed]
        if self._any_leaky:
            code[self._leaky] = Code.LINE_NOISE
        worse = self._worse(n_samples, first, block, start)
        return code if worse is None else np.where(worse, worse, code)

    def _worse(self, n_samples: int, first: int, block: int, start: int) -> U8 | None:
        """What a window's marks say of its channels whatever frequencies are asked for (0: nothing), once for all who ask; None: nothing."""
        if self._worse_of == (n_samples, block):
            return self._worse_codes
        self._worse_of, self._worse_codes = (n_samples, block), None
        latest = max(self._last_mark, self._last_spoil, self._last_bridge, self._last_pulsed)
        if first > latest and start >= self._valid_from_all:
            return None
        code = self._worse_codes = np.zeros(len(self._eeg), dtype=np.uint8)
        if first <= self._last_mark:
            marked = self._in_window(self._marked, first, block) > (1.0 - self._settings.clean_fraction) * n_samples
            code[marked] = self._mark_code[marked]
        if first <= self._last_spoil:
            spoiled = self._spoiled_at >= first
            code[spoiled] = self._spoil_code[spoiled]
        if first <= self._last_pulsed:
            code[self._pulsed_at >= first] = Code.PULSE  # whatever else is found around it, it is the cause
        if first <= self._last_bridge:
            code[self._in_window(self._bridged, first, block) > BRIDGED_LIMIT * n_samples] = Code.LOST
        if start < self._valid_from_all:
            early = start < self.valid_from
            code[early] = self._why[early]
        return code

    def _in_window(self, counts: NDArray[np.int64], first: int, block: int) -> NDArray[np.int64]:
        """A channel's sum over the blocks `first` to `block`, as far as they are kept."""
        low, high = max(first, block - self._depth + 1) % self._depth, block % self._depth
        if low <= high:
            return np.asarray(np.add.reduce(counts[low : high + 1]))
        return np.asarray(np.add.reduce(counts[low:]) + np.add.reduce(counts[: high + 1]))

    def clean_fraction(self, n_samples: int, block: int, end_sample: int) -> float:
        """Share of (EEG channel, sample) pairs of the window that carry no mark, 0-1."""
        start = end_sample - n_samples
        first = self._grid.block_of(start)
        if first > self._last_mark and first > self._last_bridge:
            return 1.0
        if first > self._last_bridge:
            bad = self._in_window(self._marked, first, block)
        else:
            rows = np.arange(max(first, block - self._depth + 1), block + 1) % self._depth
            bad = np.minimum(self._marked[rows] + self._bridged[rows], self._grid.block_lengths[-1]).sum(0)
        return max(0.0, 1.0 - int(bad @ self._eeg) / (n_samples * max(1, self._n_eeg)))

    def hop(self, block: int, end_sample: int, clean_fraction: float) -> Quality:
        """The state of every channel over the hop that ends here; starts the next."""
        if end_sample <= self._valid_from_all:
            settling = (self.valid_from < NEVER) & (end_sample <= self.valid_from)
            if settling.any():
                self._note(Code.SETTLING, settling)
            if self._valid_from_all == NEVER:
                lost = (self.valid_from == NEVER) & (self._why == Code.LOST)
                if lost.any():
                    self._note(Code.LOST, lost)
        if self._any_noisy:
            self._note(Code.LINE_NOISE, self._noisy)
        for code, channels in self._faults:
            self._note(code, channels)
        lost_fraction = self._lost_fraction(block) if self._losses else 0.0
        if lost_fraction > PACKET_LOSS:
            self._note(Code.PACKET_LOSS, None)
        good, names = self._good, self._no_reasons
        if self._any_present:
            key = self._present.tobytes()
            named = self._named.get(key)
            if named is None:
                present = self._present[_LISTED] & self._judged
                named = np.logical_not(present[_BAD_ROWS].any(0)), tuple(map(self._names, present.T.tolist()))
                named[0].flags.writeable = False
                if len(self._named) >= _KEPT_NAMES:
                    self._named.clear()
                self._named[key] = named
            good, names = named
            self._present[:] = False
            self._any_present = False
        contact = self.contact
        return Quality(
            good,
            names,
            clean_fraction,
            self.line_ratio,
            contact.score,
            contact.worst,
            self.mains_hz,
            lost_fraction,
            self.impedance_kohm,
        )

    def _lost_fraction(self, block: int) -> float:
        """Share of the last 10 s that was lost on the way."""
        while self._losses and self._losses[0][0] <= block - self._loss_blocks:
            self._losses.popleft()
        return min(1.0, sum(n for _, n in self._losses) / (PACKET_LOSS_S * self._grid.rate_hz))

    @staticmethod
    def _names(hits: list[bool]) -> tuple[str, ...]:
        return tuple(name for name, hit in zip(_LISTED_NAMES, hits, strict=True) if hit) if any(hits) else ()

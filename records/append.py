"""Files that grow while they are read: whole frames, whole lines or whole rows, never a byte taken back once readable.

What a kill -9 can leave: Linux copies a write(2) into a regular file page by page and looks for a fatal signal only between
pages, so the file may end inside the last unit of a batch, at a multiple of 4096 bytes. Readers drop that unit: MNE-Python
divides a .eeg by the frame size and forgets the rest; a .tsv line without its newline is no line; rows of a .npy beyond its
header do not exist. A BrainVision marker file has no such rule (MNE-Python refuses a torn marker), so `MarkerFile` never
lets a line cross a page.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PAGE_BYTES = 4096


def write_all(fd: int, data: bytes) -> None:
    """Write every byte at the file's position; the lowest write of every recording.

    Raises
    ------
    OSError
        As the system says (disk full, unwritable, too large); part of `data` may be in the file then.
    """
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])


def make_folder(path: Path) -> None:
    """Make a folder and those above it for their owner alone (`Path.mkdir` gives parents the default mode)."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True, mode=0o700)


def replace_file(path: Path, data: bytes) -> None:
    """Put a small file in place whole: written beside it under a dot name (which BIDS ignores), then renamed.

    It survives a kill at any moment; the owner syncs it against power failure (a sync here would hold up every seat).
    """
    part = path.with_name(f".{path.name}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(fd, data)
        finally:
            os.close(fd)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


class AppendFile:
    """A new file that only grows.

    `head` is what stands before the growing part and may be rewritten in place (same length); `digest` runs over the
    growing part, so a long recording need not be read again to be sealed.
    """

    def __init__(self, path: Path, head: bytes = b"", *, overwrite: bool = False) -> None:
        self.path = path
        self.head = head
        self._digest = hashlib.sha256()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if overwrite else os.O_EXCL)
        self.fd = os.open(path, flags, 0o600)
        self.size = 0
        self.writes = 0  # counts up with every write
        self.synced = 0  # `writes` when the file was brought to the disk last; a note of whoever does that
        try:
            if head:
                self._write(head)
        except OSError:
            self.close()
            raise

    @classmethod
    def begin(cls, path: Path, first: bytes) -> AppendFile:
        """A file that appears under its name with its first units in it, never empty (an empty file is an error in BIDS)."""
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        part = path.with_name(f".{path.name}.part")
        file = cls(part, overwrite=True)
        try:
            file.append(first)
            part.rename(path)
        except OSError:
            file.close()
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        file.path = path
        return file

    def _write(self, data: bytes) -> None:
        try:
            write_all(self.fd, data)
        except OSError:
            # A full disk must not leave half a frame: what follows would be read shifted by some channels.
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, self.size)
                os.lseek(self.fd, self.size, os.SEEK_SET)
            raise
        self.size += len(data)
        self.writes += 1

    def append(self, data: bytes) -> None:
        """Append whole units (frames, lines, rows) with one write."""
        self._write(data)
        self._digest.update(data)

    def append_lines(self, lines: Iterable[str]) -> None:
        """Append lines that carry their own newline."""
        text = "".join(lines)
        if text:
            self.append(text.encode("utf-8"))

    def seal(self) -> dict[str, int | str]:
        """Size and SHA-256 of the file, body first and then its `head_bytes` of head."""
        digest = self._digest.copy()
        digest.update(self.head)
        return {"bytes": self.size, "head_bytes": len(self.head), "sha256": digest.hexdigest()}

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def seal_of(path: Path, head_bytes: int = 0) -> dict[str, int | str]:
    """The same as `AppendFile.seal`, of a file on disk."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        head = file.read(head_bytes)
        while block := file.read(1 << 20):
            digest.update(block)
    digest.update(head)
    return {"bytes": path.stat().st_size, "head_bytes": head_bytes, "sha256": digest.hexdigest()}


class MarkerFile(AppendFile):
    """A BrainVision .vmrk: no marker crosses a page, so each is in the file whole or not at all; blank lines fill up."""

    def append_lines(self, lines: Iterable[str]) -> None:
        parts: list[bytes] = []
        position = self.size
        for line in lines:
            data = line.encode("utf-8")
            room = PAGE_BYTES - position % PAGE_BYTES
            if len(data) > room:
                parts.append(b"\n" * room)
                position += room
            parts.append(data)
            position += len(data)
        if parts:
            self.append(b"".join(parts))


class RowFile(AppendFile):
    """A .npy of one structured array whose first axis grows; `numpy.load` opens it at any moment.

    Rows are appended first, then the row count in the header (one write inside the first page) follows: the header never
    promises rows that are not there, and `numpy.load` ignores bytes beyond it. Only after a power failure may the header
    be ahead of the data; `read_rows` opens that too.
    """

    def __init__(self, path: Path, dtype: np.dtype[np.void], *, overwrite: bool = False) -> None:
        self.rows = 0
        self._head_of = _npy_heads(dtype)
        super().__init__(path, self._head_of(0), overwrite=overwrite)

    def append_rows(self, rows: NDArray[np.void]) -> None:
        self.append(rows.tobytes())
        self.rows += len(rows)
        self.head = self._head_of(self.rows)
        os.pwrite(self.fd, self.head, 0)
        self.writes += 1


def _npy_heads(dtype: np.dtype[np.void]) -> Callable[[int], bytes]:
    """Number of rows -> the .npy 1.0 header (NumPy NEP 1), of one length whatever the number."""
    before = f"{{'descr': {np.lib.format.dtype_to_descr(dtype)!r}, 'fortran_order': False, 'shape': ("
    total = -(-(10 + len(before) + 20 + len(",), }") + 1) // 64) * 64
    start = b"\x93NUMPY\x01\x00" + (total - 10).to_bytes(2, "little")
    return lambda rows: start + f"{before}{rows},), }}".ljust(total - 11).encode("latin-1") + b"\n"


def read_rows(path: Path) -> NDArray[np.void]:
    """Every whole row of a .npy that grows or was cut short, whatever its header's count says."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        _, _, dtype = np.lib.format.read_array_header_1_0(file)
        data = file.read()
    return np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype)

"""Whether anybody still stands behind what flows: in use, the signature is looked at again and again, in a thread.

A key may be revoked or its time be over, the list of keys or the prescription be gone, damaged or another. Reading and checking them
takes milliseconds, and a disk may take for ever: no STOP and no pulse waits for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from interlock.effects import Refusal
from interlock.refusals import MS

BOOT_NS = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)
LOOK_AGAIN_S = 2.0
WITHIN_NS = 10_000 * MS
UNSEEN = "the signature could not be looked at again for 10 s; see to the disk and the folder with the keys"


class Vouched:
    """Looks every 2 s for as long as the process lives.

    Parameters
    ----------
    look : callable
        Why nothing may be given any more, by the files as they are now; None = it may, or nothing is in use.
    clock_ns : callable
        CLOCK_BOOTTIME.
    rest : callable
        Waits so many seconds.
    """

    def __init__(
        self,
        look: Callable[[], Refusal | None],
        clock_ns: Callable[[], int] = BOOT_NS,
        rest: Callable[[float], None] = time.sleep,
    ) -> None:
        self._look = look
        self._clock_ns = clock_ns
        self._rest = rest
        self._seen: tuple[int, Refusal | None] = (0, None)  # when a look began that has ended, and what it found
        threading.Thread(target=self._run, name="signature", daemon=True).start()

    def _run(self) -> None:
        while True:
            began_ns = self._clock_ns()
            self._seen = began_ns, self._look()
            self._rest(LOOK_AGAIN_S)

    def objection(self, armed_ns: int, now_ns: int) -> str:
        """Why what was armed then must come down now, "" = it need not. A look from before the arming says nothing: that read for itself."""
        seen_ns, refusal = self._seen
        if refusal is not None and seen_ns > armed_ns:
            return f"the signature no longer counts ({refusal.field}: {refusal.reason})"
        return UNSEEN if now_ns - max(seen_ns, armed_ns) > WITHIN_NS else ""

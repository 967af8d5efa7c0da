"""How far this process looks for LSL streams, and how much liblsl says on the terminal. LSL itself is not authenticated.

liblsl has one scope a process; a person's own configuration (LSLAPICFG, lsl_api.cfg) stands above ours.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

SCOPES = ("machine", "link", "site")  # from narrow to wide
# Ask again after 0.35 s (liblsl: 1 s), so that a headset that has just been switched on is found that much sooner; and take
# the eight time probes of a connection within 0.24 s (0.5 s).
TUNING = "[tuning]\nMulticastMinRTT = 0.25\nContinuousResolveInterval = 0.1\nTimeProbeInterval = 0.03\n"
# Asked of the loopback address alone, only one of several outlets of a machine answers: whoever opened its socket last. So the link's group
# is asked too, in packets that do not leave the machine (liblsl gives them no hop in this scope). This process has no outlets to be found there.
MACHINE = "MachineAddresses = {127.0.0.1, FF31:113D:6FDD:2C17:A643:FFE2:1BD1:3CD2, 224.0.0.183}\n"
OWN_FILES = (Path("lsl_api.cfg"), Path("~/lsl_api/lsl_api.cfg"), Path("/etc/lsl_api/lsl_api.cfg"))


def widest(scopes: Iterable[str]) -> str:
    """The one scope that serves all; the narrowest where nobody asks."""
    return max(scopes, key=SCOPES.index, default=SCOPES[0])


def configure(scope: str) -> bool:
    """Set the scope and keep liblsl to warnings. Must come before the first call into liblsl.

    Returns
    -------
    bool
        False if this person has a configuration of their own, which stays as it is.
    """
    if "LSLAPICFG" in os.environ or any(path.expanduser().exists() for path in OWN_FILES):
        return False
    from pylsl.lib import lib

    content = f"[multicast]\nResolveScope = {scope}\n{MACHINE if scope == 'machine' else ''}[log]\nlevel = -2\n{TUNING}"
    lib.lsl_set_config_content(ctypes.c_char_p(content.encode()))
    return True

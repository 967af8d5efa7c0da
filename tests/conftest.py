"""Fixtures every test may use: the shared recordings, and an LSL session of the tests' own."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.sources.lsl_network import TUNING

# As the daemon has it: two test processes with two BLAS threads each wait for one another more than they compute.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings; tests that need it skip where it is absent."""
    named = os.environ.get("EEGLOOP_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "ground_truth.json").exists():
        pytest.skip(f"real recordings are not here ({folder}); set EEGLOOP_DATA to the folder that holds ground_truth.json")
    return folder


@pytest.fixture(autouse=True)
def priority() -> Iterator[None]:
    """A service that ran inside the test's own process took a high priority: the next test, and all it starts, must not inherit it."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    yield
    if os.getpriority(os.PRIO_PROCESS, 0) != before:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


@pytest.fixture(scope="session", autouse=True)
def runtime_directory() -> Iterator[Path]:
    """Where services under test put their sockets; gone with the run, whatever was killed in it."""
    folder = Path(tempfile.mkdtemp(prefix="eegloop-test-", dir="/tmp"))  # a socket's path holds 107 bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def lsl_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A liblsl configuration of this run's own SessionID, so that it meets no other streams. Must be set before liblsl loads.

    Not `ResolveScope = machine`: on loopback without multicast only one of several outlets hears a query.
    """
    file = tmp_path_factory.mktemp("lsl") / "lsl_api.cfg"
    session = f"[lab]\nSessionID = eegloop-test-{uuid.uuid4().hex[:12]}\n"
    file.write_text(f"[multicast]\nResolveScope = link\n{session}[log]\nlevel = -3\n{TUNING}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSLAPICFG", str(file))
        yield file

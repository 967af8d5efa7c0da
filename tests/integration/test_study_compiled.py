"""The compiled copy for the study: sessions in it are those of the sources, to the bit, and it is used for these very sources only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compile_study
from benchmarks.written_out import written_out
from daemon.study import compiled
from daemon.study.cells import ARMS, MONTAGE
from simulators.biomarker_plant import measure
from simulators.patients import PATIENTS, find_patient

SCRIPT = Path(__file__).parents[1] / "study_sessions.py"
FEW = [
    f"biomarker {person} {arm} 7 120"
    for person in ("responder", "dropouts")
    for arm in ("dual_threshold", "proportional_integral_lower")
]
MANY = [
    f"biomarker {person} {arm} {3 + i} {(300, 900)[i % 2]}" for i, person in enumerate(PATIENTS) for arm in ARMS
] + [f"sample responder {arm} 3 60" for arm in ("schedule", "dual_threshold")]  # fmt: skip


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What persons show, made when first asked for."""
    return tmp_path_factory.mktemp("profiles")


def sessions(root: Path, profiles: Path, jobs: list[str], out: Path) -> tuple[str, list[dict[str, Any]]]:
    """Where the code was, and the sessions but for the processor time that they took."""
    for person in {job.split()[1] for job in jobs}:
        if not (profiles / f"{person}.npz").is_file():
            measure(find_patient(person).settings(montage=MONTAGE), seconds=250).save(profiles / f"{person}.npz")
    subprocess.run(
        [sys.executable, SCRIPT, profiles, out, *jobs], env={**os.environ, "PYTHONPATH": str(root)}, cwd=out.parent, check=True
    )
    told = json.loads(out.read_text())
    for one in told["sessions"]:
        del one["cpu_s"]
    return told["file"], told["sessions"]


def test_what_is_written_out_means_the_same() -> None:
    source = '''"""A module."""
from __future__ import annotations
from dataclasses import dataclass, field, replace
from typing import NamedTuple
LOW, HIGH = 1, 2
Pair = tuple[int, int]

class Named(NamedTuple):
    """Two."""
    a: int
    b: str = "b"

@dataclass(frozen=True, slots=True)
class Frozen:
    """Three."""
    a: int
    b: object = HIGH
    c: list[int] = field(default_factory=list)

@dataclass
class Counted:
    """One, and what follows from it."""
    a: int
    twice: int = field(init=False)
    most: int = field(init=False, default=9)

    def __post_init__(self) -> None:
        self.twice = 2 * self.a
'''
    said = []
    for text in (source, written_out(source).replace("eegloop.replaced", "replaced_for_this_test")):
        module = {"__name__": "a_module"}
        sys.modules["a_module"] = sys  # dataclasses looks the module up
        try:
            if "replaced_for_this_test" in text:
                replaced: dict[str, Any] = {}
                exec(compile_study.REPLACED, replaced)
                text = text.replace("from replaced_for_this_test import replace", "")
                module["replace"] = replaced["replace"]
            exec(text, module)
        finally:
            del sys.modules["a_module"]
        made: Any = module
        frozen = made["Frozen"](1)
        other = made["replace"](frozen, a=5)
        counted, named = made["Counted"](4), made["Named"](3)
        said.append(
            (frozen.a, frozen.b, frozen.c, other.a, other.b, frozen == made["Frozen"](1), frozen == other, repr(frozen), frozen.c is made["Frozen"](1).c,
             counted.twice, counted.most, repr(counted), named.a, named.b, made["LOW"], made["HIGH"], made["Pair"])
        )  # fmt: skip
        assert hash(made["Frozen"](1, 2, ())) == hash(made["Frozen"](1, 2, ()))
    assert said[0] == said[1]


def test_sessions_in_what_is_written_out_are_the_same(profiles: Path, tmp_path: Path) -> None:
    compile_study.write(tmp_path / "copy")
    where, found = sessions(tmp_path / "copy" / "written", profiles, FEW, tmp_path / "written.json")
    assert where == str(tmp_path / "copy" / "written" / "daemon" / "study" / "sessions.py")
    where, wanted = sessions(compiled.ROOT, profiles, FEW, tmp_path / "sources.json")
    assert where == str(compiled.ROOT / "daemon" / "study" / "sessions.py")
    assert found == wanted and all(len(one["record"]) > 50 for one in found)
    assert [one["compiled"] for one in found] == ["False"] * len(FEW)


def test_a_copy_is_used_for_these_very_sources_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, folder = tmp_path / "root", tmp_path / "build"
    (root / "control").mkdir(parents=True)
    (root / "control" / "dose.py").write_text("A = 1\n")
    monkeypatch.setattr(compiled, "ROOT", root)
    assert compiled.fitting(folder) == (None, "")
    start = folder / compiled.TREE / compiled.START
    start.parent.mkdir(parents=True)
    start.write_text("")
    (folder / compiled.MADE).write_text(json.dumps({"of": compiled.fingerprint()}))
    assert compiled.fitting(folder) == (start, "")
    (root / "control" / "dose.py").write_text("A = 2\n")
    found, why_not = compiled.fitting(folder)
    assert found is None and "other sources" in why_not and "make study-compiled" in why_not
    (root / "control" / "dose.py").write_text("A = 1\n")
    (root / "control" / "more.py").write_text("")
    assert compiled.fitting(folder)[0] is None
    (root / "control" / "more.py").unlink()
    assert compiled.fitting(folder)[0] == start
    monkeypatch.setattr(compiled, "MODULES", compiled.MODULES[1:])
    assert compiled.fitting(folder)[0] is None
    for text in ("[1]", "{", "{}"):
        (folder / compiled.MADE).write_text(text)
        assert compiled.fitting(folder)[0] is None
    assert compiled.running() is False


@pytest.mark.long
def test_compiled_sessions_are_the_same_to_the_bit(profiles: Path, tmp_path: Path) -> None:
    if not compile_study.compiler():
        pytest.skip("there is no C compiler (cc), so nothing can be compiled")
    folder = tmp_path / "copy"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.compile_study", "--into", folder, "--opt-level=1"], cwd=compiled.ROOT, check=True
    )
    start, _ = compiled.fitting(folder)
    assert start is not None
    where, found = sessions(start.parent, profiles, MANY, tmp_path / "compiled.json")
    assert where.startswith(str(start.parent)) and where.endswith(".so")
    _, wanted = sessions(compiled.ROOT, profiles, MANY, tmp_path / "sources.json")
    assert {one.pop("compiled") for one in found} == {"True"} and {one.pop("compiled") for one in wanted} == {"False"}
    for job, one, other in zip(MANY, found, wanted, strict=True):
        assert one == other, job
    out = tmp_path / "study"
    told = subprocess.run(  # through its own processes: what they send each other is compiled, too
        [sys.executable, start, "study", "quick", "--seeds=1", "--no-sample", "--processes=2", "--quiet", f"--out={out}"],
        cwd=tmp_path, check=True, capture_output=True, text=True, timeout=600,
    ).stdout  # fmt: skip
    assert "0 of 12 sessions with a violation" in told and "(processor time; compiled)" in told
    assert (out / "study.md").is_file() and len((out / "sessions.jsonl").read_text().splitlines()) == 12
    # Compiled modules load each other whole; one that interpreted code loads first needs its own file.
    next((start.parent / "control").glob("excursion.*.so")).unlink()
    said = subprocess.run(
        [sys.executable, start, "study", "quick", "--seeds=1", "--no-sample", "--processes=1", "--quiet", f"--out={out}", "--first=1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert said.returncode == 1 and "the compiled copy is not whole (control.excursion)" in said.stderr, said.stderr

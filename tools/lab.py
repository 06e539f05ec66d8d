"""Serve the notebooks: JupyterLab on this machine only, with a token, on the first free port, at notebook 00.

``make lab`` runs it; ``make lab ARGS="--port 9000 --no-browser"`` passes options on to JupyterLab.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START = "notebooks/00_start_here.ipynb"


def has_screen(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Whether a browser opened here would be seen: not over ssh, and on Linux only with a display."""
    if "SSH_CONNECTION" in environment:
        return False
    if platform.startswith("linux"):
        return any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return True


def is_root() -> bool:
    """Whether we are root, which JupyterLab refuses unless told otherwise."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


ALIASES = {"ip": "ServerApp.ip", "notebook-dir": "ServerApp.root_dir", "log-level": "Application.log_level"}
ONE_ANSWER = ("-h", "--help", "--help-all", "--version", "--generate-config", "--show-config", "--show-config-json")


def arguments(token: str, extra: list[str]) -> list[str]:
    """JupyterLab's options: ours, then ``extra``. What ``extra`` sets we leave out: JupyterLab refuses two values."""
    ours = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.root_dir": str(ROOT),
        "LabApp.default_url": f"/lab/tree/{START}",
        "IdentityProvider.token": token,  # whatever the reader's own configuration says
        "ServerApp.port_retries": "50",  # a busy port: the next free one
        "ServerApp.answer_yes": "True",  # one Ctrl-C is enough
        "Application.log_level": "ERROR",  # so that the address stays in sight
    }
    given = {option.lstrip("-").split("=")[0] for option in extra if option.startswith("--")}
    given |= {ALIASES[name] for name in given & ALIASES.keys()}
    options = [f"--{name}={value}" for name, value in ours.items() if name not in given]
    if is_root() and "allow-root" not in given:
        options.append("--allow-root")
    if not has_screen() and "no-browser" not in given:
        options.append("--no-browser")
    return [*options, *extra]


def main(extra: list[str]) -> int:
    """Serve until Ctrl-C. The token stays in this process: other users cannot read it from the list of processes."""
    if not (ROOT / START).is_file():
        print(f"error: {START} is missing; restore it with: git checkout -- {START}", file=sys.stderr)
        return 1
    if importlib.util.find_spec("jupyterlab") is None:
        print(f"error: JupyterLab is not installed in {sys.prefix}; run: make setup", file=sys.stderr)
        return 1
    if not set(ONE_ANSWER).isdisjoint(extra):  # a question to JupyterLab, which answers and serves nothing
        if not {"-h", "--help", "--help-all"}.isdisjoint(extra):
            print(f"{__doc__}\nWhat JupyterLab itself says:\n", flush=True)
        return subprocess.call([sys.executable, "-m", "jupyterlab", *extra])
    from jupyterlab.labapp import LabApp  # type: ignore[import-untyped]

    token = secrets.token_urlsafe(24)
    server = LabApp.initialize_server(arguments(token, extra))
    token = server.identity_provider.token  # the reader's, if the options name one
    address = f"{'https' if server.certfile else 'http'}://{server.ip}:{server.port}{server.base_url}lab/tree/{START}"
    print(
        f"\nJupyterLab is running at\n\n    {address}{f'?token={token}' if token else ''}\n\nStop it with Ctrl-C.\n",
        flush=True,
    )
    server.start()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

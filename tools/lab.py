"""Serve the notebooks: JupyterLab on this machine only, with a token, on the first free port, at notebook 00.

``make lab`` runs it; ``make lab ARGS="--port 9000 --no-browser"`` passes options on to JupyterLab.
"""

from __future__ import annotations

import os
import secrets
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


def arguments(token: str, extra: list[str]) -> list[str]:
    """JupyterLab's options; ``extra`` come last, so that the reader's win."""
    options = [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={ROOT}",
        f"--LabApp.default_url=/lab/tree/{START}",
        f"--IdentityProvider.token={token}",  # whatever the reader's own configuration says
        "--ServerApp.port_retries=50",  # a busy port: the next free one
        "--ServerApp.answer_yes=True",  # one Ctrl-C is enough
        "--Application.log_level=ERROR",  # so that the address stays in sight
    ]
    if is_root():
        options.append("--allow-root")
    if not has_screen():
        options.append("--no-browser")
    return [*options, *extra]


def main(extra: list[str]) -> int:
    """Serve until Ctrl-C. The token stays in this process: other users cannot read it from the list of processes."""
    if not (ROOT / START).is_file():
        print(f"error: {START} is missing; restore it with: git checkout -- notebooks", file=sys.stderr)
        return 1
    from jupyterlab.labapp import LabApp  # type: ignore[import-untyped]

    token = secrets.token_urlsafe(24)
    server = LabApp.initialize_server(arguments(token, extra))
    address = f"http://{server.ip}:{server.port}{server.base_url}lab/tree/{START}?token={token}"
    print(f"\nJupyterLab is running at\n\n    {address}\n\nStop it with Ctrl-C.\n", flush=True)
    server.start()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Get the browser that the widget tests drive. Where that cannot be done, those tests skip and say so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bootstrap import apt_install, as_root

from vos_tutorial.doctor import find_chromium


def is_debian(release: Path = Path("/etc/os-release")) -> bool:
    """Ubuntu does not count: its package of that name is only a pointer to a snap."""
    return release.is_file() and "ID=debian" in release.read_text().splitlines()


def playwright_install() -> bool:
    """Playwright's own build, with the system's libraries where we may install them."""
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    if as_root() is not None:
        command.append("--with-deps")
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, timeout=600).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def main() -> int:
    """Install Chromium if there is none; always 0, since its absence only skips tests."""
    if find_chromium() is not None:
        return 0
    print("No Chromium found; installing one for the browser tests.", flush=True)
    if is_debian():
        apt_install("chromium", "fonts-dejavu-core")
    if find_chromium() is None:
        playwright_install()
    if find_chromium() is None:
        print("Chromium could not be installed here; the browser tests will skip.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

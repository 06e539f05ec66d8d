"""Make `.venv` in the checkout, or repair it: the one script that runs on the reader's own Python.

It uses the standard library only, and only what Python 3.6 can read, so that an old Python can still be
told that it is old. `.venv/.ready` records what the environment was made for; while that is unchanged there
is nothing to do.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
READY = os.path.join(VENV, ".ready")
OLDEST, NEWEST = (3, 10), (3, 14)  # the Pythons for which every pin of constraints.txt has a wheel


def find_python(version: tuple = sys.version_info[:2]) -> str:
    """The Python to build on: the running one if ``version`` fits, else the newest fitting one on the path."""
    if OLDEST <= version <= NEWEST:
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        other = shutil.which(f"python3.{minor}")
        if other:
            return other
    sys.exit(
        f"error: python3 is Python {version[0]}.{version[1]}, but this course needs Python 3.{OLDEST[1]} to "
        f"3.{NEWEST[1]}; install one, or name one that you have: make lab PYTHON=/path/to/python"
    )


def version_of(python: str, needs: str = "sys") -> str:
    """Such as ``3.12``; empty if that Python does not start or cannot import ``needs``."""
    code = f"import sys, {needs}; print('%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.check_output([python, "-c", code], stderr=subprocess.DEVNULL).decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def fingerprint(version: str, root: str = ROOT) -> str:
    """What the environment depends on: the Python, where the checkout lies, the dependency lists and the pins."""
    digest = hashlib.sha256(f"{version} {root}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(root, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_ready(mark: str) -> bool:
    """Whether the environment was finished for ``mark``, and its Python still starts."""
    try:
        with open(READY) as file:
            return file.read() == mark and bool(version_of(PYTHON, needs="pip"))
    except OSError:
        return False


def as_root() -> "list[str] | None":
    """The words that run a command as root without a password; None where that cannot be."""
    if os.geteuid() == 0:
        return []
    if (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        == 0
    ):
        return ["sudo", "-n"]
    return None


def apt_install(*packages: str) -> bool:
    """Install Debian packages without asking anything; whether that worked."""
    root = as_root()
    if root is None or not shutil.which("apt-get"):
        return False
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    install = [*apt, "install", "-y", "--no-install-recommends", *packages]
    try:
        subprocess.call([*apt, "update"], stdin=subprocess.DEVNULL, timeout=300)
        return subprocess.call(install, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=900) == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def make_venv(python: str) -> None:
    """An empty environment in place of whatever half-made thing is there."""
    if not version_of(python, needs="venv, ensurepip") and os.environ.get("CI"):
        apt_install("python3-venv")
    if not version_of(python, needs="venv, ensurepip"):
        sys.exit(
            f"error: {python} has no venv module; install it (on Debian and Ubuntu: "
            "sudo apt-get install python3-venv) and try again."
        )
    if subprocess.call([python, "-m", "venv", "--clear", VENV]) != 0:
        sys.exit(f"error: {VENV} could not be made; see the lines above, and whether the disk is full.")


def main() -> None:
    """Bring `.venv` up to date; exits with one sentence where it cannot."""
    python = find_python()
    version = version_of(python)
    mark = fingerprint(version)
    if is_ready(mark):
        return
    start = time.time()
    if os.path.exists(READY):
        os.remove(READY)  # half-made from here on, until the last lines say otherwise
    if version_of(PYTHON, needs="pip") != version:
        make_venv(python)
    print(
        f"Setting up .venv with Python {version}; PyTorch is large, so the first time takes some minutes.", flush=True
    )
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]
    if not sys.stdout.isatty():
        pip.append("-q")
    if subprocess.call([*pip, "-c", "constraints.txt", "-e", ".[dev]"], cwd=ROOT, stdin=subprocess.DEVNULL) != 0:
        sys.exit(
            "error: pip could not install the packages; see its lines above (no network? disk full?), then try again."
        )
    with open(READY, "w") as file:
        file.write(mark)
    print(f"Set-up took {time.time() - start:.0f} s.", flush=True)


if __name__ == "__main__":
    main()

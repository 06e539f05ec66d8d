"""A class on one machine, tried: several JupyterLab servers at once, and the same notebooks run beside each of them.

    python tools/classroom.py --students 5 00 02

Every student gets a home folder of their own, with a copy of the notebooks and nothing else, and reads package,
weights and data from one copy of the course (``--course``), which should be one that they cannot write. It prints a
table, and with ``--json FILE`` writes the numbers. Exit status 1 if a server or a notebook failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psutil  # type: ignore[import-untyped] # noqa: E402

from tools.notebooks import HERE, BuildError, execute, read_notebook  # noqa: E402
from vos_tutorial.files import write_atomically  # noqa: E402
from vos_tutorial.profile import PROFILES, VARIABLE  # noqa: E402

READY = 900.0  # seconds until a server answers: many start at once


def main(argv: list[str] | None = None) -> int:
    """Returns 0 if nothing failed, 1 if something did."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME", help="notebooks: NN_name or NN")
    parser.add_argument("--students", type=int, default=5, help="how many at once (default: 5)")
    parser.add_argument("--profile", choices=PROFILES, default="smoke", help="how large (default: smoke)")
    parser.add_argument("--no-servers", action="store_true", help="kernels only: to measure one page after the other")
    parser.add_argument("--course", type=Path, default=ROOT, help="the copy that all read (default: this one)")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--seat", type=Path, help=argparse.SUPPRESS)  # one student's run, in a process of its own
    options = parser.parse_args(argv)
    known = HERE.names()
    names = [next((k for k in known if k == n or k.startswith(f"{n}_")), n) for n in options.names]
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"there is no notebook {unknown[0]}; there are {', '.join(known)}")
    if options.seat:
        return _seat(names, options.seat, options.profile)
    course = options.course.resolve()
    if not (course / "vos_tutorial" / "__init__.py").is_file():
        parser.error(f"{course} holds no copy of the course")
    with tempfile.TemporaryDirectory(prefix="class-") as folder:
        found = try_class(names, course, Path(folder), options.students, options.profile, not options.no_servers)
    report(found)
    if options.json:
        write_atomically(options.json, (json.dumps(found, indent=1) + "\n").encode())
    return 1 if found["failed"] else 0


def try_class(
    names: list[str], course: Path, folder: Path, students: int, profile: str, servers: bool
) -> dict[str, Any]:
    """Run the notebooks for all students at once; what each run took, what each server took, and what failed."""
    homes = [folder / f"student{i}" for i in range(1, students + 1)]
    for home in homes:
        for name in names:
            page = home / "notebooks" / f"{name}.ipynb"
            page.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(course / "notebooks" / f"{name}.ipynb", page)
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        labs = (
            [stack.enter_context(_server(home, _environment(home, course, profile))) for home in homes]
            if servers
            else []
        )
        failed = [f"the server of {lab['home'].name} did not answer" for lab in labs if not _answers(lab)]
        seats = [_student(names, home, profile, _environment(home, course, profile)) for home in homes]
        said = [seat.communicate() for seat in seats]
        memory = [_memory(lab["process"].pid) for lab in labs]
        failed += [f"the server of {lab['home'].name} ended" for lab in labs if lab["process"].poll() is not None]
    runs = []
    for home, (out, errors) in zip(homes, said, strict=True):
        lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        runs += [{"student": home.name, **line} for line in lines]
        if len(lines) < len(names):
            failed.append(f"{home.name}: {errors.strip()[-2000:]}")
    return {
        "students": students,
        "profile": profile,
        "cores": os.cpu_count(),
        "course": "writable" if os.access(course, os.W_OK) else "read-only",
        "seconds": round(time.perf_counter() - began, 1),
        "server_mib": memory,
        "runs": runs,
        "failed": failed,
    }


def _environment(home: Path, course: Path, profile: str) -> dict[str, str]:
    """A student's: their own home, and the course that all read."""
    jupyter = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "XDG_", "VOS_"))}
    own = {"HOME": str(home), "PYTHONPATH": str(course), VARIABLE: profile, "OMP_NUM_THREADS": "1"}
    return jupyter | own | {"PYTHONDONTWRITEBYTECODE": "1"}


@contextlib.contextmanager
def _server(home: Path, environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    """JupyterLab for one student on a free port of this machine, until the end of the block."""
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"]
    command += [f"--ServerApp.root_dir={home / 'notebooks'}", *(["--allow-root"] if os.geteuid() == 0 else [])]
    log = (home / "server.log").open("w+")
    process = subprocess.Popen(command, cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield {"home": home, "process": process, "log": home / "server.log"}
    finally:
        process.terminate()
        process.wait()
        log.close()


def _answers(lab: Mapping[str, Any]) -> bool:
    """Whether a server says, with its token, that it has no kernel yet."""
    until = time.monotonic() + READY
    while time.monotonic() < until and lab["process"].poll() is None:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/lab\?token=(\w+)", lab["log"].read_text())
        if found:
            address = f"http://127.0.0.1:{found[1]}/api/kernels?token={found[2]}"
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=30) as reply:
                return bool(json.load(reply) == [])
        time.sleep(0.5)
    return False


def _student(names: list[str], home: Path, profile: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__)), *names, "--profile", profile, "--seat", str(home)]
    return subprocess.Popen(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _seat(names: list[str], home: Path, profile: str) -> int:
    """Run the notebooks of one student, one after the other; a line of JSON for each."""
    for name in names:
        page = home / "notebooks" / f"{name}.ipynb"
        try:
            cost = execute(read_notebook(page), page.parent, profile, 3600, name)
        except BuildError as error:
            print(error, file=sys.stderr)
            return 1
        taken = {"seconds": cost.seconds, "cpu_seconds": cost.cpu_seconds, "peak_mib": cost.peak_mib}
        print(json.dumps({"notebook": name, **{key: round(value, 1) for key, value in taken.items()}}), flush=True)
    return 0


def _memory(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss >> 20)
    except psutil.Error:
        return 0


def report(found: Mapping[str, Any]) -> None:
    """Print what a class took."""
    print(f"{found['students']} at once, {found['profile']}, course {found['course']}, {found['cores']} cores")
    for run in found["runs"]:
        taken = f"{run['seconds']:7.1f} s  {run['cpu_seconds']:6.1f} CPU-s  {run['peak_mib']:5.0f} MiB"
        print(f"  {run['student']}  {run['notebook']:<28}{taken}")
    if found["server_mib"]:
        print(f"  servers: {max(found['server_mib'])} MiB each at most")
    print(f"  all together {found['seconds']:.0f} s, failed: {len(found['failed'])}")
    for line in found["failed"]:
        print(f"error: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

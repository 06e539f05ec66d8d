"""What `make test` runs, part by part: each part's time as it ends, all of them in one table, one exit status.

``python tools/suite.py lint unit`` runs these two. A part that fails does not stop those after it, so that
one run tells everything that is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
WORKERS = max(
    1, min(4, os.cpu_count() or 1)
)  # each worker may hold a notebook's kernel: memory, not cores, is scarce
PARALLEL = ["-n", str(WORKERS), "--dist", "loadfile"]  # one notebook stays on one worker: its cells share a kernel
PYTEST = [sys.executable, "-m", "pytest", "--durations=10"]
NBVAL = ["--nbval-current-env", "--nbval-sanitize-with", "tests/nbval.cfg", "--nbval-cell-timeout", "120"]
SMOKE = {"VOS_TUTORIAL_PROFILE": "smoke"}
BROWSER = [*PYTEST, "-m", "browser"]
TESTS_FAILED = 1  # pytest's exit status; others mean that it did not come to an end
MOST_SECOND_RUNS = 5  # failures beyond that are no accident of timing

unsteady: list[str] = []  # tests that passed only at their second run
skipped: list[str] = []  # what was not looked at, and would else be green without a word


def run(*command: str, **environment: str) -> int:
    """One command in the checkout, its threads held to one so that the workers do not fight over the cores."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL).returncode


def lint() -> int:
    """Style: ruff's rules, and its layout."""
    ruff = [sys.executable, "-m", "ruff"]
    return run(*ruff, "check", ".") | run(*ruff, "format", "--check", ".")


def types() -> int:
    """Types: mypy over the library."""
    return run(sys.executable, "-m", "mypy")


def unit() -> int:
    """The library's tests, and the static ones of the notebooks."""
    return run(*PYTEST, "-m", "not browser", *PARALLEL, "tests")


def notebooks_check() -> int:
    """Each notebook is what its source builds, and keeps the outputs that belong to it."""
    return run(sys.executable, "tools/notebooks.py", "build", "--check")


def forget_smoke_runs() -> None:
    """A finished run would not train again, and one of an older recipe is refused."""
    for folder in (ROOT / "runs").glob("notebook_*_smoke"):
        shutil.rmtree(folder)


def nbval() -> int:
    """Every notebook runs at the smoke size, and shows the outputs that are stored."""
    forget_smoke_runs()
    return run(*PYTEST, "--nbval", *NBVAL, *PARALLEL, "notebooks", **SMOKE)


def nbval_lax() -> int:
    """Every notebook runs at the smoke size, whatever it shows: for versions other than the pinned ones."""
    forget_smoke_runs()
    return run(*PYTEST, "--nbval-lax", *NBVAL, *PARALLEL, "notebooks", **SMOKE)


def browser() -> int:
    """The widgets, in headless Chromium against a live JupyterLab; skipped where there is no Chromium."""
    run(sys.executable, "tools/chromium.py")
    with tempfile.TemporaryDirectory() as cache:
        report = Path(cache) / "report.xml"
        status = run(*BROWSER, "-o", f"cache_dir={cache}", f"--junitxml={report}", "tests")
        tell_skipped(report)
        if status != TESTS_FAILED:
            return status
        failed = list(json.loads((Path(cache) / "v" / "cache" / "lastfailed").read_text("utf-8")))
    return second_run(failed)


def tell_skipped(report: Path) -> None:
    """Keep for the last lines how many browser tests were skipped, and the reason of the first."""
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    reasons = [reason.get("message", "") for case in cases for reason in case.iter("skipped")]
    if reasons:
        skipped.append(f"{len(reasons)} of {len(cases)} browser tests were SKIPPED: {reasons[0]}")


def second_run(failed: list[str]) -> int:
    """Once more, by itself, each file with a failed test: a browser on a busy machine may have been late.

    Whole files, because their tests share a notebook, one after the other.
    """
    if len(failed) > MOST_SECOND_RUNS:
        return TESTS_FAILED
    files: dict[str, list[str]] = {}
    for name in failed:
        files.setdefault(name.split("::")[0], []).append(name)
    worst = 0
    for file, names in files.items():
        print("\n*** failed; a second run of the file by itself:", *names, sep="\n    ", flush=True)
        status = run(*BROWSER, file)
        worst = worst or status
        if status == 0:
            unsteady.extend(names)
    return worst


def bench() -> int:
    """Every benchmark, one after the other."""
    scripts = sorted((ROOT / "benchmarks").glob("*.py"))
    if not scripts:
        print("error: there is no script in benchmarks/.", file=sys.stderr)
        return 1
    status = 0
    for script in scripts:
        print(f"--- {script.relative_to(ROOT)}", flush=True)
        status |= run(sys.executable, str(script))
    return status


PARTS: dict[str, Callable[[], int]] = {
    "lint": lint,
    "types": types,
    "unit": unit,
    "notebooks-check": notebooks_check,
    "nbval": nbval,
    "nbval-lax": nbval_lax,
    "browser": browser,
    "bench": bench,
}


def main(argv: list[str] | None = None) -> int:
    """Run the named parts; 0 if all of them passed, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    names = parser.parse_args(argv).parts

    unsteady.clear()
    skipped.clear()
    rows, failed = [], []
    for name in names:
        print(f"\n=== {name}: {PARTS[name].__doc__}", flush=True)
        start = time.perf_counter()
        status = PARTS[name]()
        verdict = "ok" if status == 0 else "FAILED"
        rows.append(f"{name:<16} {verdict:<7} {time.perf_counter() - start:6.1f} s")
        print(f"--- {rows[-1]}", flush=True)
        if status != 0:
            failed.append(name)
    if len(names) > 1:
        print("\n=== all parts", *rows, sep="\n")
    for test in unsteady:
        print(f"*** passed only at the second run: {test}; please look into it")
    for what in skipped:
        print(f"*** {what}")
    passed = "All parts passed, but see what was skipped." if skipped else "All parts passed."
    print(f"Failed: {', '.join(failed)}." if failed else passed, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

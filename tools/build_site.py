"""The course as a web site without network and kernel, in ``build/site``: ``make site``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.course import site  # noqa: E402
from tools.notebooks import SHEETS  # noqa: E402
from vos_tutorial.errors import TutorialError  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    """Build it; 0 if it stands, 1 with a sentence if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="the folder (default: build/site)")
    parser.add_argument(
        "--still", action="store_true", help="pictures in the place of live widgets; seconds, not minutes"
    )
    options = parser.parse_args(argv)
    folder = ROOT / "notebooks"
    notebooks = [*sorted(folder.glob("[0-9]*.ipynb")), *sorted((folder / "appendix").glob("*.ipynb"))]
    sheets = [folder / f"{name}.md" for name in SHEETS]
    began = time.perf_counter()
    try:
        first = site.build(site.Plan(notebooks, sheets, with_widgets=not options.still), options.out)
    except (TutorialError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file()) / 1e6
    print(
        f"{first}: {size:.1f} MB in {time.perf_counter() - began:.0f} s. Open it in a browser; no server is needed."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The teaching kit in ``build/kit``, and the site beside it: ``make course``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import build_site  # noqa: E402
from tools.course import kit  # noqa: E402
from tools.notebooks import BuildError  # noqa: E402
from vos_tutorial.errors import TutorialError  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    """Build it; 0 if it stands, 1 with a sentence if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "kit", help="the folder (default: build/kit)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the computed questions; a new one each term (default: 1)"
    )
    parser.add_argument("--kit-only", action="store_true", help="not the site")
    parser.add_argument("--still", action="store_true", help="the site with pictures in the place of live widgets")
    options = parser.parse_args(argv)
    if options.seed < 0:
        parser.error(f"--seed must be 0 or more, not {options.seed}")
    began = time.perf_counter()
    try:
        first = kit.build(kit.Plan(seed=options.seed), options.out)
    except (TutorialError, BuildError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{first}: in {time.perf_counter() - began:.0f} s. Open it in a browser; no server is needed.")
    return 0 if options.kit_only else build_site.main(["--still"] if options.still else [])


if __name__ == "__main__":
    sys.exit(main())

"""Look at a notebook as a reader sees it: JupyterLab on a copy of it, all cells run, pictures of the whole page.

``python tools/lab_screenshot.py notebooks/00_start_here.ipynb out.png --run --theme dark``
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.live_lab import THEMES, chromium, lab_server, open_notebook
from vos_tutorial.doctor import find_chromium


def copy_beside(notebook: Path, folder: Path) -> None:
    """The notebook and the files beside it (pictures, modules), without other notebooks and without folders."""
    for file in notebook.parent.iterdir():
        if file == notebook or (file.is_file() and file.suffix != ".ipynb"):
            shutil.copy(file, folder / file.name)


def main() -> int:
    """Print the pictures' paths, then every cell that failed and every error of the page; 1 if there was any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("picture", type=Path, help="ends in .png; long notebooks make several, -2, -3, ...")
    parser.add_argument("--run", action="store_true", help="run all cells first; without, the stored outputs show")
    parser.add_argument("--theme", choices=sorted(THEMES), default="light")
    parser.add_argument("--width", type=int, default=1100)
    parser.add_argument("--height", type=int, default=1800, help="of one picture")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for all cells")
    arguments = parser.parse_args()
    executable = find_chromium()
    if executable is None:
        print(
            "error: no Chromium found; run python tools/chromium.py, or set VOS_TUTORIAL_CHROMIUM.", file=sys.stderr
        )
        return 2
    if not arguments.notebook.is_file():
        print(f"error: {arguments.notebook} does not exist; give the path of a notebook.", file=sys.stderr)
        return 2
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vos-look-") as folder:
        copy_beside(arguments.notebook.resolve(), Path(folder))
        with (
            chromium(executable) as browser,
            lab_server(Path(folder)) as server,
            open_notebook(browser, server, arguments.notebook.name, arguments.theme, arguments.width) as notebook,
        ):
            if arguments.run:
                notebook.run_all(arguments.timeout)
            for path in notebook.screenshots(arguments.picture, arguments.height):
                print(path)
            problems = [*notebook.cell_errors(), *(f"console: {text}" for text in notebook.console_errors)]
    print("\n".join(problems) or "no cell failed, no error on the page")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""How long the page of the MaskPainter computes for one painted frame at 720p.

A headless Chromium, a still copy of the painter on a 1280x720 picture, a stroke of many moves with each brush. Script
time is what our code needs from one drawing of the canvas to the next: the moves of the pointer since then, and the
drawing itself. The browser's own work (decoding, putting the canvas on the screen) is not in it. Zoomed in, outlines
are drawn as lines; zoomed out, with the masks.

    python benchmarks/painter.py [--moves 200]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from vos_tutorial.course.widgets import MaskPainter
from vos_tutorial.doctor import find_chromium
from vos_tutorial.video import Project, Video

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
HEIGHT, WIDTH = 720, 1280
MOVES = """
async ([moves, zooms]) => {
  const root = document.querySelector(".vos-paint");
  const canvas = root.querySelector(".vp-canvas");
  const next = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  for (let z = 0; z < zooms; z++) canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "+", bubbles: true }));
  await next();
  const box = canvas.getBoundingClientRect();
  const point = (kind, k) => canvas.dispatchEvent(new PointerEvent(kind, {
    pointerId: 7, bubbles: true, cancelable: true, button: kind === "pointermove" ? -1 : 0,
    buttons: kind === "pointerup" ? 0 : 1,
    clientX: box.left + box.width * (0.5 + 0.42 * Math.sin(k / 9)),
    clientY: box.top + box.height * (0.5 + 0.42 * Math.cos(k / 7)),
  }));
  const times = [];
  point("pointerdown", 0);
  await next();
  for (let k = 1; k <= moves; k++) {
    point("pointermove", k);
    await next();
    times.push(Number(root.dataset.paintMs));
  }
  point("pointerup", moves);
  await next();
  for (let z = 0; z < zooms; z++) canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "-", bubbles: true }));
  return times;
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=200, help="of the pointer, in each stroke")
    options = parser.parse_args()
    executable = find_chromium()
    if executable is None:
        print("No Chromium was found, so nothing was measured; python tools/chromium.py installs one.")
        return
    from tools.live_lab import chromium

    with tempfile.TemporaryDirectory() as name, chromium(executable) as browser:
        folder = Path(name)
        (folder / "video").mkdir()
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        picture = np.stack([x // 5 % 256, y // 3 % 256, (x + y) // 8 % 256], axis=2).astype(np.uint8)
        Image.fromarray(picture).save(folder / "video" / "0.png")
        painter = MaskPainter(Project.open(folder / "project", Video(folder / "video")))
        page = browser.new_page(viewport={"width": 1100, "height": 1000})
        page.goto(painter.to_html(folder / "painter.html").as_uri())
        page.wait_for_selector(".vos-paint[data-ready]")
        print(f"script time of one painted frame, {WIDTH}x{HEIGHT}, milliseconds ({options.moves} moves each)")
        print(f"{'brush':>8} {'zoom':>6} {'median':>8} {'95 %':>8} {'worst':>8}")
        for brush in (8, 30, 120):
            for zooms in (0, 4):
                page.evaluate("(brush) => window.hosted.model.set('brush', brush)", brush)
                times = np.array(page.evaluate(MOVES, [options.moves, zooms]))
                zoom = 1.4**zooms
                low, high, worst = np.median(times), np.quantile(times, 0.95), times.max()
                print(f"{brush:>5} px {zoom:>5.1f}x {low:>8.2f} {high:>8.2f} {worst:>8.2f}")


if __name__ == "__main__":
    main()

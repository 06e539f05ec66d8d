"""From a figure to a cell's output: a small PNG, with a text for those who cannot see it."""

from __future__ import annotations

import base64
import io
from html import escape

from matplotlib.figure import Figure
from PIL import Image

from ...errors import TutorialError
from .diagrams import Diagram
from .drawing import draw
from .motion import Loop
from .palette import DPI, styled

MAX_PNG_BYTES = 60_000


@styled
def to_png(figure: Figure, scale: int = 1) -> bytes:
    """The figure as a palette PNG, with as many colours (128, 64, 48) as ``MAX_PNG_BYTES`` allows.

    Args:
        figure: any.
        scale: 2 gives twice the resolution, and may take twice the bytes.
    """
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=scale * DPI, metadata={"Software": None}, facecolor=figure.get_facecolor()
    )
    return small_png(Image.open(buffer).convert("RGB"), scale * MAX_PNG_BYTES)


def small_png(image: Image.Image, max_bytes: int) -> bytes:
    """An RGB picture as a palette PNG of at most ``max_bytes``, where 48 colours can do it (else: 48 colours).

    Maximum coverage keeps small saturated regions (a thin line, an error's hatch), which median cut greys;
    k-means, until fewer than a twentieth of the pixels change sides, then halves its error on photographs.
    """
    settled = image.width * image.height // 20
    png = b""
    for colours in (128, 64, 48):
        few = image.quantize(colours, method=Image.Quantize.MAXCOVERAGE, kmeans=settled, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        few.save(buffer, format="PNG", optimize=True)
        png = buffer.getvalue()
        if len(png) <= max_bytes:
            break
    return png


def show(figure: Figure | Diagram | Loop, alt: str = "", caption: str = "") -> None:
    """Show a figure as a cell's output, with a text for those who cannot see it; the figure is closed.

    The output holds ``image/png`` (small, see :func:`to_png`; of a diagram, in double resolution) and ``text/plain``:
    ``Figure: <alt>``. The caption is an output of its own, in HTML: a viewer that shows HTML first would otherwise
    show a copy of the picture in it, and some (a repository's web page) show no picture inside HTML. Strict notebook
    tests compare both texts, so they must not hold numbers that change from run to run.

    A :class:`Loop` is a figure in HTML, with its caption inside, because no other kind of output moves in every
    viewer; the sheet of its frames follows as a PNG.

    Args:
        figure: from a function of this package or from matplotlib.
        alt: one or two sentences on what you can see; a diagram knows its own.
        caption: one sentence that stands below the picture and says what to look at; none without.

    Raises:
        TutorialError: if ``alt`` is empty.
    """
    from IPython.display import display

    alt = alt or (figure.alt if isinstance(figure, Diagram) else "")
    if not isinstance(alt, str) or not alt.strip():
        raise TutorialError("this figure has no alt text; call show(figure, 'one sentence on what you can see').")
    if isinstance(figure, Loop):
        page = {"text/html": loop_html(figure, alt, caption), "text/plain": f"Moving figure: {alt}"}
        display(page, raw=True, metadata={})
        show(figure.sheet, f"Frames of the moving figure above. {alt}")
        return
    if isinstance(figure, Diagram):
        figure = draw(figure)
        png = to_png(figure, scale=2)
        width, height = (round(side * DPI) for side in figure.get_size_inches())
        about = {"alt": alt, "width": width, "height": height}
    else:
        png, about = to_png(figure), {"alt": alt}
    display({"image/png": png, "text/plain": f"Figure: {alt}"}, raw=True, metadata={"image/png": about})
    if caption:
        display({"text/html": caption_html(caption), "text/plain": f"Caption: {caption}"}, raw=True, metadata={})
    if hasattr(figure, "number"):  # made by pyplot, which keeps a list and would show it a second time
        from matplotlib import pyplot

        pyplot.close(figure)


def loop_html(loop: Loop, alt: str, caption: str = "") -> str:
    """A moving picture as a page shows it; closing it stops the motion."""
    source = base64.b64encode(loop.data).decode()
    width, height = loop.size
    image = f'<img src="data:image/webp;base64,{source}" alt="{escape(alt)}" width="{width}" height="{height}">'
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<details open><summary>Moving picture (close to stop)</summary><figure>{image}{text}</figure></details>"


def caption_html(caption: str) -> str:
    """A caption as a page shows it."""
    return f'<p style="margin: 0 0 1em; max-width: 46em; font-style: italic">{escape(caption)}</p>'

"""From a figure to a cell's output: a small PNG, with a text for those who cannot see it."""

from __future__ import annotations

import io

from matplotlib.figure import Figure
from PIL import Image

from ...errors import TutorialError
from .palette import DPI, styled

MAX_PNG_BYTES = 60_000


@styled
def to_png(figure: Figure) -> bytes:
    """The figure as a palette PNG, with as many colours (128, 64, 48) as ``MAX_PNG_BYTES`` allows."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return small_png(Image.open(buffer).convert("RGB"), MAX_PNG_BYTES)


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


def show(figure: Figure, alt: str) -> None:
    """Show a figure as a cell's output, with a text for those who cannot see it; the figure is closed.

    The output holds ``image/png`` (small, see :func:`to_png`) and ``text/plain``: ``Figure: <alt>``. Strict
    notebook tests compare that text, so ``alt`` must not hold numbers that change from run to run.

    Args:
        figure: from a function of this module or from matplotlib.
        alt: one or two sentences on what is to be seen.

    Raises:
        TutorialError: if ``alt`` is empty.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise TutorialError("this figure has no alt text; call show(figure, 'one sentence on what is to be seen').")
    from IPython.display import display

    png = to_png(figure)
    display(
        {"image/png": png, "text/plain": f"Figure: {alt}"},
        raw=True,
        metadata={"image/png": {"alt": alt}},
    )
    if hasattr(figure, "number"):  # made by pyplot, which keeps a list and would show it a second time
        from matplotlib import pyplot

        pyplot.close(figure)

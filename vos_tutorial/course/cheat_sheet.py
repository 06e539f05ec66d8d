"""All methods on one sheet, ``notebooks/cheat_sheet.md``: what each carries, how it is trained, and its shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One method in four lines; its shapes come from the ledger at the end of its page.

    Args:
        paper: a link, in Markdown.
        carries: from frame to frame.
        learns: from which data, and what is asked of the network.
        loss: as our recipes train it, with the function that computes it.
    """

    paper: str
    carries: str
    learns: str
    loss: str


#: By the number of the page.
METHODS: dict[str, Method] = {
    "02": Method(
        "[Perazzi, Khoreva, Benenson, Schiele, Sorkine-Hornung, CVPR 2017](https://arxiv.org/abs/1612.02646)",
        "the previous mask",
        "still pictures: given a corrupted mask as a guide, return the exact one",
        "cross-entropy of background and object + Dice (`training.tasks.masktrack`)",
    ),
    "03": Method(
        "[Oh, Lee, Sunkavalli, Kim, CVPR 2018]"
        "(https://openaccess.thecvf.com/content_cvpr_2018/html/Oh_Fast_Video_Object_CVPR_2018_paper.html)",
        "frame 0 with its mask, and the previous mask as probabilities",
        "pairs made of stills, then video; on video, from its own answers (back-propagation through time)",
        "mean over the steps of cross-entropy + Dice (`training.tasks.rgmp`)",
    ),
    "04": Method(
        "[Ventura, Bellver, Girbau, Salvador, Marqués, Giró-i-Nieto, CVPR 2019](https://arxiv.org/abs/1903.05612)",
        "a hidden state for each object at each scale, and the previous masks",
        "video: first with true previous masks (teacher forcing), then with its own",
        "soft IoU cost of each object, summed over frames; in long runs + cross-entropy where a mask should be empty "
        "(`models.rvos.soft_iou_cost`)",
    ),
    "05": Method(
        "[Oh, Lee, Xu, Kim, ICCV 2019](https://arxiv.org/abs/1904.00607)",
        "keys and values of stored frames: the first, the previous, every fifth",
        "clips of three frames, made of stills, then of video; each answer is memorised for the next frame",
        "mean over the frames of cross-entropy over background and objects + Dice (`training.tasks.stm`)",
    ),
    "06": Method(
        "[Xu, Wen, Li, Bo, Huang, CVPR 2019](https://arxiv.org/abs/1904.02363)",
        "the frames before, the previous mask as a gate, and the object in its weights, tuned on frame 0",
        "motion from video without masks; then masks; then frame 0 of each video",
        "generator: squared error of the next frame + a little adversarial loss; segmenter: cross-entropy of each of "
        "five outputs, in small recipes + Dice of the last (`models.stcnn.segmentation_loss`)",
    ),
}

OPENING = """# Cheat sheet

The methods of the course on one sheet. {glossary} explains the words.

**Axes.** `B` samples · `T` frames · `O` or `N` objects · `K` known objects · `C` channels (`Ck` of keys, `Cv` of
values) · `H W` pixels · `h w` cells of a coarser grid.

**A mask of ids.** 0 background · 1 to 254 objects · 255 void.

**Every method** has `begin(frame, mask)` and `step(frame)`, which returns probabilities `O+1 H W`, background first.
`propagate(method, frames, mask)` calls them for a whole clip and returns ids `T H W`.

**Several objects.** Each is segmented alone, with probability $p$. The background gets the probability that none is
there, $\\prod (1 - p)$, and each share is proportional to its odds, $p / (1 - p)$.

$$\\text{{Dice}} = 1 - \\frac{{2 \\sum p\\,y + 1}}{{\\sum p + \\sum y + 1}} \\qquad
\\text{{soft IoU cost}} = 1 - \\frac{{\\sum p\\,y}}{{\\sum (p + y - p\\,y)}}$$

$$J = \\frac{{|A \\cap B|}}{{|A \\cup B|}} \\qquad F = \\frac{{2PR}}{{P + R}}$$"""


def cheat_sheet_page(pages: Mapping[str, str], ledgers: Mapping[str, str]) -> str:
    """The sheet in Markdown.

    Args:
        pages: for each page's number a link to it.
        ledgers: for each page's number the table of shapes at its end; pages may lack one.
    """
    parts = [OPENING.format(glossary="The [glossary](glossary.md)")]
    for number, link in pages.items():
        if number not in ledgers:
            continue
        parts.append(f"## {link}")
        if (method := METHODS.get(number)) is not None:
            lines = {
                "paper": method.paper,
                "carries": method.carries,
                "learns from": method.learns,
                "loss": method.loss,
            }
            parts.append("\n".join(f"* *{name}*: {text}" for name, text in lines.items()))
        parts.append(ledgers[number])
    return "\n\n".join(parts) + "\n"

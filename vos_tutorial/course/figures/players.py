"""The two players of a GAN: who gets which gradient in whose turn, and where it is cut."""

from __future__ import annotations

from .diagrams import Arrow, Diagram, Frame, Loss, Operation
from .masks import Pixels, as_picture
from .palette import Role
from .tracing import chain


def two_players(past: Pixels, future: Pixels, painted: Pixels) -> Diagram:
    """A painter that is given noise, and a critic that tells its frames from real ones, each in its turn.

    Args:
        past: the last known frame, ``[3, H, W]`` or ``[H, W, 3]``.
        future: a frame that came after it.
        painted: what the painter made of it.
    """

    def frame(label: str, pixels: Pixels, role: Role = "input") -> Frame:
        picture = as_picture(pixels)
        h, w = picture.shape[:2]
        return Frame(label, role, picture=picture, size=(h, w))

    parts = {
        "past": frame("past", past),
        "noise": Operation("noise"),
        "painter": Operation("painter", "output"),
        "painted": frame("painted", painted, "output"),
        "critic": Operation("critic", "memory"),
        "fooled": Loss("−λ log D(painted)"),
        "future": frame("future", future),
        "error": Loss("squared error"),
        "detached": frame("painted", painted, "output"),
        "known": frame("past", past),
        "real": frame("future", future),
        "learner": Operation("critic", "memory"),
        "told": Loss("critic's loss"),
    }
    arrows = [*chain("past", "painter", "painted", "critic", "fooled"), Arrow("noise", "painter")]
    arrows += [Arrow("past", "critic"), Arrow("known", "learner")]  # it judges a frame as what comes after this past
    arrows += [Arrow("painted", "error"), Arrow("future", "error")]
    arrows += [Arrow(a, b, "gradient") for a, b in (("fooled", "critic"), ("critic", "painted"))]
    arrows += [Arrow(a, b, "gradient") for a, b in (("error", "painted"), ("painted", "painter"))]
    arrows += [*chain("detached", "learner", "told"), Arrow("real", "learner")]
    arrows += [Arrow("told", "learner", "gradient"), Arrow("learner", "detached", "stopped")]
    layout = """
        past painter painted critic fooled
        noise . future error .
        . known detached learner told
        . . real . .
    """
    groups = {
        "painter's turn": ["past", "noise", "painter", "painted", "critic", "fooled", "future", "error"],
        "critic's turn": ["known", "detached", "real", "learner", "told"],
    }
    return Diagram("a painter and a critic, each in its turn", parts, layout, arrows, groups)

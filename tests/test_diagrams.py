"""Diagrams: laid out without collisions, showing what the network did, with words for those who cannot see them."""

from __future__ import annotations

import inspect
import re
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from torch import nn

from vos_tutorial import models
from vos_tutorial.clip import Clip
from vos_tutorial.course import figures
from vos_tutorial.course.figures import (
    Arrow,
    Concat,
    Diagram,
    FeatureMap,
    Frame,
    Loss,
    Mask,
    Operation,
    networks,
    products,
    two_players,
    unrolled,
)
from vos_tutorial.course.figures.drawing import BACKWARDS, LINES
from vos_tutorial.course.figures.palette import ROLES
from vos_tutorial.course.figures.placement import Placement
from vos_tutorial.course.figures.rollout import reaches
from vos_tutorial.course.figures.routes import Box, Router, _crosses, beside
from vos_tutorial.course.figures.tracing import NetworkDiagram, Trace, chain, surface
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.errors import TutorialError
from vos_tutorial.models import rvos, stm


@pytest.fixture(scope="module")
def clip() -> Clip:
    return next(iter(benchmark(1, ["multiple_objects"])))


@pytest.fixture(scope="module")
def forms() -> dict[str, stm.STM]:
    """Each form that the network comes in, small and of the paper's size."""
    torch.manual_seed(0)
    return {
        "light": stm.build(),
        "alike": stm.build(light=False),
        "paper form": stm.build(affinity="dot", shared_keys=False),
        "paper": stm.build("paper"),
    }


def small(**changes: object) -> Diagram:
    given: dict = {
        "title": "a toy",
        "parts": {
            "x": Frame("frame", size=(64, 96)),
            "g": Mask("guide", "guide", size=(64, 96)),
            "cat": Concat("cat"),
            "f": FeatureMap("first", shape=(16, 32, 48)),
            "net": Operation("net"),
            "y": Mask("answer", "output", size=(64, 96)),
            "l": Loss("loss"),
        },
        "layout": "x cat f net y\ng . . . l",
        "arrows": [*chain("x", "cat", "f", "net", "y", "l"), Arrow("g", "cat"), Arrow("l", "y", "gradient")],
    }
    return Diagram(**(given | changes))


def texts(diagram: Diagram) -> list[str]:
    (axes,) = figures.draw(diagram).axes
    return [text.get_text() for text in axes.texts]


# --- the declaration -------------------------------------------------------------------------------------


def test_the_alt_text_says_every_part_and_arrow() -> None:
    assert small().alt == (
        "Diagram: a toy. frame → cat. cat → first. first 16×32×48 → net. net → answer. answer → loss. "
        "guide → cat. loss → gradient: answer."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "x cat f net y\ng x . . l"}, "places 'x' twice"),
        ({"layout": "x cat f net y"}, "no place for 'g'"),
        ({"arrows": [Arrow("x", "z")]}, "no part 'z'"),
        ({"groups": {"encoder": ["q"]}}, "no part 'q'"),
    ],
)
def test_a_declaration_that_does_not_fit_is_named(changes: dict, message: str) -> None:
    with pytest.raises(TutorialError, match=message):
        small(**changes)


# --- the layout ------------------------------------------------------------------------------------------


def test_a_slab_is_as_high_as_its_resolution_and_as_deep_as_its_channels() -> None:
    place = Placement(small())

    def sides(c: int, h: int, w: int) -> tuple[float, float, float]:
        part = FeatureMap("f", shape=(c, h, w))
        return (*place.face((h, w)), place.depth(part))

    wide, high, deep = sides(16, 32, 48)
    assert wide / high == pytest.approx(48 / 32)
    assert sides(16, 64, 96)[1] > high > sides(16, 8, 12)[1]
    assert sides(256, 32, 48)[2] > deep > sides(3, 32, 48)[2]


def all_diagrams(clip: Clip, forms: dict[str, stm.STM]) -> list[Diagram]:
    frames, masks = clip.frames[[0, 4, 8]], clip.masks[[0, 4, 8]]
    x = torch.ones(2, requires_grad=True)
    losses, carried = [x.sum(), (2 * x).sum()], [x]
    key, value = torch.randn(8, 2, 3, 4), torch.randn(6, 2, 3, 4)
    return [
        small(),
        *(networks.stm(net, frames[1:], masks[1]) for net in forms.values()),
        networks.stm(forms["light"], frames, masks[:2]),
        unrolled("MaskTrack", frames, masks),
        unrolled("STM", frames, masks, carry="memory", losses=losses, carried=carried),
        unrolled("RGMP", frames, masks, losses=losses, carried=carried),
        unrolled("RGMP", frames, masks, reference=True, losses=losses, carried=carried),
        products.read(torch.randn(8, 3, 4), key, value),
        two_players(*([np.zeros((16, 16, 3), np.uint8)] * 3)),
        *other_networks(clip).values(),
    ]


def other_networks(clip: Clip) -> dict[str, NetworkDiagram]:
    frames, masks = clip.frames, clip.masks
    small = {name: models.build(name) for name in models.METHODS}
    return {
        "masktrack": networks.masktrack(small["masktrack"], frames[1], masks[0]),
        "deeplab": networks.masktrack(models.build("masktrack", "paper"), frames[1], masks[0]),
        "rgmp": networks.rgmp(small["rgmp"], frames[[0, 5]], masks[[0, 4]]),
        "rvos": networks.rvos(small["rvos"], frames[5], masks[4]),
        "stcnn": networks.stcnn(small["stcnn"], frames[:5]),
    }


def test_no_part_stands_on_another_and_no_arrow_runs_through_one(clip: Clip, forms: dict[str, stm.STM]) -> None:
    for diagram in all_diagrams(clip, forms):
        place = Placement(diagram)
        for (a, one), (b, other) in combinations(place.boxes.items(), 2):
            apart = one.right <= other.left or other.right <= one.left
            assert apart or one.top <= other.bottom or other.top <= one.bottom, f"{diagram.title}: {a} on {b}"
        router = Router(place.ports, place.boxes, [], place.columns, place.width, place.height, place.foot)
        for arrow in sorted(diagram.arrows, key=lambda a: (a.flow in BACKWARDS, router.distance(a.source, a.target))):
            others = {k: box for k, box in place.boxes.items() if k not in (arrow.source, arrow.target)}
            for start, end in pairwise(router.route(arrow.source, arrow.target)):
                hit = [key for key, box in others.items() if _crosses(start, end, box)]
                assert hit == [], f"{diagram.title}: {arrow} runs through {hit}"
                assert 0 <= start[0] <= place.width
                assert place.foot <= start[1] <= place.height


def test_a_route_goes_around_what_stands_between() -> None:
    boxes = {"a": Box(0.2, 1, 0.6, 1.4), "wall": Box(1, 0.9, 1.5, 1.5), "b": Box(2, 1, 2.4, 1.4)}
    router = Router(boxes, boxes, [], [(0.2, 0.6), (1, 1.5), (2, 2.4)], 2.6, 2.0, 0.0)
    route = router.route("a", "b")
    assert len(route) > 2
    assert not any(_crosses(a, b, boxes["wall"]) for a, b in pairwise(route))
    back = router.route("b", "a")
    assert back == beside(route[::-1], 0.075)


def test_shares_count_from_the_upper_left(clip: Clip) -> None:
    place = Placement(small())
    shares = {key: place.share(box) for key, box in place.boxes.items()}
    assert shares["x"].top < shares["x"].bottom < shares["g"].top  # a page counts downwards
    assert shares["x"].right < shares["y"].left
    assert all(0 <= value <= 1 for box in shares.values() for value in box)


# --- what it shows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["light", "alike", "paper form", "paper"])
def test_stm_shows_what_the_network_made(clip: Clip, forms: dict[str, stm.STM], form: str) -> None:
    net = forms[form].train()
    frames, masks = clip.frames[[0, 8]], clip.masks[:1]
    diagram = networks.stm(net, frames, masks)
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())
    net.eval()
    x = frames.float() / 255
    first = masks[0].unique()[1]
    mine, others = (masks == first).float(), ((masks != first) & (masks > 0)).float()
    owner = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        key, value = net.memorize(x[:1], mine, others, owner)
        query = net.encode(x[1:])
        found = stm.read(query.key, key[:, :, None], value[:, :, None], net.penalty)
    made = {"key": key, "value": value, "query_key": query.key, "query_value": query.value, "found": found}
    maps = [*query.fine, query.coarse]
    made |= {f"q{stride}": m for stride, m in zip(net.query_encoder.strides, maps, strict=True)}
    written = texts(diagram)
    for name, tensor in made.items():
        torch.testing.assert_close(diagram.tensors[name], tensor[0], rtol=1e-4, atol=1e-5)
        part = diagram.parts[name]
        assert isinstance(part, FeatureMap)
        assert part.shape == tuple(tensor.shape[1:])
        assert "×".join(map(str, part.shape)) in written


def arriving(diagram: Diagram, key: str, flows: tuple[str, ...] = ("data",)) -> int:
    """Channels that the arrows bring to a part; through a concatenation, the sum of its own."""
    total = 0
    for arrow in diagram.arrows:
        if arrow.target != key or arrow.flow not in flows:
            continue
        part = diagram.parts[arrow.source]
        if isinstance(part, FeatureMap):
            total += part.shape[0]
        elif isinstance(part, Frame):
            total += int(part.note.split("×")[0])
        else:
            total += arriving(diagram, arrow.source, flows)
    return total


def takes(module: nn.Module) -> int:
    return next(m for m in module.modules() if isinstance(m, nn.Conv2d)).in_channels


def test_the_other_networks_arrows_bring_the_channels_that_each_layer_takes(clip: Clip) -> None:
    drawn = other_networks(clip)
    u_net = models.build("masktrack").body
    assert arriving(drawn["masktrack"], "first") == takes(u_net.encoder.stem) == 4
    assert arriving(drawn["masktrack"], "last") == takes(u_net.encoder.last)
    assert arriving(drawn["masktrack"], "up[1]") == u_net.lateral[1].in_channels
    assert arriving(drawn["deeplab"], "conv1") == 4
    assert {arriving(drawn["deeplab"], f"branches[{k}]") for k in range(4)} == {512}
    rgmp = models.build("rgmp")
    assert arriving(drawn["rgmp"], "t2") == arriving(drawn["rgmp"], "r16") == takes(rgmp.encoder) == 4
    compare = rgmp.decoder.compare
    assert arriving(drawn["rgmp"], "compare") == compare.left_target.in_channels + compare.left_reference.in_channels
    assert arriving(drawn["rgmp"], "refine[1]", ("skip",)) == rgmp.decoder.refine[1].enter.in_channels
    for k, cell in enumerate(models.build("rvos").cells):
        # The second object's cell, with what the first one carries on; only the frame before is left out.
        heard = arriving(drawn["rvos"], f"cell{k}_1", ("data", "carried"))
        assert heard == cell.gates.in_channels - cell.hidden
    stcnn = models.build("stcnn")
    decoder = stcnn.decoder
    assert arriving(drawn["stcnn"], "e1") == takes(stcnn.generator.encoder) == 12
    for i, squeeze in enumerate(stcnn.generator.decoder.squeeze[1:], start=2):
        assert arriving(drawn["stcnn"], f"d{i}", ("skip",)) == takes(squeeze)
    assert arriving(drawn["stcnn"], "last") == takes(decoder.last)
    assert arriving(drawn["stcnn"], "gates[0]") == takes(decoder.joins[0]) + 1  # and the mask that steers it
    assert arriving(drawn["stcnn"], "f[0]", ("skip",)) == takes(decoder.laterals[0])


def test_the_decoder_of_stcnn_is_drawn_as_its_code_goes(clip: Clip) -> None:
    """Only f goes down; a gate's map goes to its head and to the end; every head but the finest steers a gate."""
    detached, joined = (networks.stcnn(models.build("stcnn", detach=d), clip.frames[:5]) for d in (True, False))
    pairs = {(arrow.source, arrow.target) for arrow in detached.arrows if arrow.flow == "data"}
    assert {("pyramid", "f[2]"), ("f[2]", "f[1]"), ("f[1]", "f[0]")} < pairs
    for i in (2, 1, 0):
        assert {target for source, target in pairs if source == f"gates[{i}]"} == {f"heads[{i}]", "last"}
        assert (f"heads[{i + 1}]", f"gates[{i}]") in pairs
    assert not {target for source, target in pairs if source == "heads[0]"}
    assert {(arrow.source, arrow.target) for arrow in detached.arrows if arrow.flow == "stopped"} == {
        ("gates[2]", "d1"), ("gates[1]", "d2"), ("gates[0]", "d3")
    }  # fmt: skip
    assert not [arrow for arrow in joined.arrows if arrow.flow == "stopped"]


def test_both_players_know_the_past() -> None:
    drawn = two_players(*([np.zeros((16, 16, 3), np.uint8)] * 3))
    into = {key: {a.source for a in drawn.arrows if a.target == key and a.flow == "data"} for key in drawn.parts}
    assert into["painter"] == {"past", "noise"}
    assert into["critic"] == {"past", "painted"}
    assert into["learner"] == {"known", "detached", "real"}


def test_each_map_is_the_modules_own(clip: Clip) -> None:
    drawn = other_networks(clip)
    assert {key: part.shape for key, part in drawn["masktrack"].parts.items() if key.startswith("up")} == {
        "up[2]": (64, 12, 12), "up[1]": (32, 24, 24), "up[0]": (16, 48, 48)
    }  # fmt: skip
    for name, diagram in drawn.items():
        for key, tensor in diagram.tensors.items():
            part = diagram.parts[key]
            assert isinstance(part, FeatureMap)
            assert part.shape == tuple(tensor.shape), f"{name}: {key}"
            source = inspect.getsource(diagram.code[key].function)
            assert diagram.code[key].lines in source, f"{name}: {key}"


def test_a_given_mask_and_an_answer_fed_back_differ(clip: Clip) -> None:
    parts = other_networks(clip)["rgmp"].parts
    assert [parts[key].role for key in ("reference_mask", "target_mask", "answer")] == ["guide", "output", "output"]


def test_other_networks_say_what_they_need(clip: Clip) -> None:
    with pytest.raises(TutorialError, match="1 frames and 1 masks"):
        networks.rgmp(models.build("rgmp"), clip.frames[:1], clip.masks[:1])
    with pytest.raises(TutorialError, match="holds 1 objects"):
        networks.rvos(models.build("rvos"), clip.frames[0], (clip.masks[0] == 1).byte())
    with pytest.raises(TutorialError, match="zero-shot"):
        networks.rvos(models.build("rvos", one_shot=False), clip.frames[0], clip.masks[0])
    with pytest.raises(TutorialError, match="got 3 in all"):
        networks.stcnn(models.build("stcnn"), clip.frames[:3])


@pytest.mark.parametrize("form", ["light", "alike", "paper form", "paper"])
def test_stm_arrows_bring_the_channels_that_each_layer_takes(
    clip: Clip, forms: dict[str, stm.STM], form: str
) -> None:
    net = forms[form]
    diagram = networks.stm(net, clip.frames[[0, 8]], clip.masks[0])

    def into(key: str, flow: str = "data") -> int:
        return arriving(diagram, key, (flow,))

    first = f"m{net.memory_encoder.strides[0]}"
    assert into(first) == takes(net.memory_encoder)
    assert into(f"q{net.query_encoder.strides[0]}") == takes(net.query_encoder) == 3
    assert into("value") == net.memory_head.value.in_channels
    assert into("key") == (net.query_head if net.shared_keys else net.memory_head).key.in_channels
    assert into("query_key") == net.query_head.key.in_channels
    assert into("first") == net.decoder.enter.in_channels
    for i, refine in enumerate(net.decoder.refine):
        assert into(f"refine[{i}]", "skip") == refine.enter.in_channels


def test_the_same_call_follows_a_changed_network(clip: Clip) -> None:
    wide = networks.stm(stm.build(width=24), clip.frames[[0, 8]], clip.masks[0])
    assert "48×12×12" in wide.alt  # keys of 2 x width
    assert "32×12×12" not in wide.alt


def test_the_memory_of_several_frames_is_a_stack(clip: Clip, forms: dict[str, stm.STM]) -> None:
    diagram = networks.stm(forms["light"], clip.frames[[0, 4, 8]], clip.masks[[0, 4]])
    part = diagram.parts["key"]
    assert isinstance(part, FeatureMap)
    assert part.stack == 2
    assert "memory key 2 of 32×12×12 → read" in diagram.alt


def test_what_cannot_be_drawn_is_named(clip: Clip, forms: dict[str, stm.STM]) -> None:
    with pytest.raises(TutorialError, match="3 frames and 1 masks"):
        networks.stm(forms["light"], clip.frames[:3], clip.masks[0])
    with pytest.raises(TutorialError, match=r"masks are \[48, 48\] but a frame is \[96, 96\]"):
        networks.stm(forms["light"], clip.frames[:2], clip.masks[0, ::2, ::2])
    with pytest.raises(TutorialError, match="holds no object"):
        networks.stm(forms["light"], clip.frames[:2], torch.zeros_like(clip.masks[0]))
    with Trace(forms["light"]) as trace:
        pass
    with pytest.raises(TutorialError, match="'decoder' was not called"):
        trace.out("decoder")
    with Trace(forms["light"]) as trace:
        forms["light"].encode(torch.rand(1, 3, 96, 96))
    with pytest.raises(TutorialError, match="say which part"):
        trace.out("query_encoder")


def test_a_surface_uses_its_whole_range() -> None:
    values = surface(torch.rand(4, 8, 8) * 1e-3 + 5)
    assert (values.min(), values.max()) == (0, 1)
    assert not np.isnan(surface(torch.ones(4, 8, 8))).any()


@pytest.mark.parametrize("one_shot", [True, False])
def test_time_never_passes_the_forget_gate_of_a_cell(one_shot: bool) -> None:
    torch.manual_seed(0)
    cell = rvos.ConvLSTMCell(6, 4, one_shot)
    x, mask = torch.randn(1, 6, 5, 7), torch.rand(1, 1, 5, 7) if one_shot else None
    h, c, time = torch.randn(3, 1, 4, 5, 7)
    diagram = networks.conv_lstm(cell, x, mask, (h, c), time)
    into = {key: {a.source for a in diagram.arrows if a.target == key} for key in ("cat", "keep", "show")}
    assert into["cat"] == {"x", "space", "time"} | ({"mask"} if one_shot else set())
    assert into["keep"] == {"c_before", "f", "i", "g"}
    assert into["show"] == {"c", "o"}
    shown = {key: diagram.tensors[key][None] for key in "ifog"}
    assert all(shown[key].min() >= 0 and shown[key].max() <= 1 for key in "ifo")
    torch.testing.assert_close(diagram.tensors["c"][None], shown["f"] * c + shown["i"] * shown["g"])
    torch.testing.assert_close(diagram.tensors["h"], shown["o"][0] * diagram.tensors["c"].tanh())


# --- the loop and its gradients --------------------------------------------------------------------------


def test_autograd_says_which_gradients_are_drawn(clip: Clip) -> None:
    frames, masks = clip.frames[:3], clip.masks[:3]
    weight = torch.ones(1, requires_grad=True)
    handed = weight * 2
    for carry in ("mask", "memory"):
        flows = {}
        for cut in (False, True):
            losses = [handed.sum(), ((handed.detach() if cut else handed) * weight).sum()]
            diagram = unrolled("net", frames, masks, carry=carry, losses=losses, carried=[handed])
            flows[cut] = [a.flow for a in diagram.arrows if a.target == "mask1" and not a.source.startswith("step1")]
        assert flows[False].count("gradient") == 2  # from its own loss, and from the next frame
        assert flows[True].count("gradient") == 1
        assert flows[True].count("stopped") == 1
        memories = {(a.source, a.target) for a in diagram.arrows if a.flow == "gradient" and "memory" in a.target}
        assert memories == ({("step1", "memory1"), ("step2", "memory2")} if carry == "memory" else set())
    assert not reaches(losses[0], torch.ones(2))
    assert not reaches((handed * 0).sum(), handed)  # connected, but nothing comes through


def test_a_step_that_answers_in_frame_0_gets_the_given_mask_there_and_its_own_afterwards(clip: Clip) -> None:
    frames, masks = clip.frames[:3], clip.masks[:3]
    h = [torch.ones(1, 2, 3, 4, requires_grad=True), torch.ones(1, 2, 3, 4, requires_grad=True)]
    answers = [(h[0] * 2).sum(), (h[1] * 2).sum()]
    losses = [*answers, answers[0].detach() + h[0].sum() + h[1].sum()]
    diagram = unrolled("net", frames, masks, given=masks[0], losses=losses, carried=answers, states=h)
    assert {(a.source, a.target) for a in diagram.arrows if a.source == "given"} == {("given", "step0")}
    assert {"loss0", "loss1", "loss2"} <= set(diagram.parts)
    back = {(a.source, a.target): a.flow for a in diagram.arrows if a.flow in ("gradient", "stopped")}
    assert [back[f"step{t + 1}", f"mask{t}"] for t in (0, 1)] == ["stopped", "stopped"]
    assert [back[f"state{t + 1}", f"step{t}"] for t in (0, 1)] == ["gradient", "gradient"]


def test_the_loop_carries_masks_or_a_memory_that_grows(clip: Clip) -> None:
    frames, masks = clip.frames[:3], clip.masks[:3]
    assert "given mask → carried on: net" in unrolled("net", frames, masks).alt
    memory = unrolled("net", frames, masks, carry="memory")
    assert [p.stack for p in memory.parts.values() if isinstance(p, FeatureMap)] == [1, 2]
    looking_back = unrolled("net", frames, masks, reference=True)
    assert {a.source for a in looking_back.arrows if a.target == "reference"} == {"frame0", "mask0"}
    assert {a.target for a in looking_back.arrows if a.source == "reference"} == {"step1", "step2"}
    with pytest.raises(TutorialError, match="cannot carry 'flow'"):
        unrolled("net", frames, masks, carry="flow")  # type: ignore[arg-type]
    with pytest.raises(TutorialError, match="got 1 and 1"):
        unrolled("net", frames[:1], masks[:1])
    with pytest.raises(TutorialError, match="give states, or no given mask"):
        unrolled("net", frames, masks, given=masks[0])
    with pytest.raises(TutorialError, match="2 losses and 1 carried"):
        unrolled("net", frames, masks, losses=[torch.ones(1)])


def test_a_loop_hands_on_a_hidden_state_beside_the_mask(clip: Clip) -> None:
    frames, masks = clip.frames[:3], clip.masks[:3]
    weight = torch.ones(1, 2, 4, 4, requires_grad=True)
    first, second = weight * 2, weight * 3
    losses = [first.sum(), second.sum()]
    diagram = unrolled("net", frames, masks, losses=losses, carried=[first], states=[first, second])
    assert [p.shape for p in diagram.parts.values() if isinstance(p, FeatureMap)] == [(2, 4, 4)] * 2
    assert {(a.source, a.target) for a in diagram.arrows} >= {
        ("step0", "state1"),
        ("state1", "step1"),
        ("mask0", "step0"),
    }
    flows = {a.source: a.flow for a in diagram.arrows if a.source.startswith("state") and a.flow != "carried"}
    assert flows == {"state1": "stopped", "state2": "gradient"}  # the last loss reaches the second state alone
    assert "carried on: h" in diagram.alt
    with pytest.raises(TutorialError, match="2 hidden states between them, got 1"):
        unrolled("net", frames, masks, states=[first])
    with pytest.raises(TutorialError, match="carry='memory'"):
        unrolled("net", frames, masks, carry="memory", states=[first, second])


def test_the_read_has_equal_sides_where_numbers_are_equal() -> None:
    diagram = products.read(torch.randn(8, 3, 4), torch.randn(8, 2, 3, 4), torch.randn(6, 2, 3, 4))
    sides = {key: part.sides for key, part in diagram.parts.items() if isinstance(part, figures.Block)}
    assert sides["K"] == (("T·h·w", 24), ("Ck", 8))
    assert sides["K"][1] == sides["Q"][0]
    assert sides["V"] == (("Cv", 6), ("T·h·w", 24))
    assert sides["F"] == (sides["V"][0], sides["A"][1])
    bodies = Placement(diagram).bodies
    assert bodies["K"].right - bodies["K"].left == pytest.approx(bodies["Q"].top - bodies["Q"].bottom)
    with pytest.raises(TutorialError, match=r"\[8, 3, 4\]"):
        products.read(torch.randn(8, 3, 4), torch.randn(7, 2, 3, 4), torch.randn(6, 2, 3, 4))


# --- on paper --------------------------------------------------------------------------------------------


def test_light_and_dark_differ_and_there_is_no_third() -> None:
    light, dark = (figures.draw(small(), theme) for theme in ("light", "dark"))
    assert light.get_facecolor() != dark.get_facecolor()
    assert light.get_size_inches().tolist() == dark.get_size_inches().tolist()
    with pytest.raises(TutorialError, match="choose light or dark"):
        figures.draw(small(), "sepia")  # type: ignore[arg-type]


def test_colour_is_never_the_only_carrier() -> None:
    assert len({look.hatch for look in ROLES.values()}) == len(ROLES)
    assert len({str(dash) for dash, _ in LINES.values()}) == len(LINES) - 1  # a stopped gradient ends in a cross
    said = texts(small())
    assert {"given mask", "answer", "features", "gradient"} <= set(said)  # the legend
    renamed = small(roles={"guide": "prompt"}, flows={"gradient": "what is learned"})
    assert {"prompt", "what is learned"} <= set(texts(renamed))
    assert not {"given mask", "gradient"} & set(texts(renamed))
    assert "loss → what is learned: answer" in renamed.alt


def test_png_and_svg_are_small_and_repeat(clip: Clip, forms: dict[str, stm.STM]) -> None:
    diagram = networks.stm(forms["light"], clip.frames[[0, 8]], clip.masks[0])
    png, svg = figures.to_png(figures.draw(diagram), scale=2), figures.to_svg(figures.draw(diagram))
    assert len(png) <= 2 * figures.MAX_PNG_BYTES
    assert len(svg) < 200_000
    assert svg == figures.to_svg(figures.draw(diagram))
    assert re.search(r"<text[^>]*>memory key</text>", svg)
    assert "<title>Diagram: STM" in figures.to_svg(figures.draw(diagram), diagram.alt)

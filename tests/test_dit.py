"""The diffusion transformer: the student begins as its teacher, derivatives pass, and adapters come off."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vos_tutorial.errors import TutorialError
from vos_tutorial.models.dit import (
    DATA_STD,
    Adapted,
    Attention,
    DiT,
    adapter_state,
    as_teacher,
    gaussian_velocity,
    load_adapters,
    merged,
    student_of,
)
from vos_tutorial.models.flow_map import GaussianFlow, emd_direction, require_use_of_s

TINY = {"width": 16, "depth": 2, "heads": 2}


def shaken(network: DiT, seed: int = 0) -> DiT:
    """A network whose zero-initialised parts are zero no more."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def inputs(count: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 4, 32, 32, generator=generator)
    t = torch.tensor([0.9, 0.5, 0.2])[:count]
    captions = torch.tensor([[1, 2, 3, 4, 5, 4], [0, 0, 0, 0, 0, 0], [3, 6, 4, 6, 5, 4]])[:count]
    return x, t, t / 3, captions


def test_a_fresh_network_gives_the_velocity_of_gaussian_data() -> None:
    x, t, s, captions = inputs()
    exact = GaussianFlow(DATA_STD).velocity(x, t)
    assert torch.allclose(DiT(**TINY)(x, t, s, captions), exact, atol=1e-6)
    ends = gaussian_velocity(torch.tensor([0.0, 1.0]))
    assert torch.allclose(ends, torch.tensor([-1.0, 1.0]))


def test_a_student_is_its_teacher_until_it_learns() -> None:
    teacher, (x, t, s, captions) = shaken(DiT(**TINY)), inputs()
    student = student_of(teacher, rank=3)
    assert torch.equal(student(x, t, s, captions), teacher(x, t, t, captions))
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    learns = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learns, lr=10.0)
    for _ in range(3):
        optimizer.zero_grad()
        (student(x, t, s, captions) ** 2).mean().backward()
        optimizer.step()
    moved = student(x, t, s, captions)
    assert not torch.allclose(moved, teacher(x, t, t, captions), atol=1e-4)
    assert not torch.equal(moved, student(x, t, t, captions)), "s counts now"
    with as_teacher(student):
        assert torch.equal(student(x, t, s, captions), teacher(x, t, t, captions))
    assert torch.equal(student(x, t, s, captions), moved)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_what_learns_is_adapters_and_the_embedder_of_s() -> None:
    student = student_of(shaken(DiT(**TINY)), rank=3)
    learns = {name for name, p in student.named_parameters() if p.requires_grad}
    layers = {name for name, module in student.named_modules() if isinstance(module, Adapted)}
    parts = ("attention.qkv", "attention.out", "mlp.first", "mlp.last", "modulation")
    assert layers == {f"blocks.{i}.{part}" for i in range(2) for part in parts}
    assert learns == {f"{layer}.{half}" for layer in layers for half in ("down", "up")} | {
        f"s_embedder.{name}" for name in ("first.weight", "first.bias", "last.weight", "last.bias")
    }
    assert set(adapter_state(student)) == learns


def test_the_teacher_is_back_after_an_error() -> None:
    student = student_of(shaken(DiT(**TINY)), rank=1)
    with pytest.raises(KeyboardInterrupt), as_teacher(student):
        raise KeyboardInterrupt
    assert not student.is_teacher
    assert all(module.enabled for module in student.modules() if isinstance(module, Adapted))


def test_an_adapter_is_a_matrix_of_low_rank() -> None:
    layer = Adapted(nn.Linear(10, 8), rank=2)
    nn.init.normal_(layer.up)
    x = torch.randn(5, 10)
    whole = layer.weight + layer.up @ layer.down
    assert torch.allclose(layer(x), x @ whole.T + layer.bias, atol=1e-5)
    assert int(torch.linalg.matrix_rank(layer.up @ layer.down)) == 2


@pytest.mark.parametrize("reads_s", [True, False])
def test_merged_adapters_are_plain_layers_that_answer_the_same(reads_s: bool) -> None:
    student = shaken(student_of(shaken(DiT(**TINY)), rank=3, reads_s=reads_s)).double()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    plain = merged(student)
    assert not any(isinstance(module, Adapted) for module in plain.modules())
    x, t, s, captions = inputs()
    given = x.double(), t.double(), s.double(), captions
    with torch.no_grad():
        torch.testing.assert_close(plain(*given), student(*given))
        with as_teacher(student):
            assert (plain(*given) - student(*given)).abs().max() > 1e-3, "the adapters count here"
            again = merged(student)
            torch.testing.assert_close(again(*given), plain(*given))  # the student's, wherever it is merged
    assert not any(parameter.requires_grad for parameter in (*plain.parameters(), *again.parameters()))
    assert any(parameter.requires_grad for parameter in student.parameters())
    for parameter in plain.parameters():
        parameter.data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items()), "weights are shared"


def test_attention_is_the_fused_one() -> None:
    attention, x = Attention(12, 3), torch.randn(2, 7, 12)
    q, k, v = attention.qkv(x).reshape(2, 7, 3, 3, 4).permute(2, 0, 3, 1, 4)
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert torch.allclose(attention(x), attention.out(fused.transpose(1, 2).reshape(2, 7, 12)), atol=1e-6)


def test_forward_derivatives_pass_and_agree_with_a_difference() -> None:
    student = shaken(student_of(shaken(DiT(**TINY))), 1).double()
    x, t, s, captions = inputs()
    x, t, s = x.double(), t.double(), s.double()
    v = torch.randn_like(x)
    found = [emd_direction(student.given(captions), x, t, s, v, derivative=how) for how in ("jvp", "difference")]
    assert torch.allclose(found[0], found[1], atol=1e-6, rtol=1e-5)


def test_cut_and_join_undo_each_other() -> None:
    network, x = DiT(**TINY), torch.randn(2, 4, 32, 32)
    cut = network._cut(x)
    assert cut.shape == (2, 64, 64)
    assert torch.equal(network._join(cut), x)
    assert torch.equal(cut[1, 9].reshape(4, 4, 4), x[1, :, 4:8, 4:8]), "row by row"


def test_samples_do_not_see_each_other() -> None:
    network, (x, t, s, captions) = shaken(student_of(shaken(DiT(**TINY)))), inputs()
    together = network(x, t, s, captions)
    for i in range(3):
        one = slice(i, i + 1)
        assert torch.allclose(network(x[one], t[one], s[one], captions[one]), together[one], atol=1e-5)


def test_the_caption_counts_and_each_word_does() -> None:
    network, (x, t, s, captions) = shaken(DiT(**TINY)), inputs(1)
    said = network(x, t, s, captions)
    for column in range(6):
        other = captions.clone()
        other[:, column] = 0
        assert not torch.allclose(network(x, t, s, other), said, atol=1e-5)


def test_a_student_without_s_is_found_out() -> None:
    x, t, _, captions = inputs()
    teacher = shaken(DiT(**TINY))
    require_use_of_s(student_of(teacher).given(captions), x, t)
    deaf = student_of(teacher, reads_s=False)
    assert not deaf.reads_s
    with pytest.raises(TutorialError, match="does not depend on s"):
        require_use_of_s(deaf.given(captions), x, t)


def test_adapters_go_from_student_to_student() -> None:
    teacher, (x, t, s, captions) = shaken(DiT(**TINY)), inputs()
    one, other = shaken(student_of(teacher, rank=2)), student_of(teacher, rank=2)
    own = {name: value.clone() for name, value in adapter_state(one).items()}
    one.load_state_dict(teacher.state_dict(), strict=False)  # what is frozen was shaken, too
    load_adapters(other, own, "one")
    assert torch.equal(one(x, t, s, captions), other(x, t, s, captions))
    with pytest.raises(TutorialError, match=r"one do not fit: .*rank"):
        load_adapters(student_of(teacher, rank=3), own, "one")
    with pytest.raises(TutorialError, match="this student has no 's_embedder"):
        load_adapters(student_of(teacher, rank=2, reads_s=False), own, "one")


def ask(x: Tensor, captions: Tensor) -> Tensor:
    out: Tensor = DiT(**TINY)(x, torch.ones(1), torch.ones(1), captions)
    return out


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: DiT(size=32, patch=5), "32 pixels cannot be cut into patches of 5"),
        (lambda: DiT(patch=0), "patches of 0"),
        (lambda: DiT(width=30), "width of 30"),
        (lambda: student_of(DiT(**TINY), rank=0), "rank 0"),
        (lambda: student_of(student_of(DiT(**TINY))), "adapters already"),
        (lambda: ask(torch.zeros(1, 3, 32, 32), torch.ones(1, 6).long()), "4, 32"),
        (lambda: ask(torch.zeros(1, 4, 32, 32), torch.ones(1, 5).long()), "1, 5"),
        (lambda: ask(torch.zeros(1, 4, 32, 32), torch.full((1, 6), 7)), "ids in 0"),
        (lambda: ask(torch.zeros(1, 4, 32, 32), torch.full((1, 6), -1)), "ids in 0"),
        (lambda: ask(torch.zeros(1, 4, 32, 32), torch.ones(1, 6)), "int64"),
    ],
)
def test_what_cannot_be_is_told(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(TutorialError, match=words):
        call()

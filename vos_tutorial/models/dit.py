"""A diffusion transformer for small captioned pictures: teacher and flow-map student in one set of weights.

Peebles and Xie: "Scalable Diffusion Models with Transformers", ICCV 2023. A picture is cut into patches, each patch
is a token, and a transformer says for every token where it should flow. Blocks are modulated by the time (adaLN-Zero,
section 3.2); the caption's words stand beside the patches as tokens of their own, as in Stable Diffusion 3 and FLUX.

A flow map (Sabour, Fidler, Kreis: "Align Your Flow", 2025) needs three things of its network. The time goes in as it
is (``c_noise(t) = t``, no logarithm, low frequencies only), because the derivative along ``t`` is part of the loss.
Attention is written out, because the fused kernels have no forward mode. And the end time ``s`` has an embedder that
begins with zeros, as the adapters do: the student *is* the teacher until it learns, ``F(x, t, s) = v(x, t)``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TutorialError

DATA_STD = 0.5  # of the pictures' values in [-1, 1]
FREQUENCIES = 16  # of the time features
DETAIL = 12  # channels in which the tokens describe each pixel
FASTEST = 12.0  # radians over the whole time: low, so that dF/dt stays small

# ------------------------------------------------------------------------------------------------- parts


def time_features(t: Tensor) -> Tensor:
    """Times ``[B]`` in [0, 1] as cosines and sines of low frequencies: ``[B, 32]``."""
    rates = torch.logspace(0, math.log10(FASTEST), FREQUENCIES, device=t.device, dtype=t.dtype)
    angles = t[:, None] * rates  # [B, 16]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def gaussian_velocity(t: Tensor) -> Tensor:
    """The factor ``[B]`` by which the velocity of Gaussian data N(0, :data:`DATA_STD` ²) follows from ``x`` alone.

    ``v = x_1 - x_0`` and ``x_t = (1-t) x_0 + t x_1`` are jointly Gaussian then, so ``E[v | x_t] = k(t) x_t`` with
    ``k = cov(v, x_t) / var(x_t)``. The network adds what real data need beyond that, and so need not carry the noise
    through its layers. ``k`` is smooth on the whole of [0, 1], from -1 to 1.
    """
    variance = DATA_STD**2
    return (t - (1 - t) * variance) / (t**2 + (1 - t) ** 2 * variance)


def patch_positions(width: int, side: int) -> Tensor:
    """Sines and cosines of row and column for a grid of ``side`` x ``side`` patches: ``[side**2, width]``."""
    rates = 1 / 10_000 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * rates  # [side, width/4]
    along = torch.cat([angles.sin(), angles.cos()], dim=1)  # [side, width/2]
    rows, columns = along.repeat_interleave(side, 0), along.repeat(side, 1)  # [side**2, width/2] each
    return torch.cat([rows, columns], dim=1)


class TimeEmbedder(nn.Module):
    """A time ``[B]`` to a vector ``[B, width]`` that modulates every block.

    Args:
        width: of the vector.
        silent: begin with zeros: the vector says nothing until it is trained. For ``s``.
    """

    def __init__(self, width: int, silent: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2 * FREQUENCIES, width), nn.Linear(width, width)
        if silent:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def forward(self, t: Tensor) -> Tensor:
        """``[B] -> [B, width]``."""
        out: Tensor = self.last(F.silu(self.first(time_features(t))))
        return out


class Attention(nn.Module):
    """Every token looks at every other one; written out, so that forward-mode derivatives pass (see the module)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``[B, N, C] -> [B, N, C]``."""
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)  # [B, h, N, C/h]
        scores = (q * (c // self.heads) ** -0.5) @ k.transpose(-1, -2)  # [B, h, N, N]
        mixed = scores.softmax(-1) @ v  # [B, h, N, C/h]
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(b, n, c))
        return out


class MLP(nn.Module):
    """Two layers for each token by itself."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``[B, N, C] -> [B, N, C]``."""
        out: Tensor = self.last(F.gelu(self.first(x), approximate="tanh"))
        return out


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalised tokens ``[B, N, C]``, scaled and shifted by the condition ``[B, C]``."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    """A block with adaLN-Zero (figure 3): the condition shifts, scales and gates both halves; gates begin at 0."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(width, heads), MLP(width)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens ``[B, N, C]`` and a condition ``[B, C]`` to tokens ``[B, N, C]``."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.modulation(F.silu(condition)).chunk(6, dim=1)
        x = x + gate[:, None] * self.attention(modulate(x, shift, scale))
        return x + gate_mlp[:, None] * self.mlp(modulate(x, shift_mlp, scale_mlp))


class Refiner(nn.Module):
    """Two convolutions over the whole picture, which see what the tokens say and the noisy pixels themselves.

    Fine texture is local, and a token would have to carry every pixel of its patch through all layers. The last
    convolution of U-ViT (Bao et al., "All are Worth Words", CVPR 2023) serves the same end.
    """

    def __init__(self, channels: int, width: int = 24) -> None:
        super().__init__()
        self.first = nn.Conv2d(DETAIL + channels, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def forward(self, detail: Tensor, x: Tensor) -> Tensor:
        """``[B, 12, H, W]`` and ``[B, C, H, W]`` to ``[B, C, H, W]``."""
        out: Tensor = self.last(F.silu(self.first(torch.cat([detail, x], dim=1))))
        return out


# ------------------------------------------------------------------------------------------------- network


class DiT(nn.Module):
    """``F(x, t, s | caption)``: the average velocity from time ``t`` to time ``s``; with ``s = t`` the velocity.

    A fresh network has no ``s``-embedder and ignores ``s``: that is a teacher. :func:`student_of` adds the embedder.

    Args:
        vocabulary: how many values each attribute of a caption has; id 0, *not said*, comes on top.
        channels: of a picture.
        size: pixels a side.
        patch: pixels a side of a token.
        width: channels of a token.
        depth: blocks.
        heads: of the attention.

    Raises:
        TutorialError: if the picture cannot be cut into patches, or the width into heads and quarters.
    """

    s_embedder: TimeEmbedder | None

    def __init__(
        self,
        vocabulary: Sequence[int] = (3, 6, 4, 6, 5, 4),
        channels: int = 4,
        size: int = 32,
        patch: int = 4,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if patch < 1 or size % patch:
            raise TutorialError(f"a picture of {size} pixels cannot be cut into patches of {patch}; use a divisor.")
        if width % 4 or width % heads:
            raise TutorialError(f"a width of {width} cannot be split into 4 and into {heads} heads; use a multiple.")
        self.options: dict[str, Any] = {"patch": patch, "width": width, "depth": depth, "heads": heads, "size": size}
        self.options |= {"channels": channels, "vocabulary": list(vocabulary)}
        self.vocabulary, self.channels, self.size, self.patch = tuple(vocabulary), channels, size, patch
        self.patches = nn.Linear(channels * patch**2, width)
        self.words = nn.ModuleList([nn.Embedding(n + 1, width) for n in vocabulary])
        self.t_embedder = TimeEmbedder(width)
        self.s_embedder = None
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.modulation, self.last = nn.Linear(width, 2 * width), nn.Linear(width, DETAIL * patch**2)
        self.refiner = Refiner(channels)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        for table in self.words:
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=0.2)
        self.register_buffer("positions", patch_positions(width, size // patch), persistent=False)
        self.is_teacher = False  # see `teacher`

    @property
    def reads_s(self) -> bool:
        """Whether ``s`` can change the answer."""
        return self.s_embedder is not None

    def forward(self, x: Tensor, t: Tensor, s: Tensor, captions: Tensor) -> Tensor:
        """The average velocity.

        Args:
            x: ``float [B, C, H, W]`` at time t.
            t: ``float [B]`` in [0, 1]; 1 is noise, 0 is data.
            s: ``float [B]``, the time to go to.
            captions: ``int64 [B, A]``, an id for each attribute, 0 for *not said*.

        Returns:
            ``float [B, C, H, W]``.

        Raises:
            TutorialError: if picture or captions do not fit the network.
        """
        self._require_fit(x, captions)
        b = len(x)
        said = torch.stack([table(captions[:, i]) for i, table in enumerate(self.words)], dim=1)  # [B, A, width]
        condition = self.t_embedder(t) + said.mean(1)  # [B, width]
        if self.s_embedder is not None and not self.is_teacher:
            condition = condition + self.s_embedder(t - s)
        positions = self.positions
        assert isinstance(positions, Tensor)
        tokens = torch.cat([self.patches(self._cut(x)) + positions, said], dim=1)  # [B, N + A, width]
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.modulation(F.silu(condition)).chunk(2, dim=1)
        detail = self._join(self.last(modulate(tokens[:, : positions.shape[0]], shift, scale)))  # [B, 12, H, W]
        return gaussian_velocity(t).reshape(b, 1, 1, 1) * x + self.refiner(detail, x)

    def given(self, captions: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """The network as a function of ``(x, t, s)`` alone, for these captions ``[B, A]``."""
        return lambda x, t, s: self(x, t, s, captions)

    def _cut(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, N, C * patch**2]``: patches row by row."""
        b, c, p, n = len(x), self.channels, self.patch, self.size // self.patch
        return x.reshape(b, c, n, p, n, p).permute(0, 2, 4, 1, 3, 5).reshape(b, n * n, c * p * p)

    def _join(self, tokens: Tensor) -> Tensor:
        """``[B, N, D * patch**2] -> [B, D, H, W]``: the way back."""
        b, p, n = len(tokens), self.patch, self.size // self.patch
        c = tokens.shape[2] // p**2
        return tokens.reshape(b, n, n, c, p, p).permute(0, 3, 1, 4, 2, 5).reshape(b, c, n * p, n * p)

    def _require_fit(self, x: Tensor, captions: Tensor) -> None:
        if tuple(x.shape[1:]) != (self.channels, self.size, self.size):
            raise TutorialError(
                f"this DiT draws pictures [B, {self.channels}, {self.size}, {self.size}], not {list(x.shape)}."
            )
        if captions.shape != (len(x), len(self.vocabulary)):
            raise TutorialError(
                f"{len(x)} pictures need captions [{len(x)}, {len(self.vocabulary)}], not {list(captions.shape)}."
            )
        if captions.dtype != torch.int64 or not bool(
            ((captions >= 0) & (captions <= torch.tensor(self.vocabulary, device=captions.device))).all()
        ):
            raise TutorialError(
                f"captions must be int64 ids in 0..{list(self.vocabulary)}, one column for each attribute; "
                f"the largest here are {captions.amax(0).tolist()}, the smallest {captions.amin(0).tolist()}."
            )


# ------------------------------------------------------------------------------------------------- adapters


class Adapted(nn.Linear):
    """A linear layer whose weights stay as they are, with a low-rank correction beside them (LoRA).

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, equation 3:
    ``W x + (alpha / r) B A x``, where ``B`` begins with zeros. We use ``alpha = r``, a scale of 1. These lines are
    our own because they are the whole idea, and you can read them; for FLUX we use ``peft``, which knows its layers.

    Args:
        layer: shared, not copied.
        rank: r.
    """

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.down = nn.Parameter(torch.randn(rank, layer.in_features, device=layer.weight.device) / rank)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank, device=layer.weight.device))
        self.enabled = True

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in] -> [..., out]``."""
        out = super().forward(x)
        return out + F.linear(F.linear(x, self.down), self.up) if self.enabled else out

    def merged(self) -> nn.Linear:
        """A plain layer with weights of its own, ``W + B A``: the same answers, for what the first layer costs."""
        layer = nn.Linear(self.in_features, self.out_features, device="meta")
        layer.weight = nn.Parameter((self.weight + self.up @ self.down).detach())  # [out, in]
        layer.bias = nn.Parameter(self.bias.detach().clone())
        return layer


def student_of(teacher: DiT, rank: int = 16, reads_s: bool = True) -> DiT:
    """A flow-map student that is its teacher exactly: adapters, and an embedder for the length of a jump, ``t - s``.

    Everything of the teacher is frozen; what learns are the adapters and the embedder. Adapters sit on attention, MLP
    and modulation: with the modulation frozen, ``s`` could move its blocks only in the ways in which ``t`` does.

    Args:
        teacher: not changed; its weights are copied.
        rank: of the adapters.
        reads_s: False leaves the embedder out, for the experiment that shows what becomes of a student without it.

    Raises:
        TutorialError: if the rank is below 1, or the teacher has adapters already.
    """
    if rank < 1:
        raise TutorialError(f"the adapters have rank {rank}; use 1 or more.")
    if any(isinstance(module, Adapted) for module in teacher.modules()):
        raise TutorialError("this network has adapters already; make a student of a teacher.")
    student = copy.deepcopy(teacher).requires_grad_(False)
    for block in student.blocks:
        assert isinstance(block, Block)
        for part in (block.attention, block.mlp, block):
            for name, layer in list(part.named_children()):
                if isinstance(layer, nn.Linear):
                    setattr(part, name, Adapted(layer, rank))
    if reads_s:
        width = student.t_embedder.last.out_features
        student.s_embedder = TimeEmbedder(width, silent=True).to(student.patches.weight.device)
    return student


@contextmanager
def as_teacher(student: DiT) -> Iterator[DiT]:
    """The student as the teacher that it began as: adapters and ``s`` switched off. One copy of the weights."""
    layers = [module for module in student.modules() if isinstance(module, Adapted)]
    try:
        student.is_teacher = True
        for layer in layers:
            layer.enabled = False
        yield student
    finally:
        student.is_teacher = False
        for layer in layers:
            layer.enabled = True


def merged(student: DiT) -> DiT:
    """A student for use: its adapters added to the weights, so that a call costs what the teacher's does, but for the
    embedder of s.

    The same answers, up to rounding. Nothing of it learns any more: the way back to the teacher is lost, and there is
    nothing small left to store. Keep the student itself for both; it is not changed.
    """
    network = copy.deepcopy(student)
    for part in list(network.modules()):
        for name, layer in list(part.named_children()):
            if isinstance(layer, Adapted):
                setattr(part, name, layer.merged())
    network.is_teacher = False  # also of a copy that is made inside of `as_teacher`
    return network.requires_grad_(False)


def adapter_state(student: DiT) -> dict[str, Tensor]:
    """What a student has beyond its teacher, by name: all that its file holds."""
    return {name: p.detach() for name, p in student.named_parameters() if _is_adapter(name)}


def load_adapters(student: DiT, tensors: Mapping[str, Tensor], source: str) -> None:
    """Give a student the adapters of another one of the same form.

    Raises:
        TutorialError: if names or shapes are others.
    """
    own = adapter_state(student)
    for name in sorted(own.keys() ^ tensors.keys()):
        where = source if name in own else "this student"
        raise TutorialError(f"the adapters of {source} do not fit: {where} has no {name!r}; use the same rank and s.")
    for name, value in tensors.items():
        if value.shape != own[name].shape:
            raise TutorialError(
                f"the adapters of {source} do not fit: {name} is {list(value.shape)} there and "
                f"{list(own[name].shape)} in this student; use the same rank and width."
            )
    student.load_state_dict(dict(tensors), strict=False)


def _is_adapter(name: str) -> bool:
    return name.startswith("s_embedder.") or name.endswith((".down", ".up"))

"""Memory and time before anything is loaded: from the shapes of the layers of FLUX and the speed of the GPU here."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import TutorialError
from ..recipes import Recipe
from .encoders import PROMPT_TOKENS
from .network import FEATURES, FLUX, LICENCE, TARGETS
from .packages import package

GB = 1e9
SPEED = 150e12  # operations a second in bfloat16 that we assume without a GPU: half of an A100's 312e12
SLOWER = 2.0  # float32 in TensorFloat-32 takes twice as long as bfloat16 on an A100 (156e12)
WIDE = 4  # passes in float32: the teacher, the value, and the two sides of the difference (jvp takes about as long)
HALF = 3  # in bfloat16: forward, again for the checkpointed blocks, and backward


LESS_MEMORY = (
    "split the batch into more parts (--set distil.accumulate=N), lower the rank (--set network.rank=N) or the size, "
    "or use a larger GPU"
)


@dataclass(frozen=True)
class Estimate:
    """What a training of FLUX takes on each GPU. Nothing of it was measured on FLUX; see :func:`estimate`.

    Attributes:
        parameters: of the transformer.
        learned: of adapters and s-embedder.
        weights: bytes of the transformer, in bfloat16.
        state: bytes of what learns: weight, gradient, two moments of AdamW, averaged weight, and the buffers in which
            processes exchange gradients.
        activations: bytes kept for the backward pass of one part of the batch, and of the block that is recomputed.
        step: seconds.
        steps: of the recipe.
        speed: operations a second that ``step`` assumes.
    """

    parameters: int
    learned: int
    weights: float
    state: float
    activations: float
    step: float
    steps: int
    speed: float

    @property
    def memory(self) -> float:
        """Bytes on each GPU, with 2 GB for CUDA's own."""
        return self.weights + self.state + self.activations + 2 * GB

    @property
    def hours(self) -> float:
        """Of the whole training."""
        return self.step * self.steps / 3600


def estimate(recipe: Recipe, gpus: int = 8, speed: float = SPEED) -> Estimate:
    """Count what a recipe of FLUX's takes.

    Operations are those of linear layers and attention. The backward pass counts as one: the frozen weights need no
    gradient of their own, and the adapters' are small.

    Args:
        recipe: of size gpu.
        gpus: that share the batch.
        speed: operations a second in bfloat16.

    Raises:
        TutorialError: if diffusers is missing, or the batch does not divide.
    """
    stage = recipe.stages[0]
    if gpus < 1 or stage.batch % (gpus * stage.accumulate):
        raise TutorialError(
            f"a batch of {stage.batch} in {stage.accumulate} parts cannot be shared evenly by {gpus} GPUs; "
            f"change --gpus, --set {stage.name}.batch=N or --set {stage.name}.accumulate=N."
        )
    with torch.device("meta"):  # shapes without memory
        transformer: Any = package("diffusers").FluxTransformer2DModel(guidance_embeds=True)
    width, rank = transformer.inner_dim, recipe.options["rank"]
    linear = {name: module for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}
    learned = learned_size(transformer, rank)
    parameters = sum(p.numel() for p in transformer.parameters())

    image, text = (stage.size // 16) ** 2, PROMPT_TOKENS
    tokens, part = image + text, stage.batch // gpus // stage.accumulate
    blocks = len(transformer.transformer_blocks) + len(transformer.single_transformer_blocks)
    # a block's input for each block (bfloat16), and inside one block 24 widths in bfloat16 and the adapters' float32
    # inputs
    activations = part * tokens * width * (2 * blocks + 24 * 2 + 24 * 4)
    one = sum(2 * m.weight.numel() * _tokens(name, image, text) for name, m in linear.items())
    one += blocks * 4 * tokens**2 * width  # attention: scores and their sum over values
    step = stage.batch / gpus * one * (WIDE * SLOWER + HALF) / speed
    state = learned * 4 * (5 + (gpus > 1) + (recipe.ema is not None) - 1)
    return Estimate(parameters, learned, 2.0 * parameters, state, activations, step, recipe.steps, speed)


def learned_size(transformer: Any, rank: int) -> int:
    """How many numbers learn: two factors for each adapted layer, and the s-embedder."""
    layers = [m for name, m in transformer.named_modules() if re.fullmatch(TARGETS, name)]
    width = transformer.inner_dim
    return sum(rank * (m.in_features + m.out_features) for m in layers) + (FEATURES + 1 + width + 1) * width


def _tokens(name: str, image: int, text: int) -> int:
    """How many tokens pass through a linear layer."""
    if "time_text_embed" in name or "norm" in name:  # once a picture
        return 1
    if name.startswith("single_transformer_blocks"):
        return image + text
    return text if "context" in name or ".add_" in name or "to_add_out" in name else image


def measured_speed(device: torch.device) -> float:
    """Operations a second of a large bfloat16 product on this GPU; FLUX's layers reach about two thirds of it."""
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    for _ in range(10):
        a @ a
    torch.cuda.synchronize(device)
    return 10 * 2 * 8192**3 / (time.perf_counter() - began) * 2 / 3


def describe(recipe: Recipe, gpus: int, found: Estimate) -> str:
    """The estimate in words; the same text wherever the same recipe is asked for."""
    stage = recipe.stages[0]
    per_gpu = stage.batch // gpus
    return "\n".join(
        [
            f"FLUX.1-dev: {found.parameters / 1e9:.1f} billion weights, frozen; "
            f"{found.learned / 1e6:.0f} million learn (LoRA of rank {recipe.options['rank']} and the s-embedder)",
            f"data: pictures of {stage.size} x {stage.size} as {(stage.size // 16) ** 2} tokens, prompts of "
            f"{PROMPT_TOKENS}; batch {stage.batch} on {gpus} GPUs, {per_gpu} each in {stage.accumulate} parts",
            f"memory on each GPU, about {found.memory / GB:.0f} GB: weights {found.weights / GB:.0f} in bfloat16, "
            f"adapters with optimiser {found.state / GB:.0f} in float32, activations {found.activations / GB:.0f}, "
            f"CUDA 2; while it loads, each process takes {found.weights / GB:.0f} GB of the host's",
            f"time: {found.steps} steps of {found.step:.1f} s, about {found.hours:.1f} hours, at "
            f"{found.speed / 1e12:.0f} TFLOP/s in bfloat16; the first 20 steps measure it",
        ]
    )


# ---------------------------------------------------------------------------------------------- what is missing here


def missing(found: Estimate | None = None) -> list[str]:
    """What this machine lacks for the training, a sentence each; nothing is fetched.

    Args:
        found: to compare the memory of the GPU with.
    """
    sentences = []
    for name in ("diffusers", "peft", "transformers"):
        try:
            package(name)
        except TutorialError as error:
            return [str(error)]
    if not torch.cuda.is_available():
        sentences.append("GPU: torch sees no CUDA device; use a machine with GPUs, the recipe's has eight.")
    elif found is not None and (short := too_small(found, torch.device("cuda"))):
        sentences.append(f"memory: {short}")
    if not _weights_are_here():
        sentences.append(f"weights: {FLUX} is not on this machine; {LICENCE}.")
    return sentences


def too_small(found: Estimate, device: torch.device) -> str:
    """A sentence if the GPU has less memory than the estimate; else nothing."""
    has = torch.cuda.get_device_properties(device).total_memory
    if has >= found.memory:
        return ""
    return (
        f"the training needs about {found.memory / GB:.0f} GB and {torch.cuda.get_device_name(device)} has "
        f"{has / GB:.0f}; {LESS_MEMORY}."
    )


def _weights_are_here() -> bool:
    """Whether the hub's cache on this machine holds FLUX's transformer; asks no server."""
    found = package("huggingface_hub").try_to_load_from_cache(FLUX, "transformer/config.json")
    return isinstance(found, str)


def report(gpus: int = 8) -> None:
    """What notebook 07 prints: the estimate of the recipe, and what this machine lacks."""
    from .recipe import RECIPES

    recipe = RECIPES["gpu"]
    found = estimate(recipe, gpus)
    print(describe(recipe, gpus, found))
    lacks = missing(found)
    for sentence in lacks:
        print(f"missing - {sentence}")
    if not lacks:
        print("nothing is missing: torchrun --nproc_per_node N -m vos_tutorial flux train CACHE")

"""The student and the teacher in one: FLUX.1 with LoRA adapters and an input for the end time s.

Adapters on and s given, it is the flow map's average velocity F(x, t, s). Adapters off and s left out, it is the
teacher's velocity v(x, t). There is one copy of the twelve billion weights, and at step 0 both are the same function,
exactly: LoRA's second factors and the last layer of the s-embedder begin at zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import TutorialError
from ..places import install_command
from .latents import places
from .packages import package
from .precision import Widened

#: Attention and MLP of the double blocks (image and text stream) and of the single blocks: a regular expression,
#: since the suffix ``proj_out`` alone would also name the transformer's last layer.
TARGETS = (
    r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)|ff(_context)?\.net\.(0\.proj|2))"
    r"|single_transformer_blocks\.\d+\.(attn\.to_[qkv]|proj_mlp|proj_out)"
)
FEATURES = 32  # of s; cosines of at most 16 periods, so that F moves smoothly with s


class Condition(NamedTuple):
    """What a picture is made from."""

    prompt: Tensor
    """T5's embedding of the caption, ``[B, L, D]``."""
    pooled: Tensor
    """CLIP's, ``[B, P]``."""
    grid: tuple[int, int]
    """Height and width of the picture in tokens of 16 x 16 pixels."""


class SEmbedder(nn.Module):
    """The end time, ``s [B]`` in [0, 1] -> ``[B, width]``; zero for every s until it is trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(FEATURES, width)
        self.leave = nn.Linear(width, width)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, s: Tensor) -> Tensor:
        waves = torch.arange(FEATURES, device=s.device, dtype=s.dtype)
        features = torch.cos(math.pi * s[:, None] * waves)  # [B] -> [B, FEATURES]
        return self.leave(nn.functional.silu(self.enter(features)))  # [B, width]


class FluxFlowMap(nn.Module):
    """``F(x, t, s)`` of FLUX.1, by LoRA.

    Its ``state_dict`` holds what learns (adapters and s-embedder, float32) and nothing of FLUX's own weights, so
    checkpoints stay small. Adapters are derived from FLUX all the same, and its licence covers them.

    Args:
        transformer: a ``FluxTransformer2DModel``; it is frozen, and gets the adapters.
        rank: of the adapters; their scale is 1 (``lora_alpha = rank``).
        guidance: FLUX.1-dev is guidance-distilled: its guidance is an input, 3.5 by default.
        checkpointing: recompute each block in the backward pass instead of keeping what is inside.

    Raises:
        TutorialError: if peft is missing, or the rank is below 1.
    """

    def __init__(self, transformer: Any, rank: int = 64, guidance: float = 3.5, checkpointing: bool = True) -> None:
        super().__init__()
        if type(rank) is not int or rank < 1:
            raise TutorialError(f"the rank of the adapters is {rank!r}; use a whole number of 1 or more.")
        config = package("peft").LoraConfig(
            r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=TARGETS
        )
        transformer.requires_grad_(False)
        transformer.add_adapter(config)
        self.transformer = transformer
        self.s_embedder = SEmbedder(transformer.inner_dim)
        self.guidance, self.checkpointing = guidance, checkpointing
        for parameter in self.learned().values():  # peft gives adapters the dtype of the frozen weights
            parameter.data = parameter.data.float()

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: Condition) -> Tensor:
        """The average velocity between t and s, ``float32 [B, N, C]``.

        Blocks compute in the precision of ``x``: a bfloat16 network given float32 has its weights widened layer by
        layer (see :mod:`~vos_tutorial.flux.precision`). Times are embedded in float32 always: bfloat16 has 8 bits,
        and near t = 1 it knows no step smaller than 1/256.

        Args:
            x: tokens ``[B, N, C]``.
            t: ``float32 [B]``, where they stand; 0 is data, 1 is noise.
            s: ``float32 [B]``, where the jump ends; None leaves the input out, as the teacher has it.
            condition: prompts, for the same batch.
        """
        flux, dtype = self.transformer, x.dtype
        with Widened() if dtype != flux.x_embedder.weight.dtype else nullcontext():
            moment = self._moment(t, s, condition.pooled.to(dtype))  # [B, D]
            image = flux.x_embedder(x)  # [B, N, C] -> [B, N, D]
            text = flux.context_embedder(condition.prompt.to(dtype))  # [B, L, E] -> [B, L, D]
            rotary = flux.pos_embed(places(condition.grid, text.shape[1], x.device))
            for block in (*flux.transformer_blocks, *flux.single_transformer_blocks):
                if self.checkpointing and torch.is_grad_enabled():
                    text, image = checkpoint(block, image, text, moment, rotary, use_reentrant=False)
                else:
                    text, image = block(image, text, moment, rotary)
            out: Tensor = flux.proj_out(flux.norm_out(image, moment))  # [B, N, D] -> [B, N, C]
        return out.float()

    def _moment(self, t: Tensor, s: Tensor | None, pooled: Tensor) -> Tensor:
        """Time, guidance and pooled prompt as FLUX embeds them, and s added: ``[B, D]``."""
        guidance = torch.full_like(t, self.guidance)
        embed = self.transformer.time_text_embed
        # FLUX.1-schnell has no guidance input; both times and guidance enter in thousandths
        with_guidance = self.transformer.config.guidance_embeds
        moment: Tensor = embed(1000 * t, 1000 * guidance, pooled) if with_guidance else embed(1000 * t, pooled)
        return moment if s is None else moment + self.s_embedder(s).to(moment.dtype)

    @torch.no_grad()
    def velocity(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The teacher: adapters off, no s; ``float32 [B, N, C]``."""
        with self.adapters_off():
            return self(x, t, None, condition)

    @contextmanager
    def adapters_off(self) -> Iterator[None]:
        """FLUX as it was."""
        self.transformer.disable_adapters()
        try:
            yield
        finally:
            self.transformer.enable_adapters()

    # ------------------------------------------------------------------------------------------------- what learns

    def learned(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by the names that files have: diffusers' for LoRA layers, and the s-embedder."""
        return {
            name.replace(".default.", "."): parameter
            for name, parameter in self.named_parameters()
            if ".lora_" in name or name.startswith("s_embedder.")
        }

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:  # type: ignore[override]
        """What learns, and nothing else: name -> ``float32`` tensor that shares the parameter's memory."""
        return {name: parameter.detach() for name, parameter in self.learned().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Back from :meth:`state_dict`; KeyError if a tensor is missing."""
        with torch.no_grad():
            for name, parameter in self.learned().items():
                parameter.copy_(state_dict[name])


# ------------------------------------------------------------------------------------------------ transformers

FLUX = "black-forest-labs/FLUX.1-dev"
LICENCE = (
    f"FLUX.1-dev is gated and its licence is non-commercial: accept it at https://huggingface.co/{FLUX} and log in "
    "(hf auth login), or name a folder that holds the model (--model DIR)"
)


def load_transformer(model: str = FLUX) -> Any:
    """FLUX's transformer in bfloat16, 24 GB.

    Args:
        model: a folder in diffusers' format, or a repository of the Hugging Face hub.

    Raises:
        TutorialError: if diffusers is missing, or the weights are not there and cannot be fetched.
    """
    diffusers = package("diffusers")
    try:
        return diffusers.FluxTransformer2DModel.from_pretrained(
            model, subfolder="transformer", torch_dtype=torch.bfloat16
        )
    except (OSError, ValueError, ImportError) as error:  # the hub's errors are OSErrors, too
        raise no_weights(model, error) from error


def no_weights(model: str, error: Exception) -> TutorialError:
    """The sentence for a model that could not be loaded: a package that its tokenizers need, or the weights."""
    if isinstance(error, ImportError):
        return TutorialError(f"{model} needs another package ({_first_line(error)}); run: {install_command('flux')}")
    return TutorialError(f"the weights of {model} could not be loaded ({_first_line(error)}); {LICENCE}.")


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip()[:200]


def tiny_transformer() -> Any:
    """A ``FluxTransformer2DModel`` of the same form with random weights (float32), for rehearsals and tests."""
    return package("diffusers").FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )

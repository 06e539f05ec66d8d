"""What stands around FLUX's transformer: the VAE (pixels, latents) and the encoders of the prompt (CLIP and T5)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .latents import pack, unpack
from .network import FLUX, Condition, no_weights
from .packages import package

PROMPT_TOKENS = 512  # of T5, as FluxPipeline has it


class Encoders:
    """VAE and prompt encoders.

    Args:
        vae: an ``AutoencoderKL``.
        text: prompts -> ``([B, L, D], [B, P])``.
        name: what they are; prepared pictures and networks must agree on it.
    """

    def __init__(self, vae: Any, text: Callable[[Sequence[str]], tuple[Tensor, Tensor]], name: str) -> None:
        self.vae, self.text, self.name = vae.eval().requires_grad_(False), text, name
        self.pixels = 2 ** (len(vae.config.block_out_channels) - 1) * 2  # a token's side

    def grid(self, size: int) -> tuple[int, int]:
        """The tokens of a square picture of ``size`` pixels."""
        return size // self.pixels, size // self.pixels

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Pictures ``uint8 [B, 3, H, W]`` as tokens ``float32 [B, N, 4 C]``: the mean of the VAE's posterior."""
        pixels = (images.to(self.vae.device, self.vae.dtype) / 127.5) - 1  # in [-1, 1]
        latents = self.vae.encode(pixels).latent_dist.mode()  # [B, 3, H, W] -> [B, C, H/8, W/8]
        about = self.vae.config
        return pack((latents.float() - about.shift_factor) * about.scaling_factor)

    @torch.no_grad()
    def decode(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Back from :meth:`encode`: ``uint8 [B, 3, H, W]``."""
        about = self.vae.config
        latents = unpack(tokens, grid) / about.scaling_factor + about.shift_factor
        pixels = self.vae.decode(latents.to(self.vae.device, self.vae.dtype)).sample  # [B, 3, H, W]
        return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)

    @torch.no_grad()
    def condition(self, prompts: Sequence[str], size: int) -> Condition:
        """What pictures of ``size`` pixels are made from."""
        prompt, pooled = self.text(prompts)
        return Condition(prompt, pooled, self.grid(size))


def load_encoders(model: str = FLUX, device: torch.device | str = "cpu") -> Encoders:
    """FLUX's own VAE (float32, since its decoder overflows in half precision) and encoders (bfloat16, 10 GB).

    Raises:
        TutorialError: if diffusers is missing, or the weights are not there and cannot be fetched.
    """
    diffusers = package("diffusers")
    try:
        pipeline = diffusers.FluxPipeline.from_pretrained(model, transformer=None, torch_dtype=torch.bfloat16)
    except (OSError, ValueError, ImportError) as error:
        raise no_weights(model, error) from error
    pipeline.to(device)
    pipeline.vae.to(torch.float32)

    def text(prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        prompt, pooled, _ = pipeline.encode_prompt(list(prompts), None, max_sequence_length=PROMPT_TOKENS)
        return prompt, pooled

    return Encoders(pipeline.vae, text, model)


def tiny_encoders() -> Encoders:
    """Random stand-ins for rehearsals and tests: the VAE of the same class, prompts' numbers from their letters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = package("diffusers").AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=4,
            scaling_factor=0.3611,
            shift_factor=0.1159,
        )

    def text(prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        seeds = [int.from_bytes(hashlib.blake2b(p.encode(), digest_size=7).digest(), "big") for p in prompts]
        drawn = torch.stack([torch.randn(9, 32, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        return drawn[:, 1:], drawn[:, 0, :16]  # [B, 8, 32], [B, 16]

    return Encoders(vae, text, "tiny")

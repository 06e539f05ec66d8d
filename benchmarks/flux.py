"""Which numbers the derivative of FLUX's network needs: what rounding leaves of it, and what a difference smooths.

    python benchmarks/flux.py [--seed 0]

A random network of FLUX's classes (9 blocks, width 256, 256 + 64 tokens) with weights in bfloat16. The reference is
the central difference in float32 with the step that training uses. "TF32" is float32 whose products see 10 bits of
each factor, as a GPU's tensor cores have it, imitated here; "bfloat16" is the network's own precision. Ratios of root
mean squares. The weights are random: what holds for FLUX.1-dev's own, nobody has measured here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from vos_tutorial.flux.network import Condition, FluxFlowMap
from vos_tutorial.flux.packages import package
from vos_tutorial.models.flow_map import emd_direction

TOKENS, PROMPT = 256, 64


class TF32(TorchFunctionMode):
    """Linear layers see 10 bits of each factor."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear:
            args = (_rounded(args[0]), _rounded(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))


def _rounded(value: Tensor) -> Tensor:
    if value.dtype != torch.float32:
        return value
    return ((value.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def network(seed: int) -> FluxFlowMap:
    """A random one, larger than that of the tests: rounding errors add up over blocks and average over widths."""
    torch.manual_seed(seed)
    transformer = package("diffusers").FluxTransformer2DModel(
        in_channels=64,
        num_layers=3,
        num_single_layers=6,
        attention_head_dim=32,
        num_attention_heads=8,
        joint_attention_dim=128,
        pooled_projection_dim=64,
        guidance_embeds=True,
        axes_dims_rope=(8, 12, 12),
    )
    for parameter in transformer.parameters():
        parameter.data = parameter.data.bfloat16()
    return FluxFlowMap(transformer, rank=8).eval()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    flux = network(parser.parse_args().seed)
    x, t = torch.randn(4, TOKENS, 64), torch.tensor([0.3, 0.5, 0.7, 0.9])
    condition = Condition(torch.randn(4, PROMPT, 128), torch.randn(4, 64), (16, 16))
    s, velocity = 0.3 * t, flux.velocity(x, t, condition)

    def derivative(half: bool = False, how: Any = "difference") -> Tensor:
        """``(t - s) dF/dt``: at step 0 the student is the teacher, so nothing else is in the direction."""

        def student(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return flux(x.bfloat16() if half else x, t, s, condition)

        with sdpa_kernel(SDPBackend.MATH) if how == "jvp" else nullcontext():
            g = emd_direction(student, x, t, s, velocity, derivative=how)
        with torch.no_grad():
            return g - (student(x, t, s) - velocity)

    reference, exact = derivative(), derivative(how="jvp")
    with TF32():
        tf32 = derivative()
    low = derivative(half=True)
    with torch.no_grad():
        rounded = (flux(x.bfloat16(), t, None, condition) - velocity)[0]
    print(f"rounding error of the derivative:  TF32 {_rms(tf32 - reference) / _rms(reference):.3f}", end="   ")
    print(f"bfloat16 {_rms(low - reference) / _rms(reference):.3f}")
    print(
        f"a teacher in bfloat16 leaves |g| = {float(rounded.norm()):.2f} at step 0, where it should be 0 (c is 0.1)"
    )
    print(f"exact derivative: {_rms(exact) / _rms(reference):.1f} times the difference's root mean square")


def _rms(value: Tensor) -> float:
    return float(value.square().mean().sqrt())


if __name__ == "__main__":
    main()

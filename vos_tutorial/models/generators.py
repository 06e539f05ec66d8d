"""The generators of the captioned world that ship, and what they draw: pictures with masks in 1 to 64 steps.

    teacher = load_teacher()
    student = load_student(teacher=teacher)
    noise = noise_for(seed=0, count=8, network=teacher)
    few = generate(student.given(captions), noise, steps=2)  # [8, 4, 32, 32]
    many = generate(teacher.given(captions), noise, steps=64)

A file of a student holds its adapters only, for one copy of the teacher's weights serves both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..errors import TutorialError
from ..places import WEIGHTS
from .attribute_reader import AttributeReader
from .dit import DiT, adapter_state, load_adapters, student_of
from .flow_map import Network, even_times, extrapolate, sample
from .weights import load_weights, read_metadata, read_weights, save_tensors, save_weights

Teacher = Literal["teacher", "weak"]
Student = Literal["student", "student-guided", "student-adversarial", "student-without-s"]

# ------------------------------------------------------------------------------------------------- files


def weights_file(name: str) -> Path:
    """Where a network of the captioned world lies: ``data/weights/flow-images-NAME.safetensors``."""
    return WEIGHTS / f"flow-images-{name}.safetensors"


def load_teacher(name: Teacher = "teacher", path: str | Path | None = None) -> DiT:
    """A trained teacher in eval mode; ``"weak"`` is the same after its first steps, for autoguidance.

    Args:
        name: which of those that ship.
        path: a file of your own instead.

    Raises:
        TutorialError: if the file is missing or broken, or holds something else.
    """
    file = Path(path) if path is not None else weights_file(_known(name, Teacher))
    about = _about(file, "dit")
    network = DiT(**_options(file, about))
    load_weights(file, network)
    return network.eval()


def load_student(name: Student = "student", path: str | Path | None = None, teacher: DiT | None = None) -> DiT:
    """A trained student in eval mode: a teacher's weights, and the adapters of the file.

    Args:
        name: which of those that ship.
        path: a file of your own instead.
        teacher: whose student it is; by default the one that ships. It is not changed.

    Raises:
        TutorialError: if a file is missing or broken, or the adapters do not fit the teacher.
    """
    file = Path(path) if path is not None else weights_file(_known(name, Student))
    options = _options(file, _about(file, "dit-adapters"))
    student = student_of(teacher if teacher is not None else load_teacher(), **options)
    tensors, _ = read_weights(file)
    load_adapters(student, tensors, str(file))
    return student.eval()


def load_reader(path: str | Path | None = None) -> AttributeReader:
    """The trained reader, which judges pictures, in eval mode.

    Raises:
        TutorialError: if the file is missing or broken, or holds something else.
    """
    file = Path(path) if path is not None else weights_file("reader")
    _about(file, "attribute-reader")
    reader = AttributeReader()
    load_weights(file, reader)
    return reader.eval()


def save_network(path: str | Path, network: nn.Module, about: dict[str, str], half: bool = False) -> None:
    """Write a teacher, a student's adapters or a reader, so that the functions above can read it.

    Args:
        path: the file.
        network: which of the three is told by its class, and by whether it has adapters.
        about: more metadata: recipe, seed, steps.
        half: store float16.

    Raises:
        TutorialError: if the file cannot be written, or a weight is not finite.
    """
    kind = torch.float16 if half else torch.float32
    if isinstance(network, DiT) and (adapters := adapter_state(network)):
        rank = next(value.shape[0] for name, value in adapters.items() if name.endswith(".down"))
        options = {"rank": rank, "reads_s": network.reads_s}
        metadata = {"method": "dit-adapters", "size": "small", "options": json.dumps(options)}
        save_tensors(path, adapters, {**metadata, **about}, kind)
        return
    method = "dit" if isinstance(network, DiT) else "attribute-reader"
    options = network.options if isinstance(network, DiT) else {}
    save_weights(path, network, {"method": method, "size": "small", "options": json.dumps(options), **about}, kind)


def _known(name: str, kinds: Any) -> str:
    if name not in get_args(kinds):
        raise TutorialError(f"there is no trained {name!r}; choose from {', '.join(get_args(kinds))}.")
    return name


def _about(file: Path, method: str) -> dict[str, str]:
    metadata = read_metadata(file)
    if metadata.get("method") != method:
        raise TutorialError(f"{file} holds weights of {metadata.get('method', 'something else')}, not of {method}.")
    return metadata


def _options(file: Path, metadata: dict[str, str]) -> dict[str, Any]:
    try:
        return dict(json.loads(metadata.get("options", "{}")))
    except (ValueError, TypeError) as error:
        raise TutorialError(
            f"{file}: the options in its metadata cannot be read ({error}); copy it again."
        ) from error


# ----------------------------------------------------------------------------------------------- samples


def noise_for(seed: int, count: int, network: DiT) -> Tensor:
    """Standard normal noise ``[count, C, H, W]`` for a network; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, network.channels, network.size, network.size)
    return torch.randn(shape, generator=generator).to(network.patches.weight.device)


def guided(teacher: DiT, captions: Tensor, weak: DiT | None = None, guidance: float = 1.0) -> Network:
    """A teacher for captions, as ``F(x, t, s)`` that ignores ``s``, pushed away from a weak one (AYF, equation 3).

    Args:
        teacher: a DiT without adapters.
        captions: int64 ``[B, A]``.
        weak: the weak teacher; not needed if ``guidance`` is 1.
        guidance: λ.

    Raises:
        TutorialError: if guidance above 1 has no weak teacher.
    """
    if guidance == 1:
        return lambda x, t, s: teacher(x, t, t, captions)
    if weak is None:
        raise TutorialError(f"guidance {guidance:g} needs a weak teacher; give one, or guidance=1.")
    return lambda x, t, s: extrapolate(teacher(x, t, t, captions), weak(x, t, t, captions), guidance)


def generate(network: Network, noise: Tensor, steps: int) -> Tensor:
    """Pictures with masks from noise, ``[B, 4, H, W]`` in about [-1, 1], in evenly spaced steps.

    ``generate(student.given(captions), noise, 2)`` is a student's; with a teacher this is Euler's method.
    """
    return sample(network, noise, even_times(steps))

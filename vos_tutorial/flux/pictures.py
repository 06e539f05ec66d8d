"""A folder of pictures with captions, and the same folder as FLUX sees it: latents and prompt embeddings, made once.

``fox.jpg`` stands beside ``fox.txt``. :func:`prepare` writes ``fox.safetensors`` for each, and :class:`Prepared` is
the source of training: neither VAE nor T5 need to be in memory then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ..errors import TutorialError
from ..files import listing, pictures_by_stem, read_text, require_folder_place, write_atomically
from ..pictures import read_frame
from .encoders import Encoders

HELD = ("latents", "prompt", "pooled")


def captioned(folder: Path) -> dict[str, tuple[Path, str]]:
    """The pictures of a folder with their captions: name without ending -> path and caption.

    Raises:
        TutorialError: if there is no picture, or one has no caption or an empty one.
    """
    found: dict[str, tuple[Path, str]] = {}
    for stem, path in pictures_by_stem(folder).items():
        words = path.with_suffix(".txt")
        caption = " ".join(read_text(words, "the caption", f"write one for {path.name}").split())
        if not caption:
            raise TutorialError(f"the caption {words} is empty; say in it what {path.name} shows.")
        found[stem] = path, caption
    if not found:
        raise TutorialError(f"{folder} holds no .jpg, .jpeg or .png picture; put pictures with .txt captions there.")
    return found


def square(image: Tensor, size: int) -> Tensor:
    """The middle square of ``uint8 [3, H, W]`` at ``size`` pixels, ``uint8 [3, size, size]``."""
    side = min(image.shape[1:])
    top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
    crop = image[None, :, top : top + side, left : left + side].float()  # [1, 3, side, side]
    resized = F.interpolate(crop, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return resized[0].clamp(0, 255).round().to(torch.uint8)


def prepare(
    folder: str | Path,
    out: str | Path,
    encoders: Encoders,
    size: int,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Encode what is not encoded yet; stopped, it goes on where it was.

    Args:
        folder: pictures and captions.
        out: where the encoded ones go; one folder for one size and one model.
        encoders: of the model.
        size: the side of the pictures, in pixels.
        say: told about the progress.

    Returns:
        how many pictures were encoded now.

    Raises:
        TutorialError: if the size does not divide into tokens, a picture or a caption cannot be read, or ``out`` is
            of another size or model, or cannot be written.
    """
    if size < encoders.pixels or size % encoders.pixels:
        raise TutorialError(f"the size is {size} pixels; use a multiple of {encoders.pixels}.")
    pictures, place = captioned(Path(folder)), require_folder_place(out, "--out")
    about = {"model": encoders.name, "size": size}
    if (place / "about.json").exists():
        _require_same(place, about)
    else:
        write_atomically(place / "about.json", json.dumps(about).encode())
    made = 0
    for stem, (path, caption) in pictures.items():
        target = place / f"{stem}.safetensors"
        origin = hashlib.sha256(path.read_bytes() + b"\0" + caption.encode()).hexdigest()
        if _origin(target) == origin:
            continue
        condition = encoders.condition([caption], size)
        tensors = {
            "latents": encoders.encode(square(read_frame(path), size)[None])[0],  # [N, C]
            "prompt": condition.prompt[0].to(torch.bfloat16),  # [L, D]
            "pooled": condition.pooled[0].to(torch.bfloat16),  # [P]
        }
        kept = {name: value.contiguous().cpu() for name, value in tensors.items()}
        write_atomically(target, save(kept, metadata={"origin": origin}))
        made += 1
        say(f"{made} encoded, last {path.name}")
    return made


def _origin(path: Path) -> str | None:
    """What an encoded picture was made of; None if there is none that can be read."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("origin")
    except (SafetensorError, OSError):  # half of one, from another program: it is made again
        return None


def _require_same(place: Path, about: dict[str, object]) -> None:
    there = _about(place)
    if there != about:
        raise TutorialError(
            f"{place} holds pictures for {there.get('model')} at {there.get('size')} pixels, not for "
            f"{about['model']} at {about['size']}; choose another folder."
        )


def _about(place: Path) -> dict[str, object]:
    fix = "prepare the pictures first: python -m vos_tutorial flux prepare PICTURES --out CACHE"
    text = read_text(place / "about.json", "the description", fix)
    try:
        about = json.loads(text)
        if not (isinstance(about, dict) and isinstance(about.get("model"), str) and type(about.get("size")) is int):
            raise ValueError
    except ValueError:
        raise TutorialError(f"{place / 'about.json'} does not describe prepared pictures; {fix}.") from None
    return about


class Prepared:
    """Prepared pictures as a source of training.

    Args:
        folder: as :func:`prepare` left it.

    Raises:
        TutorialError: if it is none.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        about = _about(self.folder)
        self.model, self.size = str(about["model"]), int(str(about["size"]))
        self.names = [path.stem for path in listing(self.folder) if path.suffix == ".safetensors"]
        if not self.names:
            raise TutorialError(f"{folder} holds no prepared picture; run flux prepare to the end.")

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.names)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """``latents float32 [B, N, C]``, ``prompt bfloat16 [B, L, D]`` and ``pooled bfloat16 [B, P]``.

        Raises:
            TutorialError: if a file cannot be read.
        """
        read = [self._read(self.names[index]) for index in indices]
        return {name: torch.stack([each[name] for each in read]) for name in HELD}

    def _read(self, name: str) -> dict[str, Tensor]:
        path = self.folder / f"{name}.safetensors"
        try:
            found = load_file(path)
            return {key: found[key] for key in HELD}
        except (SafetensorError, OSError, KeyError) as error:
            raise TutorialError(
                f"{path} is no prepared picture ({error}); delete it and run flux prepare."
            ) from error

"""A folder of results, in which nothing is replaced or removed but what this tool wrote there.

A small file in the folder, :data:`MARK`, lists what is ours, with a digest of each content: a mask that somebody
corrected by hand is his from then on. What file managers leave behind (``.DS_Store``, ``Thumbs.db``) is neither in
the way nor touched; any other stranger stops the work before it begins.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

from torch import Tensor

from .clip import encode_mask
from .errors import TutorialError
from .files import (
    ABANDONED,
    cannot_read,
    cannot_write,
    harmless,
    is_alive,
    is_folder,
    machine,
    require_folder_place,
    whole_file,
    write_atomically,
)

T = TypeVar("T")

MARK = ".vos_tutorial.json"
PART = re.compile(r"\.part\.[0-9a-f]{12}")  # a folder in which masks wait until all are encoded
NOTE = "What python -m vos_tutorial wrote into this folder, and may replace or remove; see vos_tutorial/results.py."
STILLS = (("images", "masks"), ("images", "ground_truth_mask"), ("images", "annotations"))


class Made(Mapping[str, T]):
    """Contents that are made when they are asked for, so that they are never all in memory.

    Args:
        names: of the files.
        make: name -> content.
    """

    def __init__(self, names: Iterable[str], make: Callable[[str], T]) -> None:
        self._names, self._make = dict.fromkeys(names), make

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> T:
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class ResultsFolder:
    """A folder for results; made when the first of them is written.

    Args:
        root: the folder. It may be a link; what lies in it may not.
        data: roots of data sets that are read meanwhile; neither they nor what they link to can hold results.
        option: what errors call the folder.

    Raises:
        TutorialError: if it is a file, or lies in one of ``data`` or in any folder laid out like a data set, or its
            mark is damaged.
    """

    def __init__(self, root: str | os.PathLike[str], data: Iterable[Path] = (), option: str = "--out") -> None:
        self.root = Path(root)
        for read in data:
            _require_apart(self.root, read, option)
        require_folder_place(root, option)
        if other := _data_set_around(self.root):
            raise TutorialError(f"{option} {root} lies in {other}, which is a data set; choose a folder of its own.")
        self._ours = self._read_mark()
        self._earlier: set[str] = set()

    # -------------------------------------------------------------------------------------------- what is ours

    def _read_mark(self) -> dict[str, list[str]]:
        """Each of our files, ``"dog/00000.png"``, and the digests of what we wrote or were about to write."""
        mark = self.root / MARK
        try:
            content = json.loads(mark.read_text("utf-8"))
            files, self._writer = content["files"], str(content.get("writer", ""))
            return {str(name): [str(digest) for digest in digests] for name, digests in files.items()}
        except FileNotFoundError:
            self._writer = ""
            return {}
        except OSError as error:
            raise cannot_read("the mark", mark, error, "choose another folder for the results") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TutorialError(
                f"the mark {mark} is damaged, so it cannot be told which files here are results; choose another "
                "folder for the results."
            ) from None

    def _note(self, changed: Mapping[str, list[str] | None], writer: str | None = None) -> None:
        """Write the mark anew; what was noted elsewhere meanwhile stays. None removes an entry."""
        self._ours = {**self._read_mark(), **{k: v for k, v in changed.items() if v is not None}}
        for name in [name for name, digests in changed.items() if digests is None]:
            self._ours.pop(name, None)
        self._writer = self._writer if writer is None else writer
        content = {"note": NOTE, "writer": self._writer, "files": dict(sorted(self._ours.items()))}
        write_atomically(self.root / MARK, (json.dumps(content, indent=0) + "\n").encode())

    def is_ours(self, name: str) -> bool:
        """Whether a file in the folder is one that we wrote, and holds what we wrote.

        Raises:
            TutorialError: if it may not be read.
        """
        path = self.root / name
        if name not in self._ours or self._leads_elsewhere(name) or not path.is_file():
            return False
        try:
            return _digest([path.read_bytes()]) in self._ours[name]
        except OSError as error:
            raise cannot_read("the result", path, error, "choose another folder for the results") from None

    def _leads_elsewhere(self, name: str) -> bool:
        """Whether the file, or a folder on the way to it, is a link."""
        path = self.root / name
        return path.is_symlink() or path.parent.resolve() != self.root.resolve() / Path(name).parent

    # -------------------------------------------------------------------------------------------------- writing

    def check(self, names: Iterable[str]) -> None:
        """See that files could be written, and would lie among no strangers.

        Args:
            names: relative to the root, ``"dog/00000.png"``.

        Raises:
            TutorialError: naming what is in the way.
        """
        planned = [Path(name) for name in names]
        folders = sorted({parent for path in planned for parent in path.parents if parent != Path()})
        for name in map(str, planned):
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise TutorialError(f"results cannot be written to {name!r}, which leads elsewhere; use plain names.")
            if Path(name) in folders:
                raise TutorialError(f"{name!r} would be a file and a folder of results; rename that sequence.")
            if os.path.lexists(self.root / name) and Path(name).parent == Path() and not self.is_ours(name):
                self._refuse(self.root, name)
        for folder in folders:
            here = self.root / folder
            if os.path.lexists(here) and not is_folder(here):
                raise TutorialError(
                    f"{here} is a file, and no mask fits into it; choose another folder for the results."
                )
            if self._leads_elsewhere(f"{folder}/_"):
                raise TutorialError(
                    f"{here} is a link to {here.resolve()}, and what lies there may not be ours; choose another "
                    "folder for the results."
                )
            for entry in self._entries(here):
                name = (folder / entry.name).as_posix()
                if not (harmless(entry.name) or folder / entry.name in folders or self.is_ours(name)):
                    self._refuse(here, entry.name)

    @staticmethod
    def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
        try:
            yield from os.scandir(folder) if folder.exists() else ()
        except OSError as error:
            raise cannot_read("folder", folder, error, "choose another folder for the results") from None

    @staticmethod
    def _refuse(folder: Path, name: str) -> None:
        raise TutorialError(
            f"{folder} holds {name}, which is not a mask or report that this tool wrote, or was changed since; "
            "choose another folder for the results."
        )

    def begin(self) -> None:
        """Make the folder and its mark, so that one that cannot be written to is told now.

        Raises:
            TutorialError: if it cannot be written to, or another run is writing there.
        """
        self._ours = self._read_mark()
        me = f"{machine()}-{os.getpid()}"
        place, _, process = self._writer.rpartition("-")
        if self._writer != me and place == machine() and process.isdecimal() and is_alive(int(process)):
            raise TutorialError(
                f"another run (process {process}) is writing into {self.root}; wait for it, or choose another folder."
            )
        self._earlier = set(self._ours)
        self._note({}, writer=me)
        with contextlib.suppress(OSError):  # what a killed run left
            for entry in os.scandir(self.root):
                if PART.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > ABANDONED:
                    shutil.rmtree(entry.path, ignore_errors=True)

    def write(self, name: str, content: bytes) -> None:
        """Write one file, whole or not at all.

        Raises:
            TutorialError: if it is in the way of a stranger, or cannot be written.
        """
        self.check([name])
        self._note({name: [*self._ours.get(name, []), _digest([content])]})
        write_atomically(self.root / name, content)
        self._note({name: [_digest([content])]})

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """One file that is written piece by piece, whole or not at all; see :func:`vos_tutorial.files.whole_file`.

        Raises:
            TutorialError: as :meth:`write`.
        """
        self.check([name])
        with whole_file(self.root / name) as file:
            yield file
            file.flush()
            with open(file.name, "rb") as written:
                digest = _digest(iter(lambda: written.read(2**20), b""))
            self._note({name: [*self._ours.get(name, []), digest]})
        self._note({name: [digest]})

    def write_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Write the masks of one clip as palette PNGs; see :meth:`write_all`.

        Args:
            masks: ``{"dog/00000.png": ids uint8 [H, W], ...}``; each is asked for once, so that a mapping may make it
                then.

        Raises:
            TutorialError: as :meth:`write`.
        """
        self.write_all(Made(masks, lambda name: encode_mask(masks[name], self.root / name)))

    def write_all(self, contents: Mapping[str, bytes]) -> None:
        """Write files that belong together: all lie beside their place before the first is moved, so none is half
        new.

        Files of ours in the same folders that are not among them go.

        Args:
            contents: ``{"dog/00000.png": bytes, ...}``; each is asked for once.

        Raises:
            TutorialError: as :meth:`write`.
        """
        self.check(contents)
        existed = self.root.exists()
        part = self.root / f".part.{secrets.token_hex(6)}"
        try:
            digests: dict[str, list[str] | None] = {}
            for name, content in contents.items():
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                with open(part / name, "xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                digests[name] = [_digest([content])]
            self._note({name: [*self._ours.get(name, []), *(new or [])] for name, new in digests.items()})
            for name in contents:
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(part / name, self.root / name)
            folders = {Path(name).parent for name in contents}
            self._note(digests)
            self._remove([name for name in self._ours if Path(name).parent in folders and name not in contents])
        except OSError as error:
            raise cannot_write(self.root / next(iter(contents)), error) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
            if not existed:
                with contextlib.suppress(OSError):  # not empty: something was written
                    self.root.rmdir()

    def remove_earlier(self, names: Iterable[str]) -> None:
        """Remove our files of runs before :meth:`begin`, and the folders that are empty then.

        Args:
            names: what stays.
        """
        self._remove(sorted(self._earlier - set(names)))

    def end(self) -> None:
        """Release the folder for other writers; a run that is killed need not."""
        with contextlib.suppress(TutorialError):
            self._note({}, writer="")

    def _remove(self, names: list[str]) -> None:
        for name in names:
            if self.is_ours(name):
                with contextlib.suppress(OSError):
                    (self.root / name).unlink()
                    for folder in Path(name).parents[:-1]:
                        (self.root / folder).rmdir()  # stops at the first that holds anything
        if names:
            self._note({name: None for name in names})


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------- what must not be hit


def _require_apart(out: Path, data: Path, option: str) -> None:
    """See that ``out`` lies neither in a data set's folder nor in a folder that one of its parts is a link to."""
    place, root = out.resolve(), data.resolve()
    if root in (place, *place.parents):
        part = place.relative_to(root).parts
        inside = f"the data set's {part[0]}" if part else f"the data set {data}"
        raise TutorialError(f"{option} {out} lies in {inside}; choose a folder of its own.")
    for part_path in _links_below(data, 3):
        if part_path.resolve() in (place, *place.parents):
            raise TutorialError(
                f"{option} {out} lies in the data set's {part_path.relative_to(data)}, which is a link; choose a "
                "folder of its own."
            )


def _links_below(folder: Path, levels: int) -> Iterator[Path]:
    """The links to folders in a data set, down to those of single sequences."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_symlink():
                yield Path(entry.path)
            if levels > 1 and entry.is_dir():
                yield from _links_below(Path(entry.path), levels - 1)


def _data_set_around(folder: Path) -> Path | None:
    """The folder itself, or one above it, that is laid out like a data set.

    Of video all is protected, of stills the pictures and masks: results may well lie beside somebody's photos.
    """
    place = folder.resolve()
    for candidate in (place, *place.parents):
        with contextlib.suppress(OSError):
            has = {entry.name for entry in os.scandir(candidate)}
            if "JPEGImages" in has or ("Annotations" in has and has & {"ImageSets", "meta.json"}):
                return candidate
            part = place.relative_to(candidate).parts[:1]
            if any(has >= set(pair) and (not part or part[0] in pair) for pair in STILLS):
                return candidate
    return None

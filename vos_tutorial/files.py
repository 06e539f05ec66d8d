"""Files that are there whole or not at all; folders listed by one rule; what goes wrong, told as what it is."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import TutorialError

HARMLESS = {"thumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin"}
"""What file managers leave in folders they show, in small letters; names that begin with a dot are such, too."""
PICTURES = (".jpg", ".jpeg", ".png")
OTHER_PICTURES = (".bmp", ".gif", ".tif", ".tiff", ".webp", ".jfif", ".jp2", ".ppm", ".pgm", ".heic", ".avif")
ABANDONED = 3600.0  # seconds after which a temporary file is what a killed run left


# ------------------------------------------------------------------------------------------------- writing


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` when all is written, so that nobody meets half of it.

    Its temporary name is unique, so that of two who write at once the last one wins and none fails. What a
    ``kill -9`` leaves goes with the next write of the same file.

    Args:
        path: the file; its folder is made if missing.

    Raises:
        TutorialError: if it cannot be written (full disk, no permission). Then, and if the body raises, an older file
            is intact, and no temporary file is left.
    """
    temporary = path.with_name(f".{path.name}.{machine()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the folder itself out of reach: then there is no temporary file either
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise cannot_write(path, error) from error
    _sweep(path)


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write ``path`` whole or not at all; see :func:`whole_file`.

    Args:
        path: the file; its folder is made if missing.
        data: the content.

    Raises:
        TutorialError: as there.
    """
    with whole_file(path) as file:
        file.write(data)


def machine() -> str:
    """A short name for this machine: on a shared disk a process number means nothing to another one."""
    return hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()


def _sweep(path: Path) -> None:
    """Remove temporary files of ``path`` that no living run can be writing."""
    ours = re.compile(re.escape(f".{path.name}.") + r"([0-9a-f]{8})-([0-9]+)-[0-9a-f]{8}\.tmp")
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            if made := ours.fullmatch(entry.name):
                old = time.time() - entry.stat().st_mtime > ABANDONED
                if old or (made[1] == machine() and not is_alive(int(made[2]))):
                    os.unlink(entry.path)


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs; True where that cannot be told."""
    if os.name != "posix":  # elsewhere asking is not free of side effects: wait until the file is old
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True


def cannot_write(path: Path, error: OSError) -> TutorialError:
    """The sentence for a file or folder that could not be written: the cause as it is, and what helps against it."""
    kept = "the file that was there is intact" if os.path.lexists(path) else "nothing was left there"
    return TutorialError(f"cannot write {path} ({error.strerror or error}), {kept}; {_way_out(error)}.")


def _way_out(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free some space, or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "ask for the right to write there, or choose another folder"
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY):
        return "a file stands where a folder should be, or a folder where a file should be, so choose another name"
    return "see to the cause, or choose another folder"


def require_file_place(path: str | os.PathLike[str], option: str) -> Path:
    """A path at which a file can be written, checked before the work that it shall hold.

    Args:
        path: as given by the user.
        option: its name on the command line, for the message.

    Raises:
        TutorialError: if it is empty, a folder, or lies beneath a file.
    """
    place = Path(path)
    if not os.fspath(path).strip() or place.is_dir():
        raise TutorialError(f"{option} {os.fspath(path)!r} is a folder, and must be a file; add a file name.")
    _require_no_file_above(place, option)
    return place


def require_folder_place(path: str | os.PathLike[str], option: str) -> Path:
    """A path at which a folder is or can be made; see :func:`require_file_place`.

    Raises:
        TutorialError: if it is empty, a file, or lies beneath a file.
    """
    place = Path(path)
    if not os.fspath(path).strip():
        raise TutorialError(f"{option} is empty; name a folder.")
    if os.path.lexists(place) and not is_folder(place):
        what = f"is a link to {os.readlink(place)}, which is no folder" if place.is_symlink() else "is a file"
        raise TutorialError(f"{option} {path} {what}; choose another folder.")
    _require_no_file_above(place, option)
    return place


def _require_no_file_above(place: Path, option: str) -> None:
    for parent in place.absolute().parents:
        if os.path.lexists(parent) and not is_folder(parent):
            raise TutorialError(f"{option} {place} lies beneath {parent}, which is a file; choose another path.")


# ------------------------------------------------------------------------------------------------- reading


def cannot_read(what: str, path: Path, error: OSError, fix: str) -> TutorialError:
    """The sentence for something that could not be read. Only where the file itself is at fault, ``fix`` is the way.

    Args:
        what: "frame", "mask", "the list", ...
        path: the file or folder.
        error: what the system said.
        fix: what helps if the content is damaged.
    """
    cause = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return TutorialError(f"{what} {path} exists, but cannot be read ({cause}); ask its owner for permission.")
    if isinstance(error, FileNotFoundError):
        return TutorialError(f"{what} {path} does not exist; check the folder, or {fix}.")
    if isinstance(error, IsADirectoryError):
        return TutorialError(f"{what} {path} cannot be read: it is a folder; {fix}.")
    return TutorialError(f"{what} {path} cannot be read ({cause}); {fix}.")


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder; unlike ``Path.is_dir`` it never says no where it may not look.

    Raises:
        TutorialError: if a folder above may not be entered.
    """
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except PermissionError as error:
        raise cannot_read("folder", path, error, "") from None
    except (OSError, ValueError):  # not there, a broken link, a name that no file can have
        return False


def read_text(path: Path, what: str, fix: str) -> str:
    """A text file in UTF-8, without the byte-order mark that some editors put first.

    Raises:
        TutorialError: if it cannot be read, or holds no text; see :func:`cannot_read`.
    """
    try:
        return path.read_bytes().decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise TutorialError(f"{what} {path} cannot be read (it is not UTF-8 text); {fix}.") from None
    except OSError as error:
        raise cannot_read(what, path, error, fix) from None


def plain_names(names: Iterable[object], source: str) -> list[str]:
    """Names from a list of the user's, each once, without the blanks around them.

    They become folders, here and where results are written, so none may lead elsewhere.

    Args:
        names: empty ones are passed over.
        source: what holds them, for messages.

    Raises:
        TutorialError: naming the first that is no plain folder name.
    """
    kept: dict[str, None] = {}
    for name in names:
        plain = name.strip().lstrip("\ufeff") if isinstance(name, str) else name
        if plain == "":
            continue
        if not isinstance(plain, str) or plain.startswith(".") or re.search(r"[/\\:\x00-\x1f\x7f]", plain):
            raise TutorialError(
                f"{source} holds {name!r}, which is not a plain folder name; correct or remove that line."
            )
        kept.setdefault(plain)
    return list(kept)


# ------------------------------------------------------------------------------------------------- listing


def harmless(name: str) -> bool:
    """Whether a name is what systems and file managers leave behind: it is neither read, nor in the way."""
    return name.startswith(".") or name.lower() in HARMLESS


def listing(folder: Path) -> list[Path]:
    """What a folder holds, in natural order (2 before 10), without what file managers leave in it.

    Raises:
        TutorialError: if it is no folder, or may not be read.
    """
    try:
        found = [p for p in folder.iterdir() if not harmless(p.name)]
    except NotADirectoryError:
        raise TutorialError(
            f"{folder} is a file, and must be a folder; move it away, or unpack the data again."
        ) from None
    except OSError as error:
        raise cannot_read("folder", folder, error, "unpack the data set again") from None
    return sorted(found, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"([0-9]+)", path.name)
    return [(int(p), "") if p.isascii() and p.isdecimal() else (-1, p.lower()) for p in parts], path.name


def pictures_by_stem(folder: Path, suffixes: tuple[str, ...] = PICTURES) -> dict[str, Path]:
    """The pictures of a folder by their names without ending, in natural order, in any letter case.

    Raises:
        TutorialError: if two have one name, or as in :func:`listing`.
    """
    found: dict[str, Path] = {}
    for path in listing(folder):
        if path.suffix.lower() in suffixes:
            if path.stem in found:
                raise TutorialError(
                    f"{found[path.stem]} and {path.name} are pictures of one name; remove one of them."
                )
            found[path.stem] = path
    return found


def numbered_pictures(folder: Path, what: str) -> dict[int, Path]:
    """The frames or masks of a video by their numbers, ascending: ``{0: folder/00000.jpg, ...}``.

    Any letter case, ``.jpg``, ``.jpeg`` or ``.png``, any number of leading zeros. Files that are no pictures are
    passed over.

    Args:
        folder: of one video.
        what: "frame" or "mask", for messages.

    Raises:
        TutorialError: if a picture has no number for a name, or one of a kind that no loader reads; if two have one
            number; if there is none; or as in :func:`listing`.
    """
    found: dict[int, Path] = {}
    for path in listing(folder):
        suffix, stem = path.suffix.lower(), path.stem
        if suffix in OTHER_PICTURES:
            raise TutorialError(f"{what} {path} is a {suffix} picture; save it as {PICTURES[0]} or {PICTURES[2]}.")
        if suffix not in PICTURES:
            continue
        if not (stem.isascii() and stem.isdecimal()):
            raise TutorialError(
                f"{what} {path} has no number for a name (they are named 00000, 00001, ...); rename or remove it."
            )
        if int(stem) in found:
            raise TutorialError(
                f"{what} {path} has the same number as {found[int(stem)].name}; remove the one that is too many."
            )
        found[int(stem)] = path
    if not found:
        raise TutorialError(
            f"{folder} holds no {'.jpg' if what == 'frame' else '.png'} file; unpack the data set again."
        )
    return dict(sorted(found.items()))

"""``python -m vos_tutorial download davis2016``: fetch a public data set, check it, put it where the loaders look.

That is ``data/`` in a checkout, and the user's folder for data elsewhere (``vos_tutorial.places``). The transfer goes
to ``<archive>.part`` and resumes there; the archive is unpacked beside its place, checked, and then renamed, so
``DAVIS-2016`` exists whole or not at all. torchvision's download helpers are not used here: they start again from
zero after a break, check no free space, and unpack whatever names an archive holds.

The addresses below are those that the data sets' pages and many published loaders name. They could not be tried
where this was written, and no trustworthy checksums are published, so what is checked is the archive's own CRCs
and the layout: the number of sequences, and one mask for each frame. ``--archive`` takes a file fetched by hand.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import shutil
import ssl
import stat
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm.auto import tqdm

from ..errors import TutorialError
from ..files import cannot_read, cannot_write, is_folder
from ..places import downloads
from .davis import DavisFolder

BLOCK = 1 << 20  # bytes read at a time
TIMEOUT = 30.0  # seconds without a byte before a connection counts as broken
ATTEMPTS = 5  # connections in a row that bring nothing new
FILES_LIMIT = 200_000
NESTED = 3  # folders around the data set that an archive may have


@dataclass(frozen=True)
class DataSet:
    """One row of the table of data sets.

    Attributes:
        name: as on the command line.
        url: the archive, a zip.
        sha256: of the archive, or None where none is known with certainty.
        folder: its name under ``data/`` once unpacked.
        year: which DAVIS it is.
        sequences: how many names each list holds.
        unpacked: the most bytes that it may unpack to.
        page: where a person finds it.
    """

    name: str
    url: str
    sha256: str | None
    folder: str
    year: int
    sequences: Mapping[str, int]
    unpacked: int
    page: str


DATA_SETS = {
    d.name: d
    for d in (
        DataSet(
            name="davis2016",
            url="https://graphics.ethz.ch/Downloads/Data/Davis/DAVIS-data.zip",
            sha256=None,
            folder="DAVIS-2016",
            year=2016,
            sequences={"train": 30, "val": 20},
            unpacked=6 << 30,
            page="https://davischallenge.org/davis2016/code.html",
        ),
        DataSet(
            name="davis2017",
            url="https://data.vision.ee.ethz.ch/csergi/share/davis/DAVIS-2017-trainval-480p.zip",
            sha256=None,
            folder="DAVIS-2017",
            year=2017,
            sequences={"train": 60, "val": 30},
            unpacked=6 << 30,
            page="https://davischallenge.org/davis2017/code.html",
        ),
    )
}


def by_hand(data_set: DataSet) -> str:
    """What a person does where the program cannot: the end of a sentence."""
    return (
        f"fetch {data_set.url} with a browser (see {data_set.page}) and run "
        f"'python -m vos_tutorial download {data_set.name} --archive FILE'"
    )


class DamagedArchive(TutorialError):
    """A file that will never unpack: it is broken, or not what it should be."""


def fetch(url: str, target: Path, sha256: str | None = None) -> None:
    """Download ``url`` to ``target``, going on where ``<target>.part`` stopped.

    A broken connection is taken up again at once, until five in a row bring nothing new. That the far file
    changed between two runs shows in the checksum, or later in the archive's CRCs.

    Args:
        url: http or https.
        target: a file; it appears whole or not at all.
        sha256: in hexadecimal, or None.

    Raises:
        TutorialError: if the server is out of reach, refuses or breaks off, or the file cannot be written (what
            arrived is kept for the next run in these cases); if the checksum differs (then it is not).
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _transfer_all(url, part)
        if sha256 is not None and (found := _sha256(part)) != sha256:
            part.unlink()
            raise TutorialError(f"{url} has SHA-256 {found}, not {sha256}; it was removed, so run the command again.")
        os.replace(part, target)
    except OSError as error:
        raise TutorialError(
            f"cannot write {target} ({error.strerror or error}); free some space or choose another --root, "
            f"then run the command again: {_mb(_length(part))} are kept."
        ) from None


def _transfer_all(url: str, part: Path) -> None:
    """As many connections as it takes; raises OSError only for the file, never for the network."""
    idle, furthest = 0, _length(part)
    while True:
        try:
            if _transfer(url, part):
                return
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            raise TutorialError(f"{url} answers {error.code} {error.reason}; try again later.") from None
        except (
            urllib.error.URLError,
            ConnectionError,
            TimeoutError,
            ssl.SSLError,
            http.client.HTTPException,
        ) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        idle = 0 if _length(part) > furthest else idle + 1
        furthest = max(furthest, _length(part))  # a server that starts over now and then must not keep us for ever
        if idle == ATTEMPTS or _length(part) == 0:
            kept = f"; {_mb(_length(part))} are kept, so run it again to go on" if _length(part) else ""
            raise TutorialError(f"cannot fetch {url} ({reason}): no network, or the server is down{kept}.")


def _transfer(url: str, part: Path) -> bool:
    """One connection; appends to ``part`` and says whether it is complete now."""
    start = _length(part)
    request = urllib.request.Request(url, headers={"User-Agent": "vos-tutorial"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if start == 0 or error.code != 416:
            raise
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(start):
            return True  # nothing comes after `start`: the last run ended between the last byte and the renaming
        part.unlink()  # shorter than what is here: not the file it was
        return _transfer(url, part)
    with response:
        if url.startswith("https:") and not response.url.startswith("https:"):
            raise TutorialError(f"{url} redirects to {response.url}, which is not encrypted; do not use it.")
        if (
            start
            and response.status == 206
            and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        ):
            part.unlink()
            return _transfer(url, part)
        if response.status != 206:
            start = 0  # a server that does not know Range sends all of it again
        total = None if response.length is None else start + response.length
        _need_space(part.parent, 0 if total is None else total - start)
        with (
            open(part, "ab" if start else "wb") as file,
            tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem) as bar,
        ):
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    return total is None or _length(part) == total


def unpack(archive: Path, folder: Path, limit: int) -> None:
    """Unpack a zip from an untrusted source into ``folder``; on any failure the folder is removed again.

    Args:
        archive: the zip.
        folder: made anew; must not exist.
        limit: the most bytes that may come out.

    Raises:
        DamagedArchive: if it is no zip or broken; if a name leads out of the folder or is a link or a device; if it
            holds more than ``limit`` bytes or 200 000 files.
        TutorialError: if the archive may not be read, or the disk has no room.
    """
    try:
        with open(archive, "rb"):
            pass
    except OSError as error:
        raise cannot_read("the archive", archive, error, "fetch it again") from None
    try:
        folder.mkdir(parents=True)
    except OSError as error:  # not ours to remove
        raise cannot_write(folder, error) from None
    try:
        with zipfile.ZipFile(archive) as source:
            members = source.infolist()
            for member in members:  # some packers on Windows write the separators of their paths so
                member.filename = member.filename.replace("\\", "/")
            _refuse_repeats(members, archive)
            size = sum(m.file_size for m in members)
            if size > limit or len(members) > FILES_LIMIT:
                raise DamagedArchive(
                    f"{archive} would unpack to {_mb(size)} in {len(members)} files, more than the {_mb(limit)} and "
                    f"{FILES_LIMIT} files that the data set can have; it is not the right file."
                )
            for member in members:
                _refuse_escape(member, archive)
            _need_space(folder, size)
            for member in tqdm(members, desc=f"unpacking {archive.name}", unit="file"):
                source.extract(member, folder)  # checks the CRC, and writes no more than file_size bytes
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        # RuntimeError: encrypted; NotImplementedError: an unknown compression
        if isinstance(error, (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)):
            raise DamagedArchive(f"{archive} is damaged or no zip archive ({error}); fetch it again.") from None
        if isinstance(error, OSError):
            raise TutorialError(
                f"{archive} cannot be unpacked into {folder.parent} ({error.strerror or error}); "
                "free some space or choose another --root, then run the command again."
            ) from None
        raise


def _refuse_repeats(members: Sequence[zipfile.ZipInfo], archive: Path) -> None:
    """One file would silently replace the other, also where letter case makes no difference."""
    seen: set[str] = set()
    for name in (member.filename.rstrip("/").lower() for member in members if not member.is_dir()):
        if name in seen:
            raise DamagedArchive(f"{archive} holds {name!r} twice; nothing was unpacked, fetch it again.")
        seen.add(name)


def _refuse_escape(member: zipfile.ZipInfo, archive: Path) -> None:
    name = member.filename
    windows = PureWindowsPath(name)
    escapes = PurePosixPath(name).is_absolute() or windows.drive or windows.root or ".." in windows.parts
    mode = member.external_attr >> 16
    special = stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)
    if escapes or special:
        what = "is a link or a device" if special else "leads out of the folder"
        raise DamagedArchive(f"{archive} holds {name!r}, which {what}; nothing was unpacked, do not trust this file.")


def check_layout(root: Path, data_set: DataSet) -> str:
    """Compare a folder with what the data set must hold; opens no picture.

    Returns:
        One line that says how many sequences and frames there are.

    Raises:
        TutorialError: naming the first list, frame or mask that is missing.
    """
    parts = []
    for split, expected in data_set.sequences.items():
        folder = DavisFolder(root, data_set.year, split)
        if len(folder) != expected:
            raise TutorialError(
                f"{root}: the list {split} names {len(folder)} sequences, but DAVIS-{data_set.year} has {expected}."
            )
        frames = sum(len(folder.files(name).frames) for name in folder.names)
        parts.append(f"{split} {len(folder)} sequences, {frames} frames")
    return "; ".join(parts)


def install(data_set: DataSet, root: Path, archive: Path | None = None) -> Path:
    """Fetch, unpack and check a data set; does nothing but the check if it is already there.

    Args:
        data_set: a row of :data:`DATA_SETS`.
        root: where data sets live.
        archive: a zip fetched by hand; None takes ``<folder>.zip`` beside it, or downloads that. Only an archive
            that this call has downloaded is deleted afterwards.

    Returns:
        The folder, ``root / data_set.folder``.

    Raises:
        TutorialError: as in :func:`fetch`, :func:`unpack` and :func:`check_layout`.
    """
    final = root / data_set.folder
    if is_folder(final):
        print(f"{final} is already there: {check_layout(final, data_set)}")
        return final
    if os.path.lexists(final):
        raise TutorialError(f"{final} is a file, and the data set would be a folder there; choose another --root.")
    zipped = archive or root / f"{data_set.folder}.zip"
    fetched = archive is None and not zipped.exists()  # another zip is somebody's: it is not ours to delete
    if fetched:
        try:
            fetch(data_set.url, zipped, data_set.sha256)
        except TutorialError as error:
            raise TutorialError(f"{str(error).rstrip('.')}; or {by_hand(data_set)}.") from None
    if not zipped.is_file():
        raise TutorialError(f"there is no archive {zipped}; {by_hand(data_set)}.")

    staging = root / f".{data_set.folder}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)  # what a killed run left
    try:
        unpack(zipped, staging, data_set.unpacked)
        top = _davis_inside(staging)
        try:
            summary = check_layout(top, data_set)
        except TutorialError as error:
            told = str(error).replace(str(top), data_set.folder)  # `top` is gone when this is read
            raise TutorialError(
                f"{zipped} does not have the layout of {data_set.name} ({told.rstrip('.')}), so it is another file; "
                f"{by_hand(data_set)}."
            ) from None
        try:
            os.replace(top, final)
        except OSError as error:
            raise cannot_write(final, error) from None
    except DamagedArchive:
        if fetched:
            zipped.unlink()  # or the next run would stumble over it again
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    print(f"{final}: {summary}")
    if fetched:
        zipped.unlink()
    elif archive is None:
        print(f"{zipped} was there before; it is no longer needed")
    return final


def _davis_inside(folder: Path) -> Path:
    """The folder that holds JPEGImages and Annotations: this one, or one up to :data:`NESTED` levels below it."""
    level = [folder]
    for _ in range(NESTED + 1):
        for candidate in level:
            if all((candidate / part).is_dir() for part in ("JPEGImages", "Annotations")):
                return candidate
        level = [p for above in level for p in sorted(above.iterdir()) if p.is_dir() and p.name != "__MACOSX"]
    return folder


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _need_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise TutorialError(
            f"{folder} has {_mb(free)} free and {_mb(size)} are needed; free some space or choose another --root."
        )


def main(argv: list[str]) -> int:
    """``python -m vos_tutorial download NAME [--root DIR] [--archive FILE]``; returns the exit status.

    Raises:
        TutorialError: as in :func:`install`.
    """
    parser = argparse.ArgumentParser(prog="python -m vos_tutorial download", description="Fetch a public data set.")
    parser.add_argument("name", choices=sorted(DATA_SETS), help="which data set")
    parser.add_argument("--root", type=Path, default=downloads(), help="where to put it (default: %(default)s)")
    parser.add_argument("--archive", type=Path, help="the zip, if it was fetched by hand")
    options = parser.parse_args(argv)
    install(DATA_SETS[options.name], options.root, options.archive)
    return 0

"""Downloads against a server of our own on localhost: broken, lying, evil and absent ones included."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from vos_tutorial.__main__ import main as command_line
from vos_tutorial.data import download
from vos_tutorial.data.download import DATA_SETS, DamagedArchive, DataSet, fetch, install, unpack
from vos_tutorial.errors import TutorialError


def png(array: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def davis_zip(top: str = "DAVIS/", without: str = "", **more: bytes) -> bytes:
    """A DAVIS-2016 of two sequences of three frames; ``without`` leaves names out that hold it."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    files = {}
    for name in ("bear", "cows"):
        for t in range(3):
            files[f"JPEGImages/480p/{name}/{t:05d}.jpg"] = png(noise, "JPEG")
            files[f"Annotations/480p/{name}/{t:05d}.png"] = png(noise[..., 0] // 128 * 255, "PNG")
    pair = "/JPEGImages/480p/{0}/{1:05d}.jpg /Annotations/480p/{0}/{1:05d}.png\n"
    for split, name in (("train", "bear"), ("val", "cows")):
        files[f"ImageSets/480p/{split}.txt"] = "".join(pair.format(name, t) for t in range(3)).encode()
    return make_zip({f"{top}{n}": data for n, data in files.items() if not without or without not in n})


def make_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class Request(NamedTuple):
    """What one connection asked for, as bytes from ``start``, or None without a Range header."""

    start: int | None


class Server:
    """Serves ``content`` under any path, with the bad habits that a test asks for."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.requests: list[Request] = []
        self.break_after: list[int] = []  # for the next connections: bytes sent before the line goes dead
        self.knows_range = True
        self.status = 0
        self.lies_about_range = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/set.zip"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else None
        self.requests.append(Request(start))
        if self.status:
            handler.send_error(self.status)
            return
        size = len(self.content)
        begin = start if start is not None and self.knows_range else 0
        if begin >= size:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{size}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if begin else 200)
        if begin:
            handler.send_header("Content-Range", f"bytes {0 if self.lies_about_range else begin}-{size - 1}/{size}")
        body = self.content[begin:]
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.break_after.pop(0)] if self.break_after else body)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], Server]]:
    servers: list[Server] = []

    def start(content: bytes) -> Server:
        servers.append(Server(content))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def small_set(url: str) -> DataSet:
    return replace(DATA_SETS["davis2016"], url=url, sequences={"train": 1, "val": 1}, unpacked=1 << 20)


def leftovers(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir())


BYTES = np.random.default_rng(1).bytes(300_000)


def test_whole(serve: Callable[[bytes], Server], tmp_path: Path) -> None:
    target = tmp_path / "new" / "set.zip"
    fetch(serve(BYTES).url, target, hashlib.sha256(BYTES).hexdigest())
    assert target.read_bytes() == BYTES
    assert leftovers(target.parent) == ["set.zip"]


def test_a_broken_connection_is_taken_up_where_it_broke(serve: Callable[[bytes], Server], tmp_path: Path) -> None:
    server = serve(BYTES)
    server.break_after = [100_000, 50_000]
    fetch(server.url, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == BYTES
    assert [r.start for r in server.requests] == [None, 100_000, 150_000]


def test_the_next_run_goes_on(serve: Callable[[bytes], Server], tmp_path: Path) -> None:
    server = serve(BYTES)
    server.break_after = [100_000] + [0] * download.ATTEMPTS
    with pytest.raises(TutorialError, match=r"no network, or the server is down; 0.1 MB are kept"):
        fetch(server.url, tmp_path / "set.zip")
    assert leftovers(tmp_path) == ["set.zip.part"]
    assert (tmp_path / "set.zip.part").read_bytes() == BYTES[:100_000]
    server.requests.clear()
    fetch(server.url, tmp_path / "set.zip")
    assert [r.start for r in server.requests] == [100_000]
    assert (tmp_path / "set.zip").read_bytes() == BYTES


def test_a_server_that_starts_over_now_and_then_does_not_keep_us_for_ever(
    serve: Callable[[bytes], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(BYTES)
    server.break_after = [100, 100] * 50
    real = server.answer

    def moody(handler: BaseHTTPRequestHandler) -> None:
        server.knows_range = len(server.requests) % 2 == 0
        real(handler)

    monkeypatch.setattr(server, "answer", moody)
    with pytest.raises(TutorialError, match="the server is down"):
        fetch(server.url, tmp_path / "set.zip")
    assert len(server.requests) < 20


@pytest.mark.parametrize("habit", ["knows_range", "lies_about_range"])
def test_a_server_that_cannot_resume_sends_all_again(
    serve: Callable[[bytes], Server], tmp_path: Path, habit: str
) -> None:
    server = serve(BYTES)
    setattr(server, habit, habit == "lies_about_range")
    (tmp_path / "set.zip.part").write_bytes(b"x" * 1000)
    fetch(server.url, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == BYTES


def test_a_part_that_is_complete_or_too_long(serve: Callable[[bytes], Server], tmp_path: Path) -> None:
    server = serve(BYTES)
    part = tmp_path / "set.zip.part"
    part.write_bytes(BYTES)
    fetch(server.url, tmp_path / "set.zip")
    assert [r.start for r in server.requests] == [len(BYTES)]
    part.write_bytes(BYTES + b"more")
    fetch(server.url, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == BYTES


def test_wrong_checksum(serve: Callable[[bytes], Server], tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match=r"has SHA-256 .* not 00ff; it was removed"):
        fetch(serve(BYTES).url, tmp_path / "set.zip", "00ff")
    assert leftovers(tmp_path) == []


def test_no_network(tmp_path: Path, serve: Callable[[bytes], Server]) -> None:
    server = serve(b"")
    url = server.url
    server.close()
    server.close = lambda: None  # type: ignore[method-assign]
    with pytest.raises(
        TutorialError, match=r"no network, or the server is down; or fetch .* with a browser .*--archive"
    ):
        install(small_set(url), tmp_path)
    assert leftovers(tmp_path) == []


def test_the_address_has_moved(serve: Callable[[bytes], Server], tmp_path: Path) -> None:
    server = serve(BYTES)
    server.status = 404
    with pytest.raises(TutorialError, match=r"answers 404 .*with a browser"):
        install(small_set(server.url), tmp_path)
    assert leftovers(tmp_path) == []


def test_no_room(serve: Callable[[bytes], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(TutorialError, match=r"0.0 MB free and 0.3 MB are needed"):
        fetch(serve(BYTES).url, tmp_path / "set.zip")
    assert leftovers(tmp_path) == []
    archive = tmp_path / "a.zip"
    archive.write_bytes(davis_zip())
    with pytest.raises(TutorialError, match="free some space"):
        unpack(archive, tmp_path / "out", 1 << 20)
    assert leftovers(tmp_path) == ["a.zip"]


def test_the_disk_fills_up(serve: Callable[[bytes], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC in the middle: the part is kept while loading, nothing is while unpacking."""
    server = serve(davis_zip())
    monkeypatch.setattr(download, "BLOCK", 20_000)

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() >= 20_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data) or 0

    with monkeypatch.context() as patch:
        patch.setattr(download, "open", lambda path, mode: Full(path, mode.replace("b", "")), raising=False)
        with pytest.raises(TutorialError, match=r"cannot write .*No space left.*0.0 MB are kept"):
            install(small_set(server.url), tmp_path)
    assert leftovers(tmp_path) == ["DAVIS-2016.zip.part"]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extract", full)
        with pytest.raises(TutorialError, match=r"cannot be unpacked .*No space left"):
            install(small_set(server.url), tmp_path)
    assert leftovers(tmp_path) == ["DAVIS-2016.zip"]  # a good archive: the next run need not load it again
    server.requests.clear()
    install(small_set(server.url), tmp_path)
    assert leftovers(tmp_path) == ["DAVIS-2016", "DAVIS-2016.zip"]  # it may as well be one that a person put there
    assert server.requests == []


def windows_zip() -> bytes:
    """As some packers on Windows write it: backslashes in the paths."""
    with zipfile.ZipFile(io.BytesIO(davis_zip())) as source:
        files = {name.replace("/", "\\"): source.read(name) for name in source.namelist()}
    return make_zip(files)


@pytest.mark.parametrize("content", [davis_zip("a/DAVIS/"), davis_zip("a/b/DAVIS/"), windows_zip()])
def test_archives_of_other_packers(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "by hand.zip"
    archive.write_bytes(content)
    final = install(small_set("http://nowhere.invalid"), tmp_path / "data", archive)
    assert (final / "JPEGImages/480p/cows/00002.jpg").is_file()
    assert leftovers(tmp_path / "data") == ["DAVIS-2016"]
    assert archive.read_bytes() == content


def test_a_path_of_both_kinds_of_separators_does_not_lead_out_or_replace_another(tmp_path: Path) -> None:
    for names, said in ((["..\\x"], "leads out"), (["a\\..\\..\\x"], "leads out"), (["a/b", "a\\B"], "twice")):
        (tmp_path / "a.zip").write_bytes(make_zip(dict.fromkeys(names, b"x")))
        with pytest.raises(DamagedArchive, match=said):
            unpack(tmp_path / "a.zip", tmp_path / "out", 1 << 20)
        assert leftovers(tmp_path) == ["a.zip"]


def test_a_zip_that_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "DAVIS-2016.zip").write_bytes(davis_zip())
    install(small_set("http://nowhere.invalid"), tmp_path)
    assert leftovers(tmp_path) == ["DAVIS-2016", "DAVIS-2016.zip"]
    shutil.rmtree(tmp_path / "DAVIS-2016")
    (tmp_path / "DAVIS-2016.zip").write_bytes(b"my notes")
    with pytest.raises(DamagedArchive):
        install(small_set("http://nowhere.invalid"), tmp_path)
    assert (tmp_path / "DAVIS-2016.zip").read_bytes() == b"my notes"


@pytest.mark.parametrize("top", ["DAVIS/", ""])
def test_install(
    serve: Callable[[bytes], Server], tmp_path: Path, capsys: pytest.CaptureFixture[str], top: str
) -> None:
    server = serve(davis_zip(top))
    server.break_after = [5000]
    (tmp_path / ".DAVIS-2016.unpacking").mkdir()  # a killed run left this
    final = install(small_set(server.url), tmp_path)
    assert "train 1 sequences, 3 frames; val 1 sequences, 3 frames" in capsys.readouterr().out
    assert leftovers(tmp_path) == ["DAVIS-2016"]
    assert (final / "JPEGImages/480p/cows/00002.jpg").exists()
    count = len(server.requests)
    install(small_set(server.url), tmp_path)  # already there
    assert "already there" in capsys.readouterr().out
    assert len(server.requests) == count


def test_content_that_is_no_zip_is_not_kept(serve: Callable[[bytes], Server], tmp_path: Path) -> None:
    server = serve(b"<html>Please log in</html>")
    with pytest.raises(TutorialError, match="damaged or no zip archive"):
        install(small_set(server.url), tmp_path)
    assert leftovers(tmp_path) == []


def test_a_flipped_bit_and_a_cut_end(serve: Callable[[bytes], Server], tmp_path: Path) -> None:
    whole = davis_zip()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1  # inside a picture: only the CRC knows
    for content in (bytes(flipped), whole[:-100]):
        with pytest.raises(DamagedArchive, match=r"DAVIS-2016.zip is damaged"):
            install(small_set(serve(content).url), tmp_path)
        assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("cows/00001.png", r"cows/00001.jpg has no mask DAVIS-2016/"),
        ("cows/00002.jpg", r"00002.png has no frame"),
        ("ImageSets/480p/train", r"no list for year 2016, split 'train'"),
        ("JPEGImages", r"no folder DAVIS-2016/JPEGImages"),
        ("JPEGImages/480p/bear", r"no folder .*JPEGImages/480p/bear"),
    ],
)
def test_wrong_layout(serve: Callable[[bytes], Server], tmp_path: Path, without: str, message: str) -> None:
    with pytest.raises(TutorialError, match="does not have the layout of davis2016") as caught:
        install(small_set(serve(davis_zip("", without)).url), tmp_path)
    assert caught.match(message)
    assert leftovers(tmp_path) == ["DAVIS-2016.zip"]


def test_wrong_number_of_sequences(serve: Callable[[bytes], Server], tmp_path: Path) -> None:
    wanted = replace(small_set(serve(davis_zip()).url), sequences={"val": 20})
    with pytest.raises(TutorialError, match="the list val names 1 sequences, but DAVIS-2016 has 20"):
        install(wanted, tmp_path)


def evil(name: str, mode: int = 0, data: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("DAVIS/README.md", "harmless")
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name", ["../evil.txt", "DAVIS/../../evil.txt", "/tmp/evil.txt", "C:/evil.txt", "..\\evil.txt", "\\\\host\\evil"]
)
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.zip").write_bytes(evil(name))
    with pytest.raises(DamagedArchive, match="leads out of the folder; nothing was unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "in" / "out", 1 << 20)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.zip", "in"]


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666, stat.S_IFIFO | 0o666])
def test_links_and_devices(tmp_path: Path, mode: int) -> None:
    (tmp_path / "a.zip").write_bytes(evil("DAVIS/link", mode, b"/etc"))
    with pytest.raises(DamagedArchive, match="is a link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out", 1 << 20)
    assert leftovers(tmp_path) == ["a.zip"]


def test_zip_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("DAVIS/zeros", bytes(5_000_000))
    assert (tmp_path / "a.zip").stat().st_size < 10_000
    with pytest.raises(DamagedArchive, match=r"would unpack to 5.0 MB .* more than the 1.0 MB"):
        unpack(tmp_path / "a.zip", tmp_path / "out", 1_000_000)
    (tmp_path / "a.zip").write_bytes(make_zip({f"{i}": b"" for i in range(30)}))
    monkeypatch.setattr(download, "FILES_LIMIT", 20)
    with pytest.raises(DamagedArchive, match="in 30 files"):
        unpack(tmp_path / "a.zip", tmp_path / "out", 1_000_000)
    assert leftovers(tmp_path) == ["a.zip"]


def test_a_bomb_that_lies_about_its_size(tmp_path: Path) -> None:
    """The directory says 10 bytes, the stream holds 5 MB: no more than 10 are ever written, and the CRC tells."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(5_000_000))
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace((5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(DamagedArchive, match="damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "out", 1000)
    assert leftovers(tmp_path) == ["a.zip"]


def test_the_command(
    serve: Callable[[bytes], Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(DATA_SETS, "davis2016", small_set(serve(b"never asked").url))
    archive = tmp_path / "by hand.zip"
    archive.write_bytes(davis_zip())
    root = tmp_path / "data"
    root.mkdir()
    arguments = ["download", "davis2016", "--root", str(root), "--archive", str(archive)]
    assert command_line(arguments) == 0
    assert leftovers(root) == ["DAVIS-2016"]
    assert archive.exists()  # a file of the reader's own is not deleted
    assert command_line([*arguments[:-1], str(tmp_path / "none.zip"), "--root", str(tmp_path / "other")]) == 2
    assert "there is no archive" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command_line(["download", "davis2015"])


def test_no_permission(serve: Callable[[bytes], Server], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(TutorialError, match="cannot write"):
        install(small_set(serve(davis_zip()).url), tmp_path / "data")
    assert os.listdir(tmp_path) == ["data"]

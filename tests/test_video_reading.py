"""Reading video: every trap of a codec or container that we know, each in a file that its test makes."""

from __future__ import annotations

import gc
import os
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vos_tutorial.errors import TutorialError
from vos_tutorial.video import Video

av = pytest.importorskip("av")

Pictures = list["np.ndarray[Any, np.dtype[np.uint8]]"]


def pictures(n: int = 12, height: int = 48, width: int = 64) -> Pictures:
    """Frames without symmetry: a red quarter on blue, and a yellow bar that says which frame it is."""
    frames = []
    for t in range(n):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[:] = (40, 60, 200)
        frame[: height // 2, : width // 2] = (200, 40, 40)
        frame[height // 2 - 4 : height // 2 + 4, 3 * t % width : 3 * t % width + 8] = (250, 250, 60)
        frames.append(frame)
    return frames


def noise(n: int) -> Pictures:
    """Frames that do not compress, so that a cut through the file goes through frames."""
    return [np.random.default_rng(i).integers(0, 255, (48, 64, 3), dtype=np.uint8) for i in range(n)]


def write(
    path: Path,
    frames: Pictures,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    stamps: list[int] | None = None,
    turn: Callable[[Any], None] | None = None,
    **options: str,
) -> Path:
    """A video file, made by PyAV alone; ``stamps`` are milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=12, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if stamps:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if turn:
            turn(stream)
        for t, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba" if pixels.shape[2] == 4 else "rgb24")
            if stamps:
                frame.pts, frame.time_base = stamps[t], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def channels_last(frame: Tensor) -> np.ndarray[Any, np.dtype[np.int64]]:
    return frame.permute(1, 2, 0).numpy().astype(np.int64)


def assert_shows(video: Video, frames: Pictures, tolerance: float) -> None:
    """The frames are those that were written, in whatever order they are asked for."""
    one_by_one = list(video)
    assert len(one_by_one) == len(video) == len(frames)
    for t, seen in enumerate(one_by_one):
        assert seen.dtype == torch.uint8
        assert seen.shape == (3, *frames[t].shape[:2])
        errors = [np.abs(channels_last(seen) - wanted[..., :3]).mean() for wanted in frames]
        assert np.argmin(errors) == t  # and not its neighbour
        assert errors[t] < tolerance
    count = len(frames)
    for i in (count - 1, 0, count // 2, *range(count // 2 + 1, count)[:1], min(1, count - 1), -1):
        assert torch.equal(video.frame(i), one_by_one[i]), i
    backward = list(video.frames(range(count - 1, -1, -1)))
    assert all(torch.equal(a, b) for a, b in zip(backward, one_by_one[::-1], strict=True))


CODECS = {
    "h264 with B-frames": (".mp4", "libx264", "yuv420p", {"bf": "3", "g": "5"}),
    "h264 in a transport stream": (".ts", "libx264", "yuv420p", {"g": "5"}),
    "h264 without a container": (".h264", "libx264", "yuv420p", {"g": "5"}),
    "hevc, 10 bit, open groups": (".mp4", "libx265", "yuv420p10le", {"x265-params": "keyint=5:log-level=none"}),
    "av1, 10 bit": (".webm", "libsvtav1", "yuv420p10le", {"preset": "10"}),
    "vp9": (".webm", "libvpx-vp9", "yuv420p", {"g": "5", "deadline": "realtime"}),
    "mpeg-4 in avi": (".avi", "mpeg4", "yuv420p", {"qscale": "2"}),
    "prores": (".mov", "prores_ks", "yuv422p10le", {}),
    "ffv1": (".mkv", "ffv1", "yuv444p", {}),
}


@pytest.mark.parametrize("name", CODECS)
def test_codecs(name: str, tmp_path: Path) -> None:
    suffix, codec, pix_fmt, options = CODECS[name]
    frames = pictures(12, 64, 64) if "av1" in codec else pictures()  # the AV1 encoder takes nothing smaller
    video = Video(write(tmp_path / f"clip{suffix}", frames, codec, pix_fmt, **options))
    assert_shows(video, frames, tolerance=12)
    if suffix != ".h264":  # which holds no times
        assert [float(t) for t in video.times] == pytest.approx([t / 12 for t in range(12)], abs=0.001)


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt", "options"),
    [(".webm", "libvpx-vp9", "yuva420p", {"auto-alt-ref": "0"}), (".mov", "qtrle", "argb", {})],
)
def test_alpha_is_dropped(suffix: str, codec: str, pix_fmt: str, options: dict[str, str], tmp_path: Path) -> None:
    frames = [np.dstack([f, np.full(f.shape[:2], 255 - 9 * t, np.uint8)]) for t, f in enumerate(pictures())]
    assert_shows(Video(write(tmp_path / f"alpha{suffix}", frames, codec, pix_fmt, **options)), frames, tolerance=7)


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"), [(".webm", "libvpx-vp9", "yuv420p"), (".mp4", "libx264", "yuv444p")]
)
def test_odd_sizes(suffix: str, codec: str, pix_fmt: str, tmp_path: Path) -> None:
    frames = pictures(8, 47, 63)
    assert_shows(Video(write(tmp_path / f"odd{suffix}", frames, codec, pix_fmt)), frames, tolerance=7)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_by_the_display_matrix(degrees: int, tmp_path: Path) -> None:
    path = write(tmp_path / "turned.mp4", pictures(), turn=lambda stream: stream.set_display_rotation(degrees))
    assert_shows(Video(path), [np.rot90(f, k=degrees // 90) for f in pictures()], tolerance=7)


def patch_matrix(path: Path, values: list[int]) -> Path:
    """Another display matrix in an MP4's track header: ``[a, b, c, d]``, ISO 14496-12, 8.3.2."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40  # version and flags, times, layer, volume
    words = [values[0] << 16, values[1] << 16, 0, values[2] << 16, values[3] << 16, 0]
    content[place : place + 24] = b"".join((word % 2**32).to_bytes(4, "big") for word in words)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ([0, 1, -1, 0], lambda f: np.rot90(f, k=-1)),  # a telephone held upright: a quarter clockwise
        ([-1, 0, 0, 1], lambda f: f[:, ::-1]),  # its front camera: mirrored
        ([0, 1, 1, 0], lambda f: f.swapaxes(0, 1)),  # both
    ],
)
def test_turned_by_the_matrix_in_the_file(matrix: list[int], shown: Callable[..., Any], tmp_path: Path) -> None:
    path = patch_matrix(write(tmp_path / "turned.mp4", pictures()), matrix)
    assert_shows(Video(path), [shown(f) for f in pictures()], tolerance=7)


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    def wide(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)

    video = Video(write(tmp_path / "pal.mp4", pictures(), turn=wide))
    assert video.size == (48, 93)
    assert video.frame(3).shape == (3, 48, 93)


STAMPS = [0, 40, 90, 95, 200, 330, 340, 350, 600, 605, 610, 900]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_frame_rate_has_exact_times(suffix: str, tmp_path: Path) -> None:
    video = Video(write(tmp_path / f"vfr{suffix}", pictures(), stamps=STAMPS))
    assert video.times == [Fraction(ms, 1000) for ms in STAMPS]
    assert video.durations[:3] == [Fraction(40, 1000), Fraction(50, 1000), Fraction(5, 1000)]
    assert len(video.durations) == 12
    assert_shows(video, pictures(), tolerance=7)


def test_start_end_every_and_max_side(tmp_path: Path) -> None:
    path = write(tmp_path / "vfr.mkv", pictures(), stamps=STAMPS)
    whole = list(Video(path))
    part = Video(path, start=0.09, end=0.35)
    assert part.times == [Fraction(ms, 1000) for ms in (90, 95, 200, 330, 340)]
    assert torch.equal(torch.stack(list(part)), torch.stack(whole[2:7]))
    each_fifth = Video(path, every=5)
    assert torch.equal(torch.stack(list(each_fifth)), torch.stack(whole[::5]))
    assert torch.equal(each_fifth.frame(2), whole[10])
    small = Video(path, max_side=32)
    assert (small.size, small.full_size) == ((24, 32), (48, 64))
    assert small.frame(0).shape == (3, 24, 32)
    assert Video(path, max_side=640).size == (48, 64)  # nothing is enlarged
    with pytest.raises(TutorialError, match=r"lasts 0\.90 s, and none of its 12 frames lies between 7 s"):
        len(Video(path, start=7))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_side": 0}, "max_side is 0"),
        ({"every": 0}, "every is 0"),
        ({"every": 1.5}, "every is 1.5"),
        ({"start": -1}, "start is -1"),
        ({"end": float("nan")}, "end is nan"),
        ({"start": 2, "end": 1}, "the end must come after the start"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match=words):
        Video(tmp_path / "no.mp4", **options)


def trimmed(source: Path, target: Path, start: int) -> Path:
    """Cut as ``ffmpeg -ss ... -c copy`` does it: copied from the key frame before, to be shown from ``start`` on."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        first = int(start / 12 / stream.time_base)
        read.seek(first, stream=stream)
        for packet in read.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts - first, packet.dts - first
                packet.stream = copy
                written.mux(packet)
    return target


def test_a_trimmed_file_whose_header_lies(tmp_path: Path) -> None:
    frames = noise(60)
    path = trimmed(write(tmp_path / "long.mp4", frames, g="20", bf="2"), tmp_path / "trimmed.mp4", start=31)
    with av.open(str(path)) as container:
        promised = container.streams.video[0].frames
    video = Video(path)
    assert promised > len(video) == 29  # it counts what was copied from the key frame on, 29 are to be shown
    whole = list(Video(tmp_path / "long.mp4"))
    assert torch.equal(torch.stack(list(video)), torch.stack(whole[31:]))
    assert torch.equal(video.frame(20), whole[51])


def test_a_header_that_counts_no_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.webm", pictures(), "libvpx-vp9")
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 0
    assert len(Video(path)) == 12


# ---------------------------------------------------------------------------------- files that cannot be read


def test_missing_empty_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match=r"no\.mp4 does not exist"):
        Video(tmp_path / "no.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(TutorialError, match="is empty"):
        Video(tmp_path / "empty.mp4")
    (tmp_path / "junk.mp4").write_bytes(b"hello" * 999)
    with pytest.raises(TutorialError, match=r"cannot be read .* convert it with: ffmpeg -i junk\.mp4"):
        Video(tmp_path / "junk.mp4")
    whole = write(tmp_path / "whole.mp4", pictures()).read_bytes()
    (tmp_path / "it's half.mp4").write_bytes(whole[: len(whole) // 2])  # what the frames are lies at the end
    with pytest.raises(TutorialError, match=r"its end or beginning is missing; .*'it'\"'\"'s half\.mp4'"):
        Video(tmp_path / "it's half.mp4")


def test_a_file_that_was_cut_off_has_the_frames_before(tmp_path: Path) -> None:
    content = write(tmp_path / "whole.mkv", noise(60), g="10").read_bytes()
    path = tmp_path / "half.mkv"
    path.write_bytes(content[: len(content) // 2])
    video, whole = Video(path), list(Video(tmp_path / "whole.mkv"))
    assert 20 < len(video) < 40
    for i in (len(video) - 2, 0, 15):
        assert torch.equal(video.frame(i), whole[i])


def test_damage_in_the_middle(tmp_path: Path) -> None:
    content = bytearray(write(tmp_path / "whole.mkv", noise(60), g="10").read_bytes())
    place = len(content) // 2
    content[place : place + 3000] = bytes(3000)
    path = tmp_path / "damaged.mkv"
    path.write_bytes(content)
    video, whole = Video(path), list(Video(tmp_path / "whole.mkv"))
    one_by_one = list(video)
    assert 45 < len(one_by_one) == len(video) < 60
    assert torch.equal(one_by_one[0], whole[0])
    assert torch.equal(video.frame(-1), whole[-1])  # behind the damage all is as it was
    assert torch.equal(video.frame(3), whole[3])


def test_sound_without_pictures(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    with pytest.raises(TutorialError, match="holds audio data but no moving picture"):
        Video(tmp_path / "sound.wav")


def test_one_frame(tmp_path: Path) -> None:
    video = Video(write(tmp_path / "one.mp4", pictures(1)))
    assert_shows(video, pictures(1), tolerance=7)
    assert video.times == [0]
    assert video.durations == [Fraction(1, 24)]
    with pytest.raises(TutorialError, match=r"there is no frame 1 .* frames are 0\.\.0"):
        video.frame(1)


def test_a_size_that_changes(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{h}.ts", pictures(6, h, 96), g="5").read_bytes() for h in (48, 64)]
    (tmp_path / "changes.ts").write_bytes(b"".join(parts))
    with pytest.raises(TutorialError, match=r"frame 6 is 96x64, those before are 96x48.* -vf scale=96:48"):
        len(Video(tmp_path / "changes.ts"))


def test_huge_frames_are_read_smaller(tmp_path: Path) -> None:
    Image.new("1", (9000, 8000)).save(tmp_path / "huge.png")
    with pytest.raises(TutorialError, match=r"frames of .* are 9000x8000; read them smaller, with max_side"):
        Video(tmp_path / "huge.png")


def test_a_list_of_videos_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/clip.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(TutorialError, match="cannot be read"):
        Video(tmp_path / "list.m3u8")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="may read everything")
def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", pictures(2))
    path.chmod(0)
    with pytest.raises(TutorialError, match="ask its owner"):
        Video(path)


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(TutorialError, match=r"need the package av .*\[video\]"):
        Video(tmp_path / "clip.mp4")


# ------------------------------------------------------------------------------------------ folders of pictures


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    for t, frame in enumerate(pictures()):
        Image.fromarray(frame).save(tmp_path / f"shot {t}.png")  # 10 comes after 9
    (tmp_path / "notes.txt").write_text("nothing")
    video = Video(tmp_path, every=2)
    assert_shows(video, pictures()[::2], tolerance=0.01)
    assert video.times[:2] == [0, Fraction(2, 24)]
    assert Video(tmp_path, max_side=32).frame(1).shape == (3, 24, 32)


def test_folders_that_are_no_video(tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match=r"holds no \.jpg or \.png picture"):
        Video(tmp_path)
    Image.fromarray(pictures()[0]).save(tmp_path / "0.png")
    Image.fromarray(pictures(1, 50, 64)[0]).save(tmp_path / "1.png")
    with pytest.raises(TutorialError, match="is 64x50, the first one 64x48"):
        list(Video(tmp_path))


# -------------------------------------------------------------------------------------------- being one video


def test_readers_do_not_disturb_each_other(tmp_path: Path) -> None:
    video = Video(write(tmp_path / "clip.mp4", pictures(), g="4", bf="2"))
    wanted = list(video)
    one, other = video.frames(), video.frames(range(11, -1, -1))
    for i in range(12):
        assert torch.equal(next(one), wanted[i])
        assert torch.equal(video.frame(7), wanted[7])
        assert torch.equal(next(other), wanted[11 - i])


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mkv", pictures())
    video = Video(path)
    assert len(video) == 12
    write(path, pictures(3))
    with pytest.raises(TutorialError, match="cannot be read any more; was the file changed"):
        video.frame(9)


def test_the_fingerprint_knows_the_file_wherever_it_lies(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", pictures())
    mine = Video(path).fingerprint()
    moved = path.rename(tmp_path / "moved.mp4")
    assert Video(moved, max_side=32).fingerprint() == mine
    assert Video(write(tmp_path / "clip.mp4", pictures()[::-1])).fingerprint() != mine


def test_no_frame_waits_for_the_collector(tmp_path: Path) -> None:
    """PyAV's frames and their side data hold each other: asked at every frame, a video would pile up in memory."""
    frames = Video(write(tmp_path / "clip.mp4", pictures())).frames()
    next(frames)  # the first is asked, and let go at the second
    next(frames)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            next(frames)
        assert gc.collect() == 0
    finally:
        gc.enable()

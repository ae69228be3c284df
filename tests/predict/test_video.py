"""Videos that the tests encode themselves: overlays, times, rotation, odd sizes, damage."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptseg.data.files import UInt8Array
from adaptseg.data.films import VideoReader
from adaptseg.errors import InputError
from adaptseg.predict.inputs import find_inputs
from adaptseg.predict.predictions import Settings, predict_files
from adaptseg.predict.video import VideoWriter
from adaptseg.segmenter.images import overlay
from adaptseg.segmenter.inference import Views
from tests.predict.test_predictions import files, segmenter

av = pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

CODECS = {".mp4": "libx264", ".mkv": "libx264", ".mov": "libx264", ".avi": "mpeg4", ".webm": "libvpx-vp9"}


def pictures(count: int, size: tuple[int, int]) -> list[UInt8Array]:
    """A bright block moves over a smooth ground, which lossy compression keeps."""
    width, height = size
    rows, columns = np.indices((height, width))
    found = []
    for n in range(count):
        image = np.stack([60 + rows, 60 + columns, np.full_like(rows, 90)], -1).clip(0, 200).astype(np.uint8)
        image[8:24, 8 + 4 * n : 24 + 4 * n] = (230, 40, 40)
        found.append(image)
    return found


def encode(
    path: Path,
    images: list[UInt8Array],
    rate: Fraction | int = 25,
    times: list[int] | None = None,
    rotation: int = 0,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix], rate=rate)
        stream.width, stream.height = images[0].shape[1] if images else 64, images[0].shape[0] if images else 48
        stream.pix_fmt = "yuv420p"
        if rotation:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV reads rotations, but writes none")
            stream.set_display_rotation(rotation)
        container.start_encoding()
        for n, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = (times[n] if times else n), 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode(path: Path) -> tuple[list[UInt8Array], list[Fraction], Fraction]:
    """All frames, their times in seconds, and the rate, read without adaptseg."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = [(f.to_ndarray(format="rgb24"), f.pts * f.time_base) for f in container.decode(stream)]
        return [image for image, _ in found], [time for _, time in found], stream.average_rate


@pytest.mark.parametrize("suffix", CODECS)
def test_overlay_video(tmp_path: Path, suffix: str) -> None:
    """Of NTSC's rate, which containers of milliseconds round."""
    rate = Fraction(30000, 1001)
    source = encode(tmp_path / f"clip{suffix}", pictures(9, (64, 48)), rate)
    model = segmenter(size=None)
    predict_files(model, find_inputs([str(source)]), tmp_path / "out", Settings(maps=("confidence",), batch=4))
    assert files(tmp_path / "out") == ["confidence/clip.mp4", "legend.csv", "legend.json", "overlays/clip.mp4"]
    images, times, written_rate = decode(tmp_path / "out/overlays/clip.mp4")
    assert written_rate == rate
    assert times == [n / rate for n in range(9)]
    for frame, image in zip(VideoReader(source), images, strict=True):
        expected = overlay(frame.image, model.label_space.palette[model.predict(frame.image)])
        assert image.shape == (48, 64, 3)
        assert np.abs(expected.astype(int) - image).mean() < 6
    with av.open(str(tmp_path / "out/overlays/clip.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_unequal_times_and_odd_sizes(tmp_path: Path) -> None:
    times = [0, 1, 5, 6, 12]
    source = encode(tmp_path / "in.mkv", pictures(5, (64, 48)), 25, times)
    reader = VideoReader(source)
    with VideoWriter(tmp_path / "out.mp4", reader) as writer:
        for frame in reader:
            writer.write(frame.image[:47, :63], frame.time)
    images, found, _ = decode(tmp_path / "out.mp4")
    assert [float(time) for time in found] == pytest.approx([n / 25 for n in times], abs=1.1e-3)
    assert {image.shape for image in images} == {(48, 64, 3)}


def test_colors_survive(tmp_path: Path) -> None:
    image = np.zeros((48, 96, 3), np.uint8)
    image[:, :32], image[:, 32:64], image[:, 64:] = (220, 20, 60), (70, 130, 180), (107, 142, 35)
    reader = VideoReader(encode(tmp_path / "in.mp4", [image] * 3))
    with VideoWriter(tmp_path / "out.mp4", reader) as writer:
        writer.write(image, 0)
        writer.write(image, 1)
    for column in (16, 48, 80):
        assert np.abs(decode(tmp_path / "out.mp4")[0][1][24, column].astype(int) - image[24, column]).max() <= 6


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_pictures_of_telephones_are_upright(tmp_path: Path, rotation: int) -> None:
    image = pictures(1, (64, 48))[0]
    (frame,) = VideoReader(encode(tmp_path / "in.mp4", [image], rotation=rotation))
    expected = np.rot90(image, rotation // 90)
    assert frame.image.shape == expected.shape
    assert np.abs(frame.image.astype(int) - expected).mean() < 8


def test_frames_as_pictures(tmp_path: Path) -> None:
    source = encode(tmp_path / "in/night/clip.mp4", pictures(3, (64, 48)))
    Image.fromarray(pictures(1, (64, 48))[0]).save(tmp_path / "in/a.png")
    settings = Settings(frames=True, views=Views(flip=True), batch=2, maps=("entropy",))
    model = segmenter(size=None)
    predict_files(model, find_inputs([str(tmp_path / "in")]), tmp_path / "out", settings)
    names = ["a", *(f"night/clip/{n:06d}" for n in range(3))]
    assert [name for name in files(tmp_path / "out") if name.startswith("entropy")] == [
        f"entropy/{n}.png" for n in names
    ]
    for n, frame in enumerate(VideoReader(source)):
        written = np.array(Image.open(tmp_path / f"out/labels/night/clip/{n:06d}.png"))
        assert (written == model.predict(frame.image, flip=True)).mean() > 0.999


def test_damaged_videos_are_named_and_leave_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    content = bytearray(encode(folder / "broken.mp4", list(noise)).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 9000] = b"\xff" * 9000
    (folder / "broken.mp4").write_bytes(content)
    encode(folder / "good.mp4", pictures(3, (64, 48)))
    with pytest.raises(InputError, match=r"broken\.mp4: not a readable video .*the other 1 images are in"):
        predict_files(segmenter(), find_inputs([str(folder)]), tmp_path / "out", Settings(maps=("entropy",)))
    assert files(tmp_path / "out") == ["entropy/good.mp4", "legend.csv", "legend.json", "overlays/good.mp4"]


@pytest.mark.parametrize(("content", "reason"), [(b"", "not a readable"), (b"RIFF" * 99, "not a readable")])
def test_no_video_at_all(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.mp4: {reason}") as caught:
        predict_files(segmenter(), find_inputs([str(tmp_path / "a.mp4")]), tmp_path / "out")
    assert "other" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_without_frames(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"a{suffix}", [])
    with pytest.raises(InputError, match=rf"a\{suffix}: .*give (one|a video) with frames"):
        predict_files(segmenter(), find_inputs([str(path)]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_sound_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="no pictures in it"):
        VideoReader(tmp_path / "a.mp4")


def test_no_half_video_after_an_error_of_the_disk(tmp_path: Path) -> None:
    reader = VideoReader(encode(tmp_path / "in.mp4", pictures(2, (64, 48))))
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(InputError, match=r"cannot be written .*choose another --out"),
        VideoWriter(tmp_path / "file/out.mp4", reader) as writer,
    ):
        writer.write(np.zeros((48, 64, 3), np.uint8), 0)


def test_no_half_video_after_an_interruption(tmp_path: Path) -> None:
    reader = VideoReader(encode(tmp_path / "in.mp4", pictures(2, (64, 48))))

    def write() -> None:
        with VideoWriter(tmp_path / "out/out.mp4", reader) as writer:
            for n in range(80):
                writer.write(np.zeros((48, 64, 3), np.uint8), n)
            assert len(files(tmp_path / "out")) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert files(tmp_path / "out") == []


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"any")
    with pytest.raises(InputError, match=r"a\.mp4: videos need PyAV; pip install 'adaptseg\[video\]'"):
        predict_files(segmenter(), find_inputs([str(tmp_path / "a.mp4")]), tmp_path / "out")

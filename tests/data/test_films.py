"""Frames of films by their number: the right ones, whatever the order in which they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from adaptseg.data.ahead import mapped_ahead
from adaptseg.data.films import Film, FilmTree, VideoReader
from adaptseg.errors import InputError

FRAMES = 40
CODED = [("libx264", ".mp4"), ("libx264", ".mkv"), ("mpeg4", ".avi"), ("libvpx-vp9", ".webm"), ("mjpeg", ".mov")]


def write_film(path: Path, codec: str, frames: int = FRAMES, gop: int = 12) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options={"g": str(gop)})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(frames):
            pixels = np.full((32, 48, 3), 5 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(("codec", "suffix"), CODED)
def test_any_frame_is_the_one_that_reading_in_order_gives(codec: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    write_film(path, codec)
    expected = [frame.image for frame in VideoReader(path)]
    film = Film(path)
    assert len(film) == len(expected) == FRAMES
    order = np.random.default_rng(0).permutation(FRAMES).tolist()
    for number in [*order, 7, 8, 9, 9, 0, FRAMES - 1]:
        np.testing.assert_array_equal(film.frame(number), expected[number])


def test_frames_in_order_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    write_film(path, "libx264", gop=1000)
    film = Film(path)
    opened: list[int] = []
    seek = film._seek

    def counted(number: int) -> None:
        opened.append(number)
        seek(number)

    monkeypatch.setattr(film, "_seek", counted)
    for number in range(0, FRAMES, 3):
        film.frame(number)
    assert opened == [0]


def test_threads_take_turns(tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4", "libx264")
    tree = FilmTree(tmp_path)
    names = tree.frames("a.mp4", 1)
    expected = [frame.image for frame in VideoReader(tmp_path / "a.mp4")]
    for found, wanted in zip(mapped_ahead(tree.frame, names, threads=4, waiting=8), expected, strict=True):
        assert found is not None
        np.testing.assert_array_equal(found, wanted)


def test_a_film_that_is_cut_off_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_film(path, "libx264", gop=1000)
    tree = FilmTree(tmp_path)
    names = tree.frames("a.mkv", 10)
    assert names == ["a.mkv#000000", "a.mkv#000010", "a.mkv#000020", "a.mkv#000030"]
    assert tree.stamp(names[1]) == tree.stamp("a.mkv")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match=r"a\.mkv: "):
        tree.frame(names[3])
    (tmp_path / "b.mp4").write_bytes(b"no film")
    with pytest.raises(InputError, match=r"b\.mp4: not a readable video"):
        tree.frames("b.mp4", 1)

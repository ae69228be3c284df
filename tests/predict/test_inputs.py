from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from adaptseg.errors import InputError
from adaptseg.predict.inputs import find_inputs, labels_notes, photographs_of
from adaptseg.predict.predictions import predict_files
from tests.predict.test_predictions import files, segmenter, write_images

NAMES = ["a.png", "x/b.jpg", "x/y/c.png", "z/c.png"]


def names(*inputs: Path | str) -> list[str]:
    return [str(name) for _, name in find_inputs([str(text) for text in inputs])]


def test_files_folders_and_patterns(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", NAMES)
    for other in ("notes.txt", "x/._b.jpg", "clip.MP4"):
        (folder / other).touch()
    assert names(folder) == ["a", "clip", "x/b", "x/y/c", "z/c"]
    assert names(folder / "x/b.jpg") == ["b"]
    assert names(folder / "*") == ["a", "clip", "x/b", "x/y/c", "z/c"]
    assert names(folder / "*.png") == ["a"]
    assert names(folder / "**/*.png") == ["a", "x/y/c", "z/c"]
    assert names(folder / "x/**") == ["b", "y/c"]
    assert names(folder / "[xz]/*.*g") == ["x/b", "z/c"]
    assert names(folder / "x", folder / "a.png") == ["b", "y/c", "a"]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    folder = write_images(tmp_path, ["photo[1].png", "photo1.png"])
    assert names(folder / "photo[1].png") == ["photo[1]"]


def test_a_moving_photograph(tmp_path: Path) -> None:
    folder = write_images(tmp_path, ["a.jpg"])
    (folder / "a.mov").touch()
    assert names(folder) == ["a", "a"]
    (folder / "a.mp4").touch()
    with pytest.raises(InputError, match=r"would both be written as a\.mp4"):
        names(folder)


def test_nothing_found(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", NAMES)
    (folder / "notes.txt").touch()
    for pattern in ("*.tif", "*.txt", "nosuch/*"):
        with pytest.raises(InputError, match="no image or video matches; check the pattern"):
            names(folder / pattern)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images in it"):
        names(tmp_path / "empty")
    with pytest.raises(InputError, match="would both be written as c"):
        names(folder / "z/c.png", folder / "x/y/c.png")


def test_a_very_large_png_is_refused_unread(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(90_001)) * 2  # Of 30000 rows.
    path = write_images(tmp_path / "in", ["a.png"]) / "large.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    with pytest.raises(InputError, match=r"large\.png: more than 100000000 pixels; scale the image down"):
        predict_files(segmenter(), find_inputs([str(tmp_path / "in")]), tmp_path / "out")
    assert len(files(tmp_path / "out")) == 3 + len(["legend.csv", "legend.json"])


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    """As training follows them; a link to a folder above does not go round for ever."""
    for place in ("photos/own", "elsewhere"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.png").write_bytes(b"")
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "round").symlink_to(tmp_path / "photos")
    names = [name.as_posix() for _, name in find_inputs([str(tmp_path / "photos")])]
    assert names == ["linked/a", "own/a"]


def test_predictions_and_hidden_folders_are_no_inputs(tmp_path: Path) -> None:
    """A second prediction finds what the first one found."""
    folder = write_images(tmp_path / "photos", ["a.png", "x/b.png", ".thumbnails/a.png"])
    out = folder / "out"
    write_images(out, ["overlays/a.png"])

    def found(text: Path, out: Path | None) -> list[str]:
        return [name.as_posix() for _, name in find_inputs([str(text)], out)]

    for text in (folder, folder / "*", folder / "**/*.png"):
        assert found(text, out) == ["a", "x/b"]
        assert found(text, out / "overlays") == ["a", "x/b"]
        assert found(text, None) == ["a", "out/overlays/a", "x/b"]
    assert found(folder / "x", tmp_path) == ["b"]
    write_images(folder, ["colors/a.png"])
    assert found(folder, folder) == ["a", "out/overlays/a", "x/b"]
    for text in (out / "overlays", out / "overlays/*", out / "overlays/a.png"):
        with pytest.raises(InputError, match=r"overlays.*: lies in --out .*out, where predictions are written"):
            found(text, out)


def test_masks_beside_photographs_are_said(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "to-label", ["images/a.png", "images/x/b.png", "labels/a.png", "entropy/a.png"])

    def notes(text: Path, out: Path | None = None) -> list[str]:
        return list(labels_notes([str(text)], find_inputs([str(text)], out)))

    (note,) = notes(folder)
    assert "2 files outside images/ are predicted too; give" in note
    assert f"give {folder / 'images'} to predict" in note
    assert notes(folder / "images") == notes(folder / "images" / "a.png") == []
    assert notes(folder, out=folder) == [], "labels/ and entropy/ are its own predictions"
    assert photographs_of(str(folder)) == str(folder / "images")
    assert photographs_of(str(folder / "labels")) == str(folder / "labels")


def test_frames_beside_their_video(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", ["drive/000000.jpg", "drive/photo.jpg"])
    (folder / "drive.mp4").touch()
    assert len(find_inputs([str(folder)])) == 3
    with pytest.raises(InputError, match=r"000000\.jpg: a frame of the video drive is written as drive.000000 too"):
        find_inputs([str(folder)], frames=True)
    (folder / "drive/000000.jpg").unlink()
    assert len(find_inputs([str(folder)], frames=True)) == 2

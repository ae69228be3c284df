"""Decoding and resizing by the fast ways give what Pillow gives, and refuse what Pillow refuses."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from adaptseg.data.files import UInt8Array, decode_image, look_up, resize_image, resize_label
from adaptseg.errors import InputError


def picture(height: int, width: int, seed: int = 0) -> UInt8Array:
    """Return a smooth picture with noise, (H, W, 3): PNG's filters all occur in its file."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return (np.asarray(coarse) + rng.normal(0, 3, (height, width, 3))).clip(0, 255).astype(np.uint8)


def png(image: Image.Image, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, "PNG", **options)
    return target.getvalue()


def by_pillow(data: bytes) -> UInt8Array:
    return np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def test_every_kind_of_png_is_decoded_as_pillow_does() -> None:
    image = Image.fromarray(picture(61, 83))
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: to be turned by 90 degrees.
    gamma = PngImagePlugin.PngInfo()
    gamma.add(b"gAMA", (100000).to_bytes(4, "big"))
    kinds = {
        "rgb": png(image),
        "turned": png(image, exif=exif),
        "gamma": png(image, pnginfo=gamma),
        "transparent": png(image, transparency=(1, 2, 3)),
        "animated": png(image, save_all=True, append_images=[Image.fromarray(picture(61, 83, seed=1))]),
        "rgba": png(image.convert("RGBA")),
        "palette": png(image.quantize(40)),
        "grey": png(image.convert("L")),
        "one column": png(image.crop((0, 0, 1, 9))),
    }
    for kind, data in kinds.items():
        decoded = decode_image(data, "x.png")
        np.testing.assert_array_equal(decoded, by_pillow(data), err_msg=kind)
        assert decoded.flags.c_contiguous
        assert decoded.flags.writeable


def test_damaged_png_images_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    data = png(Image.fromarray(picture(61, 83)))
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start], "big")
    flipped = bytearray(data)
    flipped[start + length // 2] ^= 4
    half = data[start + 4 : start + 4 + length // 2]  # Sound chunks around half of the pixels.
    short = data[: start - 4] + len(half).to_bytes(4, "big") + b"IDAT" + half
    short += zlib.crc32(b"IDAT" + half).to_bytes(4, "big") + data[start + 8 + length :]
    for broken in (data[: len(data) // 2], data[:-12], bytes(flipped), short):
        with pytest.raises(InputError, match=r"^folder/x\.png: not a readable image .*; replace or remove the file$"):
            decode_image(broken, "folder/x.png")
        if broken is not short:  # Its checksums are right: OpenCV sees it, and writes about it by itself.
            assert capfd.readouterr().err == ""


@pytest.mark.parametrize("size", [(64, 40), (97, 33), (20, 11), (200, 150), (83, 30), (40, 61)])
def test_resizing_is_pillows_up_to_rounding(size: tuple[int, int]) -> None:
    image = picture(61, 83)
    resized = resize_image(image, size)
    expected = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    assert resized.shape == expected.shape
    assert resized.dtype == np.uint8
    assert resized.flags.c_contiguous
    difference = np.abs(resized.astype(int) - expected)
    # Made wider and lower at once: torch begins with the height, Pillow with the width, and both round in between.
    other_order = size[0] > 83 and size[1] < 61
    assert difference.max() <= (3 if other_order else 2)
    assert (difference > 0).mean() < (0.3 if other_order else 0.02)


@pytest.mark.filterwarnings("error")
def test_resizing_takes_any_array() -> None:
    image = picture(61, 83)
    expected = resize_image(image, (40, 30))
    read_only = image.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(resize_image(read_only, (40, 30)), expected)
    mirrored_twice = image[:, ::-1].copy()[:, ::-1]
    np.testing.assert_array_equal(resize_image(mirrored_twice, (40, 30)), expected)


@pytest.mark.parametrize("size", [(64, 40), (97, 33), (20, 11), (200, 150), (166, 122), (41, 30)])
def test_labels_are_resized_as_pillow_does(size: tuple[int, int]) -> None:
    label = np.random.default_rng(0).integers(0, 256, (61, 83), np.uint8)
    expected = np.array(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    np.testing.assert_array_equal(resize_label(label, size), expected)
    np.testing.assert_array_equal(resize_label(label.astype(np.uint16), size), expected)


def test_look_up() -> None:
    table = np.random.default_rng(0).integers(0, 256, 65536, np.uint8)
    for kind, highest in ((np.uint8, 255), (np.uint16, 65535)):
        values = np.random.default_rng(1).integers(0, highest, (30, 40), kind, endpoint=True)
        np.testing.assert_array_equal(look_up(table, values), table[values])
        np.testing.assert_array_equal(look_up(table, values[::2, ::-1]), table[values[::2, ::-1]])


def test_a_guessed_range_is_said_once_for_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for value, name in ((1000, "a"), (900, "b")):
        data = png(Image.fromarray(np.full((9, 9), value, np.uint16)))
        assert decode_image(data, str(tmp_path / name))[0, 0, 0] == round(value / 1023 * 255)
        decode_image(data, str(tmp_path / name), (0, 4000))  # A known range is nothing to say.
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}: images of more than 8 bits, of unknown range: 0 … 1023 become 0 … 255" in line

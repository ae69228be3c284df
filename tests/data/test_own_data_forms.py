"""Forms of labels and images that engines, cameras and tools write, one small folder each."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from adaptseg.config import DomainConfig
from adaptseg.data.files import decode_image, decode_label
from adaptseg.data.layouts.label_map import parse_label_map
from adaptseg.data.layouts.registry import open_layout
from adaptseg.errors import InputError

VALUES = np.random.default_rng(0).integers(0, 4, (12, 16)).astype(np.uint8)
WIDTH, HEIGHT = 16, 12
NAMES = ["road", "car", "sky", "tree"]


def folder(root: Path, write: Any, suffix: str = ".png", names: tuple[str, ...] = ("a", "b")) -> Path:
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(root / "images" / f"{name}.png")
        write(root / "labels" / f"{name}{suffix}")
    return root


def layout(root: Path, **keys: Any) -> Any:
    keys = {"classes": NAMES, **keys}
    return open_layout(DomainConfig(layout="folder", root=str(root), labelled=True, **keys))


def png_file(header: bytes, pixels: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def png(values: np.ndarray[Any, Any], depth: int) -> bytes:
    """Return a grey PNG of 2 or 4 bits, which Pillow does not write."""
    rows = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - depth :].ravel()).tobytes() for row in values
    )
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, 0, 0, 0, 0)
    return png_file(header, zlib.compress(rows))


def channels(*planes: Any) -> Image.Image:
    return Image.fromarray(np.dstack([np.broadcast_to(plane, VALUES.shape) for plane in planes]).astype(np.uint8))


def palette(transparent: bool = False) -> bytes:
    image = Image.fromarray(VALUES).convert("P")
    image.putpalette(bytes(range(12)))
    target = io.BytesIO()
    image.save(target, "PNG", **({"transparency": bytes([0, 255, 128, 9])} if transparent else {}))
    return target.getvalue()


def write_red_16(path: Path) -> None:
    cv2.imwrite(str(path), np.dstack([VALUES * 0, VALUES * 0, VALUES]).astype(np.uint16))


def array(values: Any) -> bytes:
    target = io.BytesIO()
    np.save(target, values)
    return target.getvalue()


PICTURES: dict[str, tuple[str, Any]] = {
    "2-bit grey": (".png", lambda path: path.write_bytes(png(VALUES, 2))),
    "4-bit grey": (".png", lambda path: path.write_bytes(png(VALUES, 4))),
    "upper-case suffix": (".PNG", lambda path: Image.fromarray(VALUES).save(path)),
    "ids in green": (".png", lambda path: channels(7, VALUES, 0).save(path)),
    "ids in blue, alpha": (".png", lambda path: channels(0, 0, VALUES, 255).save(path)),
    "grey as RGB": (".png", lambda path: channels(VALUES, VALUES, VALUES).save(path)),
    "grey as BGRA bitmap": (".bmp", lambda path: channels(VALUES, VALUES, VALUES, 255).save(path)),
    "grey and alpha": (".png", lambda path: Image.merge("LA", [Image.fromarray(VALUES)] * 2).save(path)),
    "16-bit red": (".png", lambda path: write_red_16(path)),
    "palette": (".png", lambda path: path.write_bytes(palette())),
    "palette, transparent": (".png", lambda path: path.write_bytes(palette(transparent=True))),
    "GIF": (".gif", lambda path: Image.fromarray(VALUES).save(path)),
    "lossless WebP": (".webp", lambda path: channels(VALUES, VALUES, VALUES).save(path, lossless=True)),
    "int32 TIFF": (".tif", lambda path: Image.fromarray(VALUES.astype(np.int32)).save(path)),
    "float TIFF": (".tiff", lambda path: Image.fromarray(VALUES.astype(np.float32)).save(path)),
    "LZW TIFF": (".tif", lambda path: Image.fromarray(VALUES.astype(np.uint16)).save(path, compression="tiff_lzw")),
    "npy": (".npy", lambda path: path.write_bytes(array(VALUES.astype(np.int64)))),
    "npy, fractions of none": (".npy", lambda path: path.write_bytes(array(VALUES[None].astype(np.float64)))),
}  # fmt: skip


@pytest.mark.parametrize("form", PICTURES)
def test_label_pictures(form: str, tmp_path: Path) -> None:
    suffix, write = PICTURES[form]
    found = layout(folder(tmp_path, write, suffix))
    np.testing.assert_array_equal(found.label(0), VALUES)
    assert found.label(0).dtype in (np.uint8, np.uint16)


def test_masks_of_two_values(tmp_path: Path) -> None:
    for kind, write in {
        "png": lambda path: Image.fromarray(VALUES > 0).save(path),
        "npy": lambda path: path.write_bytes(array(VALUES > 0)),
    }.items():
        found = layout(folder(tmp_path / kind, write, f".{kind}"), classes=["road", "car"])
        np.testing.assert_array_equal(found.label(1), VALUES > 0)


@pytest.mark.parametrize(
    ("suffix", "write", "message"),
    [
        (".png", lambda path: channels(VALUES, 3 - VALUES, 0).save(path), "a picture of colours"),
        (".webp", lambda path: channels(VALUES, VALUES, VALUES).save(path), "lossy WebP"),
        (".png", lambda path: Image.fromarray(VALUES).save(path, "JPEG"), "a JPEG file, which changes pixels"),
        (".tif", lambda path: Image.fromarray(VALUES + np.float32(0.5)).save(path), "values with fractions"),
        (".tif", lambda path: Image.fromarray(VALUES.astype(np.int32) - 1).save(path), "outside 0 … 65535"),
        (".npy", lambda path: path.write_bytes(array(np.zeros((2, 3, 4)))), "shape"),
        (".npy", lambda path: path.write_bytes(array(np.array([{}], object))), "an array of object"),
        (".npy", lambda path: path.write_bytes(array(VALUES)[:100]), "no readable NumPy array"),
    ],
)
def test_label_pictures_that_are_refused(suffix: str, write: Any, message: str, tmp_path: Path) -> None:
    found = layout(folder(tmp_path, write, suffix))
    with pytest.raises(InputError, match=message):
        found.label(0)


def test_interlaced_pictures() -> None:
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    rows = [row for top, down, left, right in passes for row in VALUES[top::down, left::right]]
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows if len(row)))
    data = png_file(struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 0, 0, 0, 1), pixels)
    np.testing.assert_array_equal(decode_label(data, "x"), VALUES)


def test_pairing_by_templates(tmp_path: Path) -> None:
    for scene in ("one", "two"):
        for kind, values in (("rgb", np.zeros((3, 4, 3), np.uint8)), ("seg", np.zeros((3, 4), np.uint8))):
            (tmp_path / scene / kind).mkdir(parents=True)
            for name in ("ä b", "0.1"):
                Image.fromarray(values).save(tmp_path / scene / kind / f"{name}_{kind}.png")
    found = layout(tmp_path, images="*/rgb/{name}_rgb", labels="*/seg/{name}_seg.png")
    assert list(found.names) == ["one/0.1", "one/ä b", "two/0.1", "two/ä b"]
    assert [Path(name).parts[0] for name in found.label_files] == ["one", "one", "two", "two"]
    assert not found.notes
    with pytest.raises(InputError, match="two labels of one name; give images and labels as many wildcards"):
        layout(tmp_path, images="one/rgb/{name}_rgb.png", labels="*/seg/{name}_seg.png")
    with pytest.raises(
        InputError, match=r"no label one/seg; give templates, such as labels: 'one/seg/\{name\}_seg.png'"
    ):
        layout(tmp_path, images="one/rgb/{name}_rgb.png", labels="one/seg")
    for template in ("{name}{name}.png", "*.png"):
        with pytest.raises(InputError, match=r"a template has \{name\} once"):
            layout(tmp_path, images=template)


def test_labels_of_several_images_are_noted(tmp_path: Path) -> None:
    """Renderings of a scene in sun and rain may share a label; those of two cameras may not."""
    for weather in ("rain", "sun"):
        folder(tmp_path / weather, Image.fromarray(VALUES).save)
    (tmp_path / "sun" / "labels").rename(tmp_path / "labels")
    keys = {"images": "*/images/{name}.png", "labels": "labels/{name}.png"}
    note = next(note for note in layout(tmp_path, **keys).notes if "several" in note)
    assert "2 labels are of several images each, such as labels/a.png of rain/a, sun/a; where those are diff" in note


def test_names_with_two_suffixes(tmp_path: Path) -> None:
    text = '{"shapes": [], "imageWidth": 16, "imageHeight": 12}'
    root = folder(tmp_path, lambda path: path.write_text(text), ".json", names=("a", "scan.tif", "b.heic"))
    found = layout(root, classes=["road", "car"])
    assert dict(zip(found.names, found.label_files, strict=True)) == {
        name: f"labels/{name}.json" for name in ("a", "scan.tif", "b.heic")
    }


def test_several_roots_lists_and_parts(tmp_path: Path) -> None:
    write = Image.fromarray(VALUES).save
    roots = [str(folder(tmp_path / name, write, names=("a", "b", "c"))) for name in ("x", "y")]
    joined = open_layout(DomainConfig(layout="folder", root=roots, labelled=True, classes=NAMES, part=(0.5, 1.0)))
    assert joined.names == ["y/a", "y/b", "y/c"]
    assert joined.where(0) == str(tmp_path / "y" / "labels" / "a.png")
    np.testing.assert_array_equal(joined.label(1), VALUES)
    (tmp_path / "x" / "train.txt").write_text("# names\nimages/c.png labels/c.png\na\n\n")
    assert layout(tmp_path / "x", list="train.txt").names == ["a", "c"]
    (tmp_path / "x" / "train.txt").write_text("a\nnone\n")
    with pytest.raises(InputError, match=r"train\.txt: 1 names are none of the images: none; images are called like a"):
        layout(tmp_path / "x", list="train.txt")


def test_unlabelled_images_are_refused_or_counted(tmp_path: Path) -> None:
    root = folder(tmp_path, Image.fromarray(VALUES).save, names=("a", "b", "c", "d"))
    for name in ("b", "c"):
        (root / "labels" / f"{name}.png").unlink()
    with pytest.raises(InputError, match=r"images/b\.png, .*c\.png: 2 of 4 images have no label labels; add them"):
        layout(root)
    assert layout(root, unlabelled="skip").names == ["a", "d"]


def test_label_maps_either_way() -> None:
    one = parse_label_map(
        {7: "road", "8-10": "car", "1, 2, 3": "sky", "#0a0B0c": "tree", "person": "human", "default": "void"}
    )
    assert one.values == {7: "road", 8: "car", 9: "car", 10: "car"}
    assert one.colors == {(1, 2, 3): "sky", (10, 11, 12): "tree"}
    assert (one.names, one.default) == ({"person": "human"}, "void")
    other = parse_label_map(
        {"road": 7, "car": ["8-9", 10], "sky": "(1, 2, 3, 255)", "tree": [[10, 11, 12]], "a": ["b", "c"]}
    )
    assert other.values == one.values
    assert other.colors == one.colors
    assert other.names == {"b": "a", "c": "a"}
    for wrong, message in (
        ({7: "road", "road": 8, "car": 7}, "calls 7 both road and car"),
        ({"9-8": "road"}, "write 8-9"),
        ({"1,2,256": "road"}, "its parts are 0 … 255"),
        ({"road": [128, 64, 128]}, "as a colour write road: '128, 64, 128'"),
        ({0: 1}, "which is no class name"),
        ({"road": 70000}, "label values are 0 … 65535"),
    ):
        with pytest.raises(InputError, match=message):
            parse_label_map(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
def test_images_of_every_orientation_are_upright(form: str, mode: str) -> None:
    if mode == "I;16" and form not in ("PNG", "TIFF"):
        pytest.skip("8 bits alone")
    upright = np.zeros((32, 48), np.uint8)
    upright[:16, :16] = 250
    pixels = (
        upright.astype(np.uint16) * 257
        if mode == "I;16"
        else np.dstack([upright] * 3)[..., : 3 if mode == "RGB" else 1]
    )
    for turn, stored in {
        1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels), 7: pixels[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(pixels, -1),
    }.items():  # fmt: skip
        exif = Image.Exif()
        exif[0x0112] = turn
        target = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(stored.squeeze())).save(target, form, exif=exif, quality=95)
        found = decode_image(target.getvalue(), "x")
        assert found.shape == (32, 48, 3), turn
        assert np.abs(found[:, :, 0].astype(int) - upright).mean() < 6, turn


def test_deep_images_are_scaled() -> None:
    grey = (np.arange(32 * 48).reshape(32, 48) % 1000).astype(np.uint16)
    done, data = cv2.imencode(".png", np.dstack([grey, grey // 2, grey // 4]))
    assert done
    expected = np.rint(np.dstack([grey // 4, grey // 2, grey]) * (255 / 1023)).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(data.tobytes(), "x"), expected)
    target = io.BytesIO()
    Image.fromarray(grey).save(target, "PNG")
    assert decode_image(target.getvalue(), "x", (0, 500)).max() == 255
    np.testing.assert_array_equal(decode_image(target.getvalue(), "x")[:, :, 1], expected[:, :, 2])

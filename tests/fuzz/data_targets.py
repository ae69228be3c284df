"""Readers of pictures, labels, films, folders and published data sets."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

import adaptseg.reports.compare
import adaptseg.reports.terminal  # noqa: F401
from adaptseg.config import DomainConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.files import decode_image, decode_label
from adaptseg.data.label_spaces import label_space
from adaptseg.data.layouts.brush_rle import encode
from adaptseg.data.layouts.label_decoding import decode_class_ids, decode_synthia
from adaptseg.data.layouts.published_labels import CITYSCAPES_IDS, SYNTHIA_IDS
from adaptseg.data.prepared import Prepared
from tests.data.published_trees import TREES, build_tree, pack
from tests.fuzz.campaign import Target
from tests.fuzz.mutations import Tree, png_bomb
from tests.fuzz.trees import built, damaged, saved


@cache
def pictures() -> list[Tree]:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 4), np.uint8)
    color, grey = Image.fromarray(noise[:, :, :3]), Image.fromarray(noise[:, :, 0])
    wide = Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
    return [
        {"a.png": saved(color, "PNG")},
        {"a.png": saved(Image.fromarray(noise), "PNG")},
        {"a.png": saved(grey, "PNG")},
        {"a.png": saved(wide, "PNG")},
        {"a.png": saved(color.quantize(16), "PNG", transparency=bytes(range(16)))},
        {"a.png": saved(grey.convert("1"), "PNG")},
        {"a.png": png_bomb()},
        *({"a.jpg": saved(image, "JPEG", quality=quality)} for image in (color, grey) for quality in (50, 95)),
        {"a.jpg": saved(color, "JPEG", progressive=True)},
        {"a.jpg": saved(color.convert("CMYK"), "JPEG")},
    ]


@cache
def _other_pictures() -> list[Tree]:
    color = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8))
    return [
        *({f"a.{form.lower()}": saved(color, form)} for form in ("BMP", "TIFF", "WEBP", "PPM")),
        *(
            {"a.tif": saved(color.convert(mode), "TIFF", compression="tiff_lzw")}
            for mode in ("L", "RGBA", "CMYK", "I;16")
        ),
        *({"a.tif": saved(color.convert(mode), "TIFF")} for mode in ("I", "F", "LAB", "1")),
        *({"a.png": saved(color, form)} for form in ("GIF", "ICO", "TGA", "SGI", "PCX", "EPS", "PDF")),
    ]


@cache
def videos() -> list[Tree]:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (32, 48, 3), np.uint8) for _ in range(4)]
    coded = (("libx264", ".mp4"), ("libx264", ".mkv"), ("mpeg4", ".avi"), ("libvpx", ".webm"), ("mpeg4", ".mov"))
    return [built(partial(_write_video, codec=codec, name=f"a{suffix}", frames=frames)) for codec, suffix in coded]


def _write_video(folder: Path, codec: str, name: str, frames: Sequence[Any]) -> None:
    with av.open(str(folder / name), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _read_pictures(folder: Path, out: Path) -> None:
    for path in sorted(folder.iterdir()):
        decode_image(path.read_bytes(), str(path))


@cache
def _labels() -> list[Tree]:
    values = np.random.default_rng(0).choice([7, 8, 11, 23, 26], (12, 16)).astype(np.uint8)
    grey = Image.fromarray(values)
    palette = grey.copy()
    palette.putpalette(np.random.default_rng(1).integers(1, 255, 768, np.uint8).tobytes())
    pixels = np.zeros((12, 16, 3), np.uint16)
    pixels[:, :, 2] = values % 23
    return [
        {"ids.png": saved(grey, "PNG")},
        {"ids.png": saved(palette, "PNG")},
        {"ids.png": saved(Image.fromarray(values.astype(np.uint16)), "PNG")},
        {"raw.png": saved(grey.convert("1"), "PNG")},
        {"raw.tif": saved(grey.convert("I"), "TIFF")},
        {"synthia.png": cv2.imencode(".png", pixels)[1].tobytes()},
    ]


def _read_labels(folder: Path, out: Path) -> None:
    for path in sorted(folder.iterdir()):
        data, where = path.read_bytes(), str(path)
        if path.stem == "ids":
            decode_class_ids(CITYSCAPES_IDS, data, where)
        elif path.stem == "synthia":
            decode_synthia(SYNTHIA_IDS, data, where)
        else:
            decode_label(data, where)


def _own_folder(root: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "night/b"):
        for kind, pixels in (("images", rng.integers(0, 256, (12, 16, 3))), ("labels", rng.integers(0, 3, (12, 16)))):
            path = root / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)


@cache
def _folders() -> list[Tree]:
    return [built(_own_folder)]


def _read_all(domain: Domain) -> None:
    for index in range(len(domain)):
        domain[index]
        domain.for_evaluation(index)


@cache
def _annotated() -> list[Tree]:
    polygon = [[1, 1], [9, 1], [9, 7]]
    flat, size = [part for point in polygon for part in point], {"imageWidth": 16, "imageHeight": 12}
    image = saved(Image.new("RGB", (16, 12)), "PNG")
    shapes = {"shapes": [{"label": "road", "points": polygon}], **size}
    objects = {"objects": [{"label": "car", "polygon": polygon}], "imgWidth": 16, "imgHeight": 12}
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 16, "height": 12}],
        "categories": [{"id": 3, "name": "sky"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [flat]},
            {"id": 2, "image_id": 1, "category_id": 3, "segmentation": {"size": [12, 16], "counts": "3P:"}},
        ],
    }
    cvat = (
        '<annotations><image id="0" name="a.png" width="16" height="12"><polygon label="road" points="1,1;9,1;9,7"/>'
        '<mask label="car" rle="2, 3" left="1" top="2" width="3" height="2"/></image></annotations>'
    )
    brush = {"type": "brushlabels", "original_width": 16, "original_height": 12}
    brush["value"] = {"format": "rle", "rle": encode(np.eye(12, 16) > 0), "brushlabels": ["road"]}
    tasks = [{"data": {"image": "a.png"}, "annotations": [{"result": [brush]}]}]
    array = io.BytesIO()
    np.save(array, np.zeros((12, 16), np.uint8))
    labels = {
        "a.json": [json.dumps(content).encode() for content in (shapes, objects, coco, tasks)],
        "a.xml": [cvat.encode()],
        "a.txt": [b"1 0.1 0.1 0.9 0.1 0.9 0.7\n"],
        "a.npy": [array.getvalue()],
    }
    masks = {"labels/labelmap.txt": b"background:0,0,0::\nroad:128,64,128::\n", "labels/SegmentationClass/a.png": image}
    drawn = [{f"labels/{name}": content} for name, contents in labels.items() for content in contents]
    return [{"images/a.png": image, **tree} for tree in (*drawn, masks)]


def _read_folder(folder: Path, out: Path) -> None:
    config = DomainConfig(
        layout="folder", root=str(folder), classes=["road", "car", "sky"], labelled=True, size=(24, 8)
    )
    _read_all(Domain(config, label_space(["road", "car", "sky"])))


ORIGIN = ["folder", "/data", None, None, True]
RECIPE = {"version": "1", "size": "16x12", "state of the files": "0" * 64}


def _prepared_folder(root: Path) -> None:
    rng = np.random.default_rng(0)
    for name, recipe in (("now", RECIPE), ("older", RECIPE | {"size": "8x8"})):
        samples = Prepared(root / name, recipe, ORIGIN)
        samples.write(0, rng.integers(0, 256, (12, 16, 3), np.uint8), rng.integers(0, 3, (12, 16), np.uint8))
        samples.finish()


@cache
def _prepared() -> list[Tree]:
    return [built(_prepared_folder)]


def _read_prepared(folder: Path, out: Path) -> None:
    for name in ("now", "older", "next"):
        samples = Prepared(folder / name, RECIPE, ORIGIN)
        usable, line = samples.state()
        assert "\n" not in line
        if usable:
            samples.read(0)


def _published(layout: str, zipped: bool, root: Path) -> None:
    build_tree(layout, root, (16, 12), images=1)
    for path in root.rglob("*"):
        os.utime(path, (10**9, 10**9))  # Archives keep the time: equal seeds give equal bytes.
    if zipped:
        pack(TREES[layout], root)


@cache
def _published_trees(zipped: bool) -> list[Tree]:
    layouts = [layout for layout, tree in TREES.items() if tree.archives or not zipped]
    return [
        {f"{layout}/{name}": data for name, data in built(partial(_published, layout, zipped)).items()}
        for layout in layouts
    ]


def _read_published(folder: Path, out: Path) -> None:
    for root in sorted(folder.iterdir()):
        tree = TREES[root.name]
        split = next(split for split in tree.splits if split not in tree.unlabelled)
        config = DomainConfig(layout=root.name, root=str(root), split=[split] if split else None, labelled=True)
        _read_all(Domain(config, label_space("cityscapes19")))


DATA = (
    Target("pictures", partial(damaged, pictures), _read_pictures),
    Target("other pictures", partial(damaged, _other_pictures), _read_pictures),
    Target("labels", partial(damaged, _labels), _read_labels),
    Target("folder", partial(damaged, _folders), _read_folder),
    Target("annotations", partial(damaged, _annotated), _read_folder),
    Target("prepared", partial(damaged, _prepared), _read_prepared),
    Target("published folders", partial(damaged, partial(_published_trees, False)), _read_published),
    Target("published archives", partial(damaged, partial(_published_trees, True)), _read_published),
)

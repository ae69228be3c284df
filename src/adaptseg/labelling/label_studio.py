"""Predictions for Label Studio: tasks with brushed masks, exact, and the labelling interface."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from adaptseg.atomic import write_text
from adaptseg.data.layouts.brush_rle import encode
from adaptseg.labelling.annotations import ToLabel


def write(to_label: ToLabel, place: str) -> str:
    """Write `label-studio.json` and `label-studio.xml`.

    Args:
        to_label: the images and their predictions.
        place: the folder as Label Studio's local storage will see it, below its document root.
    """
    tasks: list[dict[str, Any]] = []
    for image, label in to_label.labels():
        height, width = label.shape
        results = [
            {
                "id": f"{len(tasks)}-{number}",
                "type": "brushlabels",
                "from_name": "tag",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {"format": "rle", "rle": encode(mask), "brushlabels": [name]},
            }
            for number, (name, mask) in enumerate(to_label.masks(label))
        ]
        data = {"image": f"/data/local-files/?d={quote(f'{place}/{image}')}"}
        tasks.append({"data": data, "predictions": [{"model_version": "adaptseg", "result": results}]})
    write_text(to_label.folder / "label-studio.json", json.dumps(tasks, ensure_ascii=False) + "\n")
    colors = to_label.colors()
    labels = "".join(
        f"    <Label value={quoteattr(name)} background={quoteattr('#' + bytes(colors[name]).hex())}/>\n"
        for name in to_label.names
    )
    view = (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="tag" toName="image">\n{labels}  </BrushLabels>\n</View>\n'
    )
    write_text(to_label.folder / "label-studio.xml", view)
    return (
        "labelstudio: interface in label-studio.xml, tasks with predictions in label-studio.json; add `labels: FILE`"
        " with the corrected export as JSON"
    )

"""The readers under test: how an input of each is made, and how it is read."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import av
import cv2
import numpy as np
import torch
import yaml
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file
from torch.optim import Optimizer

import adaptseg.reports.compare
import adaptseg.reports.terminal  # noqa: F401
from adaptseg import cli
from adaptseg.config import DomainConfig, ExperimentConfig, to_dict
from adaptseg.data.dataset import Domain
from adaptseg.data.files import decode_image, decode_label
from adaptseg.data.label_spaces import label_space
from adaptseg.data.layouts.brush_rle import encode
from adaptseg.data.layouts.label_decoding import decode_class_ids, decode_synthia
from adaptseg.data.layouts.published_labels import CITYSCAPES_IDS, SYNTHIA_IDS
from adaptseg.data.prepared import Prepared
from adaptseg.errors import InputError
from adaptseg.experiment import preset_names, read_experiment, with_absolute_paths, write_config
from adaptseg.export.export import write_weights
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.predict.inputs import find_inputs
from adaptseg.predict.predictions import predict_files
from adaptseg.reports.seed_runs import SeedRuns
from adaptseg.reports.terminal import print_table
from adaptseg.segmenter.hub import export_card, write_folder
from adaptseg.segmenter.initial_weights import initialise_from
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.model_card import model_card
from adaptseg.segmenter.state_dicts import read_state_dict
from adaptseg.text import CONTROL, plain
from adaptseg.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from tests.data.published_trees import TREES, build_tree, pack
from tests.fuzz import strategies
from tests.fuzz.campaign import Target
from tests.fuzz.mutations import Tree, mutate_tree, png_bomb


def damaged(trees: Callable[[], Sequence[Tree]], rng: Random) -> Tree:
    """Damage one of some good trees; one in fifty is left as it is."""
    tree = rng.choice(trees())
    return tree if rng.random() < 0.02 else mutate_tree(tree, rng)


def _files_of(folder: Path) -> Tree:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _built(build: Callable[[Path], Any]) -> Tree:
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        return _files_of(Path(folder))


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


@cache
def _pictures() -> list[Tree]:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 4), np.uint8)
    color, grey = Image.fromarray(noise[:, :, :3]), Image.fromarray(noise[:, :, 0])
    wide = Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
    return [
        {"a.png": _saved(color, "PNG")},
        {"a.png": _saved(Image.fromarray(noise), "PNG")},
        {"a.png": _saved(grey, "PNG")},
        {"a.png": _saved(wide, "PNG")},
        {"a.png": _saved(color.quantize(16), "PNG", transparency=bytes(range(16)))},
        {"a.png": _saved(grey.convert("1"), "PNG")},
        {"a.png": png_bomb()},
        *({"a.jpg": _saved(image, "JPEG", quality=quality)} for image in (color, grey) for quality in (50, 95)),
        {"a.jpg": _saved(color, "JPEG", progressive=True)},
        {"a.jpg": _saved(color.convert("CMYK"), "JPEG")},
    ]


@cache
def _other_pictures() -> list[Tree]:
    color = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8))
    return [
        *({f"a.{form.lower()}": _saved(color, form)} for form in ("BMP", "TIFF", "WEBP", "PPM")),
        *(
            {"a.tif": _saved(color.convert(mode), "TIFF", compression="tiff_lzw")}
            for mode in ("L", "RGBA", "CMYK", "I;16")
        ),
        *({"a.tif": _saved(color.convert(mode), "TIFF")} for mode in ("I", "F", "LAB", "1")),
        *({"a.png": _saved(color, form)} for form in ("GIF", "ICO", "TGA", "SGI", "PCX", "EPS", "PDF")),
    ]


@cache
def _videos() -> list[Tree]:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (32, 48, 3), np.uint8) for _ in range(4)]
    coded = (("libx264", ".mp4"), ("libx264", ".mkv"), ("mpeg4", ".avi"), ("libvpx", ".webm"), ("mpeg4", ".mov"))
    return [_built(partial(_write_video, codec=codec, name=f"a{suffix}", frames=frames)) for codec, suffix in coded]


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
        {"ids.png": _saved(grey, "PNG")},
        {"ids.png": _saved(palette, "PNG")},
        {"ids.png": _saved(Image.fromarray(values.astype(np.uint16)), "PNG")},
        {"raw.png": _saved(grey.convert("1"), "PNG")},
        {"raw.tif": _saved(grey.convert("I"), "TIFF")},
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
    return [_built(_own_folder)]


def _read_all(domain: Domain) -> None:
    for index in range(len(domain)):
        domain[index]
        domain.for_evaluation(index)


@cache
def _annotated() -> list[Tree]:
    polygon = [[1, 1], [9, 1], [9, 7]]
    flat, size = [part for point in polygon for part in point], {"imageWidth": 16, "imageHeight": 12}
    image = _saved(Image.new("RGB", (16, 12)), "PNG")
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
    return [_built(_prepared_folder)]


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
        {f"{layout}/{name}": data for name, data in _built(partial(_published, layout, zipped)).items()}
        for layout in layouts
    ]


def _read_published(folder: Path, out: Path) -> None:
    for root in sorted(folder.iterdir()):
        tree = TREES[root.name]
        split = next(split for split in tree.splits if split not in tree.unlabelled)
        config = DomainConfig(layout=root.name, root=str(root), split=[split] if split else None, labelled=True)
        _read_all(Domain(config, label_space("cityscapes19")))


@cache
def _experiments() -> list[Tree]:
    own = [{"experiment.yaml": yaml.safe_dump(strategies.BASE, sort_keys=False).encode()}]
    presets = ("streets", "gta5-cityscapes-multi", "streets-camvid")
    written = [yaml.safe_dump(read_experiment(name)[1]).encode() for name in preset_names() if name in presets]
    return [*own * 2, *({"run/config.yaml": text} for text in written)]


def _read_config(folder: Path, out: Path) -> None:
    config = build_config(read_experiment(str(min(folder.iterdir())))[1])
    write_config(config, out / "config.yaml")
    again = build_config(read_experiment(str(out))[1])
    content = with_absolute_paths(to_dict(config), Path.cwd())  # As a run keeps them.
    assert to_dict(again) == content, "what was written is not what was read"
    space = label_space(config.label_space)
    label_space(config.protocol or "streets14")
    for role in ("source", "target", "evaluation"):
        Domain(config.domain(role), space)


def _experiment_yaml(content: Any) -> bytes:
    return yaml.safe_dump(content, sort_keys=False).encode()


def _structured(rng: Random) -> Tree:
    return {"experiment.yaml": _experiment_yaml(strategies.draw(strategies.experiments, rng))}


def _command_line(rng: Random) -> Tree:
    tokens = strategies.draw(strategies.overrides, rng)
    return {"experiment.yaml": _experiment_yaml(strategies.BASE), "overrides.json": json.dumps(tokens).encode()}


def _read_command_line(folder: Path, out: Path) -> None:
    """Run `adaptseg train experiment.yaml --keys OVERRIDES`, which reads everything and trains nothing."""
    overrides = json.loads((folder / "overrides.json").read_text())
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(io.StringIO()):
            cli.main(["train", str(folder / "experiment.yaml"), "--keys", *overrides])
    except SystemExit as stop:
        if stop.code == 2:
            raise InputError(shown.getvalue().removesuffix("\n")) from None
        if stop.code:
            raise RuntimeError(f"exit code {stop.code}") from stop


def _class_names(rng: Random) -> Tree:
    """Names of pieces that a terminal, HTML or Markdown obeys."""
    pieces = [
        *"[]/\\|<>&*_`~$#:()!",
        "[/b]",
        "[bold]",
        "\x1b[31m",
        "\x9b",
        "\u202e",
        "\n",
        "<script>",
        "](javascript:",
        "é",
        "",
    ]
    names = ["".join(rng.choices([*pieces, "road"], k=rng.randrange(1, 7))) for _ in range(4)]
    return {"names.json": json.dumps(list(dict.fromkeys(names))).encode()}


def _show_names(folder: Path, out: Path) -> None:
    """Show classes in a table on the terminal and in a model card; they must arrive as text."""
    names = json.loads((folder / "names.json").read_text())
    protocol = {"name": names[0], "classes": names}
    result = {"miou": 0.5, "iou": dict.fromkeys(names, 0.5), "protocol": protocol}
    shown = io.StringIO()
    console = Console(file=shown, width=1000, color_system=None)
    print_table([SeedRuns(names[-1], (folder,), (result,))], console)
    assert all(plain(name).strip() in shown.getvalue() for name in names)
    assert not CONTROL.search(shown.getvalue().replace("\n", ""))
    network = {"backbone": "resnet18", "width": 8, "head": None}
    card = model_card(
        {"model": network, "classes": names, "palette": [[0, 0, 0]] * len(names), "description": names[0]}
    )
    body = card.split("---\n", 2)[2]
    assert "<" not in body
    assert not re.search(r"(?<!\\)\]\(javascript", body)


@cache
def _tiny() -> ExperimentConfig:
    content: dict[str, Any] = strategies.BASE
    return build_config(content | {"model": content["model"] | {"width": 4}})


def _step(optimizers: dict[str, Optimizer]) -> None:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()


def _run_folder(run: Path) -> None:
    method = build_method(build_segmenter(_tiny()), _tiny())
    state = TrainingState(_tiny(), method, method.optimizers(), step=2)
    _step(state.optimizers)
    save_checkpoint(run, state)


@cache
def _checkpoints() -> list[Tree]:
    tree = _built(_run_folder)
    saved = {name: data for name, data in tree.items() if "/step-" in name}
    return [
        saved,
        {name: _unchecked(data) if name.endswith("checkpoint.json") else data for name, data in saved.items()},
    ]


def _unchecked(card: bytes) -> bytes:
    """Return the card of a checkpoint from before there were checksums: damage reaches the readers of its files."""
    content = json.loads(card)
    del content["xxh3_128"]
    return json.dumps(content).encode()


@cache
def _segmenters() -> list[Tree]:
    tree = _checkpoints()[0]
    files = {Path(name).name: data for name, data in tree.items()}
    return [{name: files[name] for name in ("segmenter.json", "segmenter.safetensors")}]


def _exports(folder: Path) -> None:
    segmenter = build_segmenter(_tiny())
    card = export_card(segmenter, {})
    write_folder(segmenter, card, folder / "hub")
    write_weights(segmenter, card, folder / "m.safetensors")


@cache
def _exported() -> list[Tree]:
    tree = _built(_exports)
    hub = {name.removeprefix("hub/"): data for name, data in tree.items() if name.startswith("hub/")}
    return [
        {name: hub[name] for name in ("config.json", "model.safetensors")},
        {"m.safetensors": tree["m.safetensors"]},
    ]


def _read_exported(folder: Path, out: Path) -> None:
    path = folder / "m.safetensors"
    segmenter = load_model(path if path.exists() else folder)
    segmenter.predict(np.zeros((16, 24, 3), np.uint8))


def _read_segmenter(folder: Path, out: Path) -> None:
    segmenter = load_model(folder)
    segmenter.predict(np.zeros((16, 24, 3), np.uint8))
    assert segmenter.label_space.palette.shape == (256, 3)


def _resume(folder: Path, out: Path) -> None:
    method = build_method(build_segmenter(_tiny()), _tiny())
    state = TrainingState(_tiny(), method, method.optimizers())
    load_checkpoint(folder, state)
    _step(state.optimizers)


def _torch_saved(content: Any, **options: Any) -> bytes:
    target = io.BytesIO()
    torch.save(content, target, **options)
    return target.getvalue()


def _safetensors(state: dict[str, torch.Tensor]) -> bytes:
    return _built(lambda folder: save_file(state, folder / "w"))["w"]


@cache
def _foreign() -> list[Tree]:
    head = "layer5.conv2d_list.0.bias"
    state = {head: torch.zeros(19), "conv1.weight": torch.zeros(4, 3, 7, 7), "fc.bias": torch.zeros(10)}
    vgg = {"classifier.conv2d_list.0.bias": torch.zeros(3), "features.0.weight": torch.zeros(4, 3, 3, 3)}
    odd = {
        "huge": torch.zeros(1).expand(10**12),
        "scalar": torch.tensor(1.0),
        "none": torch.zeros(0),
        "meta": torch.zeros(19, device="meta"),
        "sparse": torch.eye(19).to_sparse(),
        "complex": torch.zeros(19, dtype=torch.complex64),
        "number": 19,
    }
    large, deflated = _torch_saved({head: torch.zeros(2**26)}), io.BytesIO()
    with zipfile.ZipFile(deflated, "w") as packed, zipfile.ZipFile(io.BytesIO(large)) as stored:
        for name in stored.namelist():
            packed.writestr(zipfile.ZipInfo(name), stored.read(name), zipfile.ZIP_DEFLATED)
    return [
        {"w.pth": _torch_saved(state)},
        {"w.pth": _torch_saved({"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3})},
        {"w.pth": _torch_saved(state, _use_new_zipfile_serialization=False)},
        {"w.pth": _torch_saved(vgg)},
        {"w.safetensors": _safetensors(state)},
        {"w.pth": deflated.getvalue()},
        {"w.pth": pickle.dumps({"a": [1.5, "x", {"b": None}]}, 2)},
        *({"w.pth": _torch_saved(state | {head: value})} for value in odd.values()),
    ]


@cache
def _backbones() -> list[Tree]:
    state = dict(build_segmenter(_tiny()).network.state_dict())
    odd = state | {name: torch.tensor(1.0) for name in state if name.endswith("bias")}
    return [{"w.pth": _torch_saved(state)}, {"w.safetensors": _safetensors(state)}, {"w.pth": _torch_saved(odd)}]


def _load_released(folder: Path, out: Path) -> None:
    load_model(min(folder.iterdir()))


def _initialise(folder: Path, out: Path) -> None:
    path = min(folder.iterdir())
    config = replace(_tiny().model, weights=str(path))
    initialise_from(build_segmenter(_tiny()).network, read_state_dict(path), config)


def _predict(folder: Path, out: Path) -> None:
    segmenter = build_segmenter(_tiny()).eval()
    segmenter.input_size = (24, 16)
    predict_files(segmenter, find_inputs([str(folder)]), out)


KEYS = rf"\b({'|'.join(sorted({name for path in strategies.PATHS for name in path}))})\b|label space|--\S*"
"""What a refusal of an experiment may name: a key, a named list of classes, or an option."""

TARGETS = {
    target.name: target
    for target in (
        Target("pictures", partial(damaged, _pictures), _read_pictures),
        Target("other pictures", partial(damaged, _other_pictures), _read_pictures),
        Target("labels", partial(damaged, _labels), _read_labels),
        Target("folder", partial(damaged, _folders), _read_folder),
        Target("annotations", partial(damaged, _annotated), _read_folder),
        Target("prepared", partial(damaged, _prepared), _read_prepared),
        Target("published folders", partial(damaged, partial(_published_trees, False)), _read_published),
        Target("published archives", partial(damaged, partial(_published_trees, True)), _read_published),
        Target("experiment", partial(damaged, _experiments), _read_config, KEYS),
        Target("experiment keys", _structured, _read_config, KEYS),
        Target("command line", _command_line, _read_command_line, KEYS),
        Target("class names", _class_names, _show_names),
        Target("segmenter", partial(damaged, _segmenters), _read_segmenter),
        Target("exported", partial(damaged, _exported), _read_exported),
        Target("resume", partial(damaged, _checkpoints), _resume),
        Target("released weights", partial(damaged, _foreign), _load_released),
        Target("initial weights", partial(damaged, _backbones), _initialise),
        Target("predict", partial(damaged, _pictures), _predict),
        Target("predict videos", partial(damaged, _videos), _predict),
    )
}

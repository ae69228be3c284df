"""Which labelled target images a budget draws from: never those that are evaluated on, whatever they are called."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptseg.config import DomainConfig
from adaptseg.data.domains import list_domains
from adaptseg.errors import InputError
from adaptseg.methods.configuration import build_config
from adaptseg.reports.budget.pool import open_pool
from tests.conftest import CLASSES, small_experiment, write_images
from tests.reports.test_budget import labelled_names


def test_few_annotations_need_not_name_every_class(tmp_path: Path) -> None:
    content = small_experiment(tmp_path)
    write_images(tmp_path / "labelled", ["a", "b", "c"], labels=False)
    (tmp_path / "labelled" / "labels").mkdir()
    for name, classes in (("a", CLASSES[:2]), ("b", CLASSES[1:]), ("c", CLASSES[:1])):
        shapes = [{"label": each, "points": [[0, 0], [9, 0], [9, 9]]} for each in classes]
        text = json.dumps({"shapes": shapes, "imageWidth": 64, "imageHeight": 48})
        (tmp_path / "labelled" / "labels" / f"{name}.json").write_text(text)
    pool = open_pool(build_config(content | {"target_labelled": {"root": str(tmp_path / "labelled")}}))
    config = replace(build_config(content), source=DomainConfig(), target_labelled=pool.labelled(["a"]))
    assert set(CLASSES) <= set(list_domains(config, uses_target=False).source.layout.raw_classes.values())


def test_which_images_may_be_labelled(tmp_path: Path) -> None:
    content = small_experiment(tmp_path)
    write_images(tmp_path / "labelled", ["a", "b", "c[1]"], labels=True)
    for kind in ("images", "labels"):  # As another file, and found by its pixels.
        shutil.copy(tmp_path / "validation" / kind / "a.png", tmp_path / "labelled" / kind / "d.png")
    shutil.copytree(tmp_path / "labelled", tmp_path / "mixed")
    (tmp_path / "mixed" / "labels" / "b.png").unlink()
    config = build_config(content | {"target_labelled": {"root": str(tmp_path / "labelled"), "classes": CLASSES}})
    pool = open_pool(config)
    assert (sorted(pool.digests), pool.evaluated) == (["a", "b", "c[1]"], 1)
    drawn = replace(config, target_labelled=pool.labelled(["c[1]"]))
    assert labelled_names(drawn) == ["c[1]"]

    # Without the key: the target's own labels, as far as there are any.
    target = {"layout": "folder", "root": str(tmp_path / "mixed"), "classes": CLASSES}
    own = build_config(content | {"target": target})
    pool = open_pool(own)
    assert sorted(pool.digests) == ["a", "c[1]"]
    assert labelled_names(replace(own, target_labelled=pool.labelled(["a"]))) == ["a"]
    same = {"root": str(tmp_path / "validation"), "classes": CLASSES}
    with pytest.raises(InputError, match="target_labelled: all 2 labelled images are evaluated on; split them"):
        open_pool(build_config(content | {"target_labelled": same}))

    suggestion = tmp_path / "suggestion.json"
    digests = {name: digest.hex() for name, digest in open_pool(config).digests.items()}
    rows = [{"name": "elsewhere/b", "digest": digests["b"]}, {"name": "a"}]
    suggestion.write_text(json.dumps({"images": rows}))
    assert open_pool(config, suggestion).names(0, 2) == ["b", "a"]
    suggestion.write_text(json.dumps({"images": [{"name": "a", "digest": 32 * "0"}]}))
    with pytest.raises(InputError, match="1 of 1 images have other pixels than those of their names here: a; give"):
        open_pool(config, suggestion)
    suggestion.write_text(json.dumps({"images": [{"rank": 1, "name": "c[1]"}, {"rank": 2, "name": "a"}]}))
    assert open_pool(config, suggestion).names(5, 1) == ["c[1]"]
    for text, message in (
        (
            '{"images": [{"name": "a"}, {"name": "x"}, {"name": "y"}]}',
            "2 of 3 names are not among the labelled target images: x, y;",
        ),
        ('{"images": [{"name": "d"}]}', "1 of 1 names are evaluated on: d; take them out of the file"),
        ('{"images": [{"name": "d"}, {"name": "x"}]}', "1 of 2 names are not among the labelled target images: x;"),
        ('{"images": [{"name": 1}]}', "no images with names"),
        ('{"images": [{"name": "a", "digest": "no hex"}]}', "no images with names"),
        ('{"images": [{"name": "a", "digest": [1]}]}', "no images with names"),
        ("[]", "no images with names"),
        ("", "no images with names"),
    ):
        suggestion.write_text(text)
        with pytest.raises(InputError) as error:
            open_pool(config, suggestion)
        assert message in str(error.value)


def test_images_of_more_than_8_bits_that_are_evaluated_on_are_not_labelled(tmp_path: Path) -> None:
    """They are the same, whatever range of values each folder's images have."""
    content = small_experiment(tmp_path)
    write_images(tmp_path / "labelled", ["a", "b", "c"], labels=True)
    ramp = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    for number, path in enumerate(sorted((tmp_path / "labelled" / "images").iterdir()), start=1):
        Image.fromarray(ramp * number).save(path)
    shutil.copy(tmp_path / "labelled" / "images" / "a.png", tmp_path / "validation" / "images")
    config = build_config(content | {"target_labelled": {"root": str(tmp_path / "labelled"), "classes": CLASSES}})
    assert sorted(open_pool(config).digests) == ["b", "c"]


def test_names_that_two_splits_have_are_images_of_their_own(tmp_path: Path) -> None:
    content = small_experiment(tmp_path)
    for split in ("a", "b"):
        write_images(tmp_path / split, ["0", "1"], labels=True)
        for kind in ("images", "labels"):
            (tmp_path / "labelled" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / split / kind).rename(tmp_path / "labelled" / kind / split)
    section = {"root": str(tmp_path / "labelled"), "classes": CLASSES, "split": ["a", "b"]}
    config = build_config(content | {"target_labelled": section})
    pool = open_pool(config)
    assert sorted(pool.digests) == ["a/0", "a/1", "b/0", "b/1"]
    names = pool.names(seed=0, count=2)
    assert sorted(labelled_names(replace(config, target_labelled=pool.labelled(names)))) == sorted(names)

"""Labelled target images: their configuration, their batches, and what is refused of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adaptseg.config import DomainConfig, TrainConfig
from adaptseg.data.check import check
from adaptseg.data.dataset import Domain
from adaptseg.data.domains import Domains, open_domains
from adaptseg.data.label_spaces import label_space
from adaptseg.data.loader import StepDataset, step_dataset
from adaptseg.data.prepare import prepare
from adaptseg.errors import InputError
from adaptseg.methods.configuration import build_config
from tests.conftest import CLASSES, write_images


@pytest.fixture
def labelled(experiment: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Return the experiment with three labelled target images."""
    write_images(tmp_path / "labelled", ["p", "q", "r"], labels=True)
    experiment["target_labelled"] = {"root": str(tmp_path / "labelled"), "classes": CLASSES}
    return experiment


def opened(experiment: dict[str, Any], *overrides: str) -> Domains:
    return open_domains(build_config(experiment, list(overrides)), uses_target=True)


def test_keys_left_out_are_the_targets(labelled: dict[str, Any]) -> None:
    labelled["target"] |= {"size": [32, 24], "include": ["a"], "images": "images"}
    config = build_config(labelled)
    found = config.domain("target_labelled")
    assert (found.layout, found.size, found.labelled) == ("folder", (32, 24), True)
    assert (found.include, found.images) == (None, None)
    assert config.has_target_labelled
    assert not config.labels_alone
    labelled["target"]["label_map"] = {0: "void"}  # Of other labels: own classes are not overridden by it.
    assert build_config(labelled).domain("target_labelled").label_map is None
    del labelled["target_labelled"]["classes"]
    assert build_config(labelled).domain("target_labelled").label_map == {0: "void"}
    del labelled["target_labelled"]
    assert not build_config(labelled).has_target_labelled
    with pytest.raises(InputError, match=r"target_labelled\.part|part is"):
        build_config({**labelled, "target_labelled": {"part": [0.5, 0.5]}})


def test_without_a_source_the_labelled_target_is_it(labelled: dict[str, Any]) -> None:
    del labelled["source"]
    config = build_config(labelled)
    assert config.labels_alone
    assert config.domain("source") == config.domain("target_labelled")
    domains = opened(labelled)
    assert domains.source is domains.target_labelled
    assert domains.beside_source is None
    assert list(domains.by_role()) == ["source", "target", "evaluation"]
    batch = step_dataset(config, domains.source, "source")[0]
    settings = replace(config.train, labelled_share=1.0)
    other = StepDataset(domains.source, "target_labelled", 0, settings)[0]
    assert torch.equal(batch["image"], other["image"])
    assert len(batch["names"]) == config.train.batch
    del labelled["target_labelled"]
    with pytest.raises(InputError, match=r"^source\.layout is missing; name one, .* or give target_labelled$"):
        opened(labelled)


@pytest.mark.parametrize(("batch", "share", "count"), [(1, 0.25, 1), (2, 0.25, 1), (8, 0.25, 2), (4, 1.0, 4)])
def test_how_many_images_a_step_has(batch: int, share: float, count: int) -> None:
    assert TrainConfig(batch=batch, labelled_share=share).labelled_batch == count


@pytest.mark.parametrize(
    ("key", "value"), [("labelled_share", 0), ("labelled_share", 1.5), ("labelled_jitter", 2), ("labelled_scale", 3)]
)
def test_impossible_values(key: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^train\.{key} is .*; give"):
        TrainConfig(**{key: (value, 1.0) if key == "labelled_scale" else value})  # type: ignore[arg-type]


def test_batches_are_a_function_of_the_step_and_every_image_comes_alike(labelled: dict[str, Any]) -> None:
    config = build_config(labelled, ["--train.batch=8"])
    domain = opened(labelled).beside_source
    assert domain is not None
    dataset = step_dataset(config, domain, "target_labelled")
    batches = [dataset[step] for step in range(6)]
    assert Counter(name for batch in batches for name in batch["names"]) == {"p": 4, "q": 4, "r": 4}
    assert all(batch["image"].shape == (2, 3, 48, 64) for batch in batches)
    assert torch.equal(batches[3]["image"], dataset[3]["image"])
    halves = [step_dataset(config, domain, "target_labelled", share=(i, 2))[3]["image"] for i in range(2)]
    assert torch.equal(torch.cat(halves), batches[3]["image"])
    still = replace(config.train, labelled_scale=None, labelled_jitter=0.0, flip=False)
    plain = StepDataset(domain, "target_labelled", 0, still)[0]
    for place, name in enumerate(plain["names"]):
        expected = domain[domain.layout.names.index(name)].image
        assert np.array_equal(plain["image"][place].permute(1, 2, 0).numpy(), expected)
        assert not torch.equal(plain["image"][place], batches[0]["image"][place])


def test_crops_have_the_size_of_training(labelled: dict[str, Any]) -> None:
    labelled["target"]["size"] = [32, 24]
    domain = opened(labelled).beside_source
    assert domain is not None
    for crop, shape in ((None, (24, 32)), ((16, 40), (40, 16))):
        batch = StepDataset(domain, "target_labelled", 0, TrainConfig(batch=8, crop=crop))[0]
        assert batch["image"].shape[2:] == shape
        assert batch["label"] is not None
        assert batch["label"].shape[1:] == shape


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("alone", [False, True])
def test_images_that_are_evaluated_on_are_refused(
    suffix: str, alone: bool, labelled: dict[str, Any], tmp_path: Path
) -> None:
    """By their pixels: the copy has another name, and may have been encoded anew."""
    image = Image.open(tmp_path / "validation" / "images" / "a.png")
    image.save(tmp_path / "labelled" / "images" / f"q.{suffix}")
    if suffix == "tif":
        (tmp_path / "labelled" / "images" / "q.png").unlink()
    if alone:
        del labelled["source"]
    with pytest.raises(InputError) as caught:
        opened(labelled)
    assert str(caught.value).startswith(
        "target_labelled: 1 of the 2 images to evaluate on are among its 3 images:"
        f" {tmp_path / 'validation' / 'images' / 'a.png'}; tell them apart"
    )
    report = check(build_config(labelled), uses_target=True, workers=1)
    assert [finding.text for finding in report.findings if finding.kind == "leakage" and finding.fatal]
    del labelled["evaluation"]
    opened(labelled)  # Nothing to evaluate on.


def test_part_and_include_tell_them_apart(labelled: dict[str, Any], tmp_path: Path) -> None:
    labelled["evaluation"] = {"root": str(tmp_path / "labelled"), "classes": CLASSES}
    with pytest.raises(InputError, match="3 of the 3 images to evaluate on"):
        opened(labelled)
    opened(labelled, "--target_labelled.part=[0, 0.67]", "--evaluation.part=[0.67, 1]")
    domains = opened(labelled, "--target_labelled.include=[q]", "--evaluation.include=[p, r]")
    assert [len(domains.by_role()[role]) for role in ("target_labelled", "evaluation")] == [1, 2]


def test_files_of_other_sizes_are_not_decoded(
    labelled: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("images", "labels"):
        for path in (tmp_path / "labelled" / folder).iterdir():
            Image.open(path).resize((32, 32), Image.Resampling.NEAREST).save(path)
    seen: list[str] = []

    def digest(image: Any) -> bytes:
        seen.append(str(image.shape))
        return image.tobytes()  # type: ignore[no-any-return]

    monkeypatch.setattr("adaptseg.data.leakage.pixel_digest", digest)
    opened(labelled)
    assert seen == ["(32, 32, 3)"] * 3


def test_classes_that_only_they_have_are_trained(
    labelled: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path / "source" / "labels").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) % 2).save(path)
    opened(labelled)
    line = f"{tmp_path / 'source'}: no pixel in 4 labels is of class 'sky', which is learnt from labelled target images"
    assert f"adaptseg: source: {line} alone\n" in capsys.readouterr().err
    report = check(build_config(labelled), uses_target=True, workers=1)
    assert not report.fails
    assert [finding.text for finding in report.findings] == [f"{line} alone"]
    labelled["source"]["classes"] = ["road", "car"]  # A name that the source's map does not have.
    opened(labelled)
    with pytest.raises(InputError, match="no label of the source is named 'sky'"):
        opened({key: value for key, value in labelled.items() if key != "target_labelled"})


def test_what_is_wrong_with_them(labelled: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "labelled" / "labels" / "q.png").unlink()
    with pytest.raises(InputError, match=r"labelled.*q"):
        opened(labelled)
    assert opened(labelled, "--target_labelled.unlabelled=skip").by_role()["target_labelled"].layout.names == ["p", "r"]
    for path in (tmp_path / "labelled" / "labels").iterdir():
        Image.new("L", (64, 48), 255).save(path)
    with pytest.raises(InputError, match="labelled: no pixel of its labels is of a class to train; correct label_map"):
        opened(labelled, "--target_labelled.unlabelled=skip")
    for path in (tmp_path / "labelled" / "images").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no images"):
        opened(labelled)


def test_classes_that_they_do_not_show_are_said(
    labelled: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled["target_labelled"]["classes"] = ["Road", "car", "Heaven"]
    line = f"{tmp_path / 'labelled'}: no pixel in 3 labels is of 2 of 3 classes: 'road', 'sky'"
    said = f"{line}; in these labels are 'Road', 'Heaven', which are no class to train: correct the names"
    opened(labelled)
    assert f"adaptseg: target_labelled: {said}" in capsys.readouterr().err
    report = check(build_config(labelled), uses_target=True, workers=1)
    assert [finding.text.startswith(said) for finding in report.findings] == [True]
    assert not report.fails
    labelled["target_labelled"]["classes"] = CLASSES
    for path in (tmp_path / "labelled" / "labels").iterdir():
        Image.new("L", (64, 48), 1).save(path)
    report = check(build_config(labelled), uses_target=True, workers=1)
    assert [finding.text for finding in report.findings] == [f"{line}; learnt from the source alone"]
    for path in (tmp_path / "labelled" / "labels").iterdir():
        Image.new("L", (64, 48), 255).save(path)
    assert check(build_config(labelled), uses_target=True, workers=1).fails, "training is refused, too"


def test_paths_of_a_yaml_are_relative_to_it(tmp_path: Path) -> None:
    from adaptseg.experiment import with_absolute_paths

    content = {"target": {"layout": "folder", "root": "t"}, "target_labelled": {"root": "some"}}
    assert with_absolute_paths(content, tmp_path)["target_labelled"]["root"] == str(tmp_path / "some")


def test_they_are_prepared_too(labelled: dict[str, Any], tmp_path: Path) -> None:
    labelled["target"]["size"] = [32, 24]
    config = build_config(labelled, [f"--prepared={tmp_path / 'prepared'}"])
    lines = list(prepare(config, uses_target=True, workers=0))
    assert any(line.startswith("target_labelled 3 images -> ") for line in lines)
    plain = Domain(replace(config, prepared=None).domain("target_labelled"), label_space(CLASSES))
    prepared = Domain(config.domain("target_labelled"), label_space(CLASSES))
    assert prepared.prepared is not None
    assert np.array_equal(prepared[1].image, plain[1].image)


def test_no_labelled_target_is_the_default() -> None:
    assert (
        DomainConfig()
        == build_config({"label_space": ["a"], "method": {"name": "fda"}, "model": {}, "train": {}}).target_labelled
    )

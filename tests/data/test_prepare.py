from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
import time
import zipfile
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock
from PIL import Image

from adaptseg.cli import main
from adaptseg.config import DomainConfig, ExperimentConfig, TrainConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.files import FolderTree, UInt8Array
from adaptseg.data.label_spaces import label_space
from adaptseg.data.layouts.archives import JoinedTree, ZipTree
from adaptseg.data.loader import StepDataset
from adaptseg.data.prepare import prepare
from adaptseg.data.prepared import Prepared, prepared_samples
from adaptseg.errors import InputError
from adaptseg.methods.configuration import build_config
from adaptseg.segmenter.state_dicts import read_state_dict
from tests.conftest import PATIENCE, write_images
from tests.processes import Command


def configured(experiment: dict[str, Any], tmp_path: Path, *overrides: str) -> ExperimentConfig:
    return build_config(experiment, [f"--data={tmp_path}", *overrides])


def domain(config: ExperimentConfig, role: str) -> Domain:
    return Domain(config.domain(role), label_space(config.label_space))


def prepared_folder(config: ExperimentConfig, role: str) -> Path:
    found = domain(config, role).prepared
    assert found is not None
    return found.folder


@pytest.mark.parametrize("sizes", [[], ["--source.size=[40,24]", "--target.size=[32,40]"]])
@pytest.mark.parametrize("workers", [0, 2])
def test_prepared_batches_are_the_same_bit_for_bit(
    experiment: dict[str, Any], tmp_path: Path, sizes: list[str], workers: int
) -> None:
    Image.open(tmp_path / "target" / "images" / "a.png").save(tmp_path / "target" / "images" / "z.jpg")
    plain = configured(experiment, tmp_path, "--prepared=null", *sizes)
    config = configured(experiment, tmp_path, *sizes)
    list(prepare(config, uses_target=True, workers=workers))
    for role in ("source", "target"):
        before, after = domain(plain, role), domain(config, role)
        assert before.prepared is None
        assert after.prepared is not None
        for batch in (1, 3):
            expected, actual = (
                StepDataset(one, role, 1, TrainConfig(batch=batch, flip=True)) for one in (before, after)
            )
            for step in range(8):
                one, other = expected[step], actual[step]
                assert one["names"] == other["names"]
                assert torch.equal(one["image"], other["image"])
                assert one["image"].stride() == other["image"].stride()
                assert (one["label"] is None) == (role == "target")
                if one["label"] is not None and other["label"] is not None:
                    assert torch.equal(one["label"], other["label"])
    before, after = domain(plain, "evaluation"), domain(config, "evaluation")
    for index in range(len(before)):
        sample, other_sample = before.for_evaluation(index), after.for_evaluation(index)
        np.testing.assert_array_equal(sample.image, other_sample.image)
        assert sample.label is not None
        np.testing.assert_array_equal(sample.label, other_sample.label)
        assert sample.label.shape == (48, 64)


def test_training_reads_what_was_prepared_and_says_so(
    experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, options = str(tmp_path / "own.yaml"), [f"--data={tmp_path}", "--source.size=[48,40]"]
    main(["train", own, *options, f"--out={tmp_path / 'plain'}"])
    assert "prepared" not in capsys.readouterr().err
    main(["prepare", own, *options, "--workers=1"])
    config = configured(experiment, tmp_path, *options)
    folder = prepared_folder(config, "source")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"source      4 images -> {folder}, 0.0 MB to write"
    assert lines[3] == "source      4 images written, 0 were there and are sound"
    main(["train", own, *options, f"--out={tmp_path / 'quick'}"])
    assert f"adaptseg: source: prepared images are read from {folder}" in capsys.readouterr().err
    weights = [tmp_path / run / "checkpoints" / "last" / "segmenter.safetensors" for run in ("plain", "quick")]
    first, second = (read_state_dict(path) for path in weights)
    assert all(torch.equal(first[key], second[key]) for key in first)
    main(["train", own, *options, "--dry-run"])
    assert "one step    at 64x64" in capsys.readouterr().out
    # It is these files that a training reads.
    samples = domain(config, "source").prepared
    assert samples is not None
    samples.write(0, np.full((40, 48, 3), 7, np.uint8), np.full((40, 48), 1, np.uint8))
    assert (domain(config, "source")[0].image == 7).all()
    assert (domain(config, "source").for_evaluation(0).image == 7).all()


def test_what_is_out_of_date_is_not_used(experiment: dict[str, Any], tmp_path: Path) -> None:
    config = configured(experiment, tmp_path, "--source.size=[48,40]")
    assert domain(config, "source").preparation == ""
    list(prepare(config, uses_target=True, workers=0))

    def refused(config: ExperimentConfig) -> str:
        found = domain(config, "source")
        assert found.prepared is None
        return found.preparation

    assert "another size (48x40 and larger, not 40x48 and larger);" in refused(
        configured(experiment, tmp_path, "--source.size=[40,48]")
    )
    renamed = experiment | {"source": experiment["source"] | {"classes": ["road", "sky", "car"]}}
    assert "another label map;" in refused(configured(renamed, tmp_path, "--source.size=[48,40]"))
    both = refused(configured(renamed, tmp_path))
    assert (
        "another size (48x40 and larger, not own size), another label map; they are not used, `adaptseg prepare` makes"
        in both
    )
    picture = tmp_path / "source" / "images" / "b.png"
    Image.fromarray(np.asarray(Image.open(picture))[::-1]).save(picture)
    assert "another state of the files;" in refused(config)
    list(prepare(config, uses_target=True, workers=0))
    np.testing.assert_array_equal(
        domain(config, "source")[1].image,
        domain(configured(experiment, tmp_path, "--prepared=null", "--source.size=[48,40]"), "source")[1].image,
    )
    write_images(tmp_path / "source", ["e"], labels=True)
    assert "another state of the files;" in refused(config)


def test_a_label_that_changes_makes_it_out_of_date(experiment: dict[str, Any], tmp_path: Path) -> None:
    config = configured(experiment, tmp_path)
    list(prepare(config, uses_target=True, workers=0))
    os.utime(tmp_path / "source" / "labels" / "c.png", ns=(0, 0))
    assert "another state of the files;" in domain(config, "source").preparation
    assert domain(config, "target").prepared is not None


def test_colours_whose_classes_change_make_it_out_of_date(tmp_path: Path) -> None:
    """CVAT's labelmap.txt is no label, and may change alone."""
    for kind in ("images", "labels/SegmentationClass"):
        (tmp_path / kind).mkdir(parents=True)
        Image.new("RGB", (6, 4), (9, 9, 9)).save(tmp_path / kind / "a.png")
    config = DomainConfig(layout="folder", root=str(tmp_path), labelled=True, prepared=str(tmp_path / "prepared"))

    def read(road: str, car: str) -> Domain:
        (tmp_path / "labels" / "labelmap.txt").write_text(f"road:{road}::\ncar:{car}::\n")
        return Domain(config, label_space(["road", "car"]))

    before = read("9,9,9", "5,5,5")
    samples = prepared_samples(config, before.layout, before.table)
    assert samples is not None
    samples.folder.mkdir(parents=True)
    samples.write(0, *before.read(0))
    samples.finish()
    assert read("9,9,9", "5,5,5").prepared == samples
    swapped = read("5,5,5", "9,9,9")
    assert np.unique(swapped.label(0)).tolist() == [1]
    assert "another reading; they are not used" in swapped.preparation


def test_what_an_earlier_version_prepared_stays_valid(experiment: dict[str, Any], tmp_path: Path) -> None:
    """The key has no more in it than it had, where no labelmap.txt is read."""
    found = domain(configured(experiment, tmp_path), "source")
    samples = prepared_samples(found.config, found.layout, found.table)
    assert samples is not None
    assert samples.recipe["reading"] == hashlib.sha256(b"[[], None, None]").hexdigest()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign", "missing"])
def test_broken_samples_are_refused_and_mended(experiment: dict[str, Any], tmp_path: Path, damage: str) -> None:
    config = configured(experiment, tmp_path)
    list(prepare(config, uses_target=True, workers=0))
    source = domain(config, "source")
    assert source.prepared is not None
    expected, path = source[2], source.prepared.path(2)
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes({"truncated": bytes(content[:-1]), "empty": b"", "foreign": b"x" * len(content)}[damage])
    with pytest.raises(InputError) as caught:
        source[2]
    assert str(caught.value).startswith(f"{path}: broken (")
    assert str(caught.value).endswith("); `adaptseg prepare` of the same experiment makes it anew")
    times = {file: file.stat().st_mtime_ns for file in path.parent.glob("*.sample") if file != path}
    lines = list(prepare(config, uses_target=True, workers=0))
    assert "source      1 images written, 3 were there and are sound" in lines
    np.testing.assert_array_equal(domain(config, "source")[2].image, expected.image)
    assert {file: file.stat().st_mtime_ns for file in times} == times


def main_that_slows_down(arguments: Sequence[str]) -> None:
    """From the twelfth sample on each takes seconds: whoever is to interrupt it comes in time."""
    write = Prepared.write

    def write_slowly(self: Prepared, index: int, image: UInt8Array, label: UInt8Array | None) -> None:
        if index >= 12:
            time.sleep(2)
        write(self, index, image, label)

    Prepared.write = write_slowly  # type: ignore[method-assign]
    multiprocessing.set_start_method("fork", force=True)  # Workers have it too.
    main(arguments)


def test_an_interrupted_prepare_goes_on(experiment: dict[str, Any], tmp_path: Path) -> None:
    write_images(tmp_path / "source", [f"e{number}" for number in range(50)], labels=True)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(experiment | {"data": str(tmp_path)}))
    arguments = ("prepare", tmp_path / "own.yaml", "--workers=2")
    process = Command(*arguments, call=main_that_slows_down, start_new_session=True)
    deadline = time.monotonic() + PATIENCE
    while len(list(tmp_path.glob("prepared/*/*.sample"))) < 10 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate()[1] == "adaptseg: interrupted; the same command goes on\n"
    assert process.returncode == 130
    config = configured(experiment, tmp_path)
    source = domain(config, "source")
    assert source.prepared is None
    assert source.preparation.endswith("is incomplete and not used; `adaptseg prepare` goes on with it")
    there = len(list(tmp_path.glob("prepared/*/*.sample")))
    assert 10 <= there < len(source)
    lines = list(prepare(config, uses_target=True, workers=0))
    assert f"source      {len(source) - there} images written, {there} were there and are sound" in lines
    folder = prepared_folder(config, "source")
    assert len(list(folder.iterdir())) == len(source) + 2  # manifest and lock: no partial file is left
    np.testing.assert_array_equal(domain(config, "source")[40].image, source[40].image)


@pytest.mark.usefixtures("experiment")
def test_a_broken_picture_stops_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "source" / "images" / "b.png"
    path.write_bytes(b"no image")
    for workers in ("1", "2"):
        with pytest.raises(SystemExit) as exit_:
            main(["prepare", str(tmp_path / "own.yaml"), f"--data={tmp_path}", f"--workers={workers}"])
        assert exit_.value.code == 2
        message = f"adaptseg: {path}: not a readable image (unknown format); replace or remove the file\n"
        assert capsys.readouterr().err == message


def test_values_outside_the_map_are_found_at_once(experiment: dict[str, Any], tmp_path: Path) -> None:
    values = np.zeros((48, 64), np.uint8)
    values[1, 1] = 9  # Not among the pixels that remain at half the size.
    Image.fromarray(values).save(tmp_path / "source" / "labels" / "b.png")
    with pytest.raises(InputError, match=r"b\.png: label value 9 is outside the map"):
        list(prepare(configured(experiment, tmp_path, "--source.size=[32,24]"), uses_target=True, workers=0))


def test_too_little_disk_is_refused_before_writing(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    # 4 labelled images, 3 without labels, 2 labelled; 28 bytes each tell the sizes and the checksum.
    needed = 48 * 64 * (4 * (4 + 2) + 3 * 3) + 28 * 9
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, needed - 1))
    with pytest.raises(InputError, match=r"0\.1 MB are needed, 0\.1 MB are free; free disk space, or name another"):
        list(prepare(configured(experiment, tmp_path), uses_target=True, workers=0))
    assert not (tmp_path / "prepared").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, needed))
    list(prepare(configured(experiment, tmp_path), uses_target=True, workers=0))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 0))
    list(prepare(configured(experiment, tmp_path), uses_target=True, workers=0))  # All is there.


def test_stamps_of_files_in_folders_and_archives(tmp_path: Path) -> None:
    def pack(content: bytes) -> ZipTree:
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as target:
            target.writestr("top/a.png", content)
        return ZipTree(tmp_path / "all.zip", "top/")

    (tmp_path / "b.png").write_bytes(b"123")
    folder = FolderTree(tmp_path)
    before = folder.stamp("b.png"), pack(b"123").stamp("a.png")
    assert (folder.stamp("b.png"), pack(b"123").stamp("a.png")) == before
    os.utime(tmp_path / "b.png", ns=(1, 1))
    other = pack(b"124")
    joined = JoinedTree(tmp_path, [other, folder])
    assert joined.stamp("a.png") == other.stamp("a.png") != before[1]
    assert joined.stamp("b.png") == folder.stamp("b.png") != before[0]
    for tree in (folder, other, joined):
        with pytest.raises(InputError, match=r"none\.png"):
            tree.stamp("none.png")


def test_only_one_process_at_a_time(experiment: dict[str, Any], tmp_path: Path) -> None:
    config = configured(experiment, tmp_path)
    list(prepare(config, uses_target=True, workers=0))
    folder = prepared_folder(config, "source")
    with (
        FileLock(str(folder / ".lock")),
        pytest.raises(InputError, match="another process prepares it; wait for it"),
    ):
        list(prepare(config, uses_target=True, workers=0))


def test_what_there_is_nothing_to_prepare_of(experiment: dict[str, Any], tmp_path: Path) -> None:
    rendered = configured(
        experiment | {"source": {"layout": "streets", "root": "game", "count": 2}, "label_space": ["road", "car"]},
        tmp_path,
    )
    assert (
        next(prepare(rendered, uses_target=True, workers=0))
        == "source      is rendered, not read from files: nothing to prepare"
    )
    with pytest.raises(InputError, match="prepared is null"):
        list(prepare(configured(experiment, tmp_path, "--prepared=null"), uses_target=True, workers=0))
    lines = list(prepare(configured(experiment, tmp_path, "--method.name=source_only"), uses_target=False, workers=0))
    assert not any(line.startswith("target") for line in lines)


@pytest.mark.parametrize(
    "content", ["[1]", '{"recipe": 5, "origin": []}', '{"recipe": {"size": "a\\nb"}, "origin": []}', "[" * 10**5]
)
def test_a_manifest_that_holds_anything_is_none(content: str, tmp_path: Path) -> None:
    samples = Prepared(tmp_path / "now", {"size": "16x12"}, [])
    (tmp_path / "now").mkdir()
    (tmp_path / "now" / "manifest.json").write_text(content)
    assert samples.state() == (
        False,
        f"{samples.folder} is incomplete and not used; `adaptseg prepare` goes on with it",
    )
    (tmp_path / "now").rename(tmp_path / "older")
    assert samples.state() == (False, "")

"""Folders for the Hugging Face Hub: the same segmenter comes back, and the card says what the run achieved."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from adaptseg import Segmenter, load_model
from adaptseg.cli import main
from adaptseg.config import ModelConfig
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.data.streets.worlds import render
from adaptseg.errors import InputError
from adaptseg.models.build import build_network
from adaptseg.segmenter.hub import backbone_state
from adaptseg.segmenter.model_card import PAPERS, papers
from adaptseg.segmenter.weights import find_checkpoint
from adaptseg.training.loop import train
from tests.conftest import CLASSES, small_experiment


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a trained run."""
    from adaptseg.methods.configuration import build_config

    folder = tmp_path_factory.mktemp("run")
    content = small_experiment(folder)
    content["description"] = "Tiny: drawn -> seen"
    train(build_config(content), folder / "run")
    return folder / "run"


@pytest.fixture
def hub(run: Path, tmp_path: Path) -> Path:
    main(["export", str(run), "--format", "hub", "--license", "cc-by-4.0", "--out", str(tmp_path / "hub")])
    return tmp_path / "hub"


def same(segmenter: Segmenter, other: Segmenter) -> bool:
    states = (segmenter.network.state_dict(), other.network.state_dict())
    image = render("camera", "test", 0, (90, 70))[0]
    return (
        segmenter.label_space == other.label_space
        and segmenter.input_size == other.input_size
        and states[0].keys() == states[1].keys()
        and all(torch.equal(value, states[1][name]) for name, value in states[0].items())
        and bool(np.array_equal(segmenter.predict(image), other.predict(image)))
    )


def test_round_trip(run: Path, hub: Path, tmp_path: Path) -> None:
    original = load_model(run)
    assert same(Segmenter.from_pretrained(hub), original)
    assert same(load_model(hub / "model.safetensors"), original)
    assert not Segmenter.from_pretrained(hub).training
    original.save_pretrained(tmp_path / "python", license="mit")
    assert same(load_model(tmp_path / "python"), original)
    assert ModelCard.load(tmp_path / "python" / "README.md").data.license == "mit"
    assert "comes without figures" in (tmp_path / "python" / "README.md").read_text()


def test_model_card(run: Path, hub: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    card = ModelCard.load(hub / "README.md")
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "cc-by-4.0",
        "adaptseg",
        "image-segmentation",
    )
    (score,) = card.data.eval_results
    assert score.metric_value == round(result["miou"], 4)
    assert card.text.strip().startswith("# Tiny: drawn -> seen")
    assert f"mIoU **{100 * result['miou']:.1f} %** over the 3 classes of protocol own3" in card.text
    for index, name in enumerate(CLASSES):
        assert re.search(
            rf"^\| {index} \| {name} \| `#\w{{6}}` \| {100 * result['iou'][name]:.1f} \|$", card.text, re.M
        )
    assert "@inproceedings{tsai2018learning" in card.text
    assert "target: own images (its labels were not used)" in card.text
    assert str(run.parent) not in card.text + (hub / "config.json").read_text()


@pytest.mark.parametrize(
    ("backbone", "head"), [("efficientnet_lite0", "light decode head"), ("resnet18", "DeepLab-v2")]
)
def test_the_card_names_the_head(backbone: str, head: str, tmp_path: Path) -> None:
    network = build_network(ModelConfig(backbone=backbone, width=8, levels=1), 2)
    Segmenter(network, LabelSpace("own", ("road", "sky"))).save_pretrained(tmp_path)
    assert f"{backbone} (width 8), {head}." in (tmp_path / "README.md").read_text()


def test_figures_are_those_of_the_checkpoint(run: Path, tmp_path: Path) -> None:
    main(["export", str(run / "checkpoints/step-000002"), "--format", "hub", "--out", str(tmp_path / "hub")])
    card = json.loads((tmp_path / "hub/config.json").read_text())
    assert card["step"] == 2
    assert "miou" not in card
    assert "comes without figures" in (tmp_path / "hub/README.md").read_text()


def test_a_chosen_checkpoint_has_its_own_miou(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy, symlinks=True)
    result = json.loads((copy / "result.json").read_text())
    selection = {"criterion": "entropy", "last": {"step": 4, "miou": 0.1}, "chosen": {"step": 2, "miou": 0.4321}}
    (copy / "result.json").write_text(json.dumps(result | {"selection": selection}))
    main(["export", str(copy / "checkpoints/step-000002"), "--format", "hub", "--out", str(tmp_path / "hub")])
    text = (tmp_path / "hub/README.md").read_text()
    assert "mIoU **43.2 %** over the 3 classes" in text
    assert "after iteration 2." in text
    assert "| id | class | colour |\n" in text  # Scores of each class are known of the last checkpoint alone.


def test_another_label_space_than_the_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run/checkpoints/last"
    folder.mkdir(parents=True)
    content = (run / "checkpoints/last/segmenter.safetensors").read_bytes()
    (folder / "segmenter.safetensors").write_bytes(content)
    (folder / "checkpoint.json").write_text('{"step": 4}')  # Of before there were checksums.
    (tmp_path / "run/config.yaml").write_bytes((run / "config.yaml").read_bytes())
    card = json.loads((run / "checkpoints/last/segmenter.json").read_text())
    (folder / "segmenter.json").write_text(json.dumps(card | {"classes": ["road", "bus", "sky"]}))
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "run"), "--format", "hub", "--out", str(tmp_path / "hub")])
    assert re.search(
        r"last: its classes \(road, bus, sky\) are not those of .*config\.yaml \(road, car, sky\); put",
        capsys.readouterr().err,
    )
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"adaptseg": "1"}', '{"adaptseg": "1", "model": {"backbone": 3}}'])
def test_broken_configuration(hub: Path, content: str) -> None:
    (hub / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json: broken|no checkpoint in it"):
        Segmenter.from_pretrained(hub)


def test_a_folder_of_another_library_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "segformer"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert find_checkpoint(tmp_path) is None


def test_without_network(hub: Path, tmp_path: Path) -> None:
    program = (
        "from adaptseg import Segmenter\n"
        f"segmenter = Segmenter.from_pretrained({str(hub)!r})\n"
        "for call, name in ((Segmenter.from_pretrained, 'a/b'), (Segmenter.from_pretrained, 'a//b'),"
        " (segmenter.push_to_hub, 'a/b')):\n"
        "    try: call(name)\n"
        "    except Exception as error: print(f'{type(error).__name__}: {error}')"
    )
    surroundings = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | surroundings, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line, says in zip(lines, ("a/b: cannot be had", "a//b: cannot be had", "a/b: cannot be written"), strict=True):
        assert re.match(f"InputError: {says} (from|to) the hub \\(.*check the name, the network", line)


def test_every_method_has_its_papers() -> None:
    from adaptseg.methods import METHODS

    assert PAPERS.keys() == METHODS.keys()
    assert [paper.key for paper in papers({"method": "mic", "fourier_beta": 0.01})] == [
        "hoyer2023mic",
        "hoyer2022daformer",
        "tranheden2021dacs",
        "yang2020fda",
    ]


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request, whose failure ends it: the libraries repeat theirs for half a minute."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # Nobody listens: connections are refused.
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        for fetch in (backbone_state, Segmenter.from_pretrained):
            with pytest.raises(InputError, match="the hub cannot be reached, and its cache has no such name"):
                fetch("nobody/nothing")

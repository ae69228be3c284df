"""adaptseg.adapt, and the whole way of a factory's network through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import adaptseg
from adaptseg.cli import main
from adaptseg.config import DomainConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.errors import InputError
from tests.conftest import CLASSES
from tests.own_networks import TwoOutputs, UNet, Unusual

TRAIN = {"steps": 2, "batch": 2, "log_every": 1, "checkpoint_every": 1, "device": "cpu", "report": False}


def test_adapt(experiment: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, out = UNet(3, 4), tmp_path / "run"
    before = network.segmentation_head.weight.clone()
    arguments: dict[str, Any] = {
        "source": tmp_path / "source",
        "target": {"root": tmp_path / "target"},
        "evaluation": Domain(
            DomainConfig(layout="folder", root=str(tmp_path / "validation"), classes=CLASSES, labelled=True),
            label_space(CLASSES),
        ),
        "classes": CLASSES,
        "out": out,
        "method": {"name": "adaptsegnet", "discriminator": {"channels": 4}},
        "model": {"multiple_of": 4},
        "train": TRAIN,
    }
    segmenter = adaptseg.adapt(network, **arguments)
    assert torch.equal(network.segmentation_head.weight, before), "the user's own module was changed"
    trained = segmenter.network.state_dict()["module.segmentation_head.weight"]
    assert not torch.equal(trained, before)
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert (config["model"]["factory"], config["model"]["levels"]) == ("adapt:UNet", 1)
    assert (config["method"]["lambda_seg"], config["method"]["lambda_adv"]) == ([1.0], [0.001])
    assert json.loads((out / "result.json").read_text())["miou"] is not None
    image = np.zeros((33, 47, 3), np.uint8)
    assert segmenter.predict(image).shape == (33, 47)
    with pytest.raises(InputError, match=r"its network \(UNet\) was given in Python; give it again"):
        adaptseg.load_model(out)
    again = adaptseg.load_model(out, network=network)
    assert torch.equal(again.network.state_dict()["module.segmentation_head.weight"], trained)
    with pytest.raises(InputError, match="holds a run already"):
        adaptseg.adapt(network, **arguments)
    resumed = adaptseg.adapt(network, **arguments, resume=True)
    assert torch.equal(resumed.network.state_dict()["module.segmentation_head.weight"], trained)


def test_levels_and_options(experiment: dict[str, Any], tmp_path: Path) -> None:
    def run(network: Any, out: str, **options: Any) -> Any:
        adaptseg.adapt(
            network,
            target=tmp_path / "target",
            classes=CLASSES,
            out=tmp_path / out,
            **{"source": tmp_path / "source", "train": TRAIN | {"steps": 1}, "method": "source_only", **options},
        )
        return yaml.safe_load((tmp_path / out / "config.yaml").read_text())

    config = run(TwoOutputs(3), "two")
    assert (config["model"]["levels"], config["method"]["lambda_seg"]) == (2, [0.1, 1.0])
    assert config["optimizer"]["name"] == "adamw"
    alone = run(TwoOutputs(3), "alone", source=None, target_labelled={"root": tmp_path / "source"})
    assert (alone["source"]["root"], alone["target_labelled"]["root"]) == (None, str(tmp_path / "source"))
    assert json.loads((tmp_path / "alone" / "result.json").read_text())["labelled"] == 4
    config = run(TwoOutputs(3), "one", model={"levels": 1, "align_corners": True}, optimizer={"lr": 0.01})
    assert (config["model"]["levels"], config["method"]["lambda_seg"]) == (1, [1.0])
    assert (config["optimizer"]["lr"], config["optimizer"]["name"], config["model"]["align_corners"]) == (
        0.01,
        "adamw",
        True,
    )
    with pytest.raises(InputError, match="the network is function, no torch"):
        run(run, "none")
    with pytest.raises(InputError, match=r"shape \(2, 4, 64, 64\), but there are 3 classes"):
        run(UNet(4), "none", model={"multiple_of": 4})
    with pytest.raises(InputError, match="optimiser"):
        run(TwoOutputs(3), "none", optimiser={"lr": 0.01})
    for wrong in ({"train": 5}, {"model": "x"}, {"method": 5}, {"source": 5}):
        with pytest.raises(InputError, match=r"adapt: .*; give"):
            run(TwoOutputs(3), "none", **wrong)
    assert not (tmp_path / "none").exists()
    run(Unusual(3), "unusual")
    loaded = adaptseg.load_model(tmp_path / "unusual", network=Unusual(3))
    assert loaded.predict(np.zeros((9, 9, 3), np.uint8)).shape == (9, 9)


def test_a_domain_of_ones_own_is_refused(experiment: dict[str, Any], tmp_path: Path) -> None:
    class Mine(Domain):
        pass

    config = DomainConfig(layout="folder", root=str(tmp_path / "source"), classes=CLASSES, labelled=True)
    with pytest.raises(InputError, match="Mine is a Domain of your own"):
        adaptseg.adapt(UNet(3), source=Mine(config, label_space(CLASSES)), target=tmp_path, classes=CLASSES, out="x")


def test_factory_from_the_folder_of_the_yaml(experiment: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    """Trained, resumed, evaluated, predicted and exported like the package's own networks."""
    (tmp_path / "beside_the_yaml.py").write_text("from tests.own_networks import unet\n")
    experiment["model"] = {"factory": "beside_the_yaml:unet", "factory_options": {"width": 4}, "multiple_of": 4}
    experiment["model"] |= {"levels": 1, "preprocessing": "imagenet"}
    experiment["train"]["report"] = True
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(experiment))
    monkeypatch.chdir(tmp_path / "source")
    run = str(tmp_path / "run")
    main(["train", str(tmp_path / "own.yaml"), "--dry-run"])
    main(["train", str(tmp_path / "own.yaml"), "--out", run, "--train.steps=2", "--train.schedule_steps=4"])
    main(["train", str(tmp_path / "own.yaml"), "--out", run, "--resume"])
    assert (tmp_path / "run" / "report.html").is_file()
    main(["evaluate", run, "--json", str(tmp_path / "scores.json")])
    scored = json.loads((tmp_path / "scores.json").read_text())["miou"]
    assert scored == json.loads((tmp_path / "run" / "result.json").read_text())["miou"]
    main(["export", run, "--format", "onnx", "--out", str(tmp_path / "own.onnx")])
    main(["export", run, "--format", "hub", "--out", str(tmp_path / "hub"), "--license", "mit"])
    assert str(tmp_path) not in (tmp_path / "hub" / "config.json").read_text()
    assert "network=NETWORK" in (tmp_path / "hub" / "README.md").read_text()

"""Models with a network of one's own, from files: code that a card names runs only where someone says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import adaptseg
from adaptseg.cli import main
from adaptseg.config import ModelConfig
from adaptseg.errors import InputError
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.segmenter.initial_weights import initialise
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.weights import save_segmenter
from tests.own_networks import UNet

CODE = """
from pathlib import Path
from tests.own_networks import UNet

Path(__file__).with_name("was-run").touch()

def make(classes, width):
    return UNet(classes, width)
"""


@pytest.fixture
def saved(experiment: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Segmenter]:
    """Return a folder with a segmenter whose network is made by code beside it, and the segmenter."""
    name = f"networks_{abs(hash(request.node.name))}"  # Each test's own module.
    (tmp_path / f"{name}.py").write_text(CODE)
    model: dict[str, Any] = {
        "factory": f"{name}:make",
        "factory_options": {"width": 4},
        "factory_folder": str(tmp_path),
        "multiple_of": 4,
        "levels": 1,
        "preprocessing": "imagenet",
    }
    config = build_config(experiment | {"model": model})
    segmenter = build_segmenter(config).eval()
    (tmp_path / "was-run").unlink()
    del sys.modules[name]
    from adaptseg.models import factories

    factories._run_before.clear()
    folder = tmp_path / "saved"
    folder.mkdir()
    save_segmenter(folder, segmenter)
    return folder, segmenter


def test_code_of_a_card_is_not_run_unasked(saved: tuple[Path, Segmenter]) -> None:
    folder, segmenter = saved
    for load in (adaptseg.load_model, Segmenter.from_pretrained):
        with pytest.raises(InputError, match=r"made by code, networks_\d+:make; if you trust .* --trust-factory"):
            load(folder)
    assert not (folder.parent / "was-run").exists()
    loaded = adaptseg.load_model(folder, trust_factory=True)
    assert (folder.parent / "was-run").exists()
    images = torch.randint(0, 256, (1, 3, 50, 67), dtype=torch.uint8)
    assert torch.equal(loaded(images)[0], segmenter(images)[0])
    assert loaded.network.config.factory_options == {"width": 4}


def test_the_network_given_in_place_of_the_code(saved: tuple[Path, Segmenter]) -> None:
    folder, segmenter = saved
    given = UNet(3, 4)
    before = given.segmentation_head.weight.clone()
    images = torch.randint(0, 256, (1, 3, 48, 64), dtype=torch.uint8)
    for load in (adaptseg.load_model, Segmenter.from_pretrained):
        assert torch.equal(load(folder, network=given)(images)[0], segmenter(images)[0])
    assert torch.equal(given.segmentation_head.weight, before), "the user's own module was changed"
    assert not (folder.parent / "was-run").exists()
    with pytest.raises(InputError, match=r"of another shape: .*; give the network that they were trained in"):
        adaptseg.load_model(folder, network=UNet(3, 8))
    with pytest.raises(InputError, match="made by code"):
        adaptseg.load_model(folder)  # What was given before is forgotten.


def test_the_command_line_asks_too(
    saved: tuple[Path, Segmenter], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, _ = saved
    command = ["predict", str(folder), str(tmp_path / "target"), "--out"]
    with pytest.raises(SystemExit) as caught:
        main([*command, str(tmp_path / "a")])
    (line,) = capfd.readouterr().err.splitlines()
    assert caught.value.code == 2
    assert "--trust-factory" in line
    assert not (tmp_path / "was-run").exists()
    main([*command, str(tmp_path / "b"), "--trust-factory"])
    assert any((tmp_path / "b").rglob("*.png"))


def test_a_broken_card_is_one_line(saved: tuple[Path, Segmenter]) -> None:
    folder, _ = saved
    card = json.loads((folder / "segmenter.json").read_text())
    card["model"]["factory"] = "os:system; rm"
    (folder / "segmenter.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"broken \(model\.factory is 'os:system; rm'"):
        adaptseg.load_model(folder, trust_factory=True)


def test_initial_weights(experiment: dict[str, Any], saved: tuple[Path, Segmenter], tmp_path: Path) -> None:
    folder, segmenter = saved
    model: dict[str, Any]
    model = {"factory": "tests.own_networks:unet", "factory_options": {"width": 4}, "multiple_of": 4, "levels": 1}
    config = build_config(experiment | {"model": model | {"preprocessing": "imagenet"}, "seed": 9})
    assert isinstance(segmenter.network.module, nn.Module)
    save_file(segmenter.network.module.state_dict(), tmp_path / "plain.safetensors")
    for weights in (folder, tmp_path / "plain.safetensors"):
        fresh = build_segmenter(config)
        assert not torch.equal(next(fresh.parameters()), next(segmenter.parameters()))
        initialise(fresh, ModelConfig(**model | {"weights": str(weights)}))
        for name, value in fresh.state_dict().items():
            assert torch.equal(value, segmenter.state_dict()[name]), name
    with pytest.raises(InputError, match="give a state dict of the factory's network"):
        initialise(
            build_segmenter(build_config(experiment | {"model": model | {"factory_options": {"width": 8}}})),
            ModelConfig(**model | {"weights": str(folder)}),
        )


def test_modules_of_one_name(tmp_path: Path) -> None:
    from adaptseg.models.factories import call_factory

    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "namesake_networks.py").write_text(f"def make(classes): return '{folder}'\n")
    settings: dict[str, Any] = {"factory": "namesake_networks:make", "levels": 1}
    assert call_factory(ModelConfig(**settings, factory_folder=str(tmp_path / "one")), 3) == "one"
    assert call_factory(ModelConfig(**settings, factory_folder=str(tmp_path / "one")), 3) == "one"
    with pytest.raises(InputError, match=r"another module namesake_networks is loaded, .*one.*; rename .*two"):
        call_factory(ModelConfig(**settings, factory_folder=str(tmp_path / "two")), 3)
    assert not [place for place in sys.path if str(tmp_path) in place]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"factory": "unet"}, "give package.module:function"),
        ({"factory": "absent_module:unet"}, "absent_module cannot be imported"),
        ({"factory": "adapt:UNet"}, "was given in Python; call adaptseg.adapt"),
        ({"factory": "tests.own_networks:unet", "width": 32}, "model.width is of the package's own networks"),
        ({"factory": "tests.own_networks:unet", "factory_options": {"depth": 1}}, "fails for 3 classes .TypeError"),
        ({"factory": "tests.own_networks:unet", "multiple_of": 0}, "give 1 … 256"),
        ({"multiple_of": 32}, "model.multiple_of goes with model.factory"),
    ],
)
def test_wrong_keys(keys: dict[str, Any], message: str, experiment: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=message):
        build_segmenter(build_config(experiment | {"model": {"levels": 1, "preprocessing": "imagenet"} | keys}))


def test_a_network_with_two_names_for_one_part_and_a_part_called_module(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    model: dict[str, Any] = {"factory": "tests.own_networks:unusual", "levels": 1, "preprocessing": "imagenet"}
    trained = build_segmenter(build_config(experiment | {"model": model}))
    trained.save_pretrained(tmp_path / "saved")
    assert isinstance(trained.network.module, nn.Module)
    plain = trained.network.module.state_dict()
    torch.save(plain, tmp_path / "plain.pth")
    torch.save({f"module.{name}": value for name, value in plain.items()}, tmp_path / "parallel.pth")
    for weights in ("saved", "plain.pth", "parallel.pth"):
        fresh = build_segmenter(build_config(experiment | {"model": model, "seed": 9}))
        initialise(fresh, ModelConfig(**model | {"weights": str(tmp_path / weights)}))
        for name, value in fresh.state_dict().items():
            assert torch.equal(value, trained.state_dict()[name]), name

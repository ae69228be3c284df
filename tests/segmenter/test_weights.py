"""`load_model` on released weights and our own checkpoints; initial weights of every origin."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adaptseg.config import ModelConfig
from adaptseg.data.label_spaces import label_space
from adaptseg.errors import InputError
from adaptseg.models.build import build_network
from adaptseg.segmenter.initial_weights import initialise, initialise_from
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.weights import save_segmenter
from tests.golden.figures import recipe

TINY = ModelConfig(backbone="resnet18", width=4, preprocessing="imagenet")
TINY50 = replace(TINY, backbone="resnet50", bottleneck_stride="second")
TINY_VGG = ModelConfig(backbone="vgg16", levels=1, width=4)

State = dict[str, Tensor]


def golden_state(network: nn.Module) -> State:
    """The golden recipe's state dict, as PyTorch 0.3 would have saved it: without counts of batches."""
    return {
        name: torch.from_numpy(np.asarray(recipe.tensor(name, tuple(value.shape))))
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def state_of(config: ModelConfig, classes: int = 19, seed: int = 5) -> State:
    return dict(build_network(config, classes, seed=seed).state_dict())


def assert_equal(actual: State, expected: State, prefix: str = "") -> None:
    names = [name for name in expected if name.startswith(prefix)]
    assert names
    for name in names:
        assert torch.equal(actual[name], expected[name]), name


@pytest.mark.parametrize(
    ("config", "classes", "prefix", "protocol"),
    [
        (ModelConfig(levels=2), 19, "", "cityscapes19"),
        (ModelConfig(levels=1), 16, "Scale.", "cityscapes16"),
        (ModelConfig(backbone="vgg16", levels=1), 13, "module.", "cityscapes13"),
    ],
    ids=["multi", "single", "vgg"],
)
def test_released_network_is_recognised(
    tmp_path: Path, config: ModelConfig, classes: int, prefix: str, protocol: str
) -> None:
    with torch.device("meta"):
        network = build_network(replace(config, aspp_branches=2), classes, seed=0)
    expected = golden_state(network)
    state = {prefix + name: value for name, value in expected.items()}
    torch.save(state, tmp_path / "released.pth", _use_new_zipfile_serialization=False)
    segmenter = load_model(tmp_path / "released.pth")
    assert segmenter.label_space.name == protocol
    assert (segmenter.preprocessing, segmenter.align_corners, segmenter.training) == ("caffe", True, False)
    assert_equal(dict(segmenter.network.state_dict()), expected)
    levels = len(segmenter.network.classifiers())
    assert levels == config.levels
    with torch.no_grad():
        logits = segmenter.network(torch.zeros(1, 3, 33, 41))
    assert [x.shape[1] for x in logits] == [classes] * levels


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    state = {"layer5.conv2d_list.0.bias": torch.zeros(19), "conv1.weight": torch.zeros(4, 3, 7, 7)}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(
        InputError, match=r"another architecture .*missing: bn1\.weight, .*conv1\.weight 4x3x7x7"
    ) as caught:
        load_model(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"not a released AdaptSegNet network \(keys: fc.weight\)"):
        load_model(tmp_path / "w.pth")


def own_segmenter(config: ModelConfig = TINY, seed: int = 0) -> Segmenter:
    network = build_network(config, 19, seed=seed)
    return Segmenter(network, label_space("cityscapes19"), "imagenet", input_size=(64, 32))


def test_own_checkpoint(tmp_path: Path) -> None:
    saved = own_segmenter()
    save_segmenter(tmp_path, saved)
    for path in (tmp_path, tmp_path / "segmenter.safetensors"):
        loaded = load_model(path)
        assert (loaded.label_space, loaded.preprocessing, loaded.input_size) == (
            saved.label_space,
            "imagenet",
            (64, 32),
        )
        assert_equal(dict(loaded.network.state_dict()), dict(saved.network.state_dict()))


def test_broken_card_of_own_checkpoint(tmp_path: Path) -> None:
    save_segmenter(tmp_path, own_segmenter())
    card = json.loads((tmp_path / "segmenter.json").read_text())
    for change in (
        {"preprocessing": "other"},
        {"model": {"backbone": "resnet7"}},
        {"model": card["model"] | {"width": 4.0}},
        {"classes": None},
        {"classes": "abcdefghijklmnopqrs"},
        {"classes": list(range(19))},
        *(
            {"input_size": size}
            for size in (1, [], [64], ["64", "32"], [64.0, 32.0], [0, 32], [10**9, 10**9], {"a": 1})
        ),
        {"align_corners": "yes"},
    ):
        (tmp_path / "segmenter.json").write_text(json.dumps(card | change))
        with pytest.raises(InputError, match=r"segmenter\.json: broken"):
            load_model(tmp_path)
    for text in ("{", "[]", "[" * 100_000):
        (tmp_path / "segmenter.json").write_text(text)
        with pytest.raises(InputError, match=r"segmenter\.json: broken"):
            load_model(tmp_path)


def test_card_of_a_wider_network_builds_nothing(tmp_path: Path) -> None:
    save_segmenter(tmp_path, own_segmenter())
    card = json.loads((tmp_path / "segmenter.json").read_text())
    wide = card | {"model": card["model"] | {"backbone": "resnet101", "width": 256}}
    (tmp_path / "segmenter.json").write_text(json.dumps(wide))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"segmenter\.safetensors: its first convolution is 4x3x7x7, but .* 256"):
        load_model(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 100_000


@pytest.mark.parametrize(
    "bias", [torch.tensor(1.0), torch.zeros(0), torch.zeros(1), torch.zeros(1).expand(10**12), torch.zeros(19, 2)]
)
def test_released_networks_with_an_impossible_number_of_classes(tmp_path: Path, bias: Tensor) -> None:
    torch.save({"layer5.conv2d_list.0.bias": bias}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth: layer5\.conv2d_list\.0\.bias is .*, not one value per class"):
        load_model(tmp_path / "w.pth")


def test_initial_weights_with_a_scalar_bias() -> None:
    state = {name: torch.tensor(1.0) if name.endswith("bias") else value for name, value in state_of(TINY).items()}
    head = {name: value for name, value in state.items() if name.startswith("layer6.")}
    actual, notes = initialised(TINY, state_of(TINY) | head)
    assert_equal(actual, state_of(TINY, seed=0), "layer6")
    assert notes == ["classifier layer6 is initialised anew, for it has another shape"]


@pytest.mark.parametrize("name", ["nothing", "folder", "x" * 300])
def test_nothing_to_load(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=name):
        load_model(tmp_path / name)


def initialised(config: ModelConfig, state: State, classes: int = 19) -> tuple[State, list[str]]:
    network = build_network(config, classes, seed=0)
    notes = initialise_from(network, state, config)
    return dict(network.state_dict()), notes


def backbone(state: State) -> State:
    return {name: value for name, value in state.items() if "conv2d_list" not in name}


def test_deeplab_initialisation_of_the_released_script() -> None:
    source = state_of(replace(TINY, levels=1), classes=21)
    actual, notes = initialised(replace(TINY, levels=2), {f"Scale.{name}": value for name, value in source.items()})
    fresh = state_of(replace(TINY, levels=2), seed=0)
    assert_equal(actual, backbone(source))
    assert_equal(actual, fresh, "layer5")
    assert_equal(actual, fresh, "layer6")
    assert "classifier layer6 is initialised anew, for it has 21 classes, not 19" in notes


def test_same_classes_take_the_classifiers() -> None:
    source = state_of(TINY)
    actual, notes = initialised(TINY, source)
    assert_equal(actual, source)
    assert notes == []


def test_main_classifier_serves_the_main_level() -> None:
    multi, single = state_of(TINY), state_of(replace(TINY, levels=1))
    actual, _ = initialised(replace(TINY, levels=1), {n: v for n, v in multi.items() if not n.startswith("layer5")})
    for name in single:
        if name.startswith("layer5"):
            assert torch.equal(actual[name], multi[name.replace("layer5", "layer6")])
    actual, notes = initialised(TINY, single)
    assert torch.equal(actual["layer6.conv2d_list.0.weight"], single["layer5.conv2d_list.0.weight"])
    assert notes == ["classifier layer5 is initialised anew, for there is none"]


@pytest.mark.parametrize("config", [TINY, TINY50], ids=["basic", "bottleneck"])
def test_torchvision_and_timm_resnet(config: ModelConfig) -> None:
    source = backbone(state_of(config))
    head = {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    actual, notes = initialised(config, source | head)
    assert_equal(actual, source)
    assert notes == []


def transformers_name(name: str) -> str:
    """The name that Hugging Face transformers gives a ResNet's parameter."""
    parts = name.split(".")
    kind = {"conv": "convolution", "bn": "normalization"}
    if not name.startswith("layer"):
        return f"resnet.embedder.embedder.{kind[parts[0][:-1]]}.{parts[-1]}"
    place = f"resnet.encoder.stages.{int(parts[0][5:]) - 1}.layers.{parts[1]}"
    if parts[2] == "downsample":
        return f"{place}.shortcut.{'convolution' if parts[3] == '0' else 'normalization'}.{parts[-1]}"
    return f"{place}.layer.{int(parts[2][-1]) - 1}.{kind[parts[2][:-1]]}.{parts[-1]}"


@pytest.mark.parametrize("config", [TINY, TINY50], ids=["basic", "bottleneck"])
def test_transformers_resnet(config: ModelConfig) -> None:
    source = backbone(state_of(config))
    renamed = {transformers_name(name): value for name, value in source.items()}
    assert "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight" in renamed
    assert "resnet.embedder.embedder.convolution.weight" in renamed
    head = {"classifier.1.weight": torch.zeros(1000, 2048), "classifier.1.bias": torch.zeros(1000)}
    actual, notes = initialised(config, renamed | head)
    assert_equal(actual, source)
    assert notes == []
    bare = {name.removeprefix("resnet."): value for name, value in renamed.items()}
    assert_equal(initialised(config, bare)[0], source)


def torchvision_vgg(source: State) -> State:
    """torchvision's (and the Caffe file's) names: the pooling layers 23 and 30 count, fc6 and fc7 are linear."""
    names = {"features.23": "features.24", "features.25": "features.26", "features.27": "features.28"}
    state = {}
    for name, value in source.items():
        layer, _, kind = name.rpartition(".")
        if layer.startswith("features") and layer not in ("features.29", "features.31"):
            state[f"{names.get(layer, layer)}.{kind}"] = value
    for number in (0, 3, 6):
        state |= {f"classifier.{number}.weight": torch.zeros(8, 8), f"classifier.{number}.bias": torch.zeros(8)}
    return state


def test_torchvision_and_caffe_vgg() -> None:
    source, fresh = state_of(TINY_VGG), state_of(TINY_VGG, seed=0)
    actual, notes = initialised(TINY_VGG, torchvision_vgg(source))
    for number in (0, 21, 23, 25, 27):
        assert_equal(actual, source, f"features.{number}.")
    for layer in ("features.29", "features.31", "classifier"):
        assert_equal(actual, fresh, layer)
    assert any("left out" in note for note in notes)
    assert any("fc6 and fc7" in note for note in notes)


def test_vgg_with_fully_connected_layers_that_fit() -> None:
    source = state_of(TINY_VGG)
    state = torchvision_vgg(source)
    for layer, own in (("classifier.0", "features.29"), ("classifier.3", "features.31")):
        state |= {f"{layer}.{kind}": source[f"{own}.{kind}"] for kind in ("weight", "bias")}
    actual, _ = initialised(TINY_VGG, state)
    assert_equal(actual, source, "features")


def test_released_vgg_as_initial_weights() -> None:
    source = state_of(TINY_VGG)
    actual, notes = initialised(TINY_VGG, source)
    assert_equal(actual, source)
    assert notes == []


@pytest.mark.parametrize(
    ("config", "state", "message"),
    [
        (TINY, state_of(replace(TINY, backbone="resnet34")), "unexpected: layer1.2.conv1.weight"),
        (replace(TINY, backbone="resnet34"), state_of(TINY), "missing: layer1.2.conv1.weight"),
        (TINY, state_of(replace(TINY, width=8)), "of another shape: conv1.weight 8x3x7x7 instead of 4x3x7x7"),
        (TINY_VGG, state_of(TINY), "unexpected: conv1.weight"),
        (TINY, torchvision_vgg(state_of(TINY_VGG)), "unexpected: features.0.weight"),
    ],
    ids=["deeper", "shallower", "wider", "resnet-for-vgg", "vgg-for-resnet"],
)
def test_any_other_mismatch_lists_the_keys(config: ModelConfig, state: State, message: str) -> None:
    with pytest.raises(InputError, match=message):
        initialised(config, state)


def test_key_of_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(state_of(TINY, classes=21), tmp_path / "w.pth")
    config = replace(TINY, weights=str(tmp_path / "w.pth"))
    segmenter = initialise(own_segmenter(), config)
    assert_equal(dict(segmenter.network.state_dict()), backbone(state_of(TINY, classes=21)))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"adaptseg: model.weights {tmp_path}") for line in lines)
    save_segmenter(tmp_path, own_segmenter(seed=7))
    segmenter = initialise(own_segmenter(), replace(TINY, weights=str(tmp_path)))
    assert_equal(dict(segmenter.network.state_dict()), state_of(TINY, seed=7))
    assert initialise(own_segmenter(), TINY) is not None


def test_missing_file_of_the_configuration() -> None:
    with pytest.raises(InputError, match=r"nowhere/w\.pth: cannot be read"):
        initialise(own_segmenter(), replace(TINY, weights="nowhere/w.pth"))

from __future__ import annotations

import copy
import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from adaptseg.config import ExperimentConfig
from adaptseg.errors import InputError
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.segmenter.loading import load_model
from adaptseg.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    save_checkpoint,
    saved_checkpoints,
    set_aside_newer,
)
from tests.conftest import random_batch


def built(config: ExperimentConfig, step: int = 0) -> TrainingState:
    method = build_method(build_segmenter(config), config).train()
    return TrainingState(config, method, method.optimizers(), step)


def iteration(state: TrainingState) -> None:
    for optimizer in state.optimizers.values():
        optimizer.zero_grad()
    state.method.step(random_batch(0, True), random_batch(1, False))
    for optimizer in state.optimizers.values():
        optimizer.step()


def without_checksums(folder: Path) -> Path:
    """Make a checkpoint one of those that were written before there were checksums."""
    card = json.loads((folder / "checkpoint.json").read_text())
    del card["xxh3_128"]
    (folder / "checkpoint.json").write_text(json.dumps(card))
    return folder


def flip_a_bit(path: Path, place: float = 0.6) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


def zero_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


@pytest.fixture
def config(experiment: dict[str, Any]) -> ExperimentConfig:
    return build_config(experiment)


def test_round_trip(config: ExperimentConfig, tmp_path: Path) -> None:
    state = built(config, step=1)
    iteration(state)
    torch.manual_seed(5)
    folder = save_checkpoint(tmp_path, state)
    assert {path.name for path in folder.iterdir()} == {
        "segmenter.safetensors",
        "segmenter.json",
        "method.safetensors",
        "training.pt",
        "checkpoint.json",
    }

    other = replace(built(replace(config, seed=9)), config=config)
    load_checkpoint(tmp_path, other)
    assert other.step == 1
    iteration(state)
    iteration(other)
    expected, actual = state.method.state_dict(), other.method.state_dict()
    assert any(name.startswith("discriminators.") for name in expected)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_last_is_the_newest_and_old_ones_go(config: ExperimentConfig, tmp_path: Path) -> None:
    state = built(config)
    for step, expected in ((2, [2]), (4, [2, 4]), (6, [4, 6])):
        save_checkpoint(tmp_path / "run", replace(state, step=step))
        assert names(tmp_path / "run") == ["last", *(f"step-{n:06d}" for n in expected)]
        assert (tmp_path / "run" / "checkpoints" / "last").readlink() == Path(f"step-{step:06d}")
    (tmp_path / "run").rename(tmp_path / "moved")  # the link is relative: a run can be moved
    assert (tmp_path / "moved" / "checkpoints" / "last" / "segmenter.safetensors").is_file()


def test_order_beyond_a_million_steps(tmp_path: Path) -> None:
    for name in ("step-1000000", "step-999999", "step-000010"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert [path.name for path in saved_checkpoints(tmp_path)] == ["step-000010", "step-999999", "step-1000000"]


def test_leftovers_of_an_interruption_are_harmless(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, later = built(config, step=2), built(config, step=4)
    save_checkpoint(tmp_path, state)

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, later)
    assert names(tmp_path) == [".step-000004.partial", "last", "step-000002"]
    load_checkpoint(tmp_path, state)
    assert state.step == 2
    save_checkpoint(tmp_path, later)
    assert names(tmp_path) == ["last", "step-000002", "step-000004"]

    with monkeypatch.context() as patched:
        patched.setattr("adaptseg.training.checkpoint._point_last", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path / "other", state)
    assert names(tmp_path / "other") == ["step-000002"]
    load_checkpoint(tmp_path / "other", later)
    assert later.step == 2


FILES = ["checkpoint.json", "training.pt", "method.safetensors", "segmenter.safetensors", "segmenter.json"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", [flip_a_bit, zero_half, Path.unlink])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_resumed_from(
    file: str,
    damage: Callable[[Path], None],
    config: ExperimentConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = built(config, step=2)
    expected = {name: value.clone() for name, value in state.method.state_dict().items()}
    save_checkpoint(tmp_path, state)
    iteration(state)
    newest = save_checkpoint(tmp_path, replace(state, step=4))
    damage(newest / file)
    if file.endswith(("json", "segmenter.safetensors")):  # What using it reads.
        with pytest.raises(InputError, match=rf"{file}: missing, truncated or damaged|no checkpoint in it"):
            load_model(newest)
    resumed = built(replace(config, seed=9))
    load_checkpoint(tmp_path, replace(resumed, config=config))
    assert all(torch.equal(value, expected[name]) for name, value in resumed.method.state_dict().items())
    lines = capsys.readouterr().err.splitlines()
    assert f"step-000004/{file}: missing, truncated or damaged" in lines[0]
    assert "goes on from step-000002" in lines[1]
    set_aside_newer(tmp_path, 2)
    assert names(tmp_path) == ["last", "step-000002", "step-000004.damaged"]
    load_model(tmp_path)
    damage(tmp_path / "checkpoints" / "step-000002" / file)
    with pytest.raises(InputError, match=rf"step-000002/{file}: missing, truncated or damaged"):
        load_checkpoint(tmp_path, state)


def test_a_checkpoint_from_before_there_were_checksums(
    config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = built(config, step=2)
    folder = without_checksums(save_checkpoint(tmp_path, state))
    load_checkpoint(tmp_path, state)
    load_model(tmp_path)
    notes = capsys.readouterr().err.splitlines()
    assert [note.endswith("has no checksums, damage would not be seen") for note in notes] == [True, True]
    assert str(folder) in notes[0]


def test_folders_of_other_names_are_no_checkpoints(config: ExperimentConfig, tmp_path: Path) -> None:
    state = built(config)
    for step in (2, 4):
        save_checkpoint(tmp_path, replace(state, step=step))
    for name in ("step-000006.bak", "step-000004 (copy)", "step-0000008"):
        shutil.copytree(tmp_path / "checkpoints" / "step-000004", tmp_path / "checkpoints" / name)
    (tmp_path / "checkpoints" / "step-garbage").mkdir()
    (tmp_path / "checkpoints" / "step-000099").write_text("")
    assert [path.name for path in saved_checkpoints(tmp_path)] == ["step-000002", "step-000004"]
    load_checkpoint(tmp_path, state)
    assert state.step == 4
    save_checkpoint(tmp_path, replace(state, step=5))
    assert [path.name for path in saved_checkpoints(tmp_path)] == ["step-000004", "step-000005"]
    assert (tmp_path / "checkpoints" / "step-000006.bak" / "training.pt").is_file()


def test_a_full_disk_is_told_in_the_systems_words(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    state = built(config, step=2)
    for cure in ("begin anew$", "go on with --resume; the last checkpoint is kept$"):
        for part in ("write", "flush"):
            with monkeypatch.context() as patched:
                patched.setattr(f"adaptseg.segmenter.checkpoint_card._HashedFile.{part}", full)
                with pytest.raises(InputError, match=rf"\(No space left on device\); .*{cure}"):
                    save_checkpoint(tmp_path, replace(state, step=4))
        assert not list((tmp_path / "checkpoints").glob(".*"))
        save_checkpoint(tmp_path, state)


def test_a_checkpoint_that_is_half_deleted_is_none(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = built(config)
    for step in (2, 4):
        save_checkpoint(tmp_path, replace(state, step=step))

    def killed(path: Path, *arguments: Any, **options: Any) -> None:
        if Path(path).exists():
            next(Path(path).iterdir()).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, replace(state, step=6))
    assert [path.name for path in saved_checkpoints(tmp_path)] == ["step-000004", "step-000006"]
    save_checkpoint(tmp_path, replace(state, step=8))
    assert names(tmp_path) == ["last", "step-000006", "step-000008"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_broken_files_are_named(file: str, keep: float, config: ExperimentConfig, tmp_path: Path) -> None:
    state = built(config, step=2)
    path = save_checkpoint(tmp_path, state) / file
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match=rf"{file}: ") as caught:
        load_checkpoint(tmp_path, state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "{}",
        '{"step": 2}',
        '{"step": "2", "config": {"train": {}}}',
        '{"step": 2, "config": []}',
        "[" * 10**5,
    ],
)
def test_cards_of_another_content_are_named(text: str, config: ExperimentConfig, tmp_path: Path) -> None:
    state = built(config, step=2)
    (save_checkpoint(tmp_path, state) / "checkpoint.json").write_text(text)
    with pytest.raises(InputError, match=r"checkpoint\.json: missing, truncated or damaged"):
        load_checkpoint(tmp_path, state)


def test_weights_of_the_method_must_be_complete(config: ExperimentConfig, tmp_path: Path) -> None:
    state = built(config, step=2)
    path = without_checksums(save_checkpoint(tmp_path, state)) / "method.safetensors"
    saved = load_file(path)
    name = next(iter(saved))
    changes: list[dict[str, Tensor]] = [{}, saved | {name: torch.zeros(77)}, saved | {"other": torch.zeros(1)}]
    for change in changes:
        save_file(change, path)
        with pytest.raises(InputError, match=r"method\.safetensors: weights of another architecture"):
            load_checkpoint(tmp_path, state)


def test_training_states_of_another_content_are_named(config: ExperimentConfig, tmp_path: Path) -> None:
    state = built(config, step=2)
    iteration(state)
    path = without_checksums(save_checkpoint(tmp_path, state)) / "training.pt"
    saved = torch.load(path, weights_only=True)
    other = copy.deepcopy(saved)
    other["optimizers"]["segmenter"]["state"][0]["exp_avg"] = torch.zeros(3)
    content = path.read_bytes()
    changes: list[Any] = [{}, [], {"optimizers": {}}, {"optimizers": dict.fromkeys(saved["optimizers"], 1)}, other]
    for change in changes:
        torch.save(change, path)
        with pytest.raises(InputError, match=r"training\.pt: missing, truncated or damaged"):
            load_checkpoint(tmp_path, state)
    at = content.index(saved["optimizers"]["segmenter"]["state"][0]["exp_avg"].numpy().tobytes())
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(InputError, match=r"training\.pt: missing, truncated or damaged"):
        load_checkpoint(tmp_path, state)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("--optimizer.lr=0.5", "optimizer.lr: 0.001 -> 0.5"),
        ("--method.lambda_adv=[0.5]", "method.lambda_adv"),
        ("--source.size=[32,32]", "source.size"),
        ("--seed=1", "seed: 0 -> 1"),
        ("--method.name=source_only", "method.name: adaptsegnet -> source_only"),
        ("--train.steps=9", "train.schedule_steps: 4 -> 9"),
    ],
)
def test_another_configuration_is_refused(
    override: str, named: str, experiment: dict[str, Any], config: ExperimentConfig, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path, built(config, step=2))
    changed = build_config(experiment, [override])
    with pytest.raises(InputError) as caught:
        load_checkpoint(tmp_path, built(changed))
    assert named in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_what_does_not_change_the_weights_may_change(
    experiment: dict[str, Any], config: ExperimentConfig, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path, built(config, step=2))
    overrides = ["--train.workers=1", "--train.keep=5", "--train.log_every=3", "--train.checkpoint_every=1", "--out=x"]
    longer = ["--train.schedule_steps=4", "--train.steps=3"]
    changed = build_config(experiment, [*overrides, *longer, "--description=another"])
    resumed = built(changed)
    load_checkpoint(tmp_path, resumed)
    assert resumed.step == 2
    shorter = build_config(experiment, ["--train.schedule_steps=4", "--train.steps=1"])
    with pytest.raises(InputError, match=r"step-000002: is beyond train\.steps 1; set it to at least 2"):
        load_checkpoint(tmp_path, built(shorter))


def test_the_card_says_what_the_numbers_depend_on(config: ExperimentConfig, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, built(config, step=3))
    card = json.loads((folder / "checkpoint.json").read_text())
    assert card["step"] == 3
    assert card["config"]["train"]["steps"] == 4
    assert card["versions"].keys() == {"python", "adaptseg", "torch", "numpy"}

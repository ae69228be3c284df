"""The study of `suggest`: which runs it takes as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from adaptseg.config import ExperimentConfig
from adaptseg.experiment import write_config
from adaptseg.methods.configuration import build_config
from adaptseg.segmenter.weights import save_segmenter
from benchmarks.suggestion import main
from tests.conftest import CLASSES, small_experiment, write_images
from tests.labelling.test_suggestion import segmenter


def test_runs_of_other_labels_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(config: ExperimentConfig, out: Path, **settings: Any) -> None:
        trained.append(config)
        out.mkdir(parents=True)
        write_config(config, out / "config.yaml")
        (out / "result.json").write_text(json.dumps({"miou": 0.5}))

    trained: list[ExperimentConfig] = []
    monkeypatch.setattr("benchmarks.suggestion.train", train)
    content = small_experiment(tmp_path)
    write_images(tmp_path / "target", ["a", "b", "c"], labels=True)
    content["target"]["classes"] = CLASSES
    run = tmp_path / "run"
    (run / "checkpoints" / "last").mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    (run / "result.json").write_text(json.dumps({"miou": 0.4}))
    save_segmenter(run / "checkpoints" / "last", segmenter())

    def study(count: int) -> str:
        main([str(run), "--by=random,entropy", f"-n={count}", f"--out={tmp_path / 'out'}"])
        return capsys.readouterr().out

    printed = study(2)
    assert "| before | 40.0 | 40.0 | -10.0 |" in printed
    assert len(trained) == 2
    assert [len(config.target_labelled.include or ()) for config in trained] == [2, 2]
    assert build_config(yaml.safe_load((run / "config.yaml").read_text())).evaluation == trained[0].evaluation
    assert study(2) == printed
    assert len(trained) == 2
    with pytest.raises(SystemExit):
        study(1)
    assert "holds a run of another configuration (target_labelled.include" in capsys.readouterr().err

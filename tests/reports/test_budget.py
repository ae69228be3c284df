"""`adaptseg budget`: which images are labelled, which runs there are, what the scores say, and all of it together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from adaptseg.cli import main
from adaptseg.config import DomainConfig, ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment
from adaptseg.methods.configuration import build_config
from adaptseg.reports.budget import plan as planning
from adaptseg.reports.budget.plan import ADAPTED, LABELS_ALONE, SOURCE_ONLY
from adaptseg.reports.budget.pool import LabelPool
from adaptseg.reports.budget.results import how
from adaptseg.reports.budget.study import open_budget
from adaptseg.reports.budget.verdict import verdict
from adaptseg.reports.compare import is_finished, train_seeds
from tests.conftest import CLASSES, small_experiment, write_images

STREETS = read_experiment("streets")[1]


def spread(mean: float, deviation: float = 0.01) -> list[float]:
    """Three seeds of this mean and standard deviation."""
    return [mean - deviation, mean, mean + deviation]


SAID: list[tuple[Sequence[float], Mapping[int, Sequence[float]], Mapping[int, Sequence[float]], list[str]]] = [
    (
        spread(0.3),
        {0: spread(0.4), 10: spread(0.5), 50: spread(0.55)},
        {10: spread(0.35), 50: spread(0.505)},
        [
            "10 labels with your source images give about what 50 labels give without them.",
            "Your source images still help at 50 labels, by 4.5 points.",
            "10 labels add 10.0 points to adaptation, 50 add 15.0 points.",
            "Adaptation without labels gains 10.0 points against source only.",
        ],
    ),
    (
        spread(0.4),
        {0: spread(0.4), 1: spread(0.5), 5: spread(0.5), 25: spread(0.5)},
        {1: spread(0.3), 5: spread(0.45), 25: spread(0.55)},
        [
            "1 label with your source images gives more than 5 labels give without them.",
            "Your source images no longer help from 25 labels on; at 5 they add 5.0 points, at 25 they cost 5.0"
            " points.",
            "1 label adds 10.0 points to adaptation.",
            "More than 1 label adds nothing, up to 25.",
            "Adaptation without labels does not differ from source only.",
        ],
    ),
    (
        spread(0.5),
        {0: spread(0.4), 5: spread(0.401), 10: spread(0.41)},
        {5: spread(0.1), 10: spread(0.2)},
        [
            "Adaptation without labels gives more than 10 labels give without your source images, the most that were"
            " tried.",
            "Your source images still help at 10 labels, by 21.0 points.",
            "Labels add nothing to adaptation, up to 10.",
            "Adaptation without labels loses 10.0 points against source only.",
        ],
    ),
    (
        [],
        {0: spread(0.2), 5: spread(0.3), 10: spread(0.4)},
        {5: spread(0.5), 10: spread(0.6)},
        [
            "Your source images do not help at any number of labels that was tried; at 10 they cost 20.0 points.",
            "5 labels add 10.0 points to adaptation, 10 add 20.0 points.",
        ],
    ),
    (
        [0.3],
        {0: [0.4], 5: [0.45]},
        {5: [0.2]},
        [
            "Adaptation without labels gives more than 5 labels give without your source images, the most that were"
            " tried (one seed: nothing is known of the spread).",
            "Your source images still help at 5 labels, by 25.0 points.",
            "5 labels add 5.0 points to adaptation.",
            "Adaptation without labels gains 10.0 points against source only.",
        ],
    ),
]


@pytest.mark.parametrize(("source_only", "adapted", "alone", "sentences"), SAID)
def test_what_the_scores_say(
    source_only: Sequence[float],
    adapted: Mapping[int, Sequence[float]],
    alone: Mapping[int, Sequence[float]],
    sentences: list[str],
) -> None:
    assert verdict(source_only, adapted, alone) == sentences


def test_differences_within_the_spread_and_below_half_a_point_are_none() -> None:
    adapted = {0: spread(0.40, 0.05), 5: spread(0.44, 0.01)}
    assert "Labels add nothing to adaptation, up to 5." in verdict([], adapted, {})
    adapted = {0: spread(0.40, 0.001), 5: spread(0.404, 0.001), 10: spread(0.42, 0.001)}
    (said,) = verdict([], adapted, {})
    assert said == "Labels add nothing to adaptation up to 5; 10 add 2.0 points."
    assert verdict([], {}, {}) == []
    assert verdict([], {0: spread(0.5), 5: spread(0.3), 10: spread(0.6)}, {}) == [
        "5 labels cost adaptation 20.0 points; 10 add 10.0 points."
    ]
    assert verdict([], {0: spread(0.5), 5: spread(0.3), 10: spread(0.5)}, {}) == [
        "5 labels cost adaptation 20.0 points."
    ]
    assert verdict([], {0: spread(0.5), 5: spread(0.6), 10: spread(0.4)}, {}) == [
        "5 labels add 10.0 points to adaptation.",
        "10 labels give 20.0 points less than 5.",
    ]
    assert verdict([], {0: [0.4], 5: [0.3]}, {})[0].startswith("5 labels cost adaptation 10.0 points (one seed")


def pool_of(count: int, **settings: Any) -> LabelPool:
    return LabelPool(DomainConfig(split=["train"]), {f"im[a]ge-{n}": bytes([n]) for n in range(count)}, **settings)


def test_fewer_images_are_among_more_and_seeds_draw_others() -> None:
    pool = pool_of(40)
    assert pool.names(3, 25)[:10] == pool.names(3, 10)
    assert pool.names(3, 10) != pool.names(4, 10)
    assert len(set(pool.names(3, 40))) == 40
    renamed = LabelPool(
        pool.section, {f"x/{name}": digest for name, digest in sorted(pool.digests.items(), reverse=True)}
    )
    assert renamed.names(3, 10) == [f"x/{name}" for name in pool.names(3, 10)]  # Pixels decide, not names.
    chosen = pool_of(40, chosen=("im[a]ge-7", "im[a]ge-3"))
    assert chosen.names(0, 2) == chosen.names(1, 2) == ["im[a]ge-7", "im[a]ge-3"]
    assert chosen.names(0, 40) == pool.names(0, 40)
    assert pool.labelled(["im[a]ge-7"]).include == ["im[[]a]ge-7"]


def test_numbers_of_labels() -> None:
    assert pool_of(40).counts("10,5,all,40") == [0, 5, 10, 40]
    for text, message in (
        ("5,50", "--labels 50: there are 40 labelled target images (2 more are evaluated on); ask for at most 40"),
        ("x", "give numbers such as 0,5,10"),
        ("-1", "give numbers"),
        ("", "give numbers"),
        ("0", "give a number of labels above 0"),
    ):
        with pytest.raises(InputError) as error:
            pool_of(40, evaluated=2).counts(text)
        assert message in str(error.value)
    assert pool_of(40, chosen=("im[a]ge-7",)).counts("1,all") == [0, 1, 40]
    with pytest.raises(InputError, match="--choose names 1 images"):
        pool_of(40, chosen=("im[a]ge-7",)).counts("2")


def labelled_names(config: ExperimentConfig) -> list[str]:
    return list(Domain(config.domain("target_labelled"), label_space(config.label_space)).layout.names)


def test_the_runs_and_their_configurations(tmp_path: Path) -> None:
    config = build_config(STREETS, ["--target.count=6", "--method.fourier_beta=0.1", "--train.schedule_steps=400"])
    asked: dict[str, Any] = {"seeds": [1], "out": tmp_path, "alone": "supervised"}
    runs = list(planning.plan(open_budget("streets", config, "2,all", **asked)))
    places = ["source_only", "adapted-0", "adapted-2", "labels_alone-2", "adapted-6", "labels_alone-6"]
    assert [str(run.run.relative_to(tmp_path)) for run in runs] == [f"{place}/seed-1" for place in places]
    source_only, adapted, two, two_alone, six, _ = runs
    assert adapted.config == replace(config, seed=1)
    assert (source_only.config.method.name, source_only.config.method.fourier_beta) == ("source_only", 0)
    assert vars(source_only.config.method)["lambda_seg"] == vars(config.method)["lambda_seg"]
    assert source_only.config.train == config.train
    assert two.config.model.weights == str(tmp_path / "adapted-0" / "seed-1")
    assert (two.config.train.steps, two.config.train.schedule_steps) == (150, None)
    assert sorted(labelled_names(two.config)) == sorted(two.names)
    assert set(two.names) < set(six.names)
    assert (two_alone.names, two_alone.config.model) == (two.names, config.model)
    assert (two_alone.config.source, two_alone.config.method.name) == (DomainConfig(), "source_only")
    assert two_alone.config.train == config.train

    asked |= {"from_start": True, "alone": "same-method"}
    *_, six, alone = planning.plan(open_budget("streets", config, "6", **asked))
    assert six.config == replace(config, seed=1, target_labelled=six.config.target_labelled)
    assert six.goes_on_from is None
    assert alone.config == replace(six.config, source=DomainConfig())
    (*_, longer, _) = planning.plan(
        open_budget("streets", config, "6", **asked | {"from_start": False, "label_steps": 7})
    )
    assert longer.config.train.steps == 7


def test_what_labels_alone_have_seen_is_said(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"seeds": [0], "out": tmp_path, "alone": "same-method"}
    config = build_config(STREETS)
    assert "All begin with" not in how(open_budget("x", config, "2", **asked))
    begun = replace(config, model=replace(config.model, weights="runs/mine"))
    assert how(open_budget("x", begun, "2", **asked)).endswith(
        "All begin with the weights runs/mine: what these have seen, labels alone have seen too."
    )
    taught = build_config(STREETS, ["--method.name=distill", "--method.teachers=[runs/large]"])
    assert how(open_budget("x", taught, "2", **asked)).endswith("so from what those have seen.")
    assert "teachers" not in how(open_budget("x", taught, "2", **asked | {"alone": "supervised"}))


def test_experiments_without_such_a_curve(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"seeds": [0], "out": tmp_path, "alone": "supervised"}

    def refused(config: ExperimentConfig, labels: str = "2", **changed: Any) -> str:
        with pytest.raises(InputError) as error:
            open_budget("x", config, labels, **asked | changed)
        return str(error.value)

    streets = build_config(STREETS)
    assert "method.name is source_only, which does not adapt" in refused(
        build_config(STREETS, ["--method.name=source_only"])
    )
    assert "evaluation is missing: budget scores on labelled" in refused(replace(streets, evaluation=DomainConfig()))
    without = replace(streets, source=DomainConfig(), target_labelled=DomainConfig(split=["train"]))
    assert "source is missing" in refused(without)
    assert "leave it or --from-start out" in refused(streets, label_steps=3, from_start=True)
    assert "--label-steps 0" in refused(streets, label_steps=0)
    assert "--labels 500: there are 400" in refused(streets, "500")
    own = build_config(small_experiment(tmp_path))
    assert "target: no labels to draw from" in refused(own)
    assert "target_labelled.root=FOLDER" in refused(own)


def test_a_measured_range_of_values_is_no_other_configuration(tmp_path: Path) -> None:
    content = small_experiment(tmp_path)
    for path in (tmp_path / "target" / "images").glob("*.png"):
        Image.fromarray(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)).save(path)
    config = build_config(content, ["--train.steps=1", "--train.tensorboard=false"])
    (run,) = train_seeds("own", config, tmp_path / "runs", [0], reuse=False).runs
    assert read_experiment(str(run))[1]["target"]["value_range"] is not None
    assert is_finished(run, config)
    other = replace(config, target=replace(config.target, value_range=(0.0, 9.0)))
    with pytest.raises(InputError, match=r"target.value_range: \[.*\] -> \[0.0, 9.0\]"):
        is_finished(run, other)


def test_label_maps_of_numbers_and_names_are_no_other_configuration(tmp_path: Path) -> None:
    content = small_experiment(tmp_path)
    del content["source"]["classes"]
    content["source"]["label_map"] = {0: "road", "1": "car", "2": "sky", "default": "void"}
    config = build_config(content, ["--train.steps=1", "--train.tensorboard=false"])
    (run,) = train_seeds("own", config, tmp_path / "runs", [0], reuse=False).runs
    assert is_finished(run, config)
    content["source"]["label_map"] = {0: "car", "1": "road", "2": "sky", "default": "void"}
    with pytest.raises(InputError, match=r"label_map\.0: road -> car; .*label_map\.1: car -> road"):
        is_finished(run, build_config(content, ["--train.steps=1", "--train.tensorboard=false"]))


@pytest.fixture
def budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command on tiny own data; return what it prints."""
    content = small_experiment(tmp_path)
    write_images(tmp_path / "labelled", ["a", "b", "c[1]"], labels=True)
    content["target_labelled"] = {"root": str(tmp_path / "labelled"), "classes": CLASSES}
    content["train"] |= {"steps": 2, "checkpoint_every": 1, "tensorboard": False}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))

    def run(*options: str) -> str:
        main(["budget", str(tmp_path / "own.yaml"), "--labels=2", "--seeds=1", f"--out={tmp_path / 'out'}", *options])
        return capsys.readouterr().out

    return run


def test_a_budget_from_the_command_line(
    tmp_path: Path, budget: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert "7 iterations in all, 7 to do" in budget("--dry-run")
    assert not out.exists()
    printed = budget()
    assert "[4/4] 2 labels alone, 2 iterations, seed 0" in printed
    found = json.loads((out / "budget.json").read_text())
    assert [(run["arm"], run["labels"], run["seed"]) for run in found["runs"]] == [
        (SOURCE_ONLY, 0, 0),
        (ADAPTED, 0, 0),
        (ADAPTED, 2, 0),
        (LABELS_ALONE, 2, 0),
    ]
    for run in found["runs"]:
        result = json.loads((Path(run["run"]) / "result.json").read_text())
        assert (run["miou"], run["iou"]) == (result["miou"], result["iou"])
        assert 0 <= run["miou"] <= 1
        assert run["minutes"] > 0
        assert len(run["names"]) == run["labels"]
    assert found["runs"][2]["minutes"] > found["runs"][1]["minutes"]  # That run's are in it.
    assert found["sentences"][0] in printed
    assert found["sentences"][0] in (out / "budget.html").read_text()
    assert "| labels | source only | adapted | labels alone |" in (out / "budget.md").read_text()

    # Again: nothing is trained. Interrupted: it goes on, to the same result.
    times = {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    assert "[1/4]" not in budget()
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    broken = out / "labels_alone-2" / "seed-0"
    before = (broken / "result.json").read_bytes()
    (broken / "result.json").unlink()
    shutil.rmtree(broken / "checkpoints" / "step-000002")
    listed = budget("--dry-run")
    assert f"{broken}: 2 labels alone, seed 0, 2 iterations, goes on at 1" in listed
    assert "7 iterations in all, 1 to do" in listed
    assert "[4/4]" in budget()
    assert (broken / "result.json").read_bytes() == before

    # A run's configuration is all that repeats it.
    run = out / "adapted-2" / "seed-0"
    main(["train", str(run / "config.yaml"), "--out", str(tmp_path / "again")])
    again, first = (json.loads((path / "result.json").read_text()) for path in (tmp_path / "again", run))
    # The budget's has a source-only run beside it.
    assert {**again, "trust": None} == {**first, "trust": None}

    found = (out / "budget.json").read_bytes()
    with pytest.raises(SystemExit):
        budget("--train.batch=1")
    error = capsys.readouterr().err
    assert "train.batch: 2 -> 1" in error
    assert "holds a run of another configuration" in error
    assert (out / "budget.json").read_bytes() == found


def test_labels_of_one_class_alone_are_refused_before_anything_is_trained(
    tmp_path: Path, budget: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path / "labelled" / "labels").iterdir():
        Image.fromarray(np.full((48, 64), 1, np.uint8)).save(path)
    with pytest.raises(SystemExit):
        budget()
    error = capsys.readouterr().err
    assert "2 labels alone, seed 0: " in error
    assert f" show no class but {CLASSES[1]}, of which alone nothing is learnt; give larger numbers" in error
    assert not (tmp_path / "out").exists()

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.evaluation.evaluate import Scores, confusion_matrix, counted, evaluate
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config

SPACE = LabelSpace("letters", ("a", "b", "c", "d"))


def test_confusion_matrix_counts_pixels() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, (7, 9)), rng.integers(0, 4, (7, 9))
    labels[:2] = 255
    expected = np.zeros((4, 4), int)
    for label, prediction in zip(labels.ravel(), predicted.ravel(), strict=True):
        if label != 255:
            expected[label, prediction] += 1
    actual = confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(labels), 4)
    assert actual.tolist() == expected.tolist()
    index = torch.from_numpy(labels * 4 + predicted)
    assert torch.equal(counted(index, 1024), torch.bincount(index.flatten(), minlength=1024))


def test_confusion_matrix_reads_no_value_from_an_accelerator() -> None:
    pixels = torch.zeros(2, 8, 8, dtype=torch.uint8, device="meta")
    assert confusion_matrix(pixels[0], pixels[1], 4).shape == (4, 4)


def test_confusion_of_ignored_and_of_all_pixels() -> None:
    labels = torch.full((3, 3), 255, dtype=torch.uint8)
    predicted = torch.zeros((3, 3), dtype=torch.int64)
    confusion = confusion_matrix(predicted, labels, 4)
    assert confusion.sum() == 0
    scores = Scores(confusion, SPACE, SPACE)
    assert (scores.miou, scores.pixel_accuracy) == (None, None)
    assert confusion_matrix(predicted, labels * 0, 4)[0, 0] == 9


def test_the_segmenter_keeps_its_mode_and_its_statistics(experiment: dict[str, Any]) -> None:
    config = build_config(experiment)
    segmenter = build_segmenter(config)
    domain = Domain(config.domain("evaluation"), segmenter.label_space)
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    for mode in (True, False):
        segmenter.train(mode)
        evaluate(segmenter, domain)
        assert segmenter.training == segmenter.network.training == mode
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())


def test_miou_is_over_classes_that_occur() -> None:
    confusion = torch.tensor([[6, 2, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    scores = Scores(confusion, SPACE, SPACE)
    assert scores.iou == {"a": 0.75, "b": 0.5, "c": None, "d": None}
    assert scores.miou == pytest.approx(0.625)
    assert scores.pixel_accuracy == pytest.approx(0.8)
    only_predicted = confusion.clone()
    only_predicted[0, 3] = 2
    assert Scores(only_predicted, SPACE, SPACE).iou["d"] == 0
    assert Scores(confusion, SPACE, LabelSpace("two", ("b", "c"))).miou == 0.5


def test_evaluation_by_hand(experiment: dict[str, Any]) -> None:
    experiment["evaluation"]["size"] = [32, 24]
    config = build_config(experiment)
    segmenter = build_segmenter(config).train()
    domain = Domain(config.domain("evaluation"), segmenter.label_space)
    scores = evaluate(segmenter, domain)
    assert segmenter.training
    segmenter.eval()
    hits = total = 0
    for index in range(len(domain)):
        sample = domain.for_evaluation(index)
        assert sample.image.shape == (24, 32, 3)
        assert sample.label is not None
        assert sample.label.shape == (48, 64)
        images = torch.from_numpy(sample.image.transpose(2, 0, 1).copy())[None]
        with torch.no_grad():
            logits = segmenter.network(segmenter.preprocess(images))[-1]
        up = torch.nn.functional.interpolate(logits, size=(48, 64), mode="bilinear", align_corners=True)
        hits += int((up.argmax(1)[0].numpy() == sample.label).sum())
        total += sample.label.size
    assert scores.pixel_accuracy == pytest.approx(hits / total)
    with pytest.raises(InputError, match="'bus'"):
        evaluate(segmenter, domain, LabelSpace("other", ("road", "bus")))

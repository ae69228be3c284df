from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaptseg.config import DomainConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.errors import InputError
from benchmarks.input import CAFFE_MEAN_BGR, FILE_SIZE, input_speed, plain_reading, write_pictures


@pytest.mark.slow
def test_all_ways_are_measured_and_give_the_same(tmp_path: Path) -> None:
    config = write_pictures(tmp_path / "pictures", 2)
    speed = input_speed(replace(config, size=(320, 180)), "streets14", tmp_path / "scratch", rounds=2)
    assert set(speed) == {"plain", "originals", "prepared", "originals_ratio", "prepared_ratio"}
    assert speed["prepared_ratio"] == speed["prepared"] / speed["plain"] > 3

    files = [str(tmp_path / "pictures" / name / "00001.png") for name in ("images", "labels")]
    image, label = plain_reading(files[0], files[1], (320, 180), {value: value for value in range(14)})
    sample = Domain(replace(config, size=(320, 180)), label_space("streets14"))[1]
    np.testing.assert_array_equal(label, sample.label)
    expected = sample.image[:, :, ::-1].transpose(2, 0, 1) - np.array(CAFFE_MEAN_BGR)[:, None, None]
    assert np.abs(image - expected).max() <= 2.001
    whole = Domain(replace(config, size=None), label_space("streets14"))[0]
    assert whole.image.shape == (FILE_SIZE[1], FILE_SIZE[0], 3)
    assert whole.label is not None
    assert len(np.unique(whole.label)) > 5


def test_domains_that_have_no_files_are_refused(tmp_path: Path) -> None:
    config = DomainConfig(layout="streets", root="game", size=(64, 32), labelled=True)
    with pytest.raises(InputError, match="layout streets"):
        input_speed(config, "streets14", tmp_path)

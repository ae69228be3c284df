"""`init` on data as they come: the YAML is accepted, and every pixel gets the class that is meant."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adaptseg.config import ExperimentConfig
from adaptseg.data.check import check
from adaptseg.data.discovery.proposal import Proposal, propose
from adaptseg.data.discovery.write_yaml import as_yaml
from adaptseg.data.domains import list_domains
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment
from adaptseg.methods.configuration import build_config
from tests.data.discovery import annotated_forms  # noqa: F401  Adds its forms.
from tests.data.discovery.drawing import CLASSES, each, photographs, scene
from tests.data.discovery.forms import FORMS


def proposed(
    folder: Path, labels: Path | None = None, evaluation: Path | None = None
) -> tuple[Proposal, ExperimentConfig]:
    """Return what `init` finds, and the configuration that its YAML is."""
    proposal = propose(folder / "source", folder / "target", evaluation, labels, "laptop")
    (folder / "mine.yaml").write_text(as_yaml(proposal, "adaptseg init", folder))
    content = read_experiment(str(folder / "mine.yaml"))[1]
    return proposal, build_config(content, [])


@pytest.mark.parametrize("name", FORMS)
def test_every_pixel_gets_its_class(tmp_path: Path, name: str) -> None:
    expected = FORMS[name](tmp_path / "source")
    photographs(tmp_path / "target")
    proposal, config = proposed(tmp_path)
    report = check(config, uses_target=True, workers=0)
    assert not report.fails, report.findings
    source = list_domains(config, uses_target=True).source
    assert len(source) == (5 if name == "voc" else 6)
    names = np.array([*source.label_space.classes, *["void"] * (256 - len(source.label_space))])
    for index in range(len(source)):
        got = names[source.read(index)[1]]
        if expected == "partition":
            usual = [Counter(got[scene(index) == code].tolist()).most_common(1)[0] for code in range(5)]
            assert len({name for name, _ in usual}) == 5
            assert sum(count for _, count in usual) > 0.95 * got.size
        else:
            meant = np.array([expected[each] for each in CLASSES])[scene(index)]
            assert (got == meant).mean() > 0.999, (proposal.source.keys, set(got.ravel()))


def test_of_several_labels_in_one_folder_a_template_chooses(tmp_path: Path) -> None:
    """Also as the message writes it; the others are no images."""
    each(tmp_path / "source", "rgb_{:04}.png", "seg_{:04}.png")
    each(tmp_path / "other", "rgb_{:04}.png", "mask_{:04}.png", lambda ids: np.minimum(ids, 2))
    for path in (tmp_path / "other").glob("mask_*"):
        path.rename(tmp_path / "source" / path.name)
    photographs(tmp_path / "target")
    with pytest.raises(InputError, match="could both be the labels") as caught:
        proposed(tmp_path)
    cure = re.search(r"--labels '(.*)'", str(caught.value))
    assert cure
    assert Path(cure[1]) in (tmp_path / "source/seg_{name}.png", tmp_path / "source/mask_{name}.png")
    for family in ("seg", "mask"):
        _, config = proposed(tmp_path, labels=tmp_path / f"source/{family}_{{name}}.png")
        assert (config.source.images, config.source.labels) == ("rgb_{name}.png", f"{family}_{{name}}.png")
        assert not check(config, uses_target=True, workers=0).fails
    with pytest.raises(InputError, match="no labels that belong to images"):
        proposed(tmp_path, labels=tmp_path / "source/depth_{name}.png")

"""`init` on data as they come: the YAML is accepted, and every pixel gets the class that is meant."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adaptseg.config import ExperimentConfig
from adaptseg.data.check import check
from adaptseg.data.discovery.proposal import Proposal, propose
from adaptseg.data.discovery.write_yaml import as_yaml
from adaptseg.data.domains import list_domains
from adaptseg.experiment import read_experiment
from adaptseg.methods.configuration import build_config
from tests.data.discovery import annotated_forms  # noqa: F401  Adds its forms.
from tests.data.discovery.drawing import CLASSES, photographs, scene
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

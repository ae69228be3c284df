"""The report of a run, made from its folder, its source-only run and its data, as far as they are there."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from adaptseg.atomic import write_text
from adaptseg.config import flat, to_dict
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.data.sampling import CLASS_PIXELS, kept_class_pixels
from adaptseg.errors import InputError
from adaptseg.reports import charts
from adaptseg.reports.gallery import Gallery, colour, run_gallery
from adaptseg.reports.panels import MOST_PANELS, miou_panels, panels, readable
from adaptseg.reports.runs import SOURCE_ONLY, Run, changed_keys, find_baseline, read_run, run_name, unlike
from adaptseg.training.run_log import training_cost

COUNTED_LABELS = 48
"""Labels of the source, evenly spaced, that class frequencies are counted in."""
MOST_CLASSES = 40
"""Classes in the confusion matrix and the chart of class frequencies."""


@dataclass(frozen=True)
class Tile:
    """A figure in large type."""

    value: str
    label: str
    hint: str = ""


def write_run_report(path: Path, out: Path | None, baseline: Path | None, device: torch.device) -> Path:
    """Write the page of one run.

    Args:
        path: the run folder; the run may still go on.
        out: the HTML file; none: report.html in the run folder.
        baseline: the source-only run to compare with; none: one beside the run, where there is one.
        device: where the networks predict the pictures.

    Returns:
        The file.

    Raises:
        InputError: the folder is no run, nothing is logged yet, or the baseline is no finished source-only run of the
            same classes.
    """
    run = read_run(path)
    place = baseline or find_baseline(run)
    page = run_page(run, read_baseline(place, run) if place else None, device)
    return save(page, out or path / "report.html")


def report_at_the_end(run: Path, device: torch.device) -> None:
    """Write a finished run's page. What goes wrong is said in one line: the training is done all the same."""
    try:
        write_run_report(run, None, None, device)
    except Exception as error:  # Whatever it is, it must not take the result with it.
        reason = InputError(f"{type(error).__name__}: {error}")
        print(f"adaptseg: {run}: no report ({reason}); `adaptseg report {run}` tries again", file=sys.stderr)


def save(page: str, out: Path) -> Path:
    """Write a page; file names may hold bytes that are no text."""
    write_text(out, page.encode(errors="backslashreplace").decode())
    return out


def render(template: str, **context: Any) -> str:
    """Return a page from a template; whatever is not markup is escaped."""
    environment = Environment(
        loader=PackageLoader("adaptseg.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "points": points, "plain": plain}
    return environment.get_template(template).render(version=version("adaptseg"), **context)


def percent(share: float | None) -> str:
    """Return a fraction in per cent, `–` where there is none."""
    return "–" if share is None else f"{100 * share:.1f}"


def points(difference: float | None) -> str:
    """Return a difference of fractions in percentage points, with its sign; nothing where there is none."""
    if difference is None:
        return ""
    return "0.0" if abs(difference) < 0.0005 else f"{100 * difference:+.1f}".replace("-", "−")


def plain(value: object) -> str:
    """Return a value of the configuration as YAML would have it in one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_baseline(path: Path, run: Run) -> Run:
    """Return the source-only run that a run is compared with.

    Raises:
        InputError: it is no finished source-only run of the same classes.
    """
    baseline = read_run(path)
    if baseline.config.method.name != SOURCE_ONLY:
        raise InputError(f"--baseline {path}: its method is {baseline.config.method.name}; name a {SOURCE_ONLY} run")
    if baseline.classes != run.classes:
        raise InputError(f"--baseline {path}: has other classes than {run.path}; name a run of the same classes")
    if baseline.result is None:
        raise InputError(f"--baseline {path}: is not finished; wait for its result.json, or leave --baseline out")
    return baseline


def run_page(run: Run, baseline: Run | None, device: torch.device) -> str:
    """Return the HTML of a run's page."""
    notes = []
    if run.result is None:
        notes.append(
            f"This run is not finished: {run.steps} of {run.config.train.steps} iterations are logged, and there is no"
            " result yet. The page shows what is there; pictures are those of the last checkpoint."
        )
    if baseline:
        differing = unlike(run, baseline)
        notes += [f"The source-only run also differs in {', '.join(differing)}."] if differing else []
    elif run.config.method.name != SOURCE_ONLY:
        notes.append(
            "No source-only run of the same data was found beside this run; `adaptseg report RUN --baseline RUN`"
            " compares with one."
        )
    gallery: Gallery | None = None
    try:
        gallery = run_gallery(run, baseline, device)
    except (InputError, OSError) as error:
        notes.append(f"No pictures: {error}")
    charted = charted_classes(run)
    return render(
        "run.html",
        title=run.config.description or run_name(run.path),
        facts=facts(run),
        notes=notes,
        run=run,
        baseline=baseline,
        tiles=tiles(run, baseline),
        classes=class_rows(run, baseline),
        miou=miou_panels(run, baseline),
        losses=panels("loss", [[run]], run.keys("")[:MOST_PANELS], baseline),
        rates=panels("rate", [[run]], [*run.keys("lr/"), "images_per_second", "data_wait", "memory_mb"], small=True),
        **matrix(run, charted),
        frequencies=class_frequencies(run, charted),
        gallery=gallery,
        changed=changed_keys(run.config),
        keys=flat(to_dict(run.config)),
    )


def facts(run: Run) -> dict[str, str]:
    """Return what a run is, for the top of its page."""
    cost = training_cost(run.path)
    source = run.config.domain("source")
    evaluation = run.config.domain("evaluation") if run.config.has_evaluation else None
    known = {
        "run": str(run.path),
        "method": run.config.method.name,
        "source": " ".join(filter(None, (source.layout, *source.roots))),
        "labelled target images": str((run.result or {}).get("labelled", "")),
        "evaluated on": (
            " ".join(filter(None, (evaluation.layout, *evaluation.roots, *(evaluation.split or ()))))
            if evaluation
            else "nothing: no labels"
        ),
        "iterations": str(run.steps),
        "seed": str(run.config.seed),
        "training": f"{cost['seconds'] / 60:.1f} min" if cost["seconds"] else "",
        "memory": f"{cost['memory_mb']:.0f} MB" if cost["memory_mb"] else "",
    }
    return {key: value for key, value in known.items() if value}


def tiles(run: Run, baseline: Run | None) -> list[Tile]:
    """Return the scores: mIoU at the last iteration, as chosen without labels, as the labels would choose."""
    result = run.result or {}
    selection = result.get("selection") or {}
    made = []
    if result.get("miou") is not None:
        made.append(Tile(percent(result["miou"]), "mIoU, last iteration", f"step {result.get('step', run.steps)}"))
    chosen, best = selection.get("chosen") or {}, selection.get("best_by_labels") or {}
    if chosen:
        step, criterion = f"step {chosen['step']}", f"by {readable(str(selection.get('criterion')))}"
        if chosen.get("miou") is None:
            made.append(Tile(step, "chosen without labels", criterion))
        else:
            made.append(Tile(percent(chosen["miou"]), "mIoU, chosen without labels", f"{step}, {criterion}"))
    if best:
        made.append(Tile(percent(best.get("miou")), "mIoU, best by labels", f"step {best['step']}; no fair choice"))
    before = (baseline.result or {}).get("miou") if baseline else None
    if baseline and before is not None:
        gain = points(result["miou"] - before) if result.get("miou") is not None else ""
        made.append(Tile(percent(before), "mIoU, source only", f"adaptation: {gain} points" if gain else ""))
    if result.get("pixel_accuracy") is not None:
        made.append(Tile(percent(result["pixel_accuracy"]), "pixel accuracy"))
    return made


def class_rows(run: Run, baseline: Run | None) -> list[dict[str, Any]]:
    """Return each class with its colour, IoU, the baseline's, and the difference; none without scores."""
    space = label_space(run.config.label_space, run.config.colors)
    iou = (run.result or {}).get("iou") or {}
    before = ((baseline.result or {}).get("iou") or {}) if baseline else {}
    averaged = ((run.result or {}).get("protocol") or {}).get("classes") or run.classes
    rows = []
    for train_id, name in enumerate(run.classes if any(share is not None for share in iou.values()) else ()):
        now, then = iou.get(name), before.get(name)
        gain = None if now is None or then is None else now - then
        row = {"name": name, "colour": colour(space, train_id), "iou": now, "before": then, "gain": gain}
        rows.append(row | {"averaged": name in averaged})
    return rows


def label_pixels(run: Run) -> npt.NDArray[np.float64]:
    """Return the confusion matrix in pixels, (C, C), rows ground truth; zeros without a result."""
    pixels = (run.result or {}).get("confusion") or np.zeros((len(run.classes), len(run.classes)))
    return np.array(pixels, dtype=np.float64)


def charted_classes(run: Run) -> list[int]:
    """Return the train ids that charts have room for: the most frequent of the ground truth."""
    order = np.argsort(-label_pixels(run).sum(1), kind="stable")
    return sorted(order[:MOST_CLASSES].tolist())


def matrix(run: Run, charted: Sequence[int]) -> dict[str, Any]:
    """Return the confusion matrix's chart, and the confusions that cost the most pixels; none without labels."""
    pixels = label_pixels(run)
    if not pixels.sum():
        return {"confusion": None, "confusions": []}
    shares = pixels / np.maximum(1, pixels.sum(1, keepdims=True))
    names = [run.classes[index] for index in charted]
    svg = charts.confusion(
        "confusion", "confusion matrix, % of each class's pixels", shares[np.ix_(charted, charted)], names
    )
    wrong = pixels - np.diag(np.diag(pixels))
    worst = [divmod(int(index), len(pixels)) for index in np.argsort(wrong, axis=None)[::-1][:5]]
    listed = [
        {"truth": run.classes[i], "predicted": run.classes[j], "share": shares[i, j], "all": wrong[i, j] / pixels.sum()}
        for i, j in worst
        if wrong[i, j]
    ]
    return {"confusion": svg, "confusions": listed}


def class_frequencies(run: Run, charted: Sequence[int]) -> dict[str, Any]:
    """Return the chart of class frequencies, and of how many source labels they are; no chart without figures."""
    counted, source = source_pixels(run)
    pixels = label_pixels(run)
    counts = {"source labels": source, "target ground truth": pixels.sum(1), "prediction": pixels.sum(0)}
    shares = {name: (of / of.sum())[charted].tolist() for name, of in counts.items() if of.any()}
    names = [run.classes[index] for index in charted]
    svg = charts.frequencies("frequencies", "class frequencies", list(shares.values()), names) if shares else None
    return {"svg": svg, "names": list(shares), "counted": counted}


def source_pixels(run: Run) -> tuple[str, npt.NDArray[np.float64]]:
    """Return in words how many labels of the source were counted, and the pixels of each class (C,)."""
    pixels = kept_class_pixels(run.path / CLASS_PIXELS)
    try:
        if pixels is not None and pixels.ndim == 2 and pixels.shape[1] == len(run.classes):
            return f"all {len(pixels)} source labels", pixels.sum(0).astype(np.float64)
        domain = Domain(run.config.domain("source"), label_space(run.config.label_space, run.config.colors))
        indices = sorted(set(np.linspace(0, len(domain) - 1, COUNTED_LABELS).round().astype(int).tolist()))
        counts = [np.bincount(domain.label(i).ravel(), minlength=256)[: len(run.classes)] for i in indices]
        return f"{len(indices)} of {len(domain)} source labels", np.sum(counts, axis=0).astype(np.float64)
    except (InputError, OSError, ValueError) as error:
        return f"no source labels ({InputError(str(error))})", np.zeros(len(run.classes))

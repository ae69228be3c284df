"""Text from outside is text: on the terminal, in HTML, in Markdown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from adaptseg.app.result import ClassShares
from adaptseg.data.check import DomainSummary, Finding, Report
from adaptseg.reports.page import render
from adaptseg.reports.seed_runs import SeedRuns
from adaptseg.reports.terminal import print_check, print_table
from adaptseg.segmenter.model_card import model_card
from adaptseg.text import for_markdown, plain

NAMES = (
    "[/b]",
    "road [asphalt]",
    "\x1b[31mred\x9b",
    ":smile:",
    "<script>x</script>",
    "[a](javascript:b)",
    "a|b",
    "$x^$",
)


def shown(print_it: Any, *arguments: Any) -> str:
    file = io.StringIO()
    print_it(*arguments, Console(file=file, width=200, color_system=None))
    return file.getvalue()


def test_tables_on_the_terminal() -> None:
    protocol = {"name": "[/b]", "classes": [*NAMES]}
    result = {"miou": 0.5, "iou": dict.fromkeys(NAMES, 0.5), "protocol": protocol}
    text = shown(print_table, [SeedRuns("run [/x]", (Path("none"),), (result,))])
    assert all(plain(name) in text for name in (*NAMES, "run [/x]"))
    assert "\x1b" not in text
    assert "\x9b" not in text


def test_findings_on_the_terminal() -> None:
    domain = DomainSummary(
        images=1,
        sizes={"1x1": 1},
        labels=1,
        class_shares=dict.fromkeys(NAMES, 0.1),
        class_images=dict.fromkeys(NAMES, 1),
        ignored=0,
    )
    findings = [Finding("source", True, "class", f"class {name}") for name in NAMES]
    text = shown(print_check, Report({"source": domain}, findings))
    assert all(text.count(plain(name)) == 2 for name in NAMES)
    assert "\x1b" not in text


def test_markdown() -> None:
    assert for_markdown("road_surface, 2-wheelers (parked)") == "road_surface, 2-wheelers (parked)"
    assert for_markdown("_a_ *b* `c` a|b\n# d") == r"\_a\_ \*b\* \`c\` a\|b\\n# d"
    assert for_markdown("<script>[a](javascript:b)&lt;") == r"&lt;script>\[a\](javascript:b)&amp;lt;"


def test_a_model_card_with_hostile_names() -> None:
    card = {
        "model": {"backbone": "resnet18", "width": 8, "head": None},
        "classes": [*NAMES],
        "palette": [[0, 0, 0]] * len(NAMES),
        "description": "x\n<img src=y onerror=z> [click](javascript:b)",
        "license": "<b>",
    }
    text = model_card(card)
    body = text.split("---\n", 2)[2]
    assert "<" not in body.replace("<br", "")
    assert "](javascript" not in body.replace(r"\](", "")
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    assert {row.replace(r"\|", "").count("|") for row in rows} == {4}


def test_pages_escape() -> None:
    legend = [ClassShares(name, "#000000", (1.0,)) for name in NAMES]
    photo = {"title": "<script>", "width": 1, "height": 1, "uri": ""}
    page = render("app.html", photo=photo, views=[], legend=legend, largest=1.0)
    assert "<script>" not in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page

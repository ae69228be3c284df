"""A short run over all readers; `make fuzz` is the long one."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.campaign import BAD, Counts, make_input, run
from tests.fuzz.targets import TARGETS

SEED = 0
INPUTS = 25
"""For each reader."""


def test_readers_accept_or_refuse_in_one_line(tmp_path: Path) -> None:
    counts = {name: Counts() for name in TARGETS}
    bad = []
    for outcome in run(list(TARGETS.values()), range(INPUTS), SEED, tmp_path / "failures", processes=1):
        counts[outcome.target].add(outcome)
        if outcome.kind in BAD:
            bad.append(f"{outcome.kind}: {outcome.kept}: {outcome.text}")
    assert not bad, f"seed {SEED}\n" + "\n".join(bad)
    assert all(sum(one.kinds.values()) == INPUTS for one in counts.values())
    # The damage is neither so heavy that nothing is read, nor so light that nothing is noticed.
    assert all(one.kinds["refused"] for name, one in counts.items() if name != "class names")  # Any text may be one.
    assert sum(bool(one.kinds["accepted"]) for one in counts.values()) > len(counts) / 2


def test_inputs_depend_on_seed_and_number_alone() -> None:
    for target in TARGETS.values():
        assert make_input(target, SEED, 1) == make_input(target, SEED, 1)
        assert [make_input(target, SEED, index) for index in range(4)] != [make_input(target, 1, n) for n in range(4)]

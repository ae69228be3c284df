"""`python -m tests.fuzz --inputs 10000 --seed 0`: the long run over all readers."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.campaign import BAD, GOOD, Counts, run
from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run the inputs, print a table of the outcomes, and exit with 1 if any is bad."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="over all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="READER", choices=TARGETS, help=", ".join(TARGETS))
    parser.add_argument("--first", type=int, default=0, help="number of each reader's first input")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--failures", type=Path, default=Path("runs/fuzz-failures"), help="where bad inputs are kept")
    options = parser.parse_args()

    targets = [TARGETS[options.only]] if options.only else list(TARGETS.values())
    each = -(-options.inputs // len(targets))
    print(f"seed {options.seed}, {each} inputs for each of {len(targets)} readers", flush=True)
    counts = {target.name: Counts() for target in targets}
    started = time.monotonic()
    jobs = range(options.first, options.first + each)
    for outcome in run(targets, jobs, options.seed, options.failures, options.processes):
        counts[outcome.target].add(outcome)
        if outcome.kind in BAD:
            last = (outcome.text.strip().splitlines() or [""])[-1][:200]
            print(f"{outcome.kind}: {outcome.kept}: {last}", file=sys.stderr, flush=True)
    _print_table(counts)
    print(f"{time.monotonic() - started:.0f} s")
    if any(one.kinds[kind] for one in counts.values() for kind in BAD):
        raise SystemExit(f"bad inputs are in {options.failures}")


def _print_table(counts: dict[str, Counts]) -> None:
    print(f"{'reader':<20}{'inputs':>8}" + "".join(f"{kind:>11}" for kind in (*GOOD, *BAD)) + "   peak MB  longest s")
    for name, one in counts.items():
        print(
            f"{name:<20}{sum(one.kinds.values()):>8}"
            + "".join(f"{one.kinds[kind]:>11}" for kind in (*GOOD, *BAD))
            + f"{one.memory / 1e6:>10.0f}{one.seconds:>11.1f}"
        )


if __name__ == "__main__":
    main()

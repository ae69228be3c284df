"""Print how far adaptseg is from each golden figure, as the table of docs/fidelity.md has it.

python -m tests.golden.differences
"""

from __future__ import annotations

from tests.golden import test_family
from tests.golden.adaptsegnet import (
    NETWORKS,
    TRAININGS,
    discriminator_difference,
    entropy_difference,
    network_difference,
    training_difference,
)
from tests.golden.test_golden import FORWARD, TRAJECTORY


def main() -> None:
    rows = [(f"`{key}`", network_difference(key), FORWARD) for key in NETWORKS]
    rows.append(("`discriminator`", discriminator_difference(), FORWARD))
    rows.append(("`self_information`, `entropy`", entropy_difference(), FORWARD))
    rows += [(f"`{key}`", training_difference(key), TRAJECTORY) for key in TRAININGS]
    rows += [(f"`{key}`", difference(), allowed) for key, (difference, allowed) in test_family.FIGURES.items()]
    rows += [(f"`{key}`", difference(), test_family.FORWARD) for key, difference in test_family.DIFFERS.items()]
    print("| figure | largest relative difference | allowed |\n| --- | ---: | ---: |")
    for name, difference, allowed in rows:
        print(f"| {name} | {difference:.0e} | {allowed:.0e} |")


if __name__ == "__main__":
    main()

"""`adaptseg presets`."""

from __future__ import annotations

from argparse import Namespace

from adaptseg.cli.parser import Parser


def parser() -> Parser:
    """Return the arguments: none."""
    return Parser(
        "adaptseg presets",
        "List the experiments that ship with adaptseg.",
        ("adaptseg presets", "adaptseg presets | grep synthia"),
    )


def run(options: Namespace) -> None:
    """List the presets, and the recipes for experiments of your own."""
    from adaptseg.experiment import preset_description, preset_names, recipe_names

    names = [*preset_names(), *recipe_names()]
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {preset_description(name)}")
    print(
        f"\n`preset: {recipe_names()[0]}` in a YAML of your own takes model, method, optimizer and train of a recipe."
    )

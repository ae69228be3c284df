"""Networks of one's own code: the function that `model.factory` names, and whose word is needed to run it.

Training an experiment runs the function, for the YAML says so. Loading weights does not, for the card beside them may
be anyone's: `load_model` wants the network itself, or `trust_factory=True`, but for what this process ran before.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from adaptseg.config import ModelConfig
from adaptseg.errors import InputError

GIVEN = "adapt"
"""Stands for the module in `model.factory` where the network was given in Python, to `adaptseg.adapt`."""

_trusted: ContextVar[bool] = ContextVar("factories_trusted", default=False)
_run_before: set[tuple[str | None, str | None]] = set()


@contextmanager
def factories_trusted() -> Iterator[None]:
    """Within the block, loading weights may run the code that their card names."""
    token = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(token)


def require_trust(model: ModelConfig, where: str) -> None:
    """Refuse to run the code that a card names, unless someone said that it may be run.

    Raises:
        InputError: nobody did; `where` is the card.
    """
    assert model.factory is not None
    if model.factory.startswith(f"{GIVEN}:"):
        raise InputError(
            f"{where}: its network ({model.factory.partition(':')[2]}) was given in Python;"
            " give it again, as load_model(…, network=…)"
        )
    if not _trusted.get() and (model.factory, model.factory_folder) not in _run_before:
        raise InputError(
            f"{where}: its network is made by code, {model.factory}; if you trust that code, let it run with"
            " --trust-factory, in Python trust_factory=True, or give the network, as load_model(…, network=…)"
        )


def call_factory(model: ModelConfig, classes: int) -> Any:
    """Import `model.factory` and return what it makes for a number of classes.

    `model.factory_folder` (none, or not there: the working directory) is first on the import path meanwhile.

    Raises:
        InputError: there is no such module or function, or it fails.
    """
    assert model.factory is not None
    folder = model.factory_folder
    place = folder if folder is not None and os.path.isdir(folder) else os.getcwd()
    sys.path.insert(0, place)
    try:
        function = _function(model.factory, place)
        made = function(classes, **(model.factory_options or {}))
    except InputError:
        raise
    except Exception as error:  # Code of the user's may fail in any way.
        raise InputError(
            f"model.factory {model.factory}: fails for {classes} classes ({type(error).__name__}: {error});"
            " it is called with the number of classes and model.factory_options; correct it"
        ) from error
    finally:
        sys.path.remove(place)
    _run_before.add((model.factory, folder))
    return made


def _function(factory: str, place: str) -> Callable[..., Any]:
    name, _, attribute = factory.partition(":")
    if name == GIVEN:
        raise InputError(
            f"model.factory {factory}: that network was given in Python; call adaptseg.adapt with it, or name a"
            " function that makes it, as package.module:function"
        )
    _refuse_namesake(name.partition(".")[0], factory, place)
    try:
        module = importlib.import_module(name)
    except Exception as error:  # So may its module.
        raise InputError(
            f"model.factory {factory}: {name} cannot be imported ({type(error).__name__}: {error}); put it beside the"
            f" YAML ({place}), or install it"
        ) from error
    function = module
    for part in attribute.split("."):
        function = getattr(function, part, None)  # type: ignore[assignment]
    if not callable(function):
        raise InputError(f"model.factory {factory}: {name} has no function {attribute}; correct the name")
    return function


def _refuse_namesake(name: str, factory: str, place: str) -> None:
    """Refuse a module of the folder whose name another one has taken in this process: that one would be run."""
    loaded, found = sys.modules.get(name), PathFinder.find_spec(name, [place])
    origin = getattr(loaded, "__file__", None)
    if found and found.origin and origin and Path(found.origin).resolve() != Path(origin).resolve():
        raise InputError(f"model.factory {factory}: another module {name} is loaded, {origin}; rename {found.origin}")

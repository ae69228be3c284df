"""Optional dependencies: a command whose libraries are not installed says which to install."""

from __future__ import annotations

from importlib.util import find_spec

from adaptseg.errors import InputError


def require_extra(extra: str, purpose: str, *modules: str) -> None:
    """Refuse to go on without the libraries of an extra.

    Args:
        extra: the extra of this package that has them.
        purpose: what needs them, for the message.
        modules: the names that they are imported by.

    Raises:
        InputError: one of the modules is not installed.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise InputError(f"{purpose} needs {', '.join(missing)}; pip install 'adaptseg[{extra}]'")

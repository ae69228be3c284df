"""The one exception that means "the input is wrong": shown to users as a single line."""

from __future__ import annotations

from importlib.util import find_spec

from adaptseg.text import plain

LONGEST_MESSAGE = 2000


class InputError(ValueError):
    r"""Bad input: the message names the file or key, what is wrong, and the cure, in one line.

    The command line prints it without a traceback and exits with 2. Names come from outside, so control
    characters are written out (`\n`), and the middle of a message that no one would read is left out.
    """

    def __init__(self, message: str) -> None:
        line = plain(message)
        if len(line) > LONGEST_MESSAGE:
            end = LONGEST_MESSAGE // 4
            line = f"{line[: LONGEST_MESSAGE - end - 3]} … {line[-end:]}"
        super().__init__(line)


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

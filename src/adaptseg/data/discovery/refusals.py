"""Labels that are not clear: the cure depends on whether they are the source's or the evaluation's."""

from __future__ import annotations

from adaptseg.errors import InputError

FOR_EVALUATION = "give --evaluation a folder with the images and those labels alone, or write evaluation into the YAML"
"""`--labels` is of the source."""


class UnclearLabels(InputError):
    """Which labels are meant cannot be told; `--labels` says it."""

    def __init__(self, cause: str, cure: str) -> None:
        super().__init__(f"{cause}; {cure}")
        self.cause = cause
        """What is unclear, without the cure."""

"""The choice: candidates by content, without what is labelled or evaluated, ranked by a criterion."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from adaptseg.data.files import UInt8Array
from adaptseg.errors import InputError
from adaptseg.labelling.criteria import CRITERIA, novelties, rarities
from adaptseg.labelling.names import DEFAULT
from adaptseg.labelling.signals import Signals, measure, only_digests
from adaptseg.segmenter.images import ImageLike, rgb_array
from adaptseg.segmenter.segmenter import Segmenter


@dataclass(frozen=True)
class Chosen:
    """One image to label."""

    place: int
    """Its number among those that were given."""
    digest: str
    """Of its pixels."""
    scores: dict[str, float | None]
    """entropy, disagreement and rarity as the criteria have them; novelty: the distance of its features from the
    nearest that is labelled or was chosen before, 0 … 2, none where there is none."""


@dataclass(frozen=True)
class Choice:
    """Images to label, in order of choice, and what was left out."""

    chosen: list[Chosen]
    candidates: int
    """Different images that could be chosen."""
    known: int
    """Images that were left out because their content is labelled or evaluated already."""
    copies: int
    """Images that were left out because another has the same content."""


def choose(
    segmenter: Segmenter,
    images: Iterable[ImageLike],
    n: int,
    *,
    by: str = DEFAULT,
    seed: int = 0,
    labelled: Iterable[ImageLike] = (),
) -> list[int]:
    """Return which of some images to label next: their numbers, in order of choice.

    The result depends on the contents of the images, not on their names; of several with the same content the first
    is meant. Images are read one after the other, and none is kept: give a generator for many.

    Args:
        segmenter: trained, for images of this kind.
        images: as `Segmenter.predict` takes them.
        n: how many.
        by: a key of `CRITERIA`.
        seed: of `random`; the other criteria have nothing random.
        labelled: what is labelled already; never chosen, and the centres of `diversity` and `combined`.

    Raises:
        InputError: there are fewer different images, an image cannot be read, or the criterion is unknown.
    """
    criterion_named(by)

    def pixels(some: Iterable[ImageLike]) -> Iterable[UInt8Array]:
        return (rgb_array(image, segmenter.value_range) for image in some)

    signals_of = only_digests if by == "random" else lambda some: measure(segmenter, some)
    known = signals_of(pixels(labelled))
    return [chosen.place for chosen in select(signals_of(pixels(images)), n, by, seed, known).chosen]


def criterion_named(by: str) -> Callable[..., object]:
    """Return a criterion; raises `InputError` where there is none of that name."""
    if by not in CRITERIA:
        raise InputError(f"criterion {by!r} is unknown; choose of {', '.join(CRITERIA)}")
    return CRITERIA[by]


def select(
    signals: Signals, count: int, by: str, seed: int, labelled: Signals, evaluated: Collection[str] = ()
) -> Choice:
    """Choose by signals that were measured.

    Args:
        signals: of all images.
        count: how many are wanted.
        by: a key of `CRITERIA`.
        seed: of `random`.
        labelled: signals of what is labelled already.
        evaluated: digests of images that are evaluated on.

    Raises:
        InputError: `count` is no positive number, or more than there are.
    """
    different, labelled = signals.by_content(), labelled.by_content()
    taken = {*labelled.digest.tolist(), *evaluated}
    candidates = different.rows([digest not in taken for digest in different.digest.tolist()])
    known = sum(digest in taken for digest in signals.digest.tolist())
    copies = len(signals) - known - len(candidates)
    if not 1 <= count <= len(candidates):
        left = f"{len(candidates)} of {len(signals)} are left ({known} labelled or evaluated, {copies} copies)"
        raise InputError(f"{count} images are asked for, but {left}; give a number from 1 to that, or more images")
    rows = CRITERIA[by](candidates, count, labelled, seed)
    picked = candidates.rows(rows)
    rare, new = rarities(candidates)[rows].tolist(), novelties(picked.features, labelled.features)
    return Choice(
        [
            Chosen(int(place), str(digest), {"entropy": e, "disagreement": d, "rarity": r, "novelty": distance})
            for place, digest, e, d, r, distance in zip(
                picked.place,
                picked.digest,
                picked.entropy.tolist(),
                picked.disagreement.tolist(),
                rare,
                new,
                strict=True,
            )
        ],
        len(candidates),
        known,
        copies,
    )

"""Which image has which label: folders, templates with `{name}`, and what lies beside and is not read."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from adaptseg.data.files import IMAGE_SUFFIXES, FolderTree
from adaptseg.errors import InputError

FIELD = "{name}"
SIDECARS = frozenset(
    [".txt", ".xml", ".json", ".csv", ".md", ".yaml", ".yml", ".html", ".pdf", ".log", ".ini", ".db", ".npz", ".zip"]
)
"""Files that are expected beside images and labels, and not missed."""
NOT_PHOTOGRAPHS = re.compile(
    r"(?:^|[_.\-/])(masks?|labels?|labelids|seg|segmentation|semantic|annotations?|ann|gt|gtfine|color|colour|preview|"
    r"previews|thumbs?|thumbnails?|depth|instances?|overlays?)(?:[_.\-/0-9]|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Place:
    """Where files of one kind lie: a folder, or a pattern."""

    text: str
    """As the configuration has it, `{split}` filled in."""
    folder: str
    """The folder in which they are looked for, below the root, or an absolute path; empty: the root."""
    pattern: re.Pattern[str] | None
    """Of the names in `folder`; none: all files whose suffix fits."""
    depth: int = 0
    """Number of wildcards in the pattern's folders, which pair as the name does."""

    def key(self, name: str) -> tuple[str, ...] | None:
        """Return what a file's name (below `folder`) has in common with its partner's; none where it does not match."""
        if self.pattern is None:
            return (composed(_stem(name)),)
        match = self.pattern.fullmatch(name)
        return None if match is None else tuple(map(composed, match.groups()))


def place(text: str, root: Path, what: str) -> Place:
    """Return where `images` or `labels` of the configuration points to.

    Raises:
        InputError: a template without `{name}`, or a folder that is not there.
    """
    if (root / text).is_file():
        path = PurePosixPath(text)
        folder = "" if str(path.parent) == "." else str(path.parent)
        return Place(text, folder, re.compile(f"({re.escape(path.stem)}){re.escape(path.suffix)}"))
    if FIELD not in text and not set(text) & set("*?"):
        folder = "" if text in ("", ".") else text.rstrip("/")
        if not (root / folder).is_dir():
            raise InputError(f"{root / folder}: no such folder; correct {what}{_near(root)}")
        return Place(text, folder, None)
    if text.count(FIELD) != 1:
        raise InputError(f"{what} is {text!r}; a template has {FIELD} once, as in {what}: {what}/{FIELD}.png")
    fixed = re.split(r"[{*?]", text)[0].rpartition("/")[0]
    if text.startswith("/") and not fixed:
        fixed = "/"
    if not (root / fixed).is_dir():
        raise InputError(f"{root / fixed}: no such folder; correct {what}: {text}{_near(root)}")
    rest = text[len(fixed) :].lstrip("/") if fixed else text
    folders = rest[: rest.index(FIELD)].rpartition("/")[0]
    return Place(text, fixed, _compiled(rest), len(re.findall(r"\*\*|\*|\?", folders)))


def _near(root: Path) -> str:
    """Name the folders that there are, for a message."""
    names = sorted(path.name for path in root.glob("*") if path.is_dir() and not path.name.startswith("."))
    return f"; there are {', '.join(names[:6])}" if names else ""


def _compiled(template: str) -> re.Pattern[str]:
    """`*/rgb/{name}_c.png`: wildcards of folders and the name are groups; a suffix may be left out, in any case."""
    folders, _, last = template.rpartition("/")
    before, _, after = last.partition(FIELD) if FIELD in last else (last, "", "")
    if FIELD not in last:  # `{name}/rgb.png`: the name is that of a folder.
        folders = folders.replace(FIELD, "\0")
        stem, dot, suffix = last.rpartition(".")
        return re.compile(_wild(f"{folders}/" if folders else "", True) + _suffixed(stem, dot + suffix))
    stem, dot, suffix = after.rpartition(".")
    ending = _suffixed(stem, dot + suffix) if dot else _suffixed(after, "")
    return re.compile(_wild(f"{folders}/" if folders else "", True) + _wild(before, False) + "(.+?)" + ending)


def _suffixed(stem: str, suffix: str) -> str:
    # Without a suffix any will do: `{name}_mask` finds png and tif.
    ending = rf"(?i:{_wild(suffix, False)})" if suffix else r"\.[^./]+"
    return _wild(stem, False) + ending


def _wild(text: str, grouped: bool) -> str:
    """Return the expression for a part of a template."""
    one = "([^/]*)" if grouped else "[^/]*"
    pieces = {
        "**/": "(?:(.*)/)?" if grouped else "(?:.*/)?",
        "*": one,
        "?": "([^/])" if grouped else "[^/]",
        "\0": "(.+?)",
    }
    parts = re.split(r"(\*\*/|\*|\?|\0)", text)
    return "".join(pieces.get(part) or re.escape(part) for part in parts)


def _stem(name: str) -> str:
    """`a/b.png` -> `a/b`; also of `a/b.jpg.json`, as Supervisely calls it."""
    path = PurePosixPath(name)
    path = path.with_suffix("") if path.suffix else path
    if PurePosixPath(name).suffix.lower() == ".json" and path.suffix.lower() in IMAGE_SUFFIXES:
        path = path.with_suffix("")
    return str(path)


def composed(text: str | None) -> str:
    """Return a name with each accent in its letter's character: macOS writes it as one of its own."""
    return unicodedata.normalize("NFC", text or "")


@dataclass
class Found:
    """The files at a place."""

    files: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Key -> name for the tree."""
    unread: list[str] = field(default_factory=list)
    """Names of the others."""


def find(tree: FolderTree, where: Place, fits: Callable[[str], bool], what: str) -> Found:
    """Return the files at a place whose suffix fits.

    Raises:
        InputError: two files have the same key.
    """
    found = Found()
    base = Path(where.folder) if where.folder else Path()
    twice: list[tuple[str, str]] = []
    for name in tree.names(where.folder):
        below = name if not where.folder else PurePosixPath(name).relative_to(base).as_posix()
        key = where.key(below) if fits(name) else None
        if key is None:
            found.unread.append(name)
        elif key in found.files:
            twice.append((found.files[key], name))
        else:
            found.files[key] = name
    if twice:
        cure = f"keep one of them, or say which with {what}, such as {what}: {_example(where, twice[0][0])}"
        raise of_one_name(tree, twice, what, cure)
    return found


def of_one_name(tree: FolderTree, twice: Sequence[tuple[str, str]], what: str, cure: str) -> InputError:
    """Return the error on pairs of images, or of labels, that have one name."""
    one, other = map(tree.where, twice[0])
    more = f" (and {len(twice) - 1} more such pairs)" if twice[1:] else ""
    return InputError(f"{one} and {other}: two {what} of one name{more}; {cure}")


def _example(where: Place, name: str) -> str:
    """`images/{name}.png`, from a folder and a file in it."""
    suffix = PurePosixPath(name).suffix
    folder = f"{where.folder}/" if where.folder else ""
    return f"'{folder}{FIELD}{suffix}'" if where.pattern is None else where.text


def unread_note(tree: FolderTree, folder: str, unread: Iterable[str]) -> Iterator[str]:
    """Yield a line on the files of a folder that are not read: how many, of what kind, three names."""
    names = [name for name in unread if PurePosixPath(name).suffix.lower() not in SIDECARS]
    if names:
        kinds = Counter(PurePosixPath(name).suffix.lower() or "without suffix" for name in names).most_common(4)
        text = ", ".join(f"{count} {kind}" for kind, count in kinds)
        yield f"{tree.where(folder)}: {len(names)} files in it are not read ({text}): {few(names)}"


def suspects_note(tree: FolderTree, folder: str, names: Sequence[str]) -> Iterator[str]:
    """Yield a line where some images beside others have names as masks and previews have them."""
    suspects = [name for name in names if NOT_PHOTOGRAPHS.search(name[len(folder) :])]
    if 0 < len(suspects) < len(names):
        yield (
            f"{tree.where(folder)}: {len(suspects)} of {len(names)} images have names like masks or previews:"
            f" {few(suspects)}; they are read as images: give a folder or template as images, such as"
            f" images: '*/rgb/{FIELD}.jpg', if they are none"
        )


def few(names: Sequence[str]) -> str:
    """Return up to three of the names."""
    return ", ".join(names[:3]) + (", …" if names[3:] else "")


def missing_label(
    tree: FolderTree,
    images: Mapping[tuple[str, ...], str],
    labels: Found,
    missing: Sequence[tuple[str, ...]],
    text: str,
) -> InputError:
    """Return the error on images without labels, with a template that would find them where there is one."""
    files = [tree.where(images[key]) for key in missing]
    hint = _affixes(images, labels)
    cure = f"give templates, {hint}" if hint else "add them, remove the images, or write unlabelled: skip"
    if len(files) == 1:
        return InputError(f"{files[0]}: no label {text} beside it; {cure}")
    return InputError(f"{few(files)}: {len(files)} of {len(images)} images have no label {text}; {cure}")


def _affixes(images: Mapping[tuple[str, ...], str], labels: Found) -> str:
    """`0001` and `0001_mask` -> `labels: masks/{name}_mask.png`; empty where no label's name contains an image's."""
    key = next(iter(images))
    stem = PurePosixPath(key[-1]).name
    candidates = [file for file in (*labels.files.values(), *labels.unread) if stem in PurePosixPath(file).stem]
    if not candidates or PurePosixPath(candidates[0]).stem == stem:
        return ""
    path = PurePosixPath(candidates[0])
    return f"such as labels: '{path.parent}/{path.stem.replace(stem, FIELD, 1)}{path.suffix}'"

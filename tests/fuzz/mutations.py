"""Damage to files: bytes of any kind, and the structures of PNG, JPEG, zip, YAML, JSON, safetensors and pickles.

Every mutator takes a file's bytes and a random generator and returns other bytes; equal generators give equal
bytes. The mutators of a format keep it well formed elsewhere (right CRCs, right offsets), so that the damage
passes the first checks of a reader.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath
from random import Random
from typing import Any

Tree = dict[str, bytes]
"""Path -> content of the files that a reader is given."""
Mutator = Callable[[bytes, Random], bytes]

NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
NAMES = (
    "..",
    "../outside",
    "/absolute",
    "C:\\drive",
    "a\\..\\..\\b",
    "two\nlines",
    "\x1b[2J",
    "a\0b",
    " ",
    "é\u2028",
    "x" * 300,
)
SCALARS = (
    "|~|true|.nan|-.inf|1e999|nan|-1|0|0x|1.5|1_000|1000000000000|1:99:99|2001-99-99|2001-01-01|[]|{}|[[]]|[a, a]|"
    "[1, 2, 3]|{1: 2}|{[a]: b}|{~: ~}|*unknown|&a [*a]|&a {<<: *a}|!unknown x|!!bool x|!!int ''|!!float ''|"
    "!!timestamp x|!!binary '*'|!!set {a, b}|!!python/object:os.system x|'a\n\n b'|\"\\ud800\"|\"\\0\"|{data}|'{key}'|"
    f"../../..|/|{'9' * 5000}"
).split("|")
JSON_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**12, 10**30, float("nan"), "", "x", "two\nlines"),
    *([], {}, [[]], [1, 2, 3], {"a": 1}),
)


def flip(data: bytes, rng: Random) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8) if data else 0):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(data: bytes, rng: Random) -> bytes:
    """Cut off the end, or the beginning."""
    at = rng.randint(0, len(data))
    return data[:at] if rng.random() < 0.8 else data[at:]


def splice(data: bytes, rng: Random) -> bytes:
    """Put one piece of the file in another piece's place."""
    start, length, to = rng.randint(0, len(data)), rng.randint(1, 64), rng.randint(0, len(data))
    return data[:to] + data[start : start + length] + data[to + rng.choice((0, length)) :]


def insert(data: bytes, rng: Random) -> bytes:
    """Insert random bytes, or many equal ones."""
    at = rng.randint(0, len(data))
    piece = rng.randbytes(rng.randint(1, 32)) if rng.random() < 0.7 else rng.randbytes(1) * rng.choice((100, 10_000))
    return data[:at] + piece + data[at:]


def overwrite(data: bytes, rng: Random) -> bytes:
    """Overwrite a place with a number that readers trip over, of 1, 2, 4 or 8 bytes, of either order."""
    size = rng.choice((1, 2, 4, 8))
    number = (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, rng.choice(("big", "little")))
    at = rng.randint(0, max(0, len(data) - size))
    return data[:at] + number + data[at + size :]


def any_bytes(data: bytes, rng: Random) -> bytes:
    """Damage bytes of whatever format."""
    mutator: Mutator = rng.choice((flip, truncate, splice, insert, overwrite))
    return mutator(data, rng)


def png(data: bytes, rng: Random) -> bytes:
    """Change, drop, repeat or add a chunk; lengths and CRCs are right, but for one in ten."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks or not data.startswith(b"\x89PNG"):
        return flip(data, rng)
    position = rng.randrange(len(chunks))
    kind, body = chunks[position]
    match rng.randrange(6):
        case 0:
            header = bytearray(chunks[0][1].ljust(13, b"\0"))
            at = rng.choice((0, 4))
            header[at : at + 4] = struct.pack(">I", rng.choice((*NUMBERS, 10_001, 100_000)))
            chunks[0] = (b"IHDR", bytes(header))
        case 1:
            header = bytearray(chunks[0][1].ljust(13, b"\0"))
            header[rng.randrange(8, 13)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
            chunks[0] = (b"IHDR", bytes(header))
        case 2:
            chunks[position] = (kind, any_bytes(body, rng))
        case 3:
            chunks[position : position + 1] = [] if rng.random() < 0.5 else [(kind, body)] * 2
        case 4:
            kind = rng.choice(
                (b"tRNS", b"PLTE", b"gAMA", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"pHYs", b"tEXt")
            )
            chunks.insert(position, (kind, rng.randbytes(rng.choice((0, 1, 4, 26, 300)))))
        case _:
            chunks.insert(1, (b"zTXt", b"bomb\0\0" + zlib.compress(bytes(2**21))))
    broken = rng.randrange(len(chunks)) if rng.random() < 0.1 else -1
    return data[:8] + b"".join(_chunk(*chunk, index == broken) for index, chunk in enumerate(chunks))


def _chunk(kind: bytes, body: bytes, broken: bool = False) -> bytes:
    return struct.pack(">I", len(body) + broken) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bomb() -> bytes:
    """A PNG of 12 kB, in order in every respect, with more pixels than are decoded."""
    width, height = 10_001, 10_000
    pixels = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def jpeg(data: bytes, rng: Random) -> bytes:
    """Change length, size or contents of a segment, drop it, repeat it, or put a marker into the pixels."""
    starts = [match.start() for match in re.finditer(rb"\xff[\xc0-\xcf\xda-\xfe]", data)]
    if not starts:
        return flip(data, rng)
    at = rng.choice(starts)
    length = int.from_bytes(data[at + 2 : at + 4], "big") + 2
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"), 0)
    match rng.randrange(5):
        case 0:
            return data[: at + 2] + struct.pack(">H", rng.choice(NUMBERS) % 65536) + data[at + 4 :]
        case 1:
            place = frame + rng.choice((4, 5, 7, 9))
            return data[:place] + struct.pack(">H", rng.choice(NUMBERS) % 65536) + data[place + 2 :]
        case 2:
            return (
                data[:at] + data[at + length :]
                if rng.random() < 0.5
                else data[:at] + data[at : at + length] + data[at:]
            )
        case 3:
            return data[: at + 4] + any_bytes(data[at + 4 : at + length], rng) + data[at + length :]
        case _:
            place = rng.randint(at, len(data))
            return data[:place] + bytes((0xFF, rng.randrange(256))) + data[place:]


ZIP_FIELDS = {
    b"PK\1\2": (4, 6, 8, 10, 16, 20, 24, 28, 30, 32, 34, 42, 46),
    b"PK\3\4": (4, 6, 8, 14, 18, 22, 26, 28, 30),
    b"PK\5\6": (4, 6, 8, 10, 12, 16, 20),
}
"""Offsets of fields in the central directory, in a local header, and in the end record."""


def zip_directory(data: bytes, rng: Random) -> bytes:
    """Change a field of the central directory, of a local header, or of the end record."""
    signature = rng.choice(list(ZIP_FIELDS))
    starts = [match.start() for match in re.finditer(re.escape(signature), data)]
    if not starts:
        return flip(data, rng)
    at = rng.choice(starts) + rng.choice(ZIP_FIELDS[signature])
    size = rng.choice((1, 2, 4))
    number = (rng.choice((*NUMBERS, 9, 12, 14, 0x800)) % (1 << 8 * size)).to_bytes(size, "little")
    return data[:at] + number + data[at + size :]


def zip_members(data: bytes, rng: Random) -> bytes:
    """Write the archive anew with a member renamed, damaged, dropped, repeated, or packed in another way."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # Damaged by an earlier mutation.
        return flip(data, rng)
    if not members:
        return flip(data, rng)
    position = rng.randrange(len(members))
    name, content = members[position]
    method = zipfile.ZIP_STORED
    match rng.randrange(6):
        case 0:
            hostile = rng.choice(NAMES)
            name = rng.choice((hostile, f"{PurePosixPath(name).parent}/{hostile}", f"{name}{hostile}", name + "/"))
        case 1 | 2:
            content = mutate_file(name, content, rng)
        case 3:
            content = bytes(2**26) if rng.random() < 0.2 else b""
            method = zipfile.ZIP_DEFLATED
        case 4:
            method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        case _:
            members.insert(rng.randrange(len(members)), members[position])
    members[position : position + 1] = [] if rng.random() < 0.1 else [(name, content)]
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for index, (name, content) in enumerate(members):
            info = zipfile.ZipInfo(name.replace("\0", "\1"))
            info.compress_type = method if index == position else zipfile.ZIP_STORED
            archive.writestr(info, content)
    return target.getvalue().replace(b"\1b", b"\0b") if "\0" in name else target.getvalue()


def yaml_text(data: bytes, rng: Random) -> bytes:
    """Change a value, key or line of a YAML file, or add anchors that refer to each other many times over."""
    text = data.decode(errors="replace")
    lines = text.splitlines() or [""]
    position = rng.randrange(len(lines))
    line = lines[position]
    match rng.randrange(8):
        case 0 | 1 | 2:
            found = [match.span(1) for match in re.finditer(r"[:,\[-] *([^,:\[\]{}]+)", line)]
            start, end = rng.choice(found or [(len(line), len(line))])
            lines[position] = line[:start] + (" " if start == end else "") + rng.choice(SCALARS) + line[end:]
        case 3:
            lines[position] = re.sub(r"\w+(?=:)", rng.choice(("unknown", "<<", "1", "~", "? [a]", "")), line, count=1)
        case 4:
            lines[position : position + 1] = rng.choice(
                ([], [line, line], [f"  {line}"], [line.lstrip()], [f"\t{line}"])
            )
        case 5:
            lines.append(rng.choice(("\x00", "\ufeff", "---", "...", "%YAML 9.9", "- a", "? b", "{" * 5000, "[" * 300)))
        case 6:
            lines[position:position] = _anchors(rng.choice(("", "<<: ")))
            lines.append(
                rng.choice(("description: *z9", "model: *z9", "label_space: *z9", "source: {label_map: *z9}", ""))
            )
        case _:
            return any_bytes(data, rng)
    return "\n".join(lines).encode(errors="replace")


def _anchors(merge: str) -> list[str]:
    """Ten lists (or mappings) of ten of the one before: 10**10 values for who follows every reference."""
    first = "z0: &z0 {a: 1}" if merge else "z0: &z0 [a, a]"
    left, right = ("{" + merge + "[", "]}") if merge else ("[", "]")
    return [first, *(f"z{n}: &z{n} {left}{', '.join([f'*z{n - 1}'] * 10)}{right}" for n in range(1, 10))]


def json_text(data: bytes, rng: Random) -> bytes:
    """Replace, drop or add a value somewhere in a JSON file."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):  # Damaged by an earlier mutation.
        return any_bytes(data, rng)
    content = _changed(content, rng)
    if rng.random() < 0.05:
        return b"[" * 100_000
    return json.dumps(content).encode()


def _changed(content: Any, rng: Random) -> Any:
    if not isinstance(content, dict | list) or not content or rng.random() < 0.1:
        return rng.choice(JSON_VALUES)
    key = rng.choice(list(content)) if isinstance(content, dict) else rng.randrange(len(content))
    if rng.random() < 0.15:
        del content[key]
    elif rng.random() < 0.1 and isinstance(content, dict):
        content[rng.choice(NAMES)] = rng.choice(JSON_VALUES)
    else:
        content[key] = _changed(content[key], rng)
    return content


def safetensors(data: bytes, rng: Random) -> bytes:
    """Change the header (its length, a name, a type, a shape, an offset); the length fits, but for one in five."""
    length = int.from_bytes(data[:8], "little")
    header = json_text(data[8 : 8 + length], rng)
    declared = rng.choice((*NUMBERS, 2**63)) if rng.random() < 0.2 else len(header)
    return struct.pack("<Q", declared) + header + data[8 + length :]


class _Trap:
    """Unpickled by a reader that runs code, it writes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("outside-by-pickle", "w")


PICKLES = (
    pickle.dumps(_Trap(), 2),
    pickle.dumps({"a": _Trap()}, 2),
    b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
    b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"1.",
    b"\x80\x02cbuiltins\neval\nX\x03\x00\x00\x001+1\x85R.",
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    b"\x80\x02ccollections\nOrderedDict\n)R}(X\x01\x00\x00\x00aK\x01ub.",
)


def pickled(data: bytes, rng: Random) -> bytes:
    """Change a number or a name in a pickle, or put another pickle in its place."""
    if rng.random() < 0.2:
        return rng.choice(PICKLES)
    places = [match.start() for match in re.finditer(rb"[KMJX\x8a]", data[:4000])]
    if not places or rng.random() < 0.3:
        return any_bytes(data, rng)
    at = rng.choice(places)
    number = rng.choice(
        (
            b"K\x00",
            b"K\xff",
            b"M\xff\xff",
            b"J\xff\xff\xff\x7f",
            b"J\xff\xff\xff\xff",
            b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
        )
    )
    return data[:at] + number + data[at + rng.choice((2, 3, 5)) :]


def _torch_file(data: bytes, rng: Random) -> bytes:
    if not data.startswith(b"PK"):
        return pickled(data, rng)
    return rng.choice((zip_members, zip_members, zip_directory))(data, rng)


FORMATS: dict[str, Mutator] = {
    ".png": png,
    ".jpg": jpeg,
    ".jpeg": jpeg,
    ".zip": lambda data, rng: rng.choice((zip_directory, zip_members))(data, rng),
    ".yaml": yaml_text,
    ".json": json_text,
    ".safetensors": safetensors,
    ".pkl": pickled,
    ".pth": _torch_file,
    ".pt": _torch_file,
}


def mutate_file(name: str, data: bytes, rng: Random) -> bytes:
    """Damage a file one to three times, mostly in the structure that its suffix promises."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        known = FORMATS.get(PurePosixPath(name).suffix)
        mutator = known if known is not None and rng.random() < 0.65 else any_bytes
        data = mutator(data, rng)
    return data


def mutate_tree(tree: Tree, rng: Random) -> Tree:
    """Damage one file of a tree: mostly its content, else remove, rename, empty or exchange it."""
    changed = dict(tree)
    name = rng.choice(list(tree))
    match rng.randrange(20):
        case 0 if len(tree) > 1:
            del changed[name]
        case 1:
            path = PurePosixPath(name)
            changed[str(path.with_name(rng.choice(("two\nlines", "\x1b[2J", "é", " ", "x" * 200)) + path.suffix))] = (
                changed.pop(name)
            )
        case 2:
            changed[name] = tree[rng.choice(list(tree))]
        case 3:
            changed[name] = rng.choice(
                (b"", b"<!DOCTYPE html>", b"version https://git-lfs", b"%!PS-Adobe-3.0 EPSF-3.0\n")
            )
        case _:
            changed[name] = mutate_file(name, tree[name], rng)
    return changed

"""Label Studio's run lengths of brushed masks (the `rle` of `brushlabels`), both ways.

A stream of bits, highest first: 32 bits, number N of values; 5 bits, width of a value less 1 (here 8 bits); four
times 4 bits, widths of lengths less 1; until N values are there: 1 bit, whether one value is repeated; 2 bits, which
width the length has; the length less 1; and the value once, or as many values. The values are the picture's red, green,
blue and alpha, row by row (N = 4 · height · width); a brush leaves alpha behind. Format: rle-pack.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LENGTH_BITS = (3, 4, 8, 16)
PAINTED = 128
"""Alpha from which a pixel counts as painted: a brush has soft edges."""
CHANNELS = 4


def encode(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Return the bytes of a mask (H, W)."""
    flat = mask.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    lengths = np.diff(starts, append=flat.size) * CHANNELS
    bits = [f"{flat.size * CHANNELS:032b}{7:05b}", *(f"{width - 1:04b}" for width in LENGTH_BITS)]
    longest = 1 << LENGTH_BITS[-1]
    for value, whole in zip(flat[starts].tolist(), lengths.tolist(), strict=True):
        for done in range(0, whole, longest):
            length = min(longest, whole - done) - 1
            number = next(n for n, width in enumerate(LENGTH_BITS) if length < 1 << width)
            bits.append(f"1{number:02b}{length:0{LENGTH_BITS[number]}b}{255 * value:08b}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def decode(rle: Sequence[int], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the mask of a height and width, (H, W).

    Raises:
        ValueError: the bytes are none, end too early, or are those of another size.
    """
    stream = _Bits(bytes(rle))
    count, width = stream.number(32), stream.number(5) + 1
    if count != size[0] * size[1] * CHANNELS or width != 8:
        raise ValueError(f"{count} values of {width} bits, not those of {size[1]}x{size[0]} pixels")
    length_bits = [stream.number(4) + 1 for _ in LENGTH_BITS]
    values, done = np.empty(count, np.uint8), 0
    while done < count:
        is_repeated = stream.number(1)
        length = stream.number(length_bits[stream.number(2)]) + 1
        if done + length > count:
            raise ValueError("runs longer than the picture")
        values[done : done + length] = stream.number(8) if is_repeated else stream.values(length)
        done += length
    return values.reshape(*size, CHANNELS)[:, :, -1] >= PAINTED


class _Bits:
    """Bytes, read bit by bit."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def _next(self, bits: int) -> tuple[bytes, int]:
        """Return the bytes that hold the next bits, and how many bits stand before these."""
        start, self.position = self.position, self.position + bits
        if self.position > 8 * len(self.data):
            raise ValueError("the runs end too early")
        return self.data[start // 8 : -(-self.position // 8)], start % 8

    def number(self, bits: int) -> int:
        part, before = self._next(bits)
        return (int.from_bytes(part, "big") >> (8 * len(part) - before - bits)) & ((1 << bits) - 1)

    def values(self, count: int) -> npt.NDArray[np.uint8]:
        part, before = self._next(8 * count)
        return np.packbits(np.unpackbits(np.frombuffer(part, np.uint8))[before : before + 8 * count])

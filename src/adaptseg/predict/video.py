"""Videos in and out by PyAV (the extra `video`), one frame in memory after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from adaptseg.config import MAX_PIXELS
from adaptseg.data.files import UInt8Array
from adaptseg.errors import InputError

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})
ENCODERS = ("libx264", "h264_videotoolbox", "libopenh264", "mpeg4")
"""H.264 where the build of FFmpeg has it."""
BT_709, VIDEO_RANGE = 1, 1
"""FFmpeg's numbers of the colour matrix and of the range 16 … 235."""


def is_video(name: str) -> bool:
    """Tell by its suffix whether a file is a video."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def _pyav(path: Path) -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise InputError(f"{path}: videos need PyAV; pip install 'adaptseg[video]'") from error
    return av


@dataclass(frozen=True)
class Frame:
    """One picture of a video."""

    image: UInt8Array
    """(H, W, 3) RGB, upright."""
    time: int
    """Since the first picture, in units of the video's `time_base`."""


class VideoReader:
    """The frames of a video file in order; all have the size of the first."""

    def __init__(self, path: Path) -> None:
        """Read the file's header.

        Raises:
            InputError: PyAV is missing, or the file is no video, or has no frames or too large ones.
        """
        self.path, self._av = path, _pyav(path)
        with _read_errors(path, self._av), self._open() as container:
            if not container.streams.video:
                raise InputError(f"{path}: no pictures in it; give a video with frames")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise InputError(f"{path}: its codec is unknown here; convert the video to H.264")
            width, height = stream.codec_context.width, stream.codec_context.height
            if width * height > MAX_PIXELS:
                raise InputError(f"{path}: {width}x{height} pixels, more than {MAX_PIXELS}; scale the video down")
            self.rate: Fraction = stream.average_rate or stream.guessed_rate or Fraction(25)
            self.time_base = Fraction(1, self.rate.numerator * max(1, 10_000 // self.rate.numerator))
            seconds = float((container.duration or 0) / self._av.time_base)
            self.count: int = stream.frames or round(seconds * float(self.rate))
            """Number of frames as the header has it, or as the length suggests; 0: unknown."""

    def _open(self) -> Any:
        return self._av.open(str(self.path), metadata_errors="replace")

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            InputError: a frame is broken, or there is none.
        """
        size: dict[str, int] = {}
        first, last = Fraction(0), -1  # Encoders want times that grow; some files repeat them.
        with _read_errors(self.path, self._av), self._open() as container:
            for index, frame in enumerate(container.decode(container.streams.video[0])):
                size = size or {"width": frame.width, "height": frame.height}
                pixels = frame.reformat(**size, format="rgb24").to_ndarray()
                time = Fraction(index) / self.rate if frame.pts is None else frame.pts * frame.time_base
                first = first if index else time
                last = max(last + 1, self._ticks(time - first, frame.time_base))
                upright = np.rot90(pixels, round(frame.rotation / 90))  # Telephones turn by a note in the header.
                yield Frame(np.ascontiguousarray(upright), last)
        if last < 0:
            raise InputError(f"{self.path}: a video without frames; give one with frames")

    def _ticks(self, seconds: Fraction, unit: Fraction) -> int:
        """Return a time in `time_base`; what a file has rounded to its unit (Matroska: ms) goes back to the rate."""
        nominal = round(seconds * self.rate) / self.rate
        return round((nominal if abs(nominal - seconds) <= unit else seconds) / self.time_base)


@contextmanager
def _read_errors(path: Path, av: ModuleType) -> Iterator[None]:
    """Turn what FFmpeg raises for a broken file into an `InputError`."""
    try:
        yield
    except EOFError as error:  # A header, and then nothing.
        raise InputError(f"{path}: a video without frames; give one with frames") from error
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: not a readable video ({reason}); replace or remove the file") from error


class VideoWriter:
    """A video file of pictures of one size, complete or absent: written beside, renamed at the end of a `with`."""

    def __init__(self, path: Path, like: VideoReader) -> None:
        """Write an mp4 with the rate and times of another video; the file is opened with the first frame."""
        self.path, self.like, self._av = path, like, _pyav(like.path)
        self._partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        """Do nothing yet."""
        return self

    def write(self, image: UInt8Array, time: int) -> None:
        """Append a picture (H, W, 3) or (H, W); sides of odd length gain a row or column, which H.264 wants.

        Raises:
            InputError: the file cannot be written.
        """
        height, width = image.shape[:2]
        even = ((0, height % 2), (0, width % 2), (0, 0))[: image.ndim]
        pixels = np.ascontiguousarray(np.pad(image, even, mode="edge"))
        with self._errors():
            if self._container is None:
                self._open(pixels.shape[1], pixels.shape[0])
            frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24" if image.ndim == 3 else "gray")
            # BT.709, and said so: without the note, players guess by the size.
            frame = frame.reformat(format="yuv420p", dst_colorspace=BT_709, dst_color_range=VIDEO_RANGE)
            frame.pts, frame.time_base = time, self.like.time_base
            self._container.mux(self._stream.encode(frame))

    def _open(self, width: int, height: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        encoder = next(name for name in ENCODERS if name in self._av.codecs_available)
        self._container = self._av.open(str(self._partial), "w", format="mp4", options={"movflags": "faststart"})
        self._stream = self._container.add_stream(encoder, rate=self.like.rate)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        context = self._stream.codec_context
        context.time_base = self.like.time_base
        context.colorspace, context.color_range = BT_709, VIDEO_RANGE

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish the file, or after an error remove what is there."""
        try:
            if self._container is not None:
                with self._errors(), self._container:
                    if error is None:
                        self._container.mux(self._stream.encode(None))
                if error is None:
                    with self._errors():
                        self._partial.replace(self.path)
        finally:
            if self._partial.exists():
                self._partial.unlink()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (self._av.FFmpegError, OSError) as error:
            reason = error.strerror or str(error)
            raise InputError(f"{self.path}: cannot be written ({reason}); choose another --out") from error

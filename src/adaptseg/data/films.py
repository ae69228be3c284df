"""Films by PyAV (the extra `video`): frames in order, one in memory after the other, or any one of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np

from adaptseg.config import MAX_PIXELS
from adaptseg.data.files import FolderTree, UInt8Array
from adaptseg.errors import InputError

FRAME = "#"
"""Between a film's name and the number of a frame in the names of its images."""
MAX_FRAMES = 10_000_000
"""A film with more is refused: 46 hours at 60 frames a second."""
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})


def is_video(name: str) -> bool:
    """Tell by its suffix whether a file is a video."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def pyav(path: Path) -> ModuleType:
    """Return the library; raises `InputError` where it is not installed."""
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
        self.path, self._av = path, pyav(path)
        with read_errors(path, self._av), self._open() as container:
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
        with read_errors(self.path, self._av), self._open() as container:
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
def read_errors(path: Path, av: ModuleType) -> Iterator[None]:
    """Turn what FFmpeg raises for a broken file into an `InputError`."""
    try:
        yield
    except EOFError as error:  # A header, and then nothing.
        raise InputError(f"{path}: a video without frames; give one with frames") from error
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: not a readable video ({reason}); replace or remove the file") from error


class Film:
    """Any frame of a film by its number, the right one whatever the film's key frames; threads take turns.

    Opening reads the file once, without decoding. A frame costs the decoding of all since the key frame before it
    (12 to 250, as the film was written), or since the last one that was asked for, if that is nearer: in order, each
    frame is decoded once. `adaptseg prepare` asks in order.
    """

    def __init__(self, path: Path) -> None:
        """Find the times of all frames.

        Raises:
            InputError: PyAV is missing, or the file is no film, is empty, or has too many frames.
        """
        self.path, self._av = path, pyav(path)
        VideoReader(path)  # Refuses what is no film.
        times: list[int] = []
        keys: list[int] = []
        self._timed = True
        with read_errors(path, self._av), self._open() as container:
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                self._timed = self._timed and packet.pts is not None
                times.append(packet.pts if packet.pts is not None else len(times))
                if packet.is_keyframe:
                    keys.append(times[-1])
                if len(times) > MAX_FRAMES:
                    raise InputError(f"{path}: more than {MAX_FRAMES} frames; cut the film")
        if not times:
            raise InputError(f"{path}: a video without frames; give one with frames")
        self._times, self._keys = sorted(times), sorted(keys)
        self._timed = self._timed and len(set(times)) == len(times)
        self._container: Any = None
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._position = -1
        """Number of the frame that was decoded last."""
        self._turn = Lock()
        """A container decodes for one thread."""

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._times)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open file: each process opens the film for itself."""
        return {**self.__dict__, "_av": None, "_container": None, "_frames": None, "_position": -1, "_turn": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the library anew."""
        self.__dict__.update(state, _av=pyav(state["path"]), _frames=iter(()), _turn=Lock())

    def _open(self) -> Any:
        return self._av.open(str(self.path), metadata_errors="replace")

    def frame(self, number: int) -> UInt8Array:
        """Return a frame, (H, W, 3) RGB, upright.

        Raises:
            InputError: the film is broken there, or has changed.
        """
        with self._turn, read_errors(self.path, self._av):
            if not self._is_ahead(number):
                self._seek(number)
            for position, frame in self._frames:
                self._position = position
                if position >= number:
                    return upright_pixels(frame)
            # A film with frames that are never shown ends before its packets do.
            self._container, self._position = None, -1
        raise InputError(f"{self.path}: frame {number} cannot be decoded; write the film again, or cut its end")

    def _is_ahead(self, number: int) -> bool:
        """Tell whether decoding on is the shortest way to a frame."""
        if self._container is None or self._position < 0 or number <= self._position:
            return False
        return not self._timed or self._key_before(number) <= self._times[self._position]

    def _key_before(self, number: int) -> int:
        place = bisect_right(self._keys, self._times[number]) - 1
        return self._keys[place] if place >= 0 else self._times[0]

    def _seek(self, number: int) -> None:
        """Open the film before a frame; where a container finds no place, at its beginning."""
        self._container = self._open()
        stream = self._container.streams.video[0]
        if self._timed and self._key_before(number) > self._times[0]:
            self._container.seek(self._key_before(number), stream=stream, backward=True)
            first = next(self._numbered(stream), None)
            if first is not None and first[0] <= number:
                self._container.seek(self._key_before(number), stream=stream, backward=True)
                self._frames = self._numbered(stream)
                return
            self._container = self._open()
        self._frames = self._numbered(self._container.streams.video[0])

    def _numbered(self, stream: Any) -> Iterator[tuple[int, Any]]:
        """Yield the frames from the place of the container on, with their numbers."""
        for count, frame in enumerate(self._container.decode(stream)):
            known = self._timed and frame.pts is not None
            yield (bisect_right(self._times, frame.pts) - 1 if known else count), frame


def upright_pixels(frame: Any) -> UInt8Array:
    """Return a decoded frame's pixels, (H, W, 3) RGB; telephones turn by a note in the header."""
    pixels = frame.reformat(format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


class FilmTree(FolderTree):
    """The files of a folder, and frames of its films, which are called `drive.mp4#000010`."""

    def __init__(self, root: Path) -> None:
        """Open the folder; raises `InputError` where there is none."""
        super().__init__(root)
        self._films: dict[str, Film] = {}

    def frames(self, name: str, every: int) -> list[str]:
        """Return the names of every n-th frame of a film; raises as `Film` does."""
        self._films[name] = Film(self.root / name)
        return [f"{name}{FRAME}{number:06d}" for number in range(0, len(self._films[name]), every)]

    def is_frame(self, name: str) -> bool:
        """Tell whether a name is that of a frame."""
        return name.rpartition(FRAME)[0] in self._films

    def frame(self, name: str) -> UInt8Array | None:
        """Return a frame, (H, W, 3) RGB; none where the name is that of a file. Raises as `Film.frame` does."""
        film, _, number = name.rpartition(FRAME)
        return self._films[film].frame(int(number)) if film in self._films else None

    def stamp(self, name: str) -> str:
        """Return what changes when a file or a frame's film does; raises `InputError` where it is not there."""
        return super().stamp(name.rpartition(FRAME)[0] if self.is_frame(name) else name)

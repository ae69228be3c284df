"""Videos out by PyAV (the extra `video`), one frame in memory after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from adaptseg.data.files import UInt8Array
from adaptseg.data.films import VideoReader, pyav
from adaptseg.errors import InputError
from adaptseg.predict.files import partial_path

ENCODERS = ("libx264", "h264_videotoolbox", "libopenh264", "mpeg4")
"""H.264 where the build of FFmpeg has it."""
BT_709, VIDEO_RANGE = 1, 1
"""FFmpeg's numbers of the colour matrix and of the range 16 … 235."""


class VideoWriter:
    """A video file of pictures of one size, complete or absent: written beside, renamed at the end of a `with`."""

    def __init__(self, path: Path, like: VideoReader) -> None:
        """Write an mp4 with the rate and times of another video; the file is opened with the first frame."""
        self.path, self.like, self._av = path, like, pyav(like.path)
        self._partial = partial_path(path)
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

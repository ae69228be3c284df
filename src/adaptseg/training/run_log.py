"""What a run writes while it trains: `metrics.jsonl`, and what trackers such as TensorBoard show."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from adaptseg.atomic import write_text
from adaptseg.config import ExperimentConfig
from adaptseg.data.files import UInt8Array
from adaptseg.training.trackers import TensorBoard, Tracker, open_trackers


class RunLog:
    """`metrics.jsonl`, TensorBoard events and the trackers of a run."""

    def __init__(self, run: Path, start: int, config: ExperimentConfig, writes: bool = True) -> None:
        """Open for a run that goes on after step `start`; lines that will be written again are dropped.

        With `writes` false, as in all but the first of several processes, nothing is written at all.

        Raises:
            InputError: a tracker of `train.loggers` does not begin.
        """
        self._file: TextIO | None = None
        self._trackers: list[TensorBoard | Tracker] = []
        if not writes:
            return
        self._trackers += open_trackers(run, config, resumed=start > 0)
        path = run / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _is_before(line, start)]
            write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a")
        if config.train.tensorboard:
            board = TensorBoard(run, start)
            for line in read_log(run):
                if line["step"] == start:  # Hidden with all that an unclean end has left of later steps.
                    board.log_metrics({name: value for name, value in line.items() if name != "step"}, start)
            self._trackers.append(board)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one line.

        Raises:
            OSError: the disk is full; the file's name is in the error.
        """
        if self._file is None:
            return
        try:
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
            self._track(lambda tracker: tracker.log_metrics(dict(values), step))
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._file.name) from error

    def picture(self, step: int, make: Callable[[], UInt8Array]) -> None:
        """Show a picture (H, W, 3) of the target; it is made only where something shows it."""
        if self._trackers:
            picture = make()
            self._track(lambda tracker: tracker.log_picture("target", picture, step))

    def _track(self, call: Callable[[TensorBoard | Tracker], None]) -> None:
        """Call each tracker; a service that fails is left out from now on, and the training goes on."""
        for tracker in list(self._trackers):
            try:
                call(tracker)
            except Exception as error:
                if isinstance(tracker, TensorBoard):  # A file: a full disk stops the training.
                    raise
                self._trackers.remove(tracker)
                print(f"adaptseg: {tracker.name} gets no more figures: {error}", file=sys.stderr)

    def close(self) -> None:
        """Flush and close; trackers are told whether an exception is on its way."""
        if self._file is not None:
            self._file.close()
        status = "success" if sys.exc_info()[0] is None else "failed"
        self._track(lambda tracker: tracker.finalize(status))


def read_log(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log, oldest first; none without a log.

    Each has its `step`. Half a line at the end, of a run that goes on, is left out.
    """
    lines = []
    log = run / "metrics.jsonl"
    for text in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def training_cost(run: Path) -> dict[str, float]:
    """Return what a run took: `seconds` of training, without evaluations, and `memory_mb`; 0 without a log."""
    seconds = memory = 0.0
    last = 0
    for line in read_log(run):
        if "step_seconds" in line:
            seconds += (line["step"] - last) * line["step_seconds"]
            memory = max(memory, line["memory_mb"])
            last = line["step"]
    return {"seconds": seconds, "memory_mb": memory}


def _is_before(line: str, start: int) -> bool:
    """Whether a line stands in the log when iteration `start` begins, which first scores the snapshot where due."""
    try:
        content = json.loads(line)
        is_snapshot = any(key == "miou" or key.startswith("selection/") for key in content)
        return bool(content["step"] < start or (content["step"] == start and not is_snapshot))
    except ValueError:
        return False  # Half a line: the machine went down while it was written.

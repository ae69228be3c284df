"""Distillation: a small network learns the source's labels, and on the target what a large, adapted one says.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, pixel by pixel. Per iteration

    segmenter    Σ λ_seg (CE(source) + λ_soft T² KL(q ‖ softmax(logits(target) / T)))
                 + λ_labelled Σ λ_seg CE(labelled target), of which the teachers say nothing

where q is the mean over the teachers of softmax(logits(target) / T). T² keeps the size of the gradients where T
changes (section 2 of the paper). The teachers are finished runs, in eval mode. They see the student's target batch
scaled as their own training's images were, and are not saved with it: a digest of their weights is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adaptseg.config import DomainConfig, ExperimentConfig, MethodConfig
from adaptseg.data.geometry import KEEP, SQUEEZE, TO_HEIGHT, distortion, fitting_size
from adaptseg.data.loader import Batch
from adaptseg.errors import InputError
from adaptseg.methods.base import Method, level_weights, segment_source
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.segmenter import Segmenter

LARGEST_DISTORTION = 0.05
"""By so much the ratios of two boxes may differ and count as one: sides are often rounded to multiples of 8."""


@dataclass(frozen=True, kw_only=True)
class DistillConfig(MethodConfig):
    """Options of `distill`."""

    name: str = "distill"
    teachers: list[str] = field(default_factory=list)
    """Run folders or checkpoints; the probabilities of several are averaged."""
    lambda_seg: tuple[float, ...] = (0.1, 1.0)
    """Weight of the losses per level, main last."""
    lambda_soft: float = 1.0
    """Weight of the teachers' soft labels of the target beside the source's labels."""
    temperature: float = 1.0
    """Logits of teachers and student are divided by it: above 1, less probable classes count more."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        if self.temperature <= 0:
            raise InputError(f"method.temperature is {self.temperature}; give a positive number, such as 1 or 2")


class Distill(Method):
    """Source labels, and the teachers' soft labels of the target."""

    teachers_digest: Tensor

    def __init__(self, segmenter: Segmenter, config: ExperimentConfig, options: DistillConfig) -> None:
        """Load the teachers.

        Raises:
            InputError: there are none, one cannot be read, its classes are not the student's, or the student's images
                cannot be scaled to those of its training.
        """
        super().__init__(segmenter, config)
        self.options = options
        self.lambda_seg = level_weights("lambda_seg", options.lambda_seg, config.model.levels)
        if not options.teachers:
            raise InputError("method.teachers is empty; name finished runs, or use `adaptseg distill RUN… --into YAML`")
        # In a tuple, so that they are no sub-modules: not trained, not saved.
        self.teachers = tuple(_load_teacher(path, segmenter) for path in options.teachers)
        self.scales = tuple(scales_for(teacher, config.domain("target")) for teacher in self.teachers)
        self.register_buffer("teachers_digest", digest(self.teachers))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Restore a checkpoint; raises `InputError` where it was trained by other teachers."""
        saved = state_dict.get("teachers_digest")
        if saved is not None and not torch.equal(saved.cpu(), self.teachers_digest.cpu()):
            raise InputError(
                "method.teachers: their weights are not those that this run began with; resume with the same teachers,"
                " or choose another --out"
            )
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    @torch.no_grad()
    def soft_labels(self, images: Tensor) -> Tensor:
        """Return the teachers' mean probabilities, float32 (N, C, H, W), of images (N, 3, H, W), 0 … 255."""
        size = (images.shape[-2], images.shape[-1])
        total = torch.zeros((), device=images.device)
        for teacher, scales in zip(self.teachers, self.scales, strict=True):
            seen = images
            if scales != (1, 1):
                sides = [max(8, round(side * scale)) for side, scale in zip(size, scales, strict=True)]
                seen = functional.interpolate(images.float(), size=sides, mode="bilinear", antialias=True)
            logits = teacher.to(images.device).network(teacher.preprocess(seen))[-1]
            total = total + (teacher.upsample(logits, size) / self.options.temperature).softmax(1)
        return total / len(self.teachers)

    def step(self, source: Batch, target: Batch | None) -> dict[str, Tensor]:
        """Add the gradients of one iteration: the source's labels, then the target's soft labels."""
        assert target is not None
        losses = segment_source(self.segmenter, source, self.lambda_seg)[1]
        soft = self.soft_labels(target["image"])
        levels = self.segmenter(target["image"])
        each = [distillation_loss(logits, soft, self.options.temperature) for logits in levels]
        sum(self.options.lambda_soft * w * loss for w, loss in zip(self.lambda_seg, each, strict=True)).backward()  # type: ignore[union-attr]
        return losses | {"soft": each[-1].detach()}


def distillation_loss(logits: Tensor, soft: Tensor, temperature: float) -> Tensor:
    """Return T² KL(soft ‖ softmax(logits / T)), the mean over pixels.

    Args:
        logits: the student's, (N, C, H, W).
        soft: probabilities at the same temperature, (N, C, H, W).
        temperature: T.
    """
    logs = (logits.float() / temperature).log_softmax(1)
    return functional.kl_div(logs, soft, reduction="none").sum(1).mean() * temperature**2


def digest(teachers: tuple[Segmenter, ...]) -> Tensor:
    """Return the SHA-256 of the teachers' weights, uint8 (32,)."""
    sha = hashlib.sha256()
    for teacher in teachers:
        for name, value in teacher.network.state_dict().items():
            sha.update(name.encode())
            sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return torch.tensor(list(sha.digest()), dtype=torch.uint8)


def scales_for(teacher: Segmenter, target: DomainConfig) -> tuple[float, float]:
    """Return the factors of height and width from the student's target images to those of the teacher's training.

    Args:
        teacher: where it has no `input_size`, it sees the student's images as they are.
        target: the student's domain.

    Raises:
        InputError: the factor is another for each photograph: the student's images have their own size, are scaled to
            a box of another ratio, or `keep` their ratio where the teacher's do not.
    """
    box, size, resize = teacher.input_size, target.size, target.resize or KEEP
    if box is None:
        return 1.0, 1.0
    where = f"method.teachers: {teacher.origin} was trained on images of {box[0]}x{box[1]}"
    if size is None:
        raise InputError(f"{where}, but the student's have their own size; set target.size, such as to {list(box)}")
    if teacher.resize not in (resize, TO_HEIGHT):
        raise InputError(
            f"{where} (resize: {teacher.resize}), the student's are scaled by resize: {resize}; set target.resize to"
            f" {teacher.resize}"
        )
    rows, columns = box[1] / size[1], box[0] / size[0]
    if resize == SQUEEZE and teacher.resize == SQUEEZE:
        return rows, columns
    if teacher.resize == KEEP and distortion(size, box) > LARGEST_DISTORTION:
        raise InputError(
            f"{where}, the student's target.size {size[0]}x{size[1]} has another ratio; take one of the teacher's, such"
            f" as {list(fitting_size(box, size))}"
        )
    return rows, rows


def _load_teacher(path: str, segmenter: Segmenter) -> Segmenter:
    teacher = load_model(Path(path).expanduser()).requires_grad_(False)
    classes, wanted = teacher.label_space.classes, segmenter.label_space.classes
    if classes != wanted:
        raise InputError(
            f"method.teachers: {path} has {len(classes)} classes ({', '.join(classes[:3])}, …), the student"
            f" {len(wanted)} ({', '.join(wanted[:3])}, …); both need the same, in the same order"
        )
    return teacher

"""The configuration of an experiment: frozen dataclasses, one YAML file per experiment.

Importing this module is cheap (no torch): the command line builds its options from it.
The options of a method stand beside the method, in a subclass of `MethodConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from adaptseg.config.checks import MAX_PIXELS as MAX_PIXELS
from adaptseg.config.checks import require, require_size
from adaptseg.config.checks import require_in as require_in
from adaptseg.config.domain import OF_LAYOUT_FOLDER as OF_LAYOUT_FOLDER
from adaptseg.config.domain import OF_ONE_DOMAIN, OF_ONE_ROOT
from adaptseg.config.domain import DomainConfig as DomainConfig
from adaptseg.config.domain import LabelMapping as LabelMapping
from adaptseg.config.model import BACKBONES as BACKBONES
from adaptseg.config.model import LITES as LITES
from adaptseg.config.model import RESNETS as RESNETS
from adaptseg.config.model import ModelConfig as ModelConfig

OF_TARGET = ("target_labelled", "evaluation")
"""Domains whose keys are the target's where they are left out."""
LOGGERS = ("wandb", "mlflow")
CRITERIA = ("entropy", "class_frequency_distance")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The segmenter's optimiser: SGD as published, Adam for small networks from scratch, AdamW for transformers."""

    name: str = "sgd"
    """sgd, adam or adamw (whose weight decay leaves out norms, biases and embeddings of positions)."""
    lr: float = 2.5e-4
    """Learning rate of the backbone."""
    classifier_lr_factor: float = 10.0
    """The classifiers' learning rate is this many times the backbone's."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 5e-4
    """L2 penalty added to the gradient; adamw: decoupled from it."""
    layer_decay: float = 1.0
    """DINOv2 and DINOv3: the learning rate of a block is this many times the next one's; 1: all blocks alike."""
    repeated_updates: bool = False
    """Released code's quirk: most backbone convolutions take 3 or 4 momentum updates with each gradient."""

    def __post_init__(self) -> None:
        """Refuse unknown names and impossible rates."""
        require(self.name in ("sgd", "adam", "adamw"), f"optimizer.name is {self.name!r}; choose sgd, adam or adamw")
        require(0 < self.lr < math.inf, f"optimizer.lr is {self.lr}; give a positive learning rate")
        for key in ("classifier_lr_factor", "weight_decay"):
            require_in(f"optimizer.{key}", getattr(self, key), 0)
        require_in("optimizer.momentum", self.momentum, 0, 1, below=True)
        require(
            0 < self.layer_decay <= 1, f"optimizer.layer_decay is {self.layer_decay}; give a factor above 0, at most 1"
        )
        require(
            not self.repeated_updates or self.name == "sgd",
            "optimizer.repeated_updates is a quirk of SGD; set optimizer.name to sgd",
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training loop."""

    steps: int = 150_000
    """Training stops after this many iterations."""
    schedule_steps: int | None = None
    """Length of the poly schedule; none: `steps`. The paper stops a 250000-step schedule at 150000."""
    power: float = 0.9
    """Exponent of the poly schedule lr * (1 - step / schedule_steps) ** power."""
    batch: int = 1
    """Source images, and target images, per iteration; several processes share them."""
    warmup_steps: int = 0
    """Iterations over which the learning rates rise linearly to the schedule's."""
    flip: bool = False
    """Mirror images left to right at random."""
    crop: tuple[int, int] | None = None
    """Width and height of a random part of each image that is trained on; none: the whole image."""
    scale_jitter: tuple[float, float] | None = None
    """Least and greatest factor by which images of both domains are scaled at random, before a random part of the
    training size is cut out; what is too small is mirrored at its edges and ignored there. [0.5, 2.0] is usual."""
    source_jitter: float = 0.0
    """Strength, 0 (none) to 1, of random brightness, contrast, saturation, hue, blur and grey of source images."""
    labelled_share: float = 0.25
    """Labelled target images per iteration, as a share of `batch`, above 0, at most 1; at least one image."""
    labelled_jitter: float = 0.5
    """As `source_jitter`, of labelled target images."""
    labelled_scale: tuple[float, float] | None = (0.75, 1.5)
    """As `scale_jitter`, of labelled target images."""
    rare_class_temperature: float | None = None
    """Source images with rare classes come more often, the more so the lower (DAFormer, 0.01); none: all alike."""
    rare_class_crops: int = 10
    """New crops that are drawn at most until the rare class that an image was drawn for is in one."""
    crop_largest_class: float | None = None
    """Labelled crops are drawn anew where one class has this share or more (DAFormer, 0.75); none: any will do."""
    device: str = "auto"
    """auto, cpu, cuda, mps, or cuda:N."""
    precision: str = "32-true"
    """32-true or bf16-mixed."""
    gradient_checkpointing: bool = False
    """Keep only what goes into each block of the backbone, and compute the rest again in the backward pass."""
    workers: int = 0
    """Processes that load data; 0 loads in the training process."""
    log_every: int = 10
    """Iterations between lines of metrics.jsonl."""
    evaluate_every: int | None = None
    """Iterations between evaluations; none: only at the end."""
    selection: str = "none"
    """Criterion that chooses a snapshot without target labels: class_frequency_distance or entropy; or none. Snapshots
    are the evaluations' (without evaluate_every, the checkpoints') and the last; checkpoints/chosen is the best."""
    checkpoint_every: int = 5000
    """Iterations between checkpoints; the last iteration always has one."""
    keep: int = 2
    """Checkpoints kept; older ones are deleted."""
    skip_nonfinite: int = 0
    """Iterations whose loss or gradient may be infinite or NaN: that many are left out, the next one ends the run."""
    tensorboard: bool = True
    """Write TensorBoard event files into the run folder."""
    loggers: list[str] = field(default_factory=list)
    """Experiment trackers that get figures and pictures too: wandb, mlflow (extras of these names)."""
    report: bool = True
    """Write a page on the run, report.html, when it ends."""

    def __post_init__(self) -> None:
        """Refuse counts that make no training."""
        for key in ("steps", "batch", "log_every", "checkpoint_every", "keep"):
            require(getattr(self, key) >= 1, f"train.{key} is {getattr(self, key)}; give at least 1")
        for key in ("workers", "power", "skip_nonfinite", "warmup_steps", "rare_class_crops"):
            require_in(f"train.{key}", getattr(self, key), 0)
        require(
            self.evaluate_every is None or self.evaluate_every >= 1,
            f"train.evaluate_every is {self.evaluate_every}; give at least 1, or leave it out",
        )
        require(
            self.schedule_steps is None or self.schedule_steps >= self.steps,
            f"train.schedule_steps is {self.schedule_steps}, less than train.steps {self.steps}; make it at least that",
        )
        require(
            self.selection in ("none", *CRITERIA),
            f"train.selection is {self.selection!r}; choose none or one of {', '.join(CRITERIA)}",
        )
        for name in self.loggers:
            require(name in LOGGERS, f"train.loggers has {name!r}; choose of {', '.join(LOGGERS)}")
        require_size("train.crop", self.crop)
        require(
            self.crop_largest_class is None or 0 < self.crop_largest_class <= 1,
            f"train.crop_largest_class is {self.crop_largest_class}; give a share above 0, at most 1, or leave it out",
        )
        for key in ("scale_jitter", "labelled_scale"):
            factors = getattr(self, key) or (1.0, 1.0)
            require(
                len(factors) == 2 and 0.1 <= factors[0] <= factors[1] <= 10,
                f"train.{key} is {list(factors)}; give the least and the greatest factor, 0.1 … 10, as [0.5, 2.0]",
            )
        for key in ("source_jitter", "labelled_jitter"):
            strength = getattr(self, key)
            require(0 <= strength <= 1, f"train.{key} is {strength}; give 0 (none) … 1 (strong)")
        require(
            0 < self.labelled_share <= 1,
            f"train.labelled_share is {self.labelled_share}; give a share of train.batch above 0, at most 1",
        )
        require(
            self.rare_class_temperature is None or 0 < self.rare_class_temperature < math.inf,
            f"train.rare_class_temperature is {self.rare_class_temperature}; give a positive number, or leave it out",
        )
        require(
            self.precision in ("32-true", "bf16-mixed"),
            f"train.precision is {self.precision!r}; choose 32-true or bf16-mixed",
        )

    @property
    def labelled_batch(self) -> int:
        """Labelled target images per iteration."""
        return max(1, round(self.labelled_share * self.batch))


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """What every method has; each method's own options are in the subclass in its file."""

    name: str
    """Name of the method, such as source_only or adaptsegnet."""
    fourier_beta: float = 0.0
    """Source images take over the target's low-frequency amplitudes, up to this share of their side (FDA); 0: none."""
    lambda_labelled: float = 1.0
    """Weight of the cross-entropy of labelled target images; that of each level is multiplied by its λ_seg."""

    def __post_init__(self) -> None:
        """Refuse weights below 0 and shares that are none."""
        require_in("method.fourier_beta", self.fourier_beta, 0, 1)
        for key, value in vars(self).items():
            if key.startswith("lambda_"):
                for weight in value if isinstance(value, tuple) else (value,):
                    require_in(f"method.{key}", weight, 0)


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """A complete experiment: enough to repeat the run."""

    description: str = ""
    """One line that says what the experiment is."""
    seed: int = 0
    """Everything random derives from it."""
    out: str | None = None
    """Run folder; none: runs/NAME/seed-N."""
    data: str = "data"
    """Folder that `{data}` stands for in the roots of the domains."""
    prepared: str | None = "{data}/prepared"
    """Folder where `adaptseg prepare` writes images at their training size and training finds them; none: nowhere."""
    label_space: list[str] | str
    """Classes to train: a named label space or a list of class names."""
    protocol: list[str] | str | None = None
    """Classes that are averaged in evaluation: a named label space or a list; none: all trained classes."""
    colors: dict[str, tuple[int, int, int]] | None = None
    """Class name to RGB, 0 … 255, wherever classes are shown; others have Cityscapes' colours, or chosen ones."""
    source: DomainConfig = field(default_factory=DomainConfig)
    """The labelled domain; left out: the labelled target images are all that has labels."""
    target: DomainConfig = field(default_factory=DomainConfig)
    """The unlabelled domain; methods without adaptation do not train on it."""
    target_labelled: DomainConfig = field(default_factory=DomainConfig)
    """Some target images with labels to train on, none of those of the evaluation; what is left out is as there."""
    evaluation: DomainConfig = field(default_factory=DomainConfig)
    """Labelled images to evaluate on. Layout, root, size, resize, classes and label_map left out are the target's, but
    for label_map beside own classes; all left out: there are none, and nothing is evaluated."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The segmenter."""
    method: MethodConfig
    """How a pair of batches becomes gradients."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The segmenter's optimiser."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The loop."""

    def __post_init__(self) -> None:
        """Refuse a seed that the random generators do not take, and what only the package's networks can do."""
        require(0 <= self.seed < 2**31, f"seed is {self.seed}; give 0 … 2147483647")
        require(
            self.model.factory is None or not self.optimizer.repeated_updates,
            "optimizer.repeated_updates is a quirk of the released ResNets' training; leave it out with model.factory",
        )

    @property
    def has_evaluation(self) -> bool:
        """Whether there are labelled images to evaluate on."""
        return self.evaluation != DomainConfig()

    @property
    def has_target_labelled(self) -> bool:
        """Whether there are labelled target images to train on."""
        return self.target_labelled != DomainConfig()

    @property
    def labels_alone(self) -> bool:
        """Whether labelled target images are the only labelled ones: then they are the source."""
        return self.has_target_labelled and self.source == DomainConfig()

    def domain(self, role: str) -> DomainConfig:
        """Return the complete configuration of a role, `{data}` filled in.

        Args:
            role: `source` (where there is none, that of `target_labelled`), `target`, `target_labelled`, or
                `evaluation` (where there is none, the target's without labels).

        Raises:
            InputError: the role has no layout.
        """
        if role == "source" and self.labels_alone:
            role = "target_labelled"
        config: DomainConfig = replace(getattr(self, role), labelled=role != "target")
        if role == "evaluation" and not self.has_evaluation:
            config = replace(self.target, labelled=False)
        elif role in OF_TARGET:
            base = replace(self.target, labelled=True, **dict.fromkeys(OF_ONE_DOMAIN))
            if config.root is not None:
                base = replace(base, **dict.fromkeys(OF_ONE_ROOT))
            if config.classes is not None:  # A label_map of the target's would override them.
                base = replace(base, label_map=None)
            config = base.overlaid(config)
        missing = "name one, such as folder"
        if role == "source" and self.source == DomainConfig():
            missing = "name one, such as folder, or give target_labelled"
        require(config.layout is not None, f"{role}.layout is missing; {missing}")
        prepared = config.prepared or self.prepared
        return replace(config, root=self._placed(config.root), prepared=prepared and self._placed(prepared))

    def _placed(self, place: Any) -> Any:
        if isinstance(place, list):
            return [self._placed(each) for each in place]
        return place and place.replace("{data}", self.data)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain dictionaries, lists and scalars, ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    result = plain(asdict(config))
    assert isinstance(result, dict)
    return result


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys written with dots: `{"train": {"steps": 3}}` -> `{"train.steps": 3}`."""
    result: dict[str, Any] = {}
    for key, value in content.items():
        nested = isinstance(value, dict) and value and key not in ("label_map", "colors")
        result |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return result

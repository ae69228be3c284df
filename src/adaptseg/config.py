"""The configuration of an experiment: frozen dataclasses, one YAML file per experiment.

Importing this module is cheap (no torch): the command line builds its options from it.
The options of a method stand beside the method, in a subclass of `MethodConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from adaptseg.errors import InputError

MAX_COUNT = 1_000_000
MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded (decompression bombs)."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def require_in(key: str, value: float, low: float, high: float = math.inf, below: bool = False) -> None:
    """Raise `InputError` unless a number is finite and in low … high, with `below` not `high` itself."""
    if not (low <= value <= high and math.isfinite(value) and not (below and value == high)):
        last = "" if high == math.inf else f" to {'below ' if below else ''}{high:g}"
        raise InputError(f"{key} is {value}; give a number from {low:g}{last or ' up'}")


def _require_size(key: str, size: tuple[int, int] | None) -> None:
    _require(
        size is None or (len(size) == 2 and min(size) >= 8),
        f"{key} is {size}; give [width, height], each at least 8 pixels",
    )
    _require(
        size is None or size[0] * size[1] <= MAX_PIXELS,
        f"{key} is {size}; give [width, height] of at most {MAX_PIXELS} pixels together",
    )


def _is_path(text: str) -> bool:
    """Tell whether a system could have a file of that name: some refuse even the question for others."""
    parts = text.split("/")
    return "\0" not in text and len(text) < 4096 and all(len(part.encode(errors="replace")) <= 255 for part in parts)


def _is_below_root(text: str) -> bool:
    folders = text.split("/")
    return _is_path(text) and not text.startswith(("/", "\\")) and ".." not in folders and not set(text) & set("{}")


RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
LITES = tuple(f"efficientnet_lite{size}" for size in range(3))
VITS = tuple(f"{family}_{size}" for family in ("dinov2", "dinov3") for size in ("small", "base", "large"))
LOGGERS = ("wandb", "mlflow")
CRITERIA = (
    "entropy",
    "neighbourhood_density",
    "flip_agreement",
    "scale_agreement",
    "teacher_agreement",
    "class_frequency_distance",
    "layout_distance",
)
BACKBONES = (*RESNETS, "vgg16", *LITES, *(f"mit_b{size}" for size in range(6)), *VITS)


@dataclass(frozen=True, kw_only=True)
class DomainConfig:
    """Where images (and labels) of one domain are, and how its label values are named."""

    layout: str | None = None
    """How the data lie on disk: `streets` (embedded), `folder`, or a published data set's own layout."""
    root: str | None = None
    """Folder of the data. `{data}` in it stands for the key `data` of the experiment. Layout `streets`: the style,
    game, camera or varied."""
    split: list[str] | None = None
    """Sub-sets to read, in this order, such as [train, val]; none for data without splits."""
    include: list[str] | None = None
    """Only samples whose name matches one of these patterns (`*` and `?` allowed)."""
    size: tuple[int, int] | None = None
    """Width and height of a box that images are scaled to, see `resize`; none keeps each image's own size."""
    resize: str | None = None
    """keep (the default): images keep their ratio and cover the box, of which training sees a random part of its size
    and everything else the whole; squeeze: images get the box's very sides, as some published protocols do."""
    classes: list[str] | str | None = None
    """Layout `folder`: class names in the order of the label values 0, 1, 2, …, or a named label space."""
    label_map: dict[int, str] | None = None
    """Layout `folder`: label value to class name; overrides `classes`. The name `void` is ignored."""
    count: int | None = None
    """Layout `streets`: number of images to render for the split."""
    labelled: bool | None = None
    """Whether labels are read. The target's are never read in training."""
    prepared: str | None = None
    """Folder of prepared images; none: the key `prepared` of the experiment."""

    def __post_init__(self) -> None:
        """Refuse values that no layout could use."""
        _require_size("size of a domain", self.size)
        _require(
            self.resize in (None, "keep", "squeeze"),
            f"resize is {self.resize!r}; choose keep (the ratio) or squeeze (into size)",
        )
        _require(
            self.count is None or 0 < self.count <= MAX_COUNT,
            f"count is {self.count}; give a positive number of images, at most {MAX_COUNT}",
        )
        _require(_is_path(self.root or ""), f"root is {self.root!r}; give the path of a folder")
        for split in self.split or ():
            _require(_is_below_root(split), f"split has {split!r}; give the name of a split, such as train")
        for value in self.label_map or {}:
            _require(0 <= value <= 65535, f"label_map has the label value {value}; label values are 0 … 65535")

    def overlaid(self, other: DomainConfig) -> DomainConfig:
        """Return this configuration with every field that `other` sets taken from `other`."""
        changes = {f.name: getattr(other, f.name) for f in fields(other) if getattr(other, f.name) is not None}
        return replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The segmentation network. Defaults are the paper's; the released code's quirks are named options."""

    backbone: str = "resnet101"
    """resnet18, …34, …50, …101, vgg16, efficientnet_lite0, …1, …2; extra `transformers`: mit_b0 … mit_b5,
    dinov2_small, …base, …large, dinov3_…."""
    head: str | None = None
    """Decode head of transformers and EfficientNets: light (as SegFormer's, the default) or daformer; others: ASPP."""
    levels: int = 2
    """2: a second classifier on the previous stage (multi-level adaptation); 1: the last stage only."""
    width: int = 64
    """Channels of the ResNet's first stage; 64 as published, less for small networks; others are scaled likewise."""
    aspp_branches: int = 4
    """Atrous branches that are summed: 4 as in the paper, 2 as in the released code."""
    bottleneck_stride: str | None = None
    """Convolution of a bottleneck that strides: `first` (1x1, He et al. and Caffe) or `second` (3x3, torchvision);
    none: as the weights want it."""
    batch_norm: str | None = None
    """The backbone's: `trained`; `affine_frozen` (batch statistics, weight and bias fixed, as released); `frozen` (all
    fixed); none: affine_frozen for pretrained ResNets, otherwise trained."""
    align_corners: bool = True
    """Bilinear up-sampling of logits with aligned corners, as released."""
    weights: str | None = None
    """Initial weights: `imagenet` (docs/networks.md), a file, a run folder, a name on the Hugging Face Hub
    (transformers), or a URL (`URL#sha256=HEX` is checked); none: random weights."""
    preprocessing: str | None = None
    """`caffe` (BGR minus the ImageNet mean, as the published weights want), `imagenet` (RGB, mean and std) or
    `tensorflow` (RGB, about -1 … 1); none: as the weights want it."""

    def __post_init__(self) -> None:
        """Refuse unknown names."""
        for key, allowed in (
            ("backbone", BACKBONES),
            ("head", (None, "light", "daformer")),
            ("levels", (1, 2)),
            ("aspp_branches", (2, 4)),
            ("bottleneck_stride", (None, "first", "second")),
            ("batch_norm", (None, "trained", "affine_frozen", "frozen")),
            ("preprocessing", (None, "caffe", "imagenet", "tensorflow")),
        ):
            value = getattr(self, key)
            _require(value in allowed, f"model.{key} is {value!r}; choose one of {', '.join(map(str, allowed))}")
        _require(4 <= self.width <= 256, f"model.width is {self.width}; give 4 … 256 channels")
        _require(
            self.backbone.startswith("resnet") or self.levels == 1,
            f"model.levels is 2, but {self.backbone} has one classifier; set model.levels to 1",
        )
        _require(
            self.has_decode_head or self.head is None,
            f"model.head is {self.head!r}, but {self.backbone} has the atrous pyramid; leave model.head out",
        )
        _require(
            not self.has_decode_head or self.width % 4 == 0,
            f"model.width is {self.width}; give a multiple of 4 for {self.backbone}",
        )

    @property
    def is_transformer(self) -> bool:
        """Whether the backbone is one of the `transformers` library."""
        return self.backbone.startswith(("mit", "dino"))

    @property
    def has_decode_head(self) -> bool:
        """Whether four maps go into a decode head; the others have the atrous pyramid."""
        return self.is_transformer or self.backbone in LITES

    def filled(self, preprocessing: str, bottleneck_stride: str, batch_norm: str) -> ModelConfig:
        """Return the configuration with these settings where it has none."""
        return replace(
            self,
            preprocessing=self.preprocessing or preprocessing,
            bottleneck_stride=self.bottleneck_stride or bottleneck_stride,
            batch_norm=self.batch_norm or batch_norm,
        )


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
    repeated_updates: bool = False
    """Released code's quirk: most backbone convolutions take 3 or 4 momentum updates with each gradient."""

    def __post_init__(self) -> None:
        """Refuse unknown names and impossible rates."""
        _require(self.name in ("sgd", "adam", "adamw"), f"optimizer.name is {self.name!r}; choose sgd, adam or adamw")
        _require(0 < self.lr < math.inf, f"optimizer.lr is {self.lr}; give a positive learning rate")
        for key in ("classifier_lr_factor", "weight_decay"):
            require_in(f"optimizer.{key}", getattr(self, key), 0)
        require_in("optimizer.momentum", self.momentum, 0, 1, below=True)
        _require(
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
    rare_class_temperature: float | None = None
    """Source images with rare classes come more often, the more so the lower (DAFormer, 0.01); none: all alike."""
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
    selection: str = "class_frequency_distance"
    """Criterion that chooses a snapshot without target labels (docs/model-selection.md), or none. Snapshots are the
    evaluations' (without evaluate_every, the checkpoints') and the last iteration's; checkpoints/chosen is the best."""
    checkpoint_every: int = 5000
    """Iterations between checkpoints; the last iteration always has one."""
    keep: int = 2
    """Checkpoints kept; older ones are deleted."""
    sync_batch_norm: bool = False
    """Several CUDA processes: batch statistics of the whole batch, not of each process's share."""
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
            _require(getattr(self, key) >= 1, f"train.{key} is {getattr(self, key)}; give at least 1")
        for key in ("workers", "power", "skip_nonfinite", "warmup_steps"):
            require_in(f"train.{key}", getattr(self, key), 0)
        _require(
            self.evaluate_every is None or self.evaluate_every >= 1,
            f"train.evaluate_every is {self.evaluate_every}; give at least 1, or leave it out",
        )
        _require(
            self.schedule_steps is None or self.schedule_steps >= self.steps,
            f"train.schedule_steps is {self.schedule_steps}, less than train.steps {self.steps}; make it at least that",
        )
        _require(
            self.selection in ("none", *CRITERIA),
            f"train.selection is {self.selection!r}; choose none or one of {', '.join(CRITERIA)}",
        )
        for name in self.loggers:
            _require(name in LOGGERS, f"train.loggers has {name!r}; choose of {', '.join(LOGGERS)}")
        _require_size("train.crop", self.crop)
        factors = self.scale_jitter or (1.0, 1.0)
        _require(
            len(factors) == 2 and 0.1 <= factors[0] <= factors[1] <= 10,
            f"train.scale_jitter is {list(factors)}; give the least and the greatest factor, 0.1 … 10, as [0.5, 2.0]",
        )
        _require(
            0 <= self.source_jitter <= 1, f"train.source_jitter is {self.source_jitter}; give 0 (none) … 1 (strong)"
        )
        _require(
            self.rare_class_temperature is None or 0 < self.rare_class_temperature < math.inf,
            f"train.rare_class_temperature is {self.rare_class_temperature}; give a positive number, or leave it out",
        )
        _require(
            self.precision in ("32-true", "bf16-mixed"),
            f"train.precision is {self.precision!r}; choose 32-true or bf16-mixed",
        )


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """What every method has; each method's own options are in the subclass in its file."""

    name: str
    """Name of the method, such as source_only or adaptsegnet."""
    fourier_beta: float = 0.0
    """Source images take over the target's low-frequency amplitudes, up to this share of their side (FDA); 0: none."""

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
    source: DomainConfig
    """The labelled domain."""
    target: DomainConfig = field(default_factory=DomainConfig)
    """The unlabelled domain; methods without adaptation do not train on it."""
    evaluation: DomainConfig = field(default_factory=DomainConfig)
    """Labelled images to evaluate on. Layout, root, size, resize, classes and label_map left out are the target's; all
    left out: there are none, and nothing is evaluated."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The segmenter."""
    method: MethodConfig
    """How a pair of batches becomes gradients."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The segmenter's optimiser."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The loop."""

    def __post_init__(self) -> None:
        """Refuse a seed that the random generators do not take."""
        _require(0 <= self.seed < 2**31, f"seed is {self.seed}; give 0 … 2147483647")

    @property
    def has_evaluation(self) -> bool:
        """Whether there are labelled images to evaluate on."""
        return self.evaluation != DomainConfig()

    def domain(self, role: str) -> DomainConfig:
        """Return the complete configuration of `source`, `target` or `evaluation`, `{data}` filled in.

        Where there is nothing to evaluate on, the evaluation's is the target's.

        Raises:
            InputError: the role has no layout.
        """
        config: DomainConfig = replace(getattr(self, role), labelled=role != "target")
        if role == "evaluation" and self.has_evaluation:
            base = replace(self.target, labelled=True, split=None, include=None, count=None)
            config = base.overlaid(self.evaluation)
        elif role == "evaluation":
            config = replace(self.target, labelled=False)
        _require(config.layout is not None, f"{role}.layout is missing; name one, such as folder")
        places = (config.root, config.prepared or self.prepared)
        root, prepared = (place and place.replace("{data}", self.data) for place in places)
        return replace(config, root=root, prepared=prepared)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain dictionaries, lists and scalars, ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    result = plain(asdict(config))
    assert isinstance(result, dict)
    return result

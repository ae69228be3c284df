"""The methods: one file each, one line each in the registry."""

from __future__ import annotations

from typing import Any

from adaptseg.config import ExperimentConfig, MethodConfig
from adaptseg.errors import InputError
from adaptseg.methods.adaptsegnet import AdaptSegNet, AdaptSegNetConfig
from adaptseg.methods.advent import Advent, AdventConfig
from adaptseg.methods.base import Method
from adaptseg.methods.dacs import DACS, DACSConfig
from adaptseg.methods.daformer import DAFormer, DAFormerConfig
from adaptseg.methods.distill import Distill, DistillConfig
from adaptseg.methods.fda import FDA, FDAConfig
from adaptseg.methods.feature_level import FeatureLevel, FeatureLevelConfig
from adaptseg.methods.maxsquare import MaxSquare, MaxSquareConfig
from adaptseg.methods.mic import MIC, MICConfig
from adaptseg.methods.minent import MinEnt, MinEntConfig
from adaptseg.methods.source_only import SourceOnly, SourceOnlyConfig
from adaptseg.methods.vfm_uda import VFMUDA, VFMUDAConfig
from adaptseg.segmenter.segmenter import Segmenter

METHODS: dict[str, tuple[type[MethodConfig], Any]] = {
    "source_only": (SourceOnlyConfig, SourceOnly),
    "adaptsegnet": (AdaptSegNetConfig, AdaptSegNet),
    "minent": (MinEntConfig, MinEnt),
    "maxsquare": (MaxSquareConfig, MaxSquare),
    "advent": (AdventConfig, Advent),
    "fda": (FDAConfig, FDA),
    "dacs": (DACSConfig, DACS),
    "daformer": (DAFormerConfig, DAFormer),
    "mic": (MICConfig, MIC),
    "vfm_uda": (VFMUDAConfig, VFMUDA),
    "distill": (DistillConfig, Distill),
    "feature_level": (FeatureLevelConfig, FeatureLevel),
}


def method_options(name: str) -> type[MethodConfig]:
    """Return the dataclass of a method's options.

    Raises:
        InputError: no method has the name.
    """
    if name not in METHODS:
        raise InputError(f"method.name {name!r} is unknown; choose one of {', '.join(METHODS)}")
    return METHODS[name][0]


def uses_target(config: ExperimentConfig) -> bool:
    """Whether the configured method trains on the target."""
    found: bool = METHODS[config.method.name][1].uses_target
    return found


def build_method(segmenter: Segmenter, config: ExperimentConfig) -> Method:
    """Return the configured method around a segmenter."""
    method: Method = METHODS[config.method.name][1](segmenter, config, config.method)
    return method

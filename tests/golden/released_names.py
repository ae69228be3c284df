"""Names of the released MiT backbones and decode heads, beside those of adaptseg's networks.

Shapes are in family_shapes.json. Released linear layers are 1x1 convolutions here, and a released `kv` is k above v.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from tests.golden.figures import HERE, recipe

SHAPES: dict[str, dict[str, list[int]]] = json.loads((HERE / "family_shapes.json").read_text())

STAGES = ("backbone.stages.0", "backbone.stages.1", "backbone.stages.2", "backbone.stages.3")
BACKBONE = (
    (r"patch_embed(\d)\.proj", "{stage}.patch_embeddings.proj"),
    (r"patch_embed(\d)\.norm", "{stage}.patch_embeddings.layer_norm"),
    (r"norm(\d)", "{stage}.layer_norm"),
    (r"block(\d)\.(\d+)\.norm1", "{stage}.blocks.{block}.layernorm_before"),
    (r"block(\d)\.(\d+)\.norm2", "{stage}.blocks.{block}.layernorm_after"),
    (r"block(\d)\.(\d+)\.attn\.q", "{stage}.blocks.{block}.attention.q_proj"),
    (r"block(\d)\.(\d+)\.attn\.k", "{stage}.blocks.{block}.attention.k_proj"),
    (r"block(\d)\.(\d+)\.attn\.v", "{stage}.blocks.{block}.attention.v_proj"),
    (r"block(\d)\.(\d+)\.attn\.proj", "{stage}.blocks.{block}.attention.o_proj"),
    (r"block(\d)\.(\d+)\.attn\.sr", "{stage}.blocks.{block}.attention.sequence_reduction.sequence_reduction"),
    (r"block(\d)\.(\d+)\.attn\.norm", "{stage}.blocks.{block}.attention.sequence_reduction.layer_norm"),
    (r"block(\d)\.(\d+)\.mlp\.(fc\d)", "{stage}.blocks.{block}.mlp.{layer}"),
    (r"block(\d)\.(\d+)\.mlp\.dwconv\.dwconv", "{stage}.blocks.{block}.mlp.dwconv.dwconv"),
)
HEAD = (
    (r"(?:embed_layers|linear_c)\.(\d)\.proj", r"head.embed.\1"),
    (r"(?:conv_seg|linear_pred)", "head.classifier"),
    (r"fuse_layer\.aspp_modules\.(0)\.(conv|bn)", r"head.fuse.branches.\1.\2"),
    (r"fuse_layer\.aspp_modules\.(\d)\.depthwise_conv\.(conv|bn)", r"head.fuse.branches.\1.0.\2"),
    (r"fuse_layer\.aspp_modules\.(\d)\.pointwise_conv\.(conv|bn)", r"head.fuse.branches.\1.1.\2"),
    (r"fuse_layer\.bottleneck\.(conv|bn)", r"head.fuse.bottleneck.\1"),
    (r"linear_fuse\.(conv|bn)", r"head.fuse.\1"),
)


def own_name(released: str) -> str:
    """Return adaptseg's name of a released parameter: of a backbone without prefix, of a head."""
    module, _, kind = released.rpartition(".")
    for pattern, template in BACKBONE:
        if match := re.fullmatch(pattern, module):
            found = [*match.groups(), "", ""]
            stage = STAGES[int(found[0]) - 1]
            return f"{template.format(stage=stage, block=found[1], layer=found[2])}.{kind}"
    for pattern, template in HEAD:
        if match := re.fullmatch(pattern, module):
            return f"{match.expand(template)}.{kind}".replace(".conv.", ".0.").replace(".bn.", ".1.")
    raise KeyError(released)


def released_state(shapes: dict[str, list[int]], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield adaptseg's names and the golden recipe's values of released parameters."""
    for name, shape in shapes.items():
        value = np.asarray(recipe.tensor(prefix + name, tuple(shape)))
        if re.search(r"norm\d?\.weight$", name):
            value = 1 + value
        parts = {name: value}
        if ".attn.kv." in name:
            names = (name.replace(".kv.", ".k."), name.replace(".kv.", ".v."))
            parts = dict(zip(names, np.split(value, 2), strict=True))
        for part, array in parts.items():
            own = own_name(part)
            is_linear = own.startswith("head.") and array.ndim == 2
            yield own, torch.from_numpy(np.ascontiguousarray(array[:, :, None, None] if is_linear else array))


def fill_released(module: nn.Module, **shapes: str) -> None:
    """Load the golden weights; the shapes of `backbone` and `head` are tables of family_shapes.json."""
    state: dict[str, Tensor] = {}
    if "backbone" in shapes:
        state |= released_state(SHAPES[shapes["backbone"]])
    if "head" in shapes:
        state |= released_state(SHAPES[shapes["head"]], "decode_head.")
    if set(shapes) == {"head"}:
        state = {name.removeprefix("head."): value for name, value in state.items()}
    module.load_state_dict(state)

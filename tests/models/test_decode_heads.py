"""The light head's short way gives what the head as published gives."""

from __future__ import annotations

import torch
from torch.nn import functional

from adaptseg.models.decode_heads import LightHead


def test_the_product_of_embedding_and_fusion_is_the_published_head() -> None:
    torch.manual_seed(0)
    head = LightHead((8, 12, 16, 20), classes=5, width=6).double().eval()
    maps = [
        torch.randn(2, c, *size).double()
        for c, size in zip((8, 12, 16, 20), ((9, 13), (5, 7), (3, 4), (2, 2)), strict=True)
    ]
    embedded = [
        functional.interpolate(embed(x), size=(9, 13), mode="bilinear", align_corners=False)
        for embed, x in zip(head.embed, maps, strict=True)
    ]
    published = head.classifier(head.fuse(torch.cat(embedded, 1)))
    torch.testing.assert_close(head(maps), published, rtol=1e-12, atol=1e-12)
    gradients = [
        torch.autograd.grad(logits.square().sum(), list(head.parameters())) for logits in (head(maps), published)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)

"""FDA: source images in the target's style, and an entropy penalty that leaves unsure pixels alone at first.

Yang and Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR 2020:
Σ λ_seg CE(source in the target's style) + Σ λ_ent ρ(entropy(target)), equations 4 and 5, with the Charbonnier
penalty ρ(x) = (x² + 0.001²)^η, where 1e-8 stands for 0.001² as released. The style itself is in
`adaptseg.methods.fourier`, by default with β 0.01. Labelled target images add + λ_labelled Σ λ_seg CE(labelled
target); they have the target's style already and keep it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adaptseg.config import require_in
from adaptseg.methods.fourier import with_target_style
from adaptseg.methods.losses import robust_entropy_loss
from adaptseg.methods.minent import MinEnt, MinEntConfig


@dataclass(frozen=True, kw_only=True)
class FDAConfig(MinEntConfig):
    """Options of `fda`."""

    name: str = "fda"
    fourier_beta: float = 0.01
    lambda_ent: tuple[float, ...] = (0.0, 0.005)
    """Weight of the target's penalised entropy per level, main last."""
    eta: float = 2.0
    """Exponent η of the Charbonnier penalty: the larger, the less is asked of unsure pixels."""
    released_square: bool = False
    """Released code's quirk: the frequencies -b … b - 1 are taken over, where the paper's are -b … b."""

    def __post_init__(self) -> None:
        """Refuse exponents that are none."""
        super().__post_init__()
        require_in("method.eta", self.eta, 0)


class FDA(MinEnt):
    """MinEnt with a robust penalty, on source images in the target's style."""

    def styled(self, source: Tensor, target: Tensor) -> Tensor:
        """Return source images in the style of target images, both (N, 3, H, W), values about 0 … 255."""
        assert isinstance(self.options, FDAConfig)
        return with_target_style(source, target, self.options.fourier_beta, self.options.released_square)

    def target_loss(self, probabilities: Tensor) -> Tensor:
        """Return the mean Charbonnier penalty of the normalised entropy of probabilities (N, C, H, W)."""
        assert isinstance(self.options, FDAConfig)
        return robust_entropy_loss(probabilities, self.options.eta)

"""Training that goes wrong: losses or gradients that are not finite, discriminators that stopped learning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from adaptseg.errors import InputError


class FiniteWatch:
    """Looks at every step without waiting for the device; the verdict is read when the log is."""

    def __init__(self) -> None:
        """Nothing seen."""
        self._steps: list[tuple[int, list[str], Tensor]] = []

    def see(
        self, step: int, losses: Mapping[str, Tensor], parameters: Iterable[nn.Parameter], names: Sequence[str]
    ) -> None:
        """Note a step's losses and the norm of its gradients; `names` are those of the batch's samples."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        values = [*(loss.float() for loss in losses.values()), torch.nn.utils.get_total_norm(gradients).float()]
        self._steps.append((step, list(names), torch.isfinite(torch.stack(values)).all()))

    def last_is_finite(self) -> bool:
        """Whether the last step seen was finite (waits for the device); a step that was not is forgotten."""
        finite = bool(self._steps[-1][2])
        if not finite:
            self._steps.pop()
        return finite

    def check(self) -> None:
        """Forget what was seen.

        Raises:
            InputError: a step was not finite; the first one is named, with its samples.
        """
        seen, self._steps = self._steps, []
        if not seen or bool(torch.stack([finite for _, _, finite in seen]).all()):
            return
        step, names, _ = next(entry for entry in seen if not bool(entry[2]))
        raise InputError(
            f"step {step}: a loss or gradient is not finite (batch: {', '.join(names)}); look at these samples, lower"
            " optimizer.lr or method.lambda_adv, or allow some with train.skip_nonfinite; earlier checkpoints are kept"
        )


class CollapseWatch:
    """Tells once when a discriminator's loss has stayed at 0, or at that of guessing, for `patience` steps."""

    def __init__(self, guessing: float | None, patience: int = 2000) -> None:
        """Wait for `patience` steps; `guessing` is `Method.guessing_loss`, without which nothing is ever said."""
        self.guessing = guessing
        self.patience = patience
        self._since: dict[tuple[str, str], int] = {}
        self._told: set[tuple[str, str]] = set()

    def advice(self, step: int, losses: Mapping[str, float]) -> list[str]:
        """Return what to say about the losses of a logged step, mostly nothing."""
        lines = []
        for name, value in losses.items():
            if self.guessing is None or not (name.startswith("d") and name[1:].isdigit()):
                continue
            states = {
                "at 0: it wins, the segmenter learns nothing from it; lower method.discriminator.lr": value < 0.005,
                f"at {self.guessing:.2f}, that of guessing: it cannot tell the domains apart, or the segmenter has won;"
                " raise method.discriminator.lr or lower method.lambda_adv": abs(value - self.guessing) < 0.002,
            }
            for text, holds in states.items():
                key = (name, text)
                if not holds:
                    self._since.pop(key, None)
                elif step - self._since.setdefault(key, step) >= self.patience and key not in self._told:
                    self._told.add(key)
                    lines.append(f"loss {name} of the discriminator has been {text} (since step {self._since[key]})")
        return lines

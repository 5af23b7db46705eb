"""Initial weights, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rl_lab.types import UsageError

# By how much weights are scaled so that what follows hands on the variance that it gets, 1 / sqrt(E[f(z)^2]) for
# normal z; tanh's is torch's, which counts on several layers.
GAINS: dict[type[nn.Module], float] = {nn.ReLU: 2**0.5, nn.Tanh: 5 / 3, nn.ELU: 1.2452, nn.GELU: 1.5335}
LINEAR = 1.0
Weighted = nn.Linear | nn.Conv2d


@torch.no_grad()
def initialise(module: nn.Module, name: str, *, gain: float | None = None) -> None:
    """Draw a module's weights anew, from torch's global generator.

    Of dense layers, convolutions and recurrent cells the biases become 0; attention's gates, normalisations
    and embeddings stay as they are.

    Args:
        name: "default" (torch's, left as they are), "orthogonal" (Saxe et al., 2014,
            https://arxiv.org/abs/1312.6120) or "kaiming" (He et al., 2015, https://arxiv.org/abs/1502.01852:
            normal, by the number of inputs).
        gain: scale of the weights; None: by the activation that follows a layer, 1 where none does.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in INITIALISATIONS:
        raise UsageError(f"initialisation {name!r} is unknown (allowed: {', '.join(INITIALISATIONS)})")
    if (draw := INITIALISATIONS[name]) is None:
        return
    gains = dict(_gains(module))
    for part in module.modules():
        if isinstance(part, Weighted):
            _fill(part.weight, draw, gains.get(part, LINEAR) if gain is None else gain)
            if part.bias is not None:
                part.bias.zero_()
        elif isinstance(part, nn.RNNBase):
            _initialise_cell(part, draw)


def _orthogonal(weight: Tensor, gain: float) -> None:
    nn.init.orthogonal_(weight, gain)


def _kaiming(weight: Tensor, gain: float) -> None:
    nn.init.normal_(weight, 0.0, gain / weight[0].numel() ** 0.5)


INITIALISATIONS: dict[str, Callable[[Tensor, float], None] | None] = {
    "default": None,
    "orthogonal": _orthogonal,
    "kaiming": _kaiming,
}


def _fill(weight: Tensor, draw: Callable[[Tensor, float], None], gain: float) -> None:
    """Draw on the CPU in the plain layout: the same weights on every device."""
    drawn = torch.empty(weight.shape, dtype=weight.dtype, device="cpu")
    draw(drawn, gain)
    weight.copy_(drawn)


def _initialise_cell(cell: nn.RNNBase, draw: Callable[[Tensor, float], None]) -> None:
    """Draw each gate's matrices apart: a stack of four is not orthogonal in its parts."""
    for name, parameter in cell.named_parameters():
        if name.startswith("weight"):
            for gate in parameter.split(cell.hidden_size):
                _fill(gate, draw, LINEAR)
        else:
            parameter.zero_()


def _gains(module: nn.Module) -> Iterator[tuple[nn.Module, float]]:
    """Yield the gain of each layer that an activation follows, directly or behind a normalisation or pooling."""
    passing = nn.LayerNorm | nn.MaxPool2d | nn.AvgPool2d
    for sequence in (part for part in module.modules() if isinstance(part, nn.Sequential)):
        layers = list(sequence)
        for k, layer in enumerate(layers):
            following = [x for x in layers[k + 1 :] if not isinstance(x, passing)][:1]
            yield from ((layer, GAINS[type(x)]) for x in following if type(x) in GAINS)

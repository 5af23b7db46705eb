"""Initialises weights by the name of a method."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rl_lab.nn.ensembles import HeadsLinear
from rl_lab.types import UsageError

# The scale of the weights for which the following activation f preserves variance: 1 / sqrt(E[f(z)^2]) for normal
# z. For tanh it is torch's value, which is meant for several layers in sequence.
GAINS: dict[type[nn.Module], float] = {nn.ReLU: 2**0.5, nn.Tanh: 5 / 3, nn.ELU: 1.2452, nn.GELU: 1.5335}
LINEAR = 1.0
Weighted = nn.Linear | nn.Conv2d


@torch.no_grad()
def initialise(module: nn.Module, name: str, *, gain: float | None = None) -> None:
    """Draw new weights for a module in place, from torch's global generator.

    This concerns dense layers, convolutions and recurrent cells, whose biases become 0. Attention's gates,
    normalisations and embeddings stay as they are.

    Args:
        name: "default" (keep torch's weights), "orthogonal" (Saxe et al., 2014,
            https://arxiv.org/abs/1312.6120) or "kaiming" (He et al., 2015, https://arxiv.org/abs/1502.01852:
            normal, scaled by the number of inputs).
        gain: scale of the weights; None chooses it by the activation that follows a layer, or 1 without one.

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
        elif isinstance(part, HeadsLinear):
            for weight in part.weight:
                _fill(weight, draw, gains.get(part, LINEAR) if gain is None else gain)
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
    """Fill a weight with values drawn on the CPU in the default layout, so that they are the same on every device."""
    drawn = torch.empty(weight.shape, dtype=weight.dtype, device="cpu")
    draw(drawn, gain)
    weight.copy_(drawn)


def _initialise_cell(cell: nn.RNNBase, draw: Callable[[Tensor, float], None]) -> None:
    """Initialise each gate's matrices separately: the parts of one large orthogonal matrix aren't orthogonal."""
    for name, parameter in cell.named_parameters():
        if name.startswith("weight"):
            for gate in parameter.split(cell.hidden_size):
                _fill(gate, draw, LINEAR)
        else:
            parameter.zero_()


def _gains(module: nn.Module) -> Iterator[tuple[nn.Module, float]]:
    """Yield (layer, gain) for layers followed by an activation, directly or after a normalisation or pooling."""
    passing = nn.LayerNorm | nn.MaxPool2d | nn.AvgPool2d
    for sequence in (part for part in module.modules() if isinstance(part, nn.Sequential)):
        layers = list(sequence)
        for k, layer in enumerate(layers):
            following = [x for x in layers[k + 1 :] if not isinstance(x, passing)][:1]
            yield from ((layer, GAINS[type(x)]) for x in following if type(x) in GAINS)

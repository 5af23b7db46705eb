"""Several heads in one network, and random functions that keep them apart.

Osband et al. (2016), "Deep Exploration via Bootstrapped DQN", https://arxiv.org/abs/1602.04621; Osband et al. (2018),
"Randomized Prior Functions for Deep Reinforcement Learning", https://arxiv.org/abs/1806.03335.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_lab.nn.encoders import Encoder
from rl_lab.trees import map_leaves
from rl_lab.types import Array


class HeadsLinear(nn.Module):
    """A dense layer for each of H heads, computed together: x [..., in] or [H, ..., in] gives [H, ..., out].

    Inputs without an axis of heads have at most two axes; those with one, at least three.
    """

    def __init__(self, inputs: int, outputs: int, heads: int):
        super().__init__()
        self.in_features, self.out_features, self.heads = inputs, outputs, heads
        self.weight = nn.Parameter(torch.empty(heads, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(heads, outputs))
        self.reset_parameters()

    def extra_repr(self) -> str:
        """Return the sizes as text."""
        return f"in_features={self.in_features}, out_features={self.out_features}, heads={self.heads}"

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new weights as torch does for a dense layer, each head's by themselves."""
        bound = self.in_features**-0.5
        self.weight.uniform_(-bound, bound)
        self.bias.uniform_(-bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs [H, B, out] for inputs [B, in] or [H, B, in]."""
        return x @ self.weight.transpose(1, 2) + self.bias.unsqueeze(1)

    def in_numpy(self, _: Any = None) -> Any:
        """Return the same as a function of arrays, on views of the weights."""
        w, b = self.weight.detach().numpy().swapaxes(1, 2), self.bias.detach().numpy()[:, None]
        return lambda x: x @ w + b


class Beside(nn.Module):
    """Puts what a fixed random function says beside the features: [B, size] becomes [B, size + outputs].

    The function's weights are drawn with the others and never change.
    """

    def __init__(self, trunk: Encoder, prior: nn.Module):
        super().__init__()
        self.trunk, self.prior = trunk, prior.requires_grad_(False)

    def forward(self, obs: Any) -> Tensor:
        """Return features and the random function's outputs [B, size + outputs] for observations [B, ...]."""
        return torch.cat((self.trunk(obs), self.prior(obs)), -1)

    def in_numpy(self, chain: Any) -> Any:
        """Return the same as a function of arrays; None if a layer has no such form."""
        trunk, prior = chain(list(self.trunk.layers)), chain([self.prior])
        if trunk is None or prior is None:
            return None
        # A layer may change its input in place, so each part gets its own.
        return lambda x: np.concatenate((trunk(_copied(x)), prior(_copied(x))), -1)


class Prior(nn.Module):
    """A random function: an encoder and a head of its own, whose outputs [H, B, A] are laid side by side."""

    def __init__(self, encoder: Encoder, head: nn.Module, scale: float):
        super().__init__()
        self.encoder, self.head, self.scale = encoder, head, scale

    def extra_repr(self) -> str:
        """Return the scale as text."""
        return f"scale={self.scale}"

    def forward(self, obs: Any) -> Tensor:
        """Return the scaled outputs [B, H * A]."""
        return self.scale * self.head(self.encoder(obs)).movedim(0, 1).flatten(1)

    def in_numpy(self, chain: Any) -> Any:
        """Return the same as a function of arrays; None if a layer has no such form."""
        head: Any = self.head
        encoder, outputs = chain(list(self.encoder.layers)), head.in_numpy(chain)
        if encoder is None or outputs is None:
            return None
        return lambda x: self.scale * outputs(encoder(x)).swapaxes(0, 1).reshape(len(x), -1)


class WithPrior(nn.Module):
    """A body of H heads whose outputs are added to those of a random function that came with the features."""

    def __init__(self, body: nn.Module, heads: int, num_actions: int):
        super().__init__()
        self.body, self._shape = body, (heads, num_actions)

    def forward(self, features: Tensor) -> Tensor:
        """Return outputs [H, B, A, 1] for features and the random function's outputs, [B, size + H * A]."""
        extra = self._shape[0] * self._shape[1]
        said = features[..., -extra:].unflatten(-1, self._shape)
        return self.body(features[..., :-extra]) + said.movedim(said.ndim - 2, 0).unsqueeze(-1)

    def in_numpy(self, chain: Any) -> Any:
        """Return the same as a function of arrays; None if a layer has no such form."""
        inner: Any = self.body
        if (body := inner.in_numpy(chain)) is None:
            return None
        extra = self._shape[0] * self._shape[1]

        def outputs(x: Array) -> Array:
            said = x[:, -extra:].reshape(len(x), *self._shape).swapaxes(0, 1)
            return body(x[:, :-extra]) + said[..., None]

        return outputs


def _copied(x: Any) -> Any:
    return map_leaves(np.copy, x)


def of_heads(outputs: Array, head: Array) -> Array:
    """Return each environment's row [N, A] by its head int [N] from outputs [N, H, A]."""
    return outputs[range(len(head)), head]

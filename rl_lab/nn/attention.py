"""Memory by attention: a small gated transformer over the last steps of the episode.

Parisotto et al. (2020), "Stabilizing Transformers for Reinforcement Learning" (GTrXL),
https://arxiv.org/abs/1910.06764. The memory of past inputs is that of Dai et al. (2019), "Transformer-XL",
https://arxiv.org/abs/1901.02860. Deviations: a learned bias for each head and distance (Raffel et al., 2020,
https://arxiv.org/abs/1910.10683) replaces their relative encoding, and gradients flow into all steps of an
unrolled window.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rl_lab.nn.layers import Linear
from rl_lab.nn.recurrent import Carry, Core
from rl_lab.types import UsageError

GATE_BIAS = 2.0  # so that a block starts close to the identity
WIDENING = 2  # how much wider the position-wise layer is
HEADS = (4, 2, 1)  # numbers of heads to try: the first one that divides the width is used


class Attention(Core):
    """Attends to the last `context` steps of the episode, the current one included.

    The carry holds, for each block, its inputs at the previous steps, [B, context - 1, size], oldest first,
    and at the end which of these steps exist, float [B, context - 1]. Since each block's inputs are kept
    rather than recomputed, a step attends to the same steps whether the agent acts or the network unrolls.

    Raises:
        UsageError: `context` is below 2.
    """

    def __init__(self, features: int, size: int, layers: int = 1, context: int = 16):
        super().__init__()
        if context < 2:
            raise UsageError(f"context must be at least 2 steps for attention, got {context}")
        self.size, self.context = size, context
        self.project = Linear(features, size)
        self.blocks = nn.ModuleList(Block(size, context) for _ in range(layers))
        self.ages: Tensor  # int64 [1, context]: how many steps old the keys of a single step are
        self.register_buffer("ages", torch.arange(context).flip(0)[None], persistent=False)

    def initial_state(self, batch: int) -> Carry:
        """Return zeros: there are no previous steps."""
        zeros = self.project.weight.new_zeros
        past = self.context - 1
        return *(zeros(batch, past, self.size) for _ in self.blocks), zeros(batch, past)

    def unroll(self, x: Tensor, state: Carry) -> tuple[Tensor, Carry]:
        """Return outputs [T, B, size] and the next carry of features [T, B, F]."""
        *memories, present = state
        present = torch.cat((present, present.new_ones(x.shape[1], len(x))), dim=1)  # [B, past + T]
        absent = (present == 0)[:, None, None, :]
        if len(x) == 1:  # all keys are within the context
            back, masked = self.ages, absent
        else:
            back = distances(len(x), self.context, x.device)
            near = (back >= 0) & (back < self.context)  # [T, past + T]
            masked, back = ~near | absent, back.clamp(0, self.context - 1)  # [B, 1, T, past + T]
        y, after = self.project(x).transpose(0, 1), []  # [B, T, size]
        for block, memory in zip(self.blocks, memories, strict=True):
            inputs = torch.cat((memory, y), dim=1)  # [B, past + T, size]
            after.append(inputs[:, len(x) :])
            y = block(inputs, y, back, masked)
        return y.transpose(0, 1), (*after, present[:, len(x) :])

    def weights(self, x: Tensor, state: Carry) -> Tensor:
        """Return how much a single step attends to each step of its context, [B, context], oldest first.

        The last is the current step. The weights are the mean over heads and blocks, so that they sum to 1, and are 0
        for steps before the episode began.

        Args:
            x: the step's features [B, F].
        """
        *memories, present = state
        absent = (torch.cat((present, present.new_ones(len(x), 1)), dim=1) == 0)[:, None, None, :]
        y, found = self.project(x)[:, None], []
        for block, memory in zip(self.blocks, memories, strict=True):
            assert isinstance(block, Block)
            inputs = torch.cat((memory, y), dim=1)
            found.append(block.weights(inputs, y, self.ages, absent).mean(dim=1)[:, 0])
            y = block(inputs, y, self.ages, absent)
        return torch.stack(found).mean(dim=0)


def distances(steps: int, context: int, device: torch.device) -> Tensor:
    """Return how many steps older each of past + T keys is than each of T queries, int64 [T, past + T].

    T is `steps` and past is `context` - 1.
    """
    keys = torch.arange(context - 1 + steps, device=device)
    return keys[context - 1 :, None] - keys


class Block(nn.Module):
    """Attention followed by a position-wise layer; both read normalised inputs and are added through a gate."""

    def __init__(self, size: int, context: int):
        super().__init__()
        self.heads = next(heads for heads in HEADS if size % heads == 0)
        self.norm, self.norm_wide = nn.LayerNorm(size), nn.LayerNorm(size)
        self.query, self.key_value = Linear(size, size, bias=False), Linear(size, 2 * size, bias=False)
        self.out = Linear(size, size)
        self.wide = nn.Sequential(
            Linear(size, WIDENING * size), nn.ReLU(), Linear(WIDENING * size, size), nn.ReLU()
        )
        self.gate, self.gate_wide = Gate(size), Gate(size)
        self.nearness = nn.Parameter(torch.zeros(self.heads, context))  # a bias for each distance

    def forward(self, inputs: Tensor, x: Tensor, back: Tensor, masked: Tensor) -> Tensor:
        """Return the block's outputs [B, T, size].

        Args:
            inputs: what is attended to, [B, past + T, size].
            x: the last T of the inputs, [B, T, size].
            back: how many steps older each key is than each query, which selects its bias, int64 [T, past + T].
            masked: pairs that don't see each other, bool [B, 1, T, past + T].
        """
        x = self.gate(x, torch.relu(self._attend(inputs, x, back, masked)))
        return self.gate_wide(x, self.wide(self.norm_wide(x)))

    def weights(self, inputs: Tensor, x: Tensor, back: Tensor, masked: Tensor) -> Tensor:
        """Return by how much each query weighs each key, [B, heads, T, past + T], for the inputs of `forward`."""
        return self._weigh(inputs, x, back, masked)[0]

    def _attend(self, inputs: Tensor, x: Tensor, back: Tensor, masked: Tensor) -> Tensor:
        weight, value = self._weigh(inputs, x, back, masked)
        return self.out((weight @ value).transpose(1, 2).flatten(2))

    def _weigh(self, inputs: Tensor, x: Tensor, back: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights [B, heads, T, past + T] and the values [B, heads, past + T, size / heads]."""
        inputs = self.norm(inputs)
        query = self._split(self.query(inputs[:, -x.shape[1] :]))  # [B, heads, T, size / heads]
        key, value = map(self._split, self.key_value(inputs).chunk(2, dim=-1))
        score = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5 + self.nearness[:, back]
        return score.masked_fill(masked, float("-inf")).softmax(-1), value  # exactly 0 for masked pairs

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Gate(nn.Module):
    """The GRU-type gate of the paper's section 3.2: (1 - z) x + z h, where h = tanh(W y + U (r x))."""

    def __init__(self, size: int):
        super().__init__()
        self.of_y, self.of_x = Linear(size, 3 * size, bias=False), Linear(size, 2 * size, bias=False)
        self.of_reset = Linear(size, size, bias=False)
        self.bias = nn.Parameter(torch.full((size,), GATE_BIAS))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x [..., size] after adding y [..., size] through the gate."""
        y_r, y_z, y_h = self.of_y(y).chunk(3, dim=-1)
        x_r, x_z = self.of_x(x).chunk(2, dim=-1)
        update = torch.sigmoid(y_z + x_z - self.bias)
        candidate = torch.tanh(y_h + self.of_reset(torch.sigmoid(y_r + x_r) * x))
        return (1 - update) * x + update * candidate

"""The lab's networks written by hand in plain torch, with their parameters in the same order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as f

ACTIONS, HIDDEN, SIZE, CONTEXT, HEADS = 4, 64, 64, 16, 4


def dense(features: int, hidden: int = HIDDEN) -> list[nn.Module]:
    """Return two dense layers with their activations."""
    return [nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]


def mlp(features: int, hidden: int = HIDDEN) -> nn.Module:
    """Return a Q-network of vectors."""
    return nn.Sequential(*dense(features, hidden), nn.Linear(hidden, ACTIONS))


class Pixels(nn.Module):
    """Turns uint8 [B, H, W, C] into float32 [B, C, H, W]; permuting gives channels_last without a copy."""

    def forward(self, obs: Tensor) -> Tensor:
        """Return the images [B, C, H, W] in [0, 1]."""
        return obs.permute(0, 3, 1, 2).float() / 255.0


def image_network(convolutions: list[nn.Module], features: int, hidden: int) -> nn.Module:
    """Return a Q-network of images, with weights in channels_last like its images."""
    network = nn.Sequential(
        Pixels(),
        *convolutions,
        nn.Flatten(),
        nn.Linear(features, hidden),
        nn.ReLU(),
        nn.Linear(hidden, ACTIONS),
    )
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def nature() -> nn.Module:
    """Return the network of Mnih et al. (2015), for 84x84x4."""
    layers = [
        nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU()
    ]  # fmt: skip
    return image_network(layers, 64 * 7 * 7, 512)


def small() -> nn.Module:
    """Return the network of the lab's small encoder, for 10x10x4."""
    layers = [nn.Conv2d(4, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU()]
    return image_network(layers, 64 * 3 * 3, 128)


class Residual(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the residual, [B, C, H, W]."""
        return x + self.second(f.relu(self.first(f.relu(x))))


def impala() -> nn.Module:
    """Return the network of Espeholt et al. (2018), for 84x84x4."""
    layers: list[nn.Module] = []
    for before, after in ((4, 16), (16, 32), (32, 32)):
        layers += [
            nn.Conv2d(before, after, 3, padding=1),
            nn.MaxPool2d(3, 2, 1),
            Residual(after),
            Residual(after),
        ]
    return image_network([*layers, nn.ReLU()], 32 * 11 * 11, 256)


class OneHot(nn.Module):
    """A Q-network of indices, as one-hot vectors."""

    def __init__(self, n: int):
        super().__init__()
        self.n, self.layers = n, mlp(n)

    def forward(self, index: Tensor) -> Tensor:
        """Return q [B, A] of indices [B]."""
        return self.layers(f.one_hot(index, self.n).float())


def embedding(n: int, width: int) -> nn.Module:
    """Return a Q-network of indices, as learned vectors."""
    return nn.Sequential(nn.Embedding(n, width), mlp(width))


class Recurrent(nn.Module):
    """A Q-network with one of torch's recurrent layers and its own form of carry; it supports no resets."""

    def __init__(self, cell: type[nn.RNNBase], features: int):
        super().__init__()
        self.encoder = nn.Sequential(*dense(features))
        self.cell = cell(HIDDEN, SIZE)  # type: ignore[arg-type, call-arg]
        self.head = nn.Linear(SIZE, ACTIONS)

    def carry(self, state: tuple[Tensor, ...]) -> Any:
        """Return the lab's carry, parts [B, size], in the form that torch's layer takes, [1, B, size]."""
        parts = tuple(part[None] for part in state)
        return parts if len(parts) > 1 else parts[0]

    def forward(self, obs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return q [T, B, A] and the next carry."""
        y, state = self.cell(self.encoder(obs), state)
        return self.head(y), state


class Gate(nn.Module):
    """The GRU-type gate of Parisotto et al. (2020), "Stabilizing Transformers for Reinforcement Learning"."""

    def __init__(self, size: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size))
        self.of_y, self.of_x = nn.Linear(size, 3 * size, bias=False), nn.Linear(size, 2 * size, bias=False)
        self.of_reset = nn.Linear(size, size, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x with a learned share of y let in, [..., size]."""
        y_r, y_z, y_h = self.of_y(y).chunk(3, dim=-1)
        x_r, x_z = self.of_x(x).chunk(2, dim=-1)
        update = torch.sigmoid(y_z + x_z - self.bias)
        return torch.lerp(x, torch.tanh(y_h + self.of_reset(torch.sigmoid(y_r + x_r) * x)), update)


class Block(nn.Module):
    """Attention by torch's fused function, then a position-wise layer."""

    def __init__(self) -> None:
        super().__init__()
        self.nearness = nn.Parameter(torch.zeros(HEADS, CONTEXT))
        self.norm, self.norm_wide = nn.LayerNorm(SIZE), nn.LayerNorm(SIZE)
        self.query, self.key_value = nn.Linear(SIZE, SIZE, bias=False), nn.Linear(SIZE, 2 * SIZE, bias=False)
        self.out = nn.Linear(SIZE, SIZE)
        self.wide = nn.Sequential(nn.Linear(SIZE, 2 * SIZE), nn.ReLU(), nn.Linear(2 * SIZE, SIZE), nn.ReLU())
        self.gate, self.gate_wide = Gate(SIZE), Gate(SIZE)

    def forward(self, inputs: Tensor, x: Tensor, present: Tensor) -> Tensor:
        """Return outputs [B, T, size] for x [B, T, size], the last steps of the inputs [B, past + T, size].

        `present` [B, past + T] is 1 where there is an input.
        """
        x = self.gate(x, torch.relu(self.attend(inputs, x.shape[1], present)))
        return self.gate_wide(x, self.wide(self.norm_wide(x)))

    def attend(self, inputs: Tensor, steps: int, present: Tensor) -> Tensor:
        """Return the attention of the last `steps` over the inputs, [B, T, size]; `present` is [B, keys]."""
        normal = self.norm(inputs)
        query = self.query(normal[:, -steps:]).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        key, value = self.key_value(normal).unflatten(-1, (2, HEADS, -1)).permute(2, 0, 3, 1, 4)
        keys = torch.arange(inputs.shape[1])
        back = keys[CONTEXT - 1 :, None] - keys
        seen = (back >= 0) & (back < CONTEXT) & (present > 0)[:, None, None]  # [B, 1, T, keys]
        bias = self.nearness[:, back.clamp(0, CONTEXT - 1)].masked_fill(~seen, float("-inf"))
        found = f.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.out(found.transpose(1, 2).flatten(2))


class Attention(nn.Module):
    """A Q-network with one block of attention; it supports no resets."""

    def __init__(self, features: int):
        super().__init__()
        self.encoder = nn.Sequential(*dense(features))
        self.project, self.block = nn.Linear(HIDDEN, SIZE), Block()
        self.head = nn.Linear(SIZE, ACTIONS)

    def carry(self, state: tuple[Tensor, ...]) -> Any:
        """Return the lab's carry as it is: past inputs [B, CONTEXT - 1, size], and which exist [B, CONTEXT - 1]."""
        return state

    def forward(self, obs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return q [T, B, A] and the next carry."""
        memory, present = state
        x = self.project(self.encoder(obs)).transpose(0, 1)
        inputs = torch.cat((memory, x), dim=1)
        present = torch.cat((present, present.new_ones(len(present), len(obs))), dim=1)
        y = self.block(inputs, x, present)
        past = CONTEXT - 1
        return self.head(y.transpose(0, 1)), (inputs[:, -past:], present[:, -past:])

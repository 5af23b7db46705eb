"""Which network: the fields that every agent with a network has, and their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class NetworkFields:
    """Encoder, then memory, and what happens to observations on their way in."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "network": (
            "encoder", "channels", "image_scale", "hidden", "activation", "layer_norm", "image_layer_norm", "dropout",
            "pooling", "embedding_size", "one_hot_most", "initialisation", "memory", "memory_size", "memory_layers",
            "context", "normalise_observations", "random_shift",
        ),
    }  # fmt: skip
    COMMON: ClassVar[tuple[str, ...]] = ("hidden", "memory")

    encoder: Literal["auto", "mlp", "cnn", "small", "minatar", "impala", "onehot", "embedding"] = "auto"
    """Network before the memory: auto goes by the observations."""
    channels: Literal["auto", "first", "last", "smaller"] = "auto"
    """Axis of an image that holds its channels; auto: the smaller one, if the shape leaves no doubt. smaller: the
    smaller one in any case, the first if they are equal; stacks of images are none then (formats 1 and 2)."""
    image_scale: Literal["bound", "byte"] = "bound"
    """What the bytes of an image are divided by: the upper bound of their space, or 255 (formats 1 and 2)."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the encoder's dense layers."""
    activation: Literal["relu", "tanh", "elu", "gelu"] = "relu"
    """What follows each dense layer."""
    layer_norm: bool = False
    """Normalise the outputs of the dense layers before each activation."""
    image_layer_norm: bool = False
    """Normalise the outputs of each convolution over its channels before its activation (impala: of the first in each
    block)."""
    dropout: float = 0.0
    """Probability with which a dense layer's output is dropped in the loss; acting and target networks drop none."""
    pooling: Literal["none", "max", "average"] = "none"
    """How the small convolutions halve an image; none: by their stride."""
    embedding_size: int | None = None
    """Width of the vector learned for each value of discrete observations; None: one-hot up to one_hot_most values,
    beyond that and for embedding 16."""
    one_hot_most: int = 20_000
    """Values of discrete observations up to which auto takes one-hot vectors."""
    initialisation: Literal["default", "orthogonal", "kaiming"] = "default"
    """Weights at the start; default is torch's."""
    memory: Literal["none", "rnn", "gru", "lstm", "attention"] = "none"
    """What is carried from step to step."""
    memory_size: int = 64
    """Width of the carry."""
    memory_layers: int = 1
    """Cells, or blocks of attention, on top of each other."""
    context: int = 16
    """Steps that attention sees, the present one included."""

    normalise_observations: bool = False
    """Subtract the running mean of the observations and divide by their deviation; images pass as they are."""
    random_shift: int = 0
    """Most pixels by which images are shifted at random when learned from; 0: not at all."""

    def idle_fields(self) -> dict[str, str]:
        """Return the fields that do nothing beside the others, and what each would need."""
        of_memory = dict.fromkeys(("memory_size", "memory_layers") * (self.memory == "none"), "a memory")
        return of_memory | dict.fromkeys(("context",) * (self.memory != "attention"), "memory attention")

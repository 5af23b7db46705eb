"""Which networks can be built: checks of their fields, and of what they are to observe."""

from __future__ import annotations

from gymnasium import spaces

from rl_lab.checks import at_least, flags, one_of, show_space, widths, within
from rl_lab.environments.actions import leaf_spaces
from rl_lab.nn.cores import CORES
from rl_lab.nn.encoders import ACTIVATIONS, CONVOLUTIONAL, ENCODERS, has_image, refuse_encoder
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.images import CHANNELS, IMAGE_SCALES, POOLINGS, is_image, layout_of
from rl_lab.nn.initialise import INITIALISATIONS
from rl_lab.nn.normalise import ObservationNormaliser


def check_network(config: NetworkFields) -> None:
    """Refuse a field of the network.

    Raises:
        UsageError: naming field, value and what is allowed.
    """
    at_least(config, 1, "memory_size", "memory_layers", "embedding_size", "one_hot_most")
    at_least(config, 2, "context")
    within(config, 0.0, 0.99, "dropout")
    widths(config, "hidden")
    flags(config, "layer_norm", "image_layer_norm", "normalise_observations")
    one_of(config, "encoder", ENCODERS)
    one_of(config, "channels", CHANNELS)
    one_of(config, "image_scale", IMAGE_SCALES)
    one_of(config, "activation", tuple(ACTIVATIONS))
    one_of(config, "pooling", tuple(POOLINGS))
    one_of(config, "initialisation", tuple(INITIALISATIONS))
    one_of(config, "memory", CORES)
    at_least(config, 0, "random_shift")


def refuse_network(config: NetworkFields, space: spaces.Space) -> str | None:
    """Return in one line why no such network can be built for observations of this space; None if it can."""
    if (reason := refuse_encoder(config, space)) is not None:
        return reason
    if config.normalise_observations and not _normaliser(config, space).has_moments:
        return f"normalise_observations finds nothing to normalise in {show_space(space)} (allowed: false)"
    images = has_image(space, config.channels)
    if config.channels in ("first", "last") and config.encoder not in CONVOLUTIONAL and not images:
        return f"channels {config.channels!r} finds no image in {show_space(space)} (allowed: auto)"
    if config.random_shift and not images:
        return f"random_shift {config.random_shift} finds no image in {show_space(space)} (allowed: 0)"
    if config.random_shift and (image := _untold_image(space, config.channels)) is not None:
        options = "--channels first, --channels last"
        return f"random_shift can't tell the channels of {show_space(image)} (allowed: {options})"
    return None


def _normaliser(config: NetworkFields, space: spaces.Space) -> ObservationNormaliser:
    return ObservationNormaliser(space, channels=config.channels)


def _untold_image(space: spaces.Space, channels: str) -> spaces.Space | None:
    """Return an image whose channels may be first or last, or None if there is none."""
    parts = (part for part in leaf_spaces(space) if isinstance(part, spaces.Box) and is_image(part, channels))
    return next((part for part in parts if layout_of(part, channels) is None), None)

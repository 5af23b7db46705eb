"""Which pixels a decision depends on, by gradients or by perturbation.

Gradient: integrated gradients, Sundararajan et al. (2017), "Axiomatic Attribution for Deep Networks",
https://arxiv.org/abs/1703.01365, from the blurred image to the image: what each number contributes to the difference
that its detail makes to the chosen action's output, in absolute values, summed over channels. The blurred baseline is
one of those that Sturmfels et al. (2020), "Visualizing the Impact of Feature Attribution Baselines",
https://distill.pub/2020/attribution-baselines, compare. The plain derivative says where a change would matter, which
is wherever an agent could be, instead of what is there.

Perturbation: Greydanus et al. (2018), "Visualizing and Understanding Atari Agents",
https://arxiv.org/abs/1711.00138: half the squared change of the policy's outputs where the surroundings of a pixel are
blurred. Deviations: their widths, meant for 80x80 images, follow the image's shorter side, and action values take the
place of logits where a policy has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter

from rl_lab.agent import Policy
from rl_lab.environments.actions import Composite, parts_of
from rl_lab.trees import map_leaves
from rl_lab.types import Array, Obs, State, UsageError

METHODS = ("gradient", "perturbation")
FIGURES = ("q_values", "logits", "mean", "value")  # the first that `inspect` gives is perturbed
SIDE = 80.0  # of the paper's images, in pixels, to which the widths below belong
MASK_WIDTH, BLUR_WIDTH, STRIDE = 5.0, 3.0, 5.0
STEPS = 16  # points on the way from the blurred image, at whose middles gradients are taken
BATCH = 64  # perturbed observations per call of the policy
COLOUR = (255.0, 0.0, 190.0)  # of the overlay; rare in pictures of environments


def saliency(
    policy: Policy,
    obs: Obs,
    state: State,
    is_first: Array,
    mask: Array | None = None,
    *,
    space: spaces.Space,
    method: str = "perturbation",
) -> Array:
    """Return how much a decision depends on each pixel of the observed image, float64 [H, W] that sum to 1.

    Several images are shown as one of the largest's size. All zeros if nothing depends on any pixel.

    Args:
        obs: one observation, [1, ...].
        state: the carry before it.
        is_first: bool [1].
        mask: legal actions, bool [1, M].
        space: of the observations.
        method: one of METHODS; "gradient" needs a network of the lab.

    Raises:
        UsageError: an unknown method, no image among the observations, or a policy that doesn't tell what is needed.
    """
    network, images = require_saliency(policy, space, method)
    if method == "perturbation":
        found = [_perturbed(policy, obs, state, is_first, mask, path, axes) for path, axes in images]
    else:
        found = _gradients(network, obs, state, is_first, mask, images)
    joined = _joined(found)
    total = joined.sum()
    return joined / total if total > 0 else joined


def require_saliency(policy: Policy, space: spaces.Space, method: str) -> tuple[Any, list[Found]]:
    """Return the policy's network (None without one) and the images that it observes.

    Raises:
        UsageError: an unknown method, no image among the observations, or gradients without a network.
    """
    if method not in METHODS:
        raise UsageError(f"saliency {method!r} is unknown (allowed: {', '.join(METHODS)})")
    network = getattr(policy, "network", None)
    if network is None and method == "gradient":
        raise UsageError(
            "saliency 'gradient' needs a policy with a network of the lab (allowed: perturbation)"
        )
    return network, _images(network, space)


def saliency_overlay(
    policy: Policy,
    obs: Obs,
    state: State,
    is_first: Array,
    frame: Array,
    *,
    space: spaces.Space,
    method: str = "perturbation",
    mask: Array | None = None,
    strength: float = 0.75,
) -> Array:
    """Return a rendered frame with the saliency of the decision about it laid over, uint8 [H, W, 3].

    The arguments are those of `saliency` and `overlay`, and so is what is raised.
    """
    found = saliency(policy, obs, state, is_first, mask, space=space, method=method)
    return overlay(frame, found, strength)


def overlay(frame: Array, weights: Array, strength: float = 0.75) -> Array:
    """Blend weights [h, w], stretched over the whole frame, into a frame uint8 [H, W, 3]; return a new one.

    Args:
        strength: how far the pixel with the largest weight is coloured, 0 to 1.
    """
    largest = weights.max()
    if not largest > 0:
        return frame.copy()
    heat = np.clip(_resized(weights / largest, frame.shape[:2]), 0.0, 1.0)[..., None] * strength
    return np.rint(frame * (1.0 - heat) + np.array(COLOUR) * heat).astype(np.uint8)


# Images among observations ---------------------------------------------------------------------------

Axes = tuple[int, int]  # of height and width in one observation
Found = tuple[tuple[Any, ...], Axes]  # the path to an image, and its axes


def _images(network: Any, space: spaces.Space) -> list[Found]:
    """Return the images that the network reads; without a network, or one that reads none as such, by the space.

    Raises:
        UsageError: there are none.
    """
    from rl_lab.nn.images import has_channels_last, is_image

    if network is not None:
        from rl_lab.nn.input_gradients import image_inputs

        if read := image_inputs(network):
            return [(path, _axes(layout.axes, layout.channels_last)) for path, layout, _ in read]
    found: list[Found] = [
        (path, _axes(len(part.shape), len(part.shape) > 2 and has_channels_last(part)))
        for path, part in _leaves(space)
        if isinstance(part, spaces.Box) and is_image(part)
    ]
    if not found:
        raise UsageError(
            "saliency needs an image among the observations, and there is none (the live page and attribution, in"
            " Python, explain numbers)"
        )
    return found


def _leaves(
    space: spaces.Space, path: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], spaces.Space]]:
    if not isinstance(space, Composite):
        yield path, space
        return
    for key, part in parts_of(space):
        yield from _leaves(part, (*path, key))


def _axes(count: int, channels_last: bool) -> Axes:
    return (count - 3, count - 2) if channels_last and count > 2 else (count - 2, count - 1)


def _at(obs: Obs, path: tuple[Any, ...]) -> Array:
    for key in path:
        obs = obs[key]
    return obs


def _with(obs: Obs, path: tuple[Any, ...], leaf: Array) -> Obs:
    """Return observations with another part at a path."""
    if not path:
        return leaf
    if isinstance(obs, dict):
        return {**obs, path[0]: _with(obs[path[0]], path[1:], leaf)}
    return tuple(_with(part, path[1:], leaf) if key == path[0] else part for key, part in enumerate(obs))


# Gradients -------------------------------------------------------------------------------------------


def _gradients(
    network: Any, obs: Obs, state: State, is_first: Array, mask: Array | None, images: Sequence[Found]
) -> list[Array]:
    """Return for each image the absolute contributions [H, W] of its pixels, summed over channels and outputs."""
    from rl_lab.nn.input_gradients import explained_outputs

    outputs = explained_outputs(network, obs, state, is_first, mask)
    found = []
    for (_, axes), parts in zip(
        images, contributions(network, obs, state, is_first, outputs, images), strict=True
    ):
        others = (0, *(axis + 1 for axis in range(parts.ndim - 1) if axis not in axes))
        found.append(np.abs(parts).sum(axis=others))
    return found


def contributions(
    network: Any, obs: Obs, state: State, is_first: Array, outputs: Sequence[int], images: Sequence[Found]
) -> list[Array]:
    """Return what the numbers of each image contribute to outputs, [outputs, ...] each.

    They add up to the differences between the outputs for the images and those for the blurred images.
    """
    from rl_lab.nn.input_gradients import input_gradients

    share = (np.arange(STEPS) + 0.5) / STEPS
    way, detail = _repeated(obs, STEPS), []
    for path, axes in images:
        image = np.asarray(_at(obs, path)[0], np.float64)
        coarse = _blurred(image, axes)
        detail.append(image - coarse)
        way = _with(way, path, coarse + share.reshape(-1, *[1] * image.ndim) * detail[-1])
    carried = _repeated(state, STEPS), np.repeat(is_first, STEPS)
    gradients = input_gradients(network, way, *carried, outputs)
    return [
        np.stack([_at(gradient, path).mean(axis=0) * change for gradient in gradients])
        for (path, _), change in zip(images, detail, strict=True)
    ]


# Perturbation ----------------------------------------------------------------------------------------


def _perturbed(
    policy: Policy,
    obs: Obs,
    state: State,
    is_first: Array,
    mask: Array | None,
    path: tuple[Any, ...],
    axes: Axes,
) -> Array:
    """Return half the squared change of the policy's figures where an image is blurred, [H, W]."""
    image = np.asarray(_at(obs, path)[0], np.float64)
    height, width = (image.shape[axis] for axis in axes)
    side = min(height, width)
    stride = max(1, round(STRIDE * side / SIDE))
    rows, columns = centres(height, stride), centres(width, stride)
    blurred = _blurred(image, axes)
    spread = max(1.0, MASK_WIDTH * side / SIDE)
    places = [(row, column) for row in rows for column in columns]
    shape = [size if axis in axes else 1 for axis, size in enumerate(image.shape)]
    before = _figures(policy, obs, state, is_first, mask)[0]
    change = []
    for start in range(0, len(places), BATCH):
        batch = places[start : start + BATCH]
        masks = [hump(height, width, place, spread).reshape(shape) for place in batch]
        shown = np.stack([image * (1.0 - m) + blurred * m for m in masks])
        if (
            getattr(policy, "network", None) is None
        ):  # a foreign policy takes what the space says, and nothing else
            shown = np.rint(shown).astype(_at(obs, path).dtype)
        rest = [_repeated(tree, len(batch)) for tree in (obs, state, is_first, mask)]
        seen = _figures(policy, _with(rest[0], path, shown), *rest[1:])
        change.append(0.5 * np.square(seen - before).sum(axis=1))
    grid = np.concatenate(change).reshape(len(rows), len(columns))
    return np.maximum(_resized(grid, (height, width)), 0.0)


def _blurred(image: Array, axes: Axes) -> Array:
    """Return an image without its details, float64 of the same shape."""
    width = BLUR_WIDTH * max(1.0, min(image.shape[axis] for axis in axes) / SIDE)
    widths = [width if axis in axes else 0.0 for axis in range(image.ndim)]
    return gaussian_filter(image, widths, mode="nearest")


def centres(size: int, stride: int) -> list[int]:
    """Return places 0..size-1 that are `stride` apart, the margins at both ends being as equal as possible."""
    return list(range((size - 1) % stride // 2, size, stride))


def hump(height: int, width: int, place: tuple[int, int], spread: float) -> Array:
    """Return a bell [H, W] with the value 1 at `place`, whose standard deviation is `spread` pixels."""
    row, column = np.arange(height)[:, None] - place[0], np.arange(width)[None] - place[1]
    return np.exp(-(row**2 + column**2) / (2.0 * spread**2))


def _repeated(tree: Any, count: int) -> Any:
    return map_leaves(lambda leaf: np.repeat(leaf, count, axis=0), tree)


def _figures(policy: Policy, obs: Obs, state: State, is_first: Array, mask: Array | None) -> Array:
    """Return the policy's figures, float64 [N, M], 0 for illegal actions.

    Raises:
        UsageError: it has none of FIGURES.
    """
    shown = policy.inspect(obs, state, is_first, mask)
    name = next((name for name in FIGURES if name in shown), None)
    if name is None:
        raise UsageError(f"saliency needs a policy whose inspect() gives one of {', '.join(FIGURES)}")
    figures = np.asarray(shown[name], np.float64).reshape(len(is_first), -1)
    return np.where(np.isfinite(figures), figures, 0.0)


# Sizes -----------------------------------------------------------------------------------------------


def _resized(weights: Array, shape: tuple[int, ...]) -> Array:
    """Return weights [h, w] stretched to `shape`, interpolated linearly."""
    if weights.shape == tuple(shape):
        return weights
    picture = Picture.fromarray(weights.astype(np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Picture.Resampling.BILINEAR), np.float64)


def _joined(maps: Sequence[Array]) -> Array:
    """Return the sum of maps [h, w], each stretched to the largest's size without changing its total."""
    largest = max(maps, key=np.size)
    joined = np.zeros(largest.shape)
    for weights in maps:
        stretched = _resized(weights, largest.shape)
        if (total := stretched.sum()) > 0:
            joined += stretched * (weights.sum() / total)
    return joined

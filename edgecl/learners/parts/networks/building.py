"""A network by its name."""

from __future__ import annotations

import math
from typing import Any

from edgecl.errors import ConfigError
from edgecl.learners.parts.nets import is_pictures
from edgecl.learners.parts.networks import FIXED, resnet, small, sphere, vgg
from edgecl.learners.parts.networks.base import Network, torch


def auto(shape: tuple[int, ...]) -> str:
    """The network for inputs of that shape where none is named."""
    if not is_pictures(shape):
        return "mlp"
    return "vgg16_bn" if min(shape[:2]) >= vgg.LEAST_SIDE else "cnn"


def build(name: str, multiplier: float, shape: tuple[int, ...], draw: Any) -> Network:
    """A fresh network for inputs of that shape, drawn from the torch.Generator `draw`.

    multiplier: of the number of weights.   Raises ConfigError where the network does not fit the inputs, or does not grow.
    """
    with torch.random.fork_rng(devices=[]):  # layers first draw weights globally; they are drawn again
        return _built(name, multiplier, shape, draw)


def _built(name: str, multiplier: float, shape: tuple[int, ...], draw: Any) -> Network:
    if name == "mlp":
        return small.mlp(multiplier, math.prod(shape), draw)
    if not is_pictures(shape):
        raise ConfigError(f"net must be mlp for inputs of shape {shape}, got {name}, which needs pictures (h, w, 3)")
    if name in FIXED:
        if multiplier != 1:
            raise ConfigError(f"{name} has one width; it was asked for {multiplier:g} times its weights")
        return resnet.resnet(name, draw)
    if name == "sphere20":
        return sphere.sphere20(multiplier, shape[0], draw)
    if name == "vgg16_bn" and min(shape[:2]) < vgg.LEAST_SIDE:
        raise ConfigError(f"vgg16_bn needs pictures of at least {vgg.LEAST_SIDE} pixels a side, got {shape[:2]}; set net=cnn")
    return vgg.vgg16_bn(multiplier, draw) if name == "vgg16_bn" else small.cnn(multiplier, draw)

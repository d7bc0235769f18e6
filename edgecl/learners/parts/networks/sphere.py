"""The 20-layer sphere CNN for faces, and its angular-softmax head.

Liu et al., SphereFace: deep hypersphere embedding for face recognition, CVPR 2017.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgecl.learners.parts.networks.base import Network, Tensor, draw_weights, network, nn, scaled, torch
from edgecl.types import Floats

_STAGES = ((64, 1), (128, 2), (256, 4), (512, 1))  # channels, residual units
_FEATURES = 512
_MARGIN = 4  # the angle to the own class counts so many times
_LAMBDA, _LEAST_LAMBDA, _LAMBDA_FALL = 1500.0, 5.0, 0.1  # how much of the plain logit stays beside it, step by step


class _Unit(nn.Module):
    """Two convolutions beside a way around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(*_conv(channels, channels, 1), *_conv(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def _conv(before: int, after: int, stride: int) -> list[Any]:
    return [nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.PReLU(after)]


def sphere20(multiplier: float, side: int, draw: Any) -> Network:
    """Pictures (n, 3, side, side), 112 in the paper's use by CPG, to int(512 * sqrt(multiplier)) features."""
    before = 3
    layers: list[Any] = []
    for channels, units in _STAGES:
        after = scaled(channels, multiplier)
        layers += [*_conv(before, after, 2), *(_Unit(after) for _ in range(units))]
        before, side = after, -(-side // 2)
    features = scaled(_FEATURES, multiplier)
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side * side, features))
    draw_weights(module, draw)
    return network(module, features)


def angular_head(features: int, classes: int, draw: Any) -> dict[str, Floats]:
    """A new angular head's arrays: weight (classes, features), rows of length 1; no bias."""
    weight = torch.empty(classes, features).normal_(generator=draw)
    return {"weight": np.asarray(nn.functional.normalize(weight).numpy())}


def angular_scores(features: Tensor, weight: Tensor) -> Tensor:
    """|x| cos(angle to each class), (n, k)."""
    return features @ nn.functional.normalize(weight).T


def angular_loss(features: Tensor, weight: Tensor, y: Tensor, step: int) -> Tensor:
    """Mean cross-entropy in which the own class's angle counts `_MARGIN` times, the more so the more steps were made."""
    scores, length = angular_scores(features, weight), features.norm(dim=1)
    cosine = (scores.gather(1, y[:, None])[:, 0] / length.clamp_min(1e-12)).clamp(-1, 1)
    turns = (torch.acos(cosine.detach()) * _MARGIN / math.pi).floor()
    multiple = 8 * cosine**4 - 8 * cosine**2 + 1  # cos(4 angle)
    hard = ((1 - 2 * (turns % 2)) * multiple - 2 * turns) * length
    weight_of_plain = max(_LEAST_LAMBDA, _LAMBDA / (1 + _LAMBDA_FALL * step))
    own = (weight_of_plain * cosine * length + hard) / (1 + weight_of_plain)
    return nn.functional.cross_entropy(scores.scatter(1, y[:, None], own[:, None]), y)

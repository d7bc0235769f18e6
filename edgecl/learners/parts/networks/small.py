"""Two networks for small work: a plain CNN with batch norm, and a network of linear layers for vectors."""

from __future__ import annotations

from typing import Any

from edgecl.learners.parts.networks.base import Network, draw_weights, network, nn, scaled, torch

_CHANNELS, _HIDDEN = (16, 32, 64), 128
_UNITS = 64


def cnn(multiplier: float, draw: Any) -> Network:
    """Pictures (n, 3, h, w) to int(128 * sqrt(multiplier)) features: three convolutions of stride 2, one linear layer."""
    before = 3
    layers: list[Any] = []
    for channels in _CHANNELS:
        after = scaled(channels, multiplier)
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        before = after
    hidden = scaled(_HIDDEN, multiplier)
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, hidden), nn.ReLU(inplace=True))
    draw_weights(module, draw)
    return network(module, hidden)


def mlp(multiplier: float, inputs: int, draw: Any) -> Network:
    """Vectors (n, d) to int(64 * sqrt(multiplier)) features by two hidden linear layers."""
    hidden = scaled(_UNITS, multiplier)
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, hidden), nn.ReLU(inplace=True)
    )
    draw_weights(module, draw)
    with torch.no_grad():  # layers without batch norm do not learn from weights as small as a VGG's
        for one in (module[1], module[3]):
            one.weight.mul_(100 * (2 / one.in_features) ** 0.5)
    return network(module, hidden)

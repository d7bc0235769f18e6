"""VGG16 with batch norm for small pictures, its width a multiplier of the number of weights.

Simonyan and Zisserman, Very deep convolutional networks, ICLR 2015, in the form that Hung et al., NeurIPS 2019, use for
pictures of 32 x 32: two hidden linear layers, no dropout, the head apart.
"""

from __future__ import annotations

from typing import Any

from edgecl.learners.parts.networks.base import Network, draw_weights, network, nn, scaled

_PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # channels; 0 halves the picture
_HIDDEN = 4096
LEAST_SIDE = 2 ** _PLAN.count(0)  # pixels


def vgg16_bn(multiplier: float, draw: Any) -> Network:
    """Pictures (n, 3, 32, 32) or larger to int(4096 * sqrt(multiplier)) features.

    multiplier: of the number of weights; channels and units are its square root times their number, rounded down. Larger
    pictures are averaged over what the last halving leaves.
    """
    layers: list[Any] = []
    before = 3
    for channels in _PLAN:
        if channels:
            after = scaled(channels, multiplier)
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
            before = after
        else:
            layers.append(nn.MaxPool2d(2))
    hidden = scaled(_HIDDEN, multiplier)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [nn.Linear(before, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, hidden), nn.ReLU(inplace=True)]
    module = nn.Sequential(*layers)
    draw_weights(module, draw)
    return network(module, hidden)

"""The base networks of the gradient baselines and their optimisers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecl.errors import ConfigError, MissingDependency
from edgecl.learners.parts import spaces
from edgecl.learners.parts.settings import one_of, real, whole
from edgecl.types import Ints

try:
    import torch as torch
    from torch import nn as nn
except ModuleNotFoundError as error:
    raise MissingDependency("learners with a network need PyTorch: pip install 'edgecl[learn]'") from error

Tensor = Any
_CONV = (32, 64, 128)  # channels of the three layers, each of stride 2


@dataclass(frozen=True)
class NetConfig:
    """The network and its optimiser. `auto` is conv for pictures and linear for vectors."""

    net: str = "auto"  # or linear, mlp (one tanh layer), conv (three layers of stride 2, global average)
    hidden: int = 100  # units of the mlp
    space: str = "plain"  # of vectors: or unit_sqrt, auto
    optimiser: str = "adam"  # or sgd
    lr: float = 1e-3  # per step
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        one_of("net", self.net, ("auto", "linear", "mlp", "conv"))
        whole("hidden", self.hidden, 1)
        spaces.check("space", self.space)
        one_of("optimiser", self.optimiser, ("adam", "sgd"))
        real("lr", self.lr, 0, above=True)
        real("weight_decay", self.weight_decay, 0)


def is_pictures(shape: tuple[int, ...]) -> bool:
    """Inputs (n, h, w, 3) uint8."""
    return len(shape) == 3 and shape[2] == 3


def kind(shape: tuple[int, ...], config: NetConfig) -> str:
    """What `auto` stands for. Raises ConfigError for a conv net on anything but pictures."""
    if config.net == "auto":
        return "conv" if is_pictures(shape) else "linear"
    if config.net == "conv" and not is_pictures(shape):
        raise ConfigError(f"net must be linear or mlp for inputs of shape {shape}, got conv, which needs pictures (h, w, 3)")
    return config.net


def build(shape: tuple[int, ...], k: int, config: NetConfig, draw: Any) -> Any:
    """A fresh network; its weights come from the torch.Generator `draw`, layer by layer, as PyTorch's own defaults would."""
    d, chosen, skip = int(np.prod(shape)), kind(shape, config), nn.utils.skip_init
    layers: list[Any] = []
    if chosen == "conv":
        before = shape[2]
        for channels in _CONV:
            layers += [skip(nn.Conv2d, before, channels, 3, stride=2, padding=1), nn.ReLU()]
            before = channels
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), skip(nn.Linear, before, k)]
    elif chosen == "mlp":
        layers += [skip(nn.Linear, d, config.hidden), nn.Tanh(), skip(nn.Linear, config.hidden, k)]
    else:
        layers += [skip(nn.Linear, d, k)]
    net = nn.Sequential(*layers)
    with torch.no_grad():
        for value in net.parameters():
            if value.dim() > 1:
                bound = value[0].numel() ** -0.5  # a bias takes that of the weight before it
            value.uniform_(-bound, bound, generator=draw)
    return net


def optimiser(net: Any, config: NetConfig) -> Any:
    """A fresh one for all weights of `net`."""
    settings = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimiser == "sgd":
        return torch.optim.SGD(net.parameters(), **settings)
    return torch.optim.Adam(net.parameters(), **settings, fused=True)  # half the time of a step on one sample


def nbytes(net: Any, stepper: Any) -> int:
    """Of the weights and of what the optimiser remembers between steps."""
    remembered = [v for state in stepper.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    return sum(v.numel() * v.element_size() for v in [*net.parameters(), *remembered])


def losses(scores: Tensor, y: Ints) -> Tensor:
    """Cross-entropy of each sample, (n,), of scores (n, k) and labels (n,)."""
    return nn.functional.cross_entropy(scores, torch.tensor(y), reduction="none")

"""A network without its head: its maskable weights, which tasks share, and all else, which each task has of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecl.errors import ConfigError, MissingDependency
from edgecl.types import Arrays, Floats

try:
    import torch as torch
    from torch import nn as nn
except ModuleNotFoundError as error:
    raise MissingDependency("learners with a network need PyTorch: pip install 'edgecl[learn]'") from error

Tensor = Any
_UNUSED = "num_batches_tracked"  # counted by batch norm, needed only without a momentum


@dataclass(frozen=True)
class Network:
    """module: inputs to features (n, features).   layers: names of its maskable weights, in order: all convolutions and hidden
    linear layers. All else, batch norm, biases, slopes, is private to a task."""

    module: Any
    layers: tuple[str, ...]
    features: int

    @property
    def weights(self) -> dict[str, Tensor]:
        """The maskable parameters themselves, by name."""
        found = dict(self.module.named_parameters())
        return {name: found[name] for name in self.layers}

    @property
    def private(self) -> dict[str, Tensor]:
        """Parameters and statistics that are not shared, themselves, by name."""
        found = self.module.state_dict(keep_vars=True)
        return {name: value for name, value in found.items() if name not in self.layers and not name.endswith(_UNUSED)}

    def load(self, values: Arrays) -> None:
        """Copy what is named into it. Raises ConfigError for a name or shape that it does not have."""
        own = self.module.state_dict(keep_vars=True)
        with torch.no_grad():
            for name, value in values.items():
                if name not in own or tuple(own[name].shape) != value.shape:
                    raise ConfigError(f"the network has no '{name}' of shape {value.shape}; it was built for another width")
                own[name].copy_(torch.from_numpy(np.ascontiguousarray(value)))


def network(module: Any, features: int) -> Network:
    """A module, with its maskable weights found."""
    kinds = (nn.Conv2d, nn.Linear)
    return Network(module, tuple(f"{name}.weight" for name, one in module.named_modules() if isinstance(one, kinds)), features)


def scaled(width: int, multiplier: float) -> int:
    """A layer's width in a network of `multiplier` times the weights, rounded down. Raises ConfigError where none is left."""
    found = int(width * math.sqrt(multiplier))
    if not found:
        raise ConfigError(f"at {multiplier:g} times its weights the network has layers without any; make width larger")
    return found


def numbers(values: Mapping[str, Tensor]) -> dict[str, Any]:
    """Copies, as NumPy arrays."""
    return {name: value.detach().cpu().numpy().copy() for name, value in values.items()}


def draw_weights(module: Any, draw: Any) -> None:
    """Convolutions Kaiming normal over their outputs, linear layers N(0, 0.01^2), biases 0; from the torch.Generator `draw`."""
    with torch.no_grad():
        for one in _initialised(module):
            if isinstance(one, nn.Conv2d):
                outputs = one.out_channels * one.kernel_size[0] * one.kernel_size[1]
                one.weight.normal_(0, (2 / outputs) ** 0.5, generator=draw)
            else:
                one.weight.normal_(0, 0.01, generator=draw)
            if one.bias is not None:
                one.bias.zero_()


def _initialised(module: Any) -> Iterator[Any]:
    return (one for one in module.modules() if isinstance(one, nn.Conv2d | nn.Linear))


def linear_head(features: int, classes: int, draw: Any) -> dict[str, Floats]:
    """A new head's arrays: weight (classes, features) N(0, 0.01^2), bias 0."""
    weight = torch.empty(classes, features).normal_(0, 0.01, generator=draw)
    return {"weight": weight.numpy(), "bias": np.zeros(classes, np.float32)}

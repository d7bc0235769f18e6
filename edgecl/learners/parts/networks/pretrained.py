"""A network's weights from a file that somebody else wrote: safetensors, or a state dict that torchvision saved.

No pickle is run: a .pth is read by PyTorch's loader for weights alone. What stands in the file is held against the network:
every name, every shape, finite numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from edgecl.errors import ConfigError
from edgecl.learners.parts.networks.base import Network, torch
from edgecl.text import printable, size
from edgecl.types import Floats

_LARGEST = 4 << 30  # bytes of a file
_HEADS = ("fc", "classifier.6", "classifier", "head")  # names of a last layer


def read_weights(path: Path) -> dict[str, Floats]:
    """All tensors of the file, float32. Raises ConfigError where it is missing, too large or no file of weights."""
    where = printable(path)
    try:
        if (count := path.stat().st_size) > _LARGEST:
            raise ConfigError(f"{where} has {size(count)}, at most {size(_LARGEST)} are read; it is no network's weights")
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}; name a file of weights") from None
    except ConfigError:
        raise
    except (SafetensorError, Exception) as error:  # the loader for weights alone refuses in many ways
        reason = printable(" ".join(str(error).split()), 100)
        raise ConfigError(f"{where} is neither safetensors nor a state dict of plain tensors: {reason}") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ConfigError(f"{where} holds no table of weights by name; save the network's state_dict()")
    arrays = {}
    for name, value in found.items():
        if not isinstance(value, np.ndarray | torch.Tensor):
            raise ConfigError(f"{where}: '{printable(name, 60)}' is no tensor; save the network's state_dict()")
        arrays[name] = np.asarray(value, np.float32)
    return arrays


def fitted(
    net: Network, arrays: Mapping[str, Floats], classes: int, where: str
) -> tuple[dict[str, Floats], dict[str, Floats], dict[str, Floats]]:
    """Shared weights, private values and the head for `classes`, of arrays that are all there. Raises ConfigError."""
    shapes = {name: tuple(value.shape) for group in (net.weights, net.private) for name, value in group.items()}
    for name, shape in shapes.items():
        if name not in arrays:
            raise ConfigError(f"{where} lacks '{name}' {shape}; it is of another network")
    head = next((name for name in _HEADS if f"{name}.weight" in arrays and f"{name}.bias" in arrays), None)
    if head is None:
        raise ConfigError(f"{where} has no last layer ({', '.join(_HEADS)}); the first task needs its head from there")
    shapes |= {f"{head}.weight": (classes, net.features), f"{head}.bias": (classes,)}
    for name, shape in shapes.items():
        found = arrays[name]
        if found.shape != shape or not math.isfinite(float(np.abs(found).sum(dtype=np.float64))):
            raise ConfigError(
                f"{where}: '{name}' is {found.shape}, {shape} of finite numbers is wanted: the weights or the data differ"
            )
    weights, private = ({name: arrays[name] for name in group} for group in (net.weights, net.private))
    return weights, private, {"weight": arrays[f"{head}.weight"], "bias": arrays[f"{head}.bias"]}

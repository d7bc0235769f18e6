"""A network's weights from a file that somebody else wrote: safetensors, or a state dict that torchvision saved.

No pickle is run: a .pth is read by PyTorch's loader for weights alone. What stands in the file is held against the network:
every name, every shape, finite numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgecl.errors import ConfigError
from edgecl.learners.parts.networks.base import Network, torch
from edgecl.text import printable, size
from edgecl.types import Floats

_LARGEST = 4 << 30  # bytes of a file
_HEADS = ("fc", "classifier.6", "classifier", "head")  # names of a last layer


def read_weights(path: Path) -> dict[str, Floats]:
    """All tensors of the file, float32. Raises ConfigError where it is missing, too large or no file of weights."""
    from safetensors.torch import load_file  # wants torch at once, whose absence `base` explains

    where = printable(path)
    try:
        count = path.stat().st_size
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}; name a file of weights") from None
    if count > _LARGEST:
        raise ConfigError(f"{where} has {size(count)}, at most {size(_LARGEST)} are read; it is no network's weights")
    try:
        safe = path.suffix == ".safetensors"
        found = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): value.detach().float().numpy() for name, value in found.items()}
    except Exception as error:  # either loader refuses in many ways, and what it gave may be anything
        reason = printable(" ".join(str(error).split()), 100)
        raise ConfigError(
            f"{where} is neither safetensors nor a state dict of plain tensors ({reason}); save the network's state_dict()"
        ) from None


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
        if found.shape != shape or not np.isfinite(found).all():
            raise ConfigError(
                f"{where}: '{name}' is {found.shape}, the network and the first task's classes need {shape}, finite numbers"
            )
        if name.endswith("running_var") and (found < 0).any():
            raise ConfigError(f"{where}: '{name}' holds negative variances; the file is damaged")
    weights, private = ({name: arrays[name] for name in group} for group in (net.weights, net.private))
    return weights, private, {"weight": arrays[f"{head}.weight"], "bias": arrays[f"{head}.bias"]}

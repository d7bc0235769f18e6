"""The sealed ONNX graph as something to build on: where its sockets are, and its raw weights beside it.

The exporter folds a batch norm into the convolution before it, so in the graph z = Conv(x; scale * W, offset). A kernel plug
acts on c, the convolution's own output, whose weights are those of the weights file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecl.errors import MissingDependency, RomError
from edgecl.rom.image import GRAPH, WEIGHTS, RomImage
from edgecl.rom.sockets import Norm, Socket, norm_of
from edgecl.types import Floats

try:
    import onnx
    from onnx import helper, numpy_helper
except ImportError as error:
    raise MissingDependency(
        "heads that act inside the network need the package onnx here; add the extra: pip install 'edgecl[cpu]'"
    ) from error

__all__ = ["SocketNode", "find", "helper", "numpy_helper", "onnx", "open_graph", "set_initializer"]


@dataclass(frozen=True)
class SocketNode:
    """A socket found in the graph: `conv` computes z, its output name stands for z."""

    socket: Socket
    conv: Any
    norm: Norm | None
    raw_weight: Floats  # (C, C_in/groups, k, k), before any norm was folded in
    raw_bias: Floats | None

    @property
    def offset(self) -> Floats:
        """What the ROM's norm adds, (C,); zeros without a norm."""
        return np.asarray(self.norm.offset if self.norm else np.zeros(self.socket.channels), np.float32)


def open_graph(image: RomImage) -> tuple[Any, Mapping[str, Any]]:
    """The graph (an onnx.ModelProto of its own) and the ROM's weights by name."""
    from safetensors.numpy import load

    return onnx.load_from_string(image.read(GRAPH)), load(image.read(WEIGHTS))


def find(model: Any, weights: Mapping[str, Any], sockets: Sequence[Socket]) -> dict[str, SocketNode]:
    """Where `sockets` are in `model`, by the names of the convolutions' weights. Raises RomError for one that is not there."""
    by_weight = {node.input[1]: node for node in model.graph.node if node.op_type == "Conv"}
    found = {}
    for socket in sockets:
        name = f"{socket.name}.weight"
        if name not in by_weight or name not in weights:
            raise RomError(f"socket '{socket.name}' is not in the ROM's graph; export the ROM again")
        if len(weights[name]) != socket.channels:
            raise RomError(f"the ROM's socket '{socket.name}' has {socket.channels} channels, its weights {len(weights[name])}")
        bias = weights.get(f"{socket.name}.bias")
        found[socket.name] = SocketNode(
            socket, by_weight[name], norm_of(socket, weights), weights[name], None if bias is None else np.asarray(bias)
        )
    return found


def set_initializer(model: Any, name: str, value: Any) -> None:
    """Give the initializer `name` this value, adding it where it is new."""
    tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
    for i, there in enumerate(model.graph.initializer):
        if there.name == name:
            model.graph.initializer[i].CopyFrom(tensor)
            return
    model.graph.initializer.append(tensor)

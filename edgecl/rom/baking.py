"""Plugs as constants of the ROM's graph: an ONNX file of its own, as fast as the plain one.

A shift becomes part of the convolution's bias, and other weights take the place of the convolution's. A kernel becomes one
depthwise convolution behind it, which carries the norm's
scale and offset, while the convolution gets its raw weights back (see `Sites.laid_out`). Sockets without a plug stay as
they are, so a head that acts only near the end costs nothing before it.

All numbers that a head can change are laid out in one vector (`Sites`), so that they can be computed without the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import RuntimeUnavailable
from edgecl.rom import overlay
from edgecl.rom.graphs import SocketNode, find, helper, numpy_helper, open_graph
from edgecl.rom.image import RomImage
from edgecl.rom.sites import OTHER, Sites, Structure, Weights, structure
from edgecl.rom.sockets import Plugs
from edgecl.types import Floats


def bake(image: RomImage, plugs: Plugs) -> bytes:
    """The ROM's graph with `plugs` as constants, an ONNX file; the plain graph for plugs that are empty.

    Raises RomMismatch for plugs that do not fit this ROM; RuntimeUnavailable for scrambled ones, which are no constants, and
    for a ROM of quantised weights, where a shift of the bias would be rounded to the weights' steps.
    """
    plugs.require(image.sockets, image.rom_id)
    refuse(image, plugs)
    model, weights = open_graph(image)
    overlay.require(image, plugs)
    used = [s for s in image.sockets if s.name in plugs.shift or s.name in plugs.kernel or s.name in plugs.reweighted]
    nodes = find(model, weights, used)
    form = structure(image.sockets, plugs)
    sites = sites_of(model, nodes, form, image.free)
    rewrite(model, nodes, sites, sites.filled(plugs))
    out: bytes = model.SerializeToString()
    return out


def refuse(image: RomImage, plugs: Plugs) -> None:
    """Raise RuntimeUnavailable for what cannot become constants of a graph."""
    if plugs.scrambled:
        raise RuntimeUnavailable(
            "scrambled biases depend on the picture's size and cannot be constants of a graph; use --runtime pytorch"
        )
    if image.precision not in ("fp32", "fp16"):
        raise RuntimeUnavailable(
            f"ROM {image.rom_id[:12]} holds {image.precision} weights; plugs go into the fp32 or fp16 ROM, not into this one. "
            f"Use a head without plugs here, or the fp32 ROM"
        )


def sites_of(model: Any, nodes: Mapping[str, SocketNode], form: Structure, free: Mapping[str, NDArray[np.bool_]]) -> Sites:
    """Where each number of a head of this form goes, and what the plain ROM has there. free: `RomImage.free`."""
    sides = dict(form)
    constants = {i.name: i for i in model.graph.initializer}
    biases, scales, weights = {}, {}, {}
    for name, node in nodes.items():
        scale = node.norm.scale if node.norm else np.ones(node.socket.channels)
        if sides.get(name) == OTHER:
            weight = numpy_helper.to_array(constants[node.conv.input[1]]).astype(np.float32)
            weights[name] = Weights(weight, free[name], scale)
        if sides.get(name, OTHER) != OTHER:
            biases[name] = node.offset.astype(np.float64)
            scales[name] = scale
        elif len(node.conv.input) > 2:
            biases[name] = numpy_helper.to_array(constants[node.conv.input[2]]).astype(np.float64)
        else:
            biases[name] = np.zeros(node.socket.channels)
    return Sites.laid_out(form, biases, scales, weights)


def rewrite(model: Any, nodes: Mapping[str, SocketNode], sites: Sites, values: Floats) -> None:
    """Put `values`, laid out as `sites` says, into `model`; what no node reads any more is left out."""
    behind: dict[str, Any] = {}
    for name, node in nodes.items():
        conv = node.conv
        half = _type(model, conv.input[1])
        if ("kernel", name) in sites.at:
            c, z = f"{name}.plug.c", conv.output[0]
            inputs = [conv.input[0], _constant(model, f"{name}.plug.raw", node.raw_weight, half)]
            if node.raw_bias is not None:
                inputs.append(_constant(model, f"{name}.plug.raw_bias", node.raw_bias, half))
            kernel = sites.part(values, "kernel", name)
            side = round((kernel.size / node.socket.channels) ** 0.5)
            kernel = kernel.reshape(-1, 1, side, side)
            behind[c] = helper.make_node(
                "Conv",
                [
                    c,
                    _constant(model, f"{name}.plug.kernel", kernel, half),
                    _constant(model, f"{name}.plug.bias", sites.part(values, "shift", name), half),
                ],
                [z],
                name=f"{name}.plug",
                group=node.socket.channels,
                kernel_shape=[side, side],
                pads=[side // 2] * 4,
            )
            conv.output[0] = c
        else:
            bias = _constant(model, f"{name}.plug.bias", sites.part(values, "shift", name), half)
            inputs = [*conv.input[:2], bias]
            if ("weight", name) in sites.at:
                weight = sites.part(values, "weight", name).reshape(node.raw_weight.shape)
                inputs[1] = _constant(model, f"{name}.plug.weight", weight, half)
        del conv.input[:]
        conv.input.extend(inputs)
    graph = model.graph
    ordered = [new for node in graph.node for new in (node, behind.get(node.output[0])) if new is not None]
    del graph.node[:]
    graph.node.extend(ordered)
    read = {name for node in graph.node for name in node.input}
    for unread in [i for i in graph.initializer if i.name not in read]:
        graph.initializer.remove(unread)


def _type(model: Any, name: str) -> Any:
    return next(helper.tensor_dtype_to_np_dtype(i.data_type) for i in model.graph.initializer if i.name == name)


def _constant(model: Any, name: str, value: Any, dtype: Any) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
    return name

"""One optimised graph for all heads of a form: baked once, and its constants taken out again as inputs of every call.

A CPU runtime lays convolutions out in blocks when it optimises a graph, and only around constants: plugs that are inputs in
the graph it is given cost twice the time (see docs/adr/0005). So the optimiser is given constants, and afterwards, in the
graph it made, these become inputs. What runs is bit for bit the session with that head baked in, but the weights are there
once for all heads, changing the head costs nothing, and a head costs the bytes of its numbers.

Which number went where is read from the optimised graph itself: the constants that it was given are serial numbers that no
network has. What the optimiser did with them, whatever its version and the CPU's block size, is then seen, not assumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import RuntimeUnavailable
from edgecl.rom.image import GRAPH, RomImage
from edgecl.rom.sites import Sites, Structure, Weights
from edgecl.rom.sockets import Plugs
from edgecl.types import Floats

FORM = 1  # of `to_bytes`
_KINDS = ("weight", "free", "scale")  # of `Weights`
_FIRST, _LAST = 1 << 22, 1 << 24  # serial numbers: whole in float32, and far from any weight


@dataclass(frozen=True)
class Refillable:
    """graph: the optimised ONNX model with the inputs `order`.   sites: the numbers a head can change.

    order: input name -> for each of its elements, which of these numbers it is; -1 where the optimiser added a zero.
    """

    graph: bytes
    sites: Sites
    order: Mapping[str, NDArray[np.int32]]

    def feeds(self, plugs: Plugs) -> dict[str, Floats]:
        """The inputs beside the pictures for a head."""
        values = np.append(self.sites.filled(plugs), np.float32(0))
        return {name: values[index] for name, index in self.order.items()}

    def to_bytes(self) -> bytes:
        """For a cache."""
        from safetensors.numpy import save

        arrays: dict[str, NDArray[Any]] = {f"order.{name}": index for name, index in self.order.items()}
        arrays |= {"graph": np.frombuffer(self.graph, np.uint8), "plain": self.sites.plain}
        for name, one in self.sites.weights.items():
            arrays |= {f"{kind}.{name}": getattr(one, kind) for kind in _KINDS}
        places = [[kind, name, *self.sites.at[kind, name]] for kind, name in self.sites.at]
        out: bytes = save(arrays, {"at": json.dumps(places)})
        return out

    @classmethod
    def from_bytes(cls, data: bytes) -> Refillable:
        """The inverse; for bytes whose digest has been compared."""
        from safetensors.numpy import load

        arrays = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        at = {(kind, name): (start, stop) for kind, name, start, stop in json.loads(header["__metadata__"]["at"])}
        order = {key.removeprefix("order."): value for key, value in arrays.items() if key.startswith("order.")}
        weights = {name: Weights(*(arrays[f"{part}.{name}"] for part in _KINDS)) for kind, name in at if kind == "weight"}
        return cls(arrays["graph"].tobytes(), Sites(arrays["plain"], at, weights), order)


def refillable(image: RomImage, form: Structure, optimise: Callable[[bytes], bytes]) -> Refillable:
    """The graph for all heads of `form`. optimise: an ONNX model as the runtime would run it.

    Every socket's shift may be used, whatever `form` says. Raises RuntimeUnavailable for a quantised ROM, and where the
    optimiser made the plugs unrecognisable.
    """
    from edgecl.rom.baking import refuse, rewrite, sites_of
    from edgecl.rom.graphs import find, helper, numpy_helper, onnx, open_graph

    refuse(image, Plugs())
    model, weights = open_graph(image)
    if image.precision == "fp16":  # which a CPU computes in float32
        from edgecl.rom.half import widen

        model = onnx.load_from_string(widen(image.read(GRAPH)))
    nodes = find(model, weights, image.sockets)
    sites = sites_of(model, nodes, form, image.free)
    count = len(sites.plain)
    if count > _LAST - _FIRST:
        raise RuntimeUnavailable(f"{count:,} numbers in the sockets of ROM {image.rom_id[:12]} are too many for this runtime")
    rewrite(model, nodes, sites, np.arange(_FIRST, _FIRST + count, dtype=np.float32))
    made = onnx.load_from_string(optimise(model.SerializeToString()))
    order = {}
    there = {i.name for i in made.graph.input}
    for constant in list(made.graph.initializer):
        index = _serial(numpy_helper.to_array(constant), count)
        if index is None:
            continue
        order[constant.name] = index
        if constant.name not in there:
            made.graph.input.append(helper.make_tensor_value_info(constant.name, constant.data_type, constant.dims))
        made.graph.initializer.remove(constant)
    found = np.zeros(count + 1, np.bool_)
    for index in order.values():
        found[index] = True
    if not found[:count].all():
        raise RuntimeUnavailable(
            f"the runtime's optimiser changed {count - int(found[:count].sum()):,} of {count:,} numbers of the plugs of ROM "
            f"{image.rom_id[:12]} beyond recognition; use --runtime pytorch"
        )
    return Refillable(made.SerializeToString(), sites, order)


def _serial(value: NDArray[Any], count: int) -> NDArray[np.int32] | None:
    """Serial numbers as indices, -1 for zeros; None for a constant that is none of ours."""
    if value.dtype != np.float32 or not value.size or value.max() < _FIRST:
        return None
    index = value.astype(np.float64) - _FIRST
    ours = (index >= 0) & (index < count) & (index == np.floor(index))
    if not ours.any() or not (ours | (value == 0)).all():
        return None
    return np.where(ours, index, -1).astype(np.int32)

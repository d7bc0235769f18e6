"""Sockets as batched graph inputs: one graph, or one engine, serves every head, and a mixed batch runs in one call.

For runtimes on a GPU (TensorRT, ONNX Runtime's CUDA provider); on a CPU such inputs break the fused layout, and plugs are
baked into constants instead. The contract, for whoever runs the graph:

    kinds = needed(plugs)                             "shift" or "shift+kernel": the smaller graph where it suffices
    graph = with_inputs(image, kinds)                 bytes of an ONNX model; `pixels` and `features` are those of the ROM
    feeds = pack(image.sockets, kinds, plugs, n)      name -> float32 array, to be fed beside `pixels` (n, 3, s, s)

Inputs, float32 in a graph of any precision, n being the batch of `pixels`, channels in the order of the sockets; zeros are
the plain ROM:

    shift   (n, C of all sockets)
    kernel  (n, C of the sockets whose convolution is wider than 1x1, 9)      3x3, row by row; a 1x1 plug lies in its centre
    gain    (n, C of the sockets behind a 1x1 convolution)                    a 1x1 plug, such as a task's own batch norm leaves

An input without any channels is left out. `pack` needs NumPy only; `with_inputs` needs onnx.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgecl.errors import ConfigError, RomError, RuntimeUnavailable
from edgecl.rom.image import RomImage
from edgecl.rom.sockets import Plugs, Socket
from edgecl.types import Floats

KINDS = ("shift", "shift+kernel")
FORM = 1  # of the graph and of its inputs; part of the name under which an engine is cached
TAPS, CENTRE = 9, 4


def needed(plugs: Sequence[Plugs]) -> str:
    """The smallest of KINDS that takes all of `plugs`. Raises RuntimeUnavailable for plugs that fold into none."""
    if any(p.scrambled for p in plugs):
        raise RuntimeUnavailable("scrambled biases depend on the picture's size and fit no graph input; use --runtime pytorch")
    return KINDS[any(p.kernel for p in plugs)]


def inputs(sockets: Sequence[Socket], kinds: str) -> dict[str, tuple[int, ...]]:
    """The inputs beside `pixels`: name -> shape for one picture."""
    if kinds not in KINDS:
        raise ConfigError(f"sockets become the inputs {' or '.join(KINDS)}, not '{kinds}'")
    if not sockets:
        raise RomError("this ROM has no sockets, so nothing can be plugged into it; export it again to give it some")
    wide, narrow = (sum(s.channels for s in sockets if (s.side > 1) is side) for side in (True, False))
    found: dict[str, tuple[int, ...]] = {"shift": (wide + narrow,)}
    if kinds == "shift+kernel":
        found |= {"kernel": (wide, TAPS)} if wide else {}
        found |= {"gain": (narrow,)} if narrow else {}
    return found


def pack(sockets: Sequence[Socket], kinds: str, plugs: Sequence[Plugs | None], n: int) -> dict[str, Floats]:
    """Plugs as the graph's inputs: name -> (n, ...) float32, contiguous.

    plugs: one for all n pictures, or one per picture; None, or a socket that is not named, stays plain.
    Raises RuntimeUnavailable for a plug that has no place in these inputs, such as a kernel wider than 3x3.
    """
    if len(plugs) not in (1, n):
        raise RomError(f"{n} pictures, but {len(plugs)} plugs; give one for all, or one for each")
    kinds_needed = needed([p for p in plugs if p])
    if KINDS.index(kinds_needed) > KINDS.index(kinds):
        raise RuntimeUnavailable(
            f"these plugs hold kernels, the graph was made for '{kinds}' only; make it for '{kinds_needed}'"
        )
    used = {id(p): p for p in plugs if p}
    place = {key: i for i, key in enumerate(used)}
    row_of = np.array([place[id(p)] if p else len(used) for p in plugs])
    packed = {}
    for name, shape in inputs(sockets, kinds).items():
        rows = np.zeros((len(used) + 1, *shape), np.float32)  # the last one stays zero: the plain ROM
        for row, plug in zip(rows, used.values(), strict=False):
            _fill(row, name, sockets, plug)
        packed[name] = rows[np.broadcast_to(row_of, (n,))]
    return packed


def _fill(row: Floats, name: str, sockets: Sequence[Socket], plug: Plugs) -> None:
    """One plug's part of the input `name`."""
    values = plug.shift if name == "shift" else plug.kernel
    at = 0
    for socket in sockets:
        if name != "shift" and (socket.side > 1) is not (name == "kernel"):
            continue
        value = values.get(socket.name)
        if value is not None:
            part = row[at : at + socket.channels]
            side = 1 if value.ndim == 1 else value.shape[-1]
            if side > (3 if name == "kernel" else 1):
                raise RuntimeUnavailable(
                    f"the plug of socket '{socket.name}' is a {side}x{side} kernel; as a graph input it may be "
                    f"{'3x3' if name == 'kernel' else '1x1'} at most. Use --runtime pytorch"
                )
            if name == "kernel" and side == 1:
                part[:, CENTRE] = value[:, 0, 0]
            else:
                part[:] = value.reshape(part.shape)
        at += socket.channels


def with_inputs(image: RomImage, kinds: str) -> bytes:
    """The ROM's graph with its sockets as inputs, as an ONNX model.

    For shifts, y = z + shift behind each convolution. For kernels the convolutions get back their raw weights, and their batch
    norm joins the plug: y = sum over the taps of (kernel + scale in the centre) * c moved by the tap + (offset + shift), so c
    is computed once and nothing is divided by a batch norm's gain.
    Raises RomError where the graph does not show its sockets.
    """
    from edgecl.rom import graphs

    model, weights = graphs.open_graph(image)
    nodes = graphs.find(model, weights, image.sockets)
    return _Rewriting(graphs, model, list(nodes.values()), kinds).run()


class _Rewriting:
    """The nodes that are added to one model."""

    def __init__(self, graphs: Any, model: Any, nodes: Sequence[Any], kinds: str) -> None:
        self.graphs, self.model, self.nodes = graphs, model, nodes
        self.kernels = kinds == "shift+kernel"
        self.shapes = inputs([node.socket for node in nodes], kinds)
        self.helper = graphs.onnx.helper
        self.types = _types(graphs.onnx, model, nodes)
        self.first: list[Any] = []  # nodes that cut the inputs up, before all others
        self.after: dict[str, list[Any]] = {}  # what a convolution answers -> the nodes that follow it
        self.count = 0  # of names that were given

    def run(self) -> bytes:
        graph = self.model.graph
        batch = graph.input[0].type.tensor_type.shape.dim[0]
        for name, shape in self.shapes.items():
            dims = [batch.dim_param or "n", *shape]
            graph.input.append(self.helper.make_tensor_value_info(name, self.graphs.onnx.TensorProto.FLOAT, dims))
        shifts = self._cut(self._shift(), self.nodes)
        if self.kernels:
            wide = [node for node in self.nodes if node.socket.side > 1]
            narrow = [node for node in self.nodes if node.socket.side == 1]
            taps = self._taps(wide) if wide else {}
            gains = self._cut(self._gain(narrow), narrow) if narrow else {}
        for node in self.nodes:
            name, z = node.socket.name, node.conv.output[0]
            conv_out = f"{z}/c"
            added = self.after.setdefault(conv_out, [])
            terms = [conv_out]
            if self.kernels:
                self._raw(node)
                many = name in taps
                terms = self._moved(conv_out, taps[name], added) if many else [self._op(added, "Mul", conv_out, gains[name])]
            for term in terms[1:]:
                terms[0] = self._op(added, "Add", terms[0], term)
            added.append(self.helper.make_node("Add", [terms[0], shifts[name]], [z], f"{name}/plugged"))
            node.conv.output[0] = conv_out
        self._place()
        self.graphs.onnx.checker.check_model(self.model)
        return bytes(self.model.SerializeToString())

    def _place(self) -> None:
        """All nodes in an order in which they can run."""
        graph = self.model.graph
        old = list(graph.node)
        del graph.node[:]
        graph.node.extend(self.first)
        for node in old:
            graph.node.append(node)
            graph.node.extend(self.after.get(node.output[0], ()))
        read = {name for node in graph.node for name in node.input}
        kept = [initializer for initializer in graph.initializer if initializer.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)

    def _op(self, where: list[Any], op: str, *names: str, **attributes: Any) -> str:
        """Append one node and return the name of its output."""
        self.count += 1
        out = f"plug/{op}/{self.count}"
        where.append(self.helper.make_node(op, list(names), [out], out, **attributes))
        return out

    def _constant(self, name: str, value: Any) -> str:
        self.graphs.set_initializer(self.model, f"plug/{name}", value)
        return f"plug/{name}"

    def _ints(self, *values: int) -> str:
        return self._constant("ints/" + "_".join(map(str, values)), np.array(values, np.int64))

    def _per_channel(self, what: str, nodes: Sequence[Any]) -> str:
        """The batch norms' `scale` or `offset` over `nodes` as a constant (1, C, 1, 1)."""
        one = {"scale": 1.0, "offset": 0.0}[what]
        parts = [
            np.asarray(getattr(n.norm, what), np.float32) if n.norm else np.full(n.socket.channels, one, np.float32)
            for n in nodes
        ]
        side = "wide" if nodes[0].socket.side > 1 else "narrow"
        return self._constant(f"{what}/{side}", np.concatenate(parts).reshape(1, -1, 1, 1))

    def _shift(self) -> str:
        """`shift` as (n, C, 1, 1), with the batch norms' offsets where the convolutions have lost theirs."""
        shift = self._op(self.first, "Unsqueeze", "shift", self._ints(2, 3))
        return self._op(self.first, "Add", shift, self._per_channel("offset", self.nodes)) if self.kernels else shift

    def _gain(self, narrow: Sequence[Any]) -> str:
        gain = self._op(self.first, "Unsqueeze", "gain", self._ints(2, 3))
        return self._op(self.first, "Add", gain, self._per_channel("scale", narrow))

    def _taps(self, wide: Sequence[Any]) -> Mapping[str, list[str]]:
        """Socket name -> its nine numbers, (n, C, 1, 1) each."""
        long = self._op(self.first, "Unsqueeze", "kernel", self._ints(3))
        names = [f"plug/tap/{i}" for i in range(TAPS)]
        self.first.append(self.helper.make_node("Split", [long], names, "plug/taps", axis=2, num_outputs=TAPS))
        names[CENTRE] = self._op(self.first, "Add", names[CENTRE], self._per_channel("scale", wide))
        cut = [self._cut(name, wide) for name in names]
        return {node.socket.name: [tap[node.socket.name] for tap in cut] for node in wide}

    def _cut(self, name: str, nodes: Sequence[Any]) -> dict[str, str]:
        """An input (n, C of all, 1, 1) in one piece per socket, each in the type in which its convolution answers."""
        sizes = [node.socket.channels for node in nodes]
        pieces: dict[str, str] = {}
        for kind in sorted({self.types[node.conv.output[0]] for node in nodes}):
            typed = name
            if kind != self.graphs.onnx.TensorProto.FLOAT:
                typed = self._op(self.first, "Cast", name, to=kind)
            outs = [f"{typed}/{node.socket.name}" for node in nodes]
            split = [typed, self._ints(*sizes)]
            self.first.append(self.helper.make_node("Split", split, outs, f"{typed}/split", axis=1))
            for node, out in zip(nodes, outs, strict=True):
                if self.types[node.conv.output[0]] == kind:
                    pieces[node.socket.name] = out
        return pieces

    def _moved(self, c: str, taps: Sequence[str], where: list[Any]) -> list[str]:
        """c times each tap, moved by it, with zeros from beyond the border."""
        padded = self._op(where, "Pad", c, self._ints(0, 0, 1, 1, 0, 0, 1, 1))
        far = np.iinfo(np.int64).max
        terms = []
        for i, tap in enumerate(taps):
            u, v = divmod(i, 3)
            ends = self._ints(u - 2 or far, v - 2 or far)
            moved = self._op(where, "Slice", padded, self._ints(u, v), ends, self._ints(2, 3))
            terms.append(self._op(where, "Mul", moved, tap))
        return terms

    def _raw(self, node: Any) -> None:
        """Give the convolution its own weights and bias back, in the type that it had."""
        kinds = {init.name: init.data_type for init in self.model.graph.initializer}
        weight = node.conv.input[1]
        if weight not in kinds:
            raise RomError(
                f"the weights of '{node.socket.name}' are computed in the graph (quantised?), so no kernel can act behind it; "
                f"use an fp32 or fp16 ROM, or --sockets shift"
            )
        dtype = self.helper.tensor_dtype_to_np_dtype(kinds[weight])
        self.graphs.set_initializer(self.model, f"{weight}/raw", np.asarray(node.raw_weight).astype(dtype))
        raw = [node.conv.input[0], f"{weight}/raw"]
        if node.raw_bias is not None:
            self.graphs.set_initializer(self.model, f"{weight}/raw_bias", node.raw_bias.astype(dtype))
            raw.append(f"{weight}/raw_bias")
        del node.conv.input[:]
        node.conv.input.extend(raw)


def _types(onnx: Any, model: Any, nodes: Sequence[Any]) -> dict[str, int]:
    """Name of each convolution's output -> the type it answers in."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    for node in nodes:
        if node.conv.output[0] not in known:
            raise RomError(f"the type behind socket '{node.socket.name}' cannot be told from the graph; export the ROM again")
    return {node.conv.output[0]: known[node.conv.output[0]] for node in nodes}

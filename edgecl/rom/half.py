"""A ROM's graph in half precision, and back to float32 arithmetic on the same, half-rounded weights.

The file of an FP16 ROM computes in half, which is what a GPU's engines take their precision from. ONNX Runtime's CPU has no
half-precision convolution: it would put casts around each one and lose its fused, blocked layout (measured: 1.5x the time).
`widen` is the same network with the casts taken out: as quick there as FP32, from half the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgecl.errors import MissingDependency, RomError

try:
    import onnx
    from onnx import TensorProto, numpy_helper
except ImportError as error:
    raise MissingDependency(
        "an FP16 ROM needs the package onnx here; add the extra: pip install 'edgecl[cpu]', or use the FP32 ROM"
    ) from error

_WIDE = ["ReduceMean", "GlobalAveragePool"]  # sums over a whole map lose digits in half, and cost next to nothing
_FLOATS = (TensorProto.FLOAT16, TensorProto.FLOAT)
_LARGEST = 65504.0  # of a half-precision number


def halve(graph: bytes) -> bytes:
    """`graph` with weights and arithmetic in half; its inputs and outputs stay float32, and so do means over whole maps.

    Raises RomError for a weight that half precision cannot hold.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load_from_string(graph)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size and not float(np.abs(value).max()) <= _LARGEST:
            raise RomError(
                f"weight '{tensor.name}' reaches {np.abs(value).max():.3g}, half precision ends at {_LARGEST:.0f}; export with "
                f"--precision fp32"
            )
    half = convert_float_to_float16(model, keep_io_types=True, op_block_list=_WIDE)
    _sort(half.graph)
    onnx.checker.check_model(half, full_check=True)
    return bytes(half.SerializeToString())


def widen(graph: bytes) -> bytes:
    """The network of a half-precision `graph` with float32 arithmetic; its weights keep their half-precision values."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    values = (*model.graph.input, *model.graph.value_info)
    types = {v.name: v.type.tensor_type.elem_type for v in values} | {t.name: t.data_type for t in model.graph.initializer}
    for i, tensor in enumerate(model.graph.initializer):
        model.graph.initializer[i].CopyFrom(_wide(tensor))
    renamed: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        was = node.input[0] if node.input else ""
        node.input[:] = [renamed.get(name, name) for name in node.input]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(_wide(attribute.t))
        to = next((a for a in node.attribute if node.op_type == "Cast" and a.name == "to" and a.i in _FLOATS), None)
        if to is not None and types.get(was) in _FLOATS:
            renamed[node.output[0]] = node.input[0]
            continue
        if to is not None:  # from whole numbers: that one computes something
            to.i = TensorProto.FLOAT
        kept.append(node)
    for output in model.graph.output:  # a cast that made an output: what it read takes the output's name
        inner = renamed.get(output.name)
        for node in kept if inner else ():
            node.input[:] = [output.name if name == inner else name for name in node.input]
            node.output[:] = [output.name if name == inner else name for name in node.output]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())


def _wide(tensor: Any) -> Any:
    if tensor.data_type != TensorProto.FLOAT16:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _sort(graph: Any) -> None:
    """Put each node behind those it reads from; the converter leaves its casts at the end."""
    there = {value.name for value in (*graph.input, *graph.initializer)} | {""}
    waiting, done = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if there.issuperset(node.input)]
        if not ready:
            raise RomError("the converted graph has a circle; export with --precision fp32")
        done += ready
        there.update(name for node in ready for name in node.output)
        waiting = [node for node in waiting if not there.issuperset(node.output)]
    del graph.node[:]
    graph.node.extend(done)

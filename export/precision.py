"""A float32 graph -> the same network in INT8, as quantise and dequantise nodes around what computes.

Weights are int8 with one scale per output channel, values between layers uint8 with a zero point of their own: behind ReLU6
all 256 steps are of use, and the clipping falls to the rounding. Means and outputs stay float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

# What ONNX Runtime has integer kernels for and image networks consist of; all else stays float32.
OPERATORS = ("Conv", "Gemm", "MatMul", "Add", "Mul", "Sigmoid", "Relu", "Clip", "MaxPool", "Concat")


def to_int8(graph: bytes, ranges: Mapping[str, tuple[float, float]], keep: Sequence[str] = ()) -> bytes:
    """Quantise `graph`.

    ranges: least and largest value of every tensor, as `calibrate.ranges` measures them.   keep: names of nodes that stay
    float32.   The same arguments give the same numbers.
    """
    measured = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        onnx.load_from_string(graph),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, {n: tuple(map(np.asarray, r)) for n, r in measured.items()}),
        nodes_to_quantize=[],
        nodes_to_exclude=list(keep),
        op_types_to_quantize=list(OPERATORS),
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    model = quantizer.model.model
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def layers(graph: bytes) -> dict[str, int]:
    """The layers that could be kept in float32: name of the node -> its weights."""
    model = onnx.load_from_string(graph)
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    heavy: list[Any] = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    return {node.name: sum(sizes.get(name, 0) for name in node.input) for node in heavy}


def numbers_digest(graph: bytes) -> str:
    """sha256 over all numbers of a graph: weights, scales, zero points. Names, and the order of nodes, do not enter."""
    digests = []
    for tensor in onnx.load_from_string(graph).graph.initializer:
        value = np.ascontiguousarray(numpy_helper.to_array(tensor))
        digests.append(hashlib.sha256(f"{value.dtype.str}|{value.shape}|".encode() + value.tobytes()).hexdigest())
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()

"""Network -> ONNX graph with a free batch dimension."""

from __future__ import annotations

import io
import warnings

import onnx
import torch

OPSET = 18  # read by ONNX Runtime 1.14+ and by TensorRT 10


def to_onnx(network: torch.nn.Module, size: int) -> bytes:
    """The graph of `network`, input `pixels` (n, 3, size, size) float32, output `features` (n, d), checked by onnx."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3, size, size),),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:  # source lines of the exporting machine: bulk, and nobody's business
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    buffer = io.BytesIO()
    onnx.save_model(model, buffer)
    return buffer.getvalue()

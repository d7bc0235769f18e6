"""torch and timm, importable beside a CPU-only torch: every module here takes them from this one.

torchvision's wheel is linked against CUDA torch; beside a CPU build its C++ operators do not load, and its import then
fails because it registers fake kernels for operators nobody declared. Declaring the two schemas is enough for models and
transforms; calling them would still, rightly, fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch as torch

_library: Any = None  # a torch.library.Library undoes its definitions when collected


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """PyTorch on that many threads of the CPU; 0 leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _declare_missing_operators() -> None:
    """Declare torchvision's `nms` and `qnms` where its C++ operators cannot be loaded."""
    global _library
    spec = find_spec("torchvision")
    if _library is not None or spec is None or spec.origin is None:
        return
    try:
        for compiled in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(compiled)  # what torchvision does itself; a second time costs nothing
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library = library


_declare_missing_operators()

import timm as timm  # noqa: E402

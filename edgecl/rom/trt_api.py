"""TensorRT 10, TensorRT 11 and TensorRT-RTX as one thing. What differs between them stands here, and nowhere else.

TensorRT 10     `tensorrt`: precision by flags or, asked for it, by the network's own types; tactics are timed, so it
                builds on the GPU it builds for; a timing cache
TensorRT 11     `tensorrt`: the network's own types only; else the same
TensorRT-RTX    `tensorrt_rtx`, or `tensorrt_rtx_bindings` from PyPI: the network's own types only; builds for a named GPU
                without one; kernels are compiled on the device at first run and kept in a runtime cache
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from edgecl.errors import ConfigError, MissingDependency, RuntimeUnavailable

MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
TYPES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}
INSTALL = "pip install 'edgecl[tensorrt]', or 'edgecl[tensorrt-rtx]' for RTX cards and for building without a GPU"


@dataclass(frozen=True)
class TensorRT:
    """One installed TensorRT.

    module: its Python module.   name, version: for people and for cache keys.   rtx: it is TensorRT-RTX.
    """

    module: Any
    name: str
    version: str
    rtx: bool

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def targets(self) -> tuple[str, ...]:
        """The compute capabilities it builds for without the GPU: "86", ...; none where it needs the GPU itself."""
        if not self.rtx:
            return ()
        return tuple(name[2:] for name in self.module.ComputeCapability.__members__ if name.startswith("SM"))

    def network_flags(self) -> int:
        """For a network whose types are those of its ONNX file. TensorRT 11 may know no other kind, and no flag for it."""
        flag = getattr(self.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        return 0 if flag is None else 1 << int(flag)

    def aim(self, config: Any, sm: str) -> None:
        """Let `config` build for compute capability `sm`. TensorRT 10 and 11 build for the GPU they run on and need no word."""
        if self.rtx:
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(self.module.ComputeCapability, f"SM{sm}"), 0)

    def type_name(self, dtype: Any) -> str:
        """fp32, fp16, bf16, int8, or TensorRT's own word for another."""
        name = str(dtype.name)
        return TYPES.get(name, name.lower())


def find(build_without_gpu: bool = False) -> TensorRT:
    """The TensorRT that is installed; the full one before TensorRT-RTX, unless it must build without the GPU.

    Raises MissingDependency where there is none that can do this, RuntimeUnavailable where one is there and does not load.
    """
    broken = []
    for name in MODULES[1:] if build_without_gpu else MODULES:
        try:
            return _opened(name)
        except ImportError as error:
            if getattr(error, "name", None) != name:  # it is there, and something it needs is not
                broken.append(f"{name}: {error}")
        except (OSError, RuntimeError) as error:
            broken.append(f"{name}: {error}")
    if broken:
        raise RuntimeUnavailable(f"TensorRT is installed but does not load ({'; '.join(broken)[:400]}); {INSTALL}")
    if build_without_gpu:
        raise MissingDependency(
            "only TensorRT-RTX builds for a GPU that is not there (--sm), and it is not installed; add the extra: pip install "
            "'edgecl[tensorrt-rtx]'"
        )
    raise MissingDependency(f"TensorRT is not installed; add the extra: {INSTALL}")


@cache
def _opened(name: str) -> TensorRT:
    module = import_module(name)
    rtx = name != "tensorrt"
    version = str(module.__version__)
    if not rtx and int(version.partition(".")[0]) < 10:
        raise RuntimeUnavailable(f"TensorRT {version} is too old; this runs on 10 and 11: {INSTALL}")
    return TensorRT(module, "TensorRT-RTX" if rtx else "TensorRT", version, rtx)


def check_sm(trt: TensorRT, sm: str) -> str:
    """`sm`, such as "86", if `trt` can build for it without the GPU. Raises ConfigError listing those it can build for."""
    known = trt.targets()
    if not known:
        raise ConfigError(f"{trt} builds only for the GPU it runs on; leave --sm out, or install 'edgecl[tensorrt-rtx]'")
    if sm not in known:
        raise ConfigError(f"{trt} cannot build for compute capability '{sm[:20]}'; it knows {', '.join(known)}")
    return sm


@cache
def logger(trt: TensorRT) -> Any:
    """One for the process, as TensorRT wants it: keeps the errors, which become part of ours, and prints nothing."""

    class Log(trt.module.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.module.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.module.ILogger.ERROR, trt.module.ILogger.INTERNAL_ERROR):
                self.errors = [*self.errors[-4:], message]

        def said(self) -> str:
            """The last errors as one text, and forget them."""
            text, self.errors = "; ".join(self.errors), []
            return text[:600] or "it gave no reason"

    return Log()

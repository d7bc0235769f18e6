"""The ROM on an NVIDIA GPU through TensorRT 10, TensorRT 11 or TensorRT-RTX; neither torch nor a CUDA toolkit is needed.

One engine runs the plain network, one takes shifts as a batched input, one takes kernels too; each is built for this GPU when
it is first needed, or comes from the cache (`edgecl export --target tensorrt` fills it beforehand). So heads switch without
building anything, and pictures of different heads share a call. Only a head with weights of its own is an engine of its own,
with the head as its constants: weights can be no batched input. It is built once, and stays in the cache.
"""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgecl.errors import RomError, RuntimeUnavailable
from edgecl.files import write_whole
from edgecl.rom import socketed, trt_api
from edgecl.rom.base import Rom
from edgecl.rom.cuda import Buffer, Gpu
from edgecl.rom.image import RomImage
from edgecl.rom.lru import Lru
from edgecl.rom.sockets import Plugs
from edgecl.rom.trt_build import BAKED, PLAIN, Engine, Facts, Target, engine
from edgecl.types import Floats


def say_on_stderr(line: str) -> None:
    """A build takes seconds to minutes; whoever waits for it sees why."""
    print(line, file=sys.stderr, flush=True)


class TrtRom(Rom):
    """TensorRT behind the ROM contract. Threads may share it: they take turns on its stream."""

    runtime = "tensorrt"
    mixes = True

    def __init__(
        self,
        image: RomImage,
        device: str = "cuda",
        threads: int = 0,
        cache: Path | None = None,
        say: Callable[[str], None] = say_on_stderr,
    ) -> None:
        """cache: folder for engines; None keeps none, so that each opening builds.   threads: without meaning here.

        Raises RuntimeUnavailable where device is not cuda, or there is no driver, no GPU, or no TensorRT for that GPU;
        RomError where TensorRT cannot build the ROM's graph.
        """
        super().__init__(image)
        if device != "cuda":
            raise RuntimeUnavailable(f"the runtime 'tensorrt' runs on NVIDIA GPUs only, not on '{device}'; use --device cuda")
        self._trt = trt_api.find()
        self.version, self.provider = self._trt.version, f"{self._trt.name} cuda"
        self._cache, self._say = cache, say
        self._lock = threading.Lock()
        self._loaded: dict[str, _Loaded] = {}
        self._heads = Lru(f"engines of heads with weights of their own, ROM {image.rom_id[:12]}", let_go=_Loaded.close)
        self._gpu = Gpu()
        try:
            if self._trt.rtx and self._gpu.sm not in self._trt.targets():
                raise RuntimeUnavailable(
                    f"{self._trt} does not run on the {self._gpu.name} (compute capability {self._gpu.sm}), only on "
                    f"{', '.join(self._trt.targets())}; install the full TensorRT: {trt_api.INSTALL}"
                )
            with self._lock:
                self._engine(PLAIN)
        except BaseException:
            self._gpu.close()
            raise

    def _engine(self, sockets: str) -> _Loaded:
        """The engine for these sockets, ready to run."""
        if sockets not in self._loaded:
            built = engine(self.image, sockets, self._trt, self._target, self._cache, self._say)
            self._loaded[sockets] = _Loaded(self._trt, self._gpu, built)
        return self._loaded[sockets]

    def _head(self, plugs: Plugs) -> _Loaded:
        """The engine of one head, ready to run; those used longest ago make room for it on the GPU."""
        self._heads.bound = self.session_cache
        found: _Loaded | None = self._heads.get(plugs.key)
        if found is None:
            built = engine(self.image, BAKED, self._trt, self._target, self._cache, self._say, plugs=plugs)
            found = _Loaded(self._trt, self._gpu, built)
            self._heads.put(plugs.key, found, len(built.data))
        return found

    @property
    def _target(self) -> Target:
        return Target(self._gpu.sm, self._gpu.name, self._gpu.driver)

    def _run(self, x: Floats) -> Floats:
        return self._ask(PLAIN, {"pixels": x})

    def _run_plugged(self, x: Floats, plugs: list[Plugs]) -> Floats:
        if plugs[0].reweighted:  # then it is the only one of the call
            with self._lock:
                self._gpu.enter()
                return self._head(plugs[0]).run({"pixels": x}, self.width)
        kinds = socketed.needed(plugs)
        return self._ask(kinds, {"pixels": x, **socketed.pack(self.image.sockets, kinds, plugs, len(x))})

    def _ask(self, sockets: str, feeds: Mapping[str, Floats]) -> Floats:
        with self._lock:
            self._gpu.enter()
            return self._engine(sockets).run(feeds, self.width)

    def _close(self) -> None:
        with self._lock:
            self._gpu.enter()
            for loaded in self._loaded.values():
                loaded.close()
            self._loaded.clear()
            self._heads.clear()
            self._gpu.close()


class _Loaded:
    """One engine on the GPU, with room for its inputs and its output."""

    def __init__(self, trt: trt_api.TensorRT, gpu: Gpu, built: Engine) -> None:
        self._gpu = gpu
        log = trt_api.logger(trt)
        self._runtime = trt.module.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(built.data)
        if self._engine is None:
            raise RomError(f"{trt} cannot load the engine {built.path or ''} on {gpu.name}: {log.said()}")
        inspect(trt, self._engine, built.facts)
        self._kernels = _KernelCache(trt, self._engine, built.path) if trt.rtx else None
        config = [self._kernels.config] if self._kernels else []
        self._context = self._engine.create_execution_context(*config)
        if self._context is None:
            raise RuntimeUnavailable(f"{trt} cannot run the engine on {gpu.name}, too little memory perhaps: {log.said()}")
        self._buffers = {name: Buffer(gpu) for name in (*built.facts.inputs, *built.facts.outputs)}
        self._log = log

    def run(self, feeds: Mapping[str, Floats], width: int) -> Floats:
        """Inputs (n, ...) by name -> features (n, width)."""
        out = np.empty((len(feeds["pixels"]), width), np.float32)
        sent = {name: np.ascontiguousarray(values, np.float32) for name, values in feeds.items()}
        for name, values in sent.items():
            address = self._buffers[name].room(values.shape)
            self._context.set_input_shape(name, values.shape)
            self._context.set_tensor_address(name, address)
            self._gpu.upload(address, values)
        answer = self._buffers["features"].room(out.shape)
        self._context.set_tensor_address("features", answer)
        if not self._context.execute_async_v3(self._gpu.stream):
            raise RuntimeUnavailable(f"TensorRT did not run the engine: {self._log.said()}")
        self._gpu.download(out, answer)
        self._gpu.wait()
        return out

    def close(self) -> None:
        """Give the memory back; kernels that were compiled meanwhile stay for the next opening."""
        if self._kernels:
            self._kernels.save()
        for buffer in self._buffers.values():
            buffer.close()
        del self._context, self._kernels, self._engine, self._runtime  # in this order: each needs the next


class _KernelCache:
    """TensorRT-RTX compiles its kernels on the device at first run; kept beside the engine, the next opening has them at once.

    TensorRT-RTX itself refuses one that another version, driver or GPU made, and then starts an empty one.
    """

    def __init__(self, trt: trt_api.TensorRT, engine: Any, path: Path | None) -> None:
        self._path = path.with_suffix(".kernels") if path else None
        self.config = engine.create_runtime_config()
        self._kernels = self.config.create_runtime_cache()
        self._before = b""
        if self._path and self._path.exists():
            self._before = self._path.read_bytes()
            self._kernels.deserialize(self._before)
        self.config.set_runtime_cache(self._kernels)

    def save(self) -> None:
        """Write it if it has grown."""
        now = bytes(memoryview(self._kernels.serialize()))
        if self._path and now != self._before:
            try:
                write_whole(self._path, now)
            except OSError as error:
                say_on_stderr(f"compiled kernels could not be kept in {self._path}: {error.strerror}")


def inspect(trt: trt_api.TensorRT, engine: Any, facts: Facts) -> None:
    """Raise RomError unless the loaded engine is what the network was: inputs, output, and the types the inspector names."""
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        shape = ", ".join("n" if d < 0 else str(d) for d in tuple(engine.get_tensor_shape(name)))
        into = inputs if engine.get_tensor_mode(name) == trt.module.TensorIOMode.INPUT else outputs
        into[name] = f"{trt.type_name(engine.get_tensor_dtype(name))} ({shape})"
    if inputs != dict(facts.inputs) or outputs != dict(facts.outputs):
        raise RomError(
            f"the engine takes {inputs} and answers {outputs}; it was built from a network that takes {dict(facts.inputs)} and "
            f"answers {dict(facts.outputs)}. Remove it from the cache, it is built again then"
        )
    text = engine.create_engine_inspector().get_engine_information(trt.module.LayerInformationFormat.JSON)
    named = inspected_types(text)
    if named and facts.precision not in named:
        raise RomError(
            f"the engine should run in {facts.precision}, its layers work in {', '.join(named)}; remove it from the cache, and "
            f"report this with the version {trt}"
        )


def inspected_types(text: str) -> dict[str, int]:
    """The types that the engine inspector names for what layers give, and how often; empty where it names none."""
    words = {
        "float": "fp32",
        "fp32": "fp32",
        "half": "fp16",
        "fp16": "fp16",
        "bf16": "bf16",
        "bfloat16": "bf16",
        "int8": "int8",
    }
    found = re.findall(r'"(?:Format/Datatype|Datatype|DataType)"\s*:\s*"([^"]*)"', text)
    return dict(Counter(words[w] for line in found for w in re.findall(r"[a-z]+\d*", line.lower()) if w in words))

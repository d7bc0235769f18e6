"""TensorRT behind the ROM contract: engines are built for real, execution is checked on a GPU, or on one that is played.

The played GPU is a driver of forty lines of C whose memory is the machine's own, and a TensorRT whose engines are computed by
ONNX Runtime on the addresses they are given. So all of `TrtRom` but NVIDIA's code runs without a GPU.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgecl import config, registry
from edgecl.checks import roms
from edgecl.errors import ConfigError, MissingDependency, RomError, RuntimeUnavailable
from edgecl.rom import cuda, trt, trt_api, trt_build
from edgecl.rom.base import Rom
from edgecl.rom.image import RomImage
from edgecl.rom.opening import open_rom
from edgecl.rom.parity import compare
from edgecl.rom.sockets import Plugs

DRIVER = r"""
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
static int allocated = 0;
int cuInit(unsigned f) { return GPUS ? 0 : 100; }
int cuDriverGetVersion(int *v) { *v = 13010; return 0; }
int cuDeviceGetCount(int *n) { *n = GPUS; return 0; }
int cuDeviceGet(int *d, int i) { *d = 3; return i; }
int cuDeviceGetName(char *n, int size, int d) { strncpy(n, "Played GPU", size); return d != 3; }
int cuDeviceGetAttribute(int *v, int which, int d) { *v = which == 75 ? SM / 10 : SM % 10; return d != 3; }
int cuDevicePrimaryCtxRetain(void **c, int d) { *c = (void *)0x7f0000000011; return d != 3; }
int cuDevicePrimaryCtxRelease_v2(int d) { return d != 3; }
int cuCtxSetCurrent(void *c) { return c != (void *)0x7f0000000011; }
int cuStreamCreate(void **s, unsigned f) { *s = (void *)0x7f0000000022; return 0; }
int cuStreamDestroy_v2(void *s) { return s != (void *)0x7f0000000022; }
int cuStreamSynchronize(void *s) { return s != (void *)0x7f0000000022; }
int cuMemAlloc_v2(uint64_t *p, size_t n) { if (n > 1u << 30) return 2; *p = (uint64_t)malloc(n); allocated++; return 0; }
int cuMemFree_v2(uint64_t p) { free((void *)p); allocated--; return 0; }
int cuMemcpyHtoDAsync_v2(uint64_t to, void *from, size_t n, void *s) { memcpy((void *)to, from, n); return 0; }
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, void *s) { memcpy(to, (void *)from, n); return 0; }
int cuGetErrorString(int e, char **s) { *s = e == 2 ? "out of memory" : "invalid value"; return 0; }
int played_allocations(void) { return allocated; }
"""


@pytest.fixture(scope="module")
def image(tiny_rom: Path) -> RomImage:
    return RomImage.open(tiny_rom)


@pytest.fixture(scope="module")
def reference(tiny_rom: Path) -> Iterator[Rom]:
    with open_rom(tiny_rom, "pytorch", threads=1) as rom:
        yield rom


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ctypes.CDLL]:
    """Puts a played driver in the place of libcuda."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler to make the played NVIDIA driver with")

    def install(gpus: int = 1, sm: int = 86) -> ctypes.CDLL:
        source, library = tmp_path / "driver.c", tmp_path / f"libcuda-{gpus}-{sm}.so"
        source.write_text(DRIVER)
        subprocess.run([compiler, "-shared", "-fPIC", f"-DGPUS={gpus}", f"-DSM={sm}", source, "-o", library], check=True)
        monkeypatch.setattr(cuda, "LIBRARY", str(library))
        return ctypes.CDLL(str(library))

    return install


class PlayedContext:
    """Runs the graph of an engine on memory of the played GPU."""

    def __init__(self, session: Any) -> None:
        self.session, self.shapes, self.addresses = session, {}, {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        assert 1 <= shape[0] <= trt_build.BATCHES[-1], "the profile ends there"
        self.shapes[name] = shape

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def _view(self, name: str, shape: tuple[int, ...]) -> Any:
        return np.ctypeslib.as_array(ctypes.cast(self.addresses[name], ctypes.POINTER(ctypes.c_float)), shape)

    def execute_async_v3(self, stream: int) -> bool:
        feeds = {name: self._view(name, shape) for name, shape in self.shapes.items()}
        out = self.session.run(None, feeds)[0]
        self._view("features", out.shape)[:] = out
        return True


@pytest.fixture
def played(driver: Callable[..., ctypes.CDLL], monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    """TensorRT-RTX that builds for real, with a played runtime on a played GPU."""
    real = _rtx()
    ort = pytest.importorskip("onnxruntime")
    graphs: dict[str, bytes] = {}

    class PlayedEngine:
        def __init__(self, graph: bytes) -> None:
            self.session = ort.InferenceSession(graph)
            self.tensors = [*self.session.get_inputs(), *self.session.get_outputs()]
            self.num_io_tensors = len(self.tensors)

        def get_tensor_name(self, i: int) -> str:
            return str(self.tensors[i].name)

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            tensor = next(t for t in self.tensors if t.name == name)
            return tuple(-1 if isinstance(d, str) else d for d in tensor.shape)

        def get_tensor_mode(self, name: str) -> Any:
            mode = real.module.TensorIOMode
            return mode.OUTPUT if name == "features" else mode.INPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return real.module.DataType.FLOAT

        def create_engine_inspector(self) -> Any:
            return SimpleNamespace(get_engine_information=lambda form: '{"Layers": [{"Outputs": []}]}')

        def create_runtime_config(self) -> Any:
            cache = SimpleNamespace(deserialize=lambda data: data == b"kernels", serialize=lambda: b"kernels")
            return SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=lambda cache: None)

        def create_execution_context(self, settings: Any) -> PlayedContext:
            return PlayedContext(self.session)

    class PlayedRuntime:
        def __init__(self, log: Any) -> None:
            pass

        def deserialize_cuda_engine(self, data: bytes) -> PlayedEngine:
            return PlayedEngine(graphs[hashlib.sha256(data).hexdigest()])

    class Module:
        Runtime = PlayedRuntime

        def __getattr__(self, name: str) -> Any:
            return getattr(real.module, name)

    def remembered(image: RomImage, sockets: str, *rest: Any, plugs: Plugs | None = None) -> trt_build.Engine:
        made = trt_build.engine(image, sockets, *rest, plugs=plugs)
        graphs[made.facts.sha256] = trt_build.graph_of(image, sockets, plugs)
        return made

    module = trt_api.TensorRT(Module(), real.name, real.version, True)
    monkeypatch.setattr(trt_api, "find", lambda build_without_gpu=False: module)
    monkeypatch.setattr(trt, "engine", remembered)
    return driver()


def _rtx() -> trt_api.TensorRT:
    try:
        return trt_api.find(build_without_gpu=True)
    except MissingDependency as error:
        pytest.skip(f"engines are built with TensorRT-RTX: {error}")


# -- on the played GPU


@pytest.mark.parametrize("check", roms.CHECKS, ids=lambda check: check.__name__)
def test_contract_holds_on_the_played_gpu(
    check: roms.Check, played: ctypes.CDLL, image: RomImage, reference: Rom, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.getbasetemp() / "engines-of-the-played-gpu"
    check(lambda: trt.TrtRom(image, cache=cache, say=lambda line: None), reference)
    assert played.played_allocations() == 0, "closing gives all memory back"


def check_mixed_plugs(image: RomImage, reference: Rom, tmp_path: Path) -> None:
    rng, pixels = np.random.default_rng(0), roms.pictures(reference, 5)
    some = image.sockets[0], image.sockets[-1]
    shift = Plugs(shift={s.name: rng.normal(0, 0.2, s.channels).astype(np.float32) for s in some})
    kernel = Plugs(kernel={s.name: rng.normal(0, 0.2, (s.channels, 1, 1)).astype(np.float32) for s in some})
    said: list[str] = []
    with trt.TrtRom(image, cache=tmp_path, say=said.append) as rom:
        for plugs in ([shift, None, shift, None, shift], [shift, kernel, None, kernel, shift], kernel):
            assert compare(reference.features(pixels, plugs), rom.features(pixels, plugs)).holds()
        assert compare(reference.features(pixels), rom.features(pixels)).holds(), "no plug stays behind"
    assert len(said) == 3, "one engine without plugs, one for shifts, one for kernels"


def test_mixed_plugs_run_in_one_call(played: ctypes.CDLL, image: RomImage, reference: Rom, tmp_path: Path) -> None:
    check_mixed_plugs(image, reference, tmp_path)
    assert len(list(tmp_path.glob("*.kernels"))) == 3, "compiled kernels are kept"


@pytest.mark.gpu
def test_mixed_plugs_run_in_one_call_on_a_gpu(image: RomImage, reference: Rom, tmp_path: Path) -> None:
    """The contract itself is checked for every runtime in test_every_method.py."""
    check_mixed_plugs(image, reference, tmp_path)


def some_weights(image: RomImage, seed: int) -> Plugs:
    """A head that picks in the last three convolutions, scales their channels and fills what is free there."""
    rng, some = np.random.default_rng(seed), image.sockets[-3:]
    used = {s.name: rng.random(image.free[s.name].shape) < 0.9 for s in some}
    own = {name: rng.normal(0, 0.1, int((image.free[name] & bits).sum())).astype(np.float32) for name, bits in used.items()}
    gain = {s.name: rng.normal(0, 0.2, s.channels).astype(np.float32) for s in some}
    return Plugs(gain=gain, used=used, own={name: values for name, values in own.items() if values.size})


def check_heads_with_weights(folder: Path, tmp_path: Path) -> None:
    """Each such head is an engine; a mixed batch is answered head by head, and the ROM's own answers stay what they were."""
    image, said = RomImage.open(folder), []
    first, other = (some_weights(image, seed) for seed in range(2))
    assert first.own, "the head puts no weights of its own into free places"
    with open_rom(folder, "pytorch", threads=1) as reference, trt.TrtRom(image, cache=tmp_path, say=said.append) as rom:
        pixels = roms.pictures(rom, 4)
        plain = rom.features(pixels)
        for plugs in (first, other, [first, None, other, first]):
            assert compare(reference.features(pixels, plugs), rom.features(pixels, plugs)).holds()
        assert np.array_equal(rom.features(pixels), plain)
        assert len(said) == 3, "built once each: the ROM, and two heads"
        rom.session_cache = 1  # room for one: the other is let go, and comes back from the cache on disk
        assert compare(reference.features(pixels, first), rom.features(pixels, first)).holds()
    with trt.TrtRom(image, cache=tmp_path, say=said.append) as rom:
        rom.features(pixels, first)
    assert len(said) == 3, "a head's engine is found in the cache when the ROM is opened again"


def test_heads_with_weights_of_their_own_are_engines(played: ctypes.CDLL, tiny_freed: Path, tmp_path: Path) -> None:
    check_heads_with_weights(tiny_freed, tmp_path)
    assert played.played_allocations() == 0, "engines that made room for others give their memory back"


@pytest.mark.gpu
def test_heads_with_weights_of_their_own_are_engines_on_a_gpu(tiny_freed: Path, tmp_path: Path) -> None:
    check_heads_with_weights(tiny_freed, tmp_path)


def test_engines_of_old_heads_do_not_fill_the_disk(
    played: ctypes.CDLL, tiny_freed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt_build, "HEADS_KEPT", 1)
    image = RomImage.open(tiny_freed)
    with trt.TrtRom(image, cache=tmp_path, say=lambda line: None) as rom:
        for seed in range(2):
            rom.features(roms.pictures(rom, 1), some_weights(image, seed))
    assert len(list(tmp_path.glob("*.head.engine"))) == len(list(tmp_path.glob("*.head.json"))) == 1
    assert len(list(tmp_path.glob("*.engine"))) == 2, "the ROM's own engine stays"


def test_threads_share_one_rom(played: ctypes.CDLL, image: RomImage, tmp_path: Path) -> None:
    """Each thread's answers are those it would get alone."""
    with trt.TrtRom(image, cache=tmp_path, say=lambda line: None) as rom:
        batches = [np.roll(roms.pictures(rom, 3), i, 0) for i in range(6)]
        expected, found = [rom.features(batch) for batch in batches], {}

        def work(i: int) -> None:
            found[i] = [rom.features(batches[i]) for _ in range(3)]

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(np.array_equal(one, expected[i]) for i, ones in found.items() for one in ones) and len(found) == 6


def test_engine_that_is_not_what_was_built_is_refused(
    played: ctypes.CDLL, image: RomImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = trt_build.engine(image, "shift", _rtx(), trt_build.Target("86"), tmp_path)
    remembered = trt.engine

    def swapped(image: RomImage, sockets: str, *rest: Any) -> trt_build.Engine:
        plain = remembered(image, sockets, *rest)
        return trt_build.Engine(plain.data, other.facts, None, built=False)

    monkeypatch.setattr(trt, "engine", swapped)
    with pytest.raises(RomError, match="was built from a network that takes"):
        trt.TrtRom(image, say=lambda line: None)


def test_gpu_that_tensorrt_rtx_does_not_know_is_refused(
    played: ctypes.CDLL, driver: Callable[..., ctypes.CDLL], image: RomImage
) -> None:
    driver(sm=90)
    with pytest.raises(RuntimeUnavailable, match=r"does not run on the Played GPU \(compute capability 90\), only on 75"):
        trt.TrtRom(image)


def test_memory_that_the_gpu_does_not_have_is_an_error_with_its_name(driver: Callable[..., ctypes.CDLL]) -> None:
    driver()
    gpu = cuda.Gpu()
    assert (gpu.name, gpu.sm, gpu.driver) == ("Played GPU", "86", "13.1")
    with pytest.raises(RuntimeUnavailable, match=r"refused cuMemAlloc_v2: out of memory \(error 2\)"):
        gpu.allocate(1 << 40)
    gpu.close()


# -- without a GPU


def test_without_a_driver_it_says_so(image: RomImage, monkeypatch: pytest.MonkeyPatch) -> None:
    _rtx()
    monkeypatch.setattr(cuda, "LIBRARY", "libcuda-that-is-not-there.so.1")
    with pytest.raises(RuntimeUnavailable, match=r"no usable NVIDIA driver.*libcuda-that-is-not-there.*--runtime onnxruntime"):
        trt.TrtRom(image)


def test_driver_without_a_gpu_says_so(image: RomImage, driver: Callable[..., ctypes.CDLL]) -> None:
    _rtx()
    driver(gpus=0)
    with pytest.raises(RuntimeUnavailable, match=r"shows no GPU.*CUDA_VISIBLE_DEVICES"):
        trt.TrtRom(image)


def test_without_the_package_it_names_the_extra(image: RomImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_api, "MODULES", ("tensorrt_that_is_not_there",) * 2)
    with pytest.raises(MissingDependency, match=r"edgecl\[tensorrt\]"):
        trt.TrtRom(image)
    with pytest.raises(MissingDependency, match=r"--sm.*edgecl\[tensorrt-rtx\]"):
        trt_api.find(build_without_gpu=True)


def test_package_that_does_not_load_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt_broken.py").write_text("import tensorrt_libs_that_are_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(trt_api, "MODULES", ("tensorrt_broken",))
    with pytest.raises(RuntimeUnavailable, match=r"does not load \(tensorrt_broken: No module named 'tensorrt_libs"):
        trt_api.find()


def test_cpu_is_refused_and_cuda_is_meant(image: RomImage, tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="NVIDIA GPUs only, not on 'cpu'"):
        trt.TrtRom(image, device="cpu")
    assert config.load(tmp_path, {"runtime": "tensorrt"}).device == "cuda"
    assert config.load(tmp_path, {"runtime": "tensorrt", "device": "cuda"}).device == "cuda"
    with pytest.raises(ConfigError, match="tensorrt runs on cuda only, but device is set to cpu"):
        config.load(tmp_path, {"runtime": "tensorrt", "device": "cpu"})
    assert set(registry.CUDA_ONLY) <= set(registry.RUNTIMES)


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ('{"Layers": ["conv1", "relu"]}', {}),
        ('{"Outputs": [{"Name": "half", "Format/Datatype": "Row major linear FP32"}]}', {"fp32": 1}),
        ('[{"Format/Datatype": "Channel major FP16 format"}, {"Format/Datatype": "Int8"}]', {"fp16": 1, "int8": 1}),
        ('{"Datatype": "Half"}', {"fp16": 1}),
    ],
)
def test_types_that_the_inspector_names(text: str, types: dict[str, int]) -> None:
    """A layer's own name says nothing about its type."""
    assert trt.inspected_types(text) == types

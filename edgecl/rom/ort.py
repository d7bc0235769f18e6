"""The ROM on ONNX Runtime, on the CPU or on CUDA.

Optimising the graph takes longer than loading the result, so the optimised graph is kept in a cache folder, under a name
made of all that it depends on: the sealed graph's digest, ONNX Runtime's version, the provider and the CPU's features.

Several sessions serve one ROM (`ort_heads`). Their working memory is one pool, and a session's threads stop spinning when its
call ends: else they take the cores from the session that is asked next, and switching between two heads costs 2.5 times a call.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import tempfile
from pathlib import Path

from edgecl.errors import MissingDependency, RomError, RuntimeUnavailable
from edgecl.rom.base import Rom
from edgecl.rom.image import GRAPH, RomImage
from edgecl.rom.sockets import Plugs
from edgecl.types import Floats

try:
    import onnxruntime as ort
except ImportError as error:
    raise MissingDependency(
        "the runtime 'onnxruntime' is not installed; add the extra: pip install 'edgecl[cpu]' (or 'edgecl[gpu]')"
    ) from error
from edgecl.rom.ort_heads import OrtHeads, empty_picture, lighten, provider, share_arena

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OrtRom(Rom):
    """ONNX Runtime behind the ROM contract."""

    runtime = "onnxruntime"
    version = str(ort.__version__)

    def __init__(self, image: RomImage, device: str = "cpu", threads: int = 0, cache: Path | None = None) -> None:
        """threads: of one call; 0 leaves it to ONNX Runtime.   cache: folder for optimised graphs; None keeps none.

        Raises RuntimeUnavailable when the provider for `device` is not the one that came up.
        """
        super().__init__(image)
        self.provider = PROVIDERS[device]
        if self.provider not in ort.get_available_providers():
            raise RuntimeUnavailable(
                f"{self.provider} was asked for, but this onnxruntime {ort.__version__} offers only "
                f"{', '.join(ort.get_available_providers())}; install 'edgecl[gpu]', or use --device cpu"
            )
        if device == "cuda" and hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # CUDA's libraries from their pip packages, where they are not the system's
        self.mixes = device == "cuda"
        self.threads = threads
        if device == "cpu":
            share_arena()
        options = self._options()
        graph = image.read(GRAPH)
        cached = _cache_path(cache, image, self.provider) if cache and device == "cpu" else None
        ready = _from_cache(cached, options, self.provider) if cached else None
        if image.precision == "fp16" and device == "cpu" and not ready:
            from edgecl.rom.half import widen

            graph = widen(graph)  # the CPU has no half-precision convolutions; casts around each would cost half the speed
        self._session: ort.InferenceSession = ready or self._optimise(graph, options, cached)
        if self._session.get_providers()[0] != self.provider:
            raise RuntimeUnavailable(f"{self.provider} did not start; ONNX Runtime runs {self._session.get_providers()}")
        self._session.disable_fallback()
        lighten(self._session)
        self._input = self._session.get_inputs()[0].name
        shape = self._session.get_outputs()[0].shape
        if len(shape) != 2 or shape[1] != self.width:
            raise RomError(f"{image.folder / GRAPH} answers shape {shape}, the manifest says (n, {self.width}); export again")

        def path(what: str) -> Path | None:
            depends = f"{self.provider} {what} {image.rom_id} {image.sockets}"
            return _cache_path(cache, image, depends, ".heads") if cache and device == "cpu" else None

        self._heads = OrtHeads(image, self.provider, self._options, path)

    def _options(self) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if self.provider == PROVIDERS["cpu"]:
            options.add_session_config_entry("session.use_env_allocators", "1")
            # Weights live as long as their session; in the pool they would hold on to working memory around them.
            options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        return options

    def _optimise(self, graph: bytes, options: ort.SessionOptions, cached: Path | None) -> ort.InferenceSession:
        """A session from the sealed graph; what the optimiser made of it goes to `cached`, whole or not at all."""
        temporary = None
        if cached:
            with contextlib.suppress(OSError):  # a full or read-only disk costs the cache, not the answer
                cached.parent.mkdir(parents=True, exist_ok=True)
                handle, temporary = tempfile.mkstemp(suffix=".onnx", dir=cached.parent)
                os.close(handle)
                options.optimized_model_filepath = temporary
        try:
            session = ort.InferenceSession(graph, options, providers=[provider(self.provider)])
        except Exception as error:
            if temporary and os.path.exists(temporary):
                os.unlink(temporary)
                options.optimized_model_filepath = ""
                return self._optimise(graph, options, None)
            raise RomError(f"ONNX Runtime {ort.__version__} refuses {self.image.folder / GRAPH}: {error}") from error
        if temporary and cached:
            with contextlib.suppress(OSError):
                digest = hashlib.sha256(Path(temporary).read_bytes()).hexdigest()
                Path(temporary).rename(cached)
                cached.with_suffix(".sha256").write_text(digest)
        options.optimized_model_filepath = ""
        return session

    def _run(self, x: Floats) -> Floats:
        out: Floats = self._session.run(None, {self._input: x})[0]
        return out

    def _run_plugged(self, x: Floats, plugs: list[Plugs]) -> Floats:
        return self._heads.run(x, self._input, plugs, self.session_cache)

    @property
    def held(self) -> int:
        """Bytes that are kept for heads with plugs; at most `session_cache`, if that is enough for one."""
        return self._heads.kept.held

    def _close(self) -> None:
        self._heads.close()
        if self.provider == PROVIDERS["cpu"]:
            shrink = ort.RunOptions()  # working memory is given back at the end of a run, or not at all
            shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
            self._session.run(None, {self._input: empty_picture(self.preprocess.size)}, shrink)
        del self._session


def _cache_path(cache: Path, image: RomImage, provider: str, suffix: str = ".onnx") -> Path:
    flags = ""
    with contextlib.suppress(OSError):
        flags = next(
            (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "Features"))),
            "",
        )
    parts = "|".join((image.files[GRAPH]["sha256"], ort.__version__, provider, platform.machine(), flags))
    return cache / f"{hashlib.sha256(parts.encode()).hexdigest()[:32]}{suffix}"


def _from_cache(path: Path, options: ort.SessionOptions, provider: str) -> ort.InferenceSession | None:
    """The cached session, or None where there is none or it is damaged (it is then made again)."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != path.with_suffix(".sha256").read_text().strip():
            return None
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return ort.InferenceSession(data, options, providers=[provider])
    except Exception:
        return None
    finally:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL

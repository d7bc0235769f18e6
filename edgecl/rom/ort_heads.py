"""Heads that act inside the network, on ONNX Runtime: sessions and prepared plugs, made on first use and bounded in bytes.

On the CPU all heads of one form share a session (`refill`), and what is kept of a head is its numbers in that session's
order. On CUDA plugs are inputs with a batch dimension (`socketed`), and one session serves a mixed batch.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edgecl.errors import RomError, RuntimeUnavailable
from edgecl.files import write_whole
from edgecl.rom import refill
from edgecl.rom.image import RomImage
from edgecl.rom.lru import Lru, give_back
from edgecl.rom.refill import Refillable
from edgecl.rom.sites import Structure, structure
from edgecl.rom.sockets import Plugs
from edgecl.types import Floats

# Beside its weights a session holds its nodes, its threads' stacks and a plan of memory for each size of batch it has met.
# Measured on lite0 by the growth of the process, `bench --heads`: 1 MB without kernels, 2 MB with 17 of them.
_BESIDE = 2 << 20
_PER_ARRAY = 200  # bytes of a NumPy array that are not its numbers, and its place in a dictionary
NamePath = Callable[[str], Path | None]  # where the cache keeps something, by what it depends on; None: no cache


class OrtHeads:
    """The sessions with plugs of one ROM. Safe with threads.

    options: fresh ones for a session.   path: names a file in the cache.
    """

    def __init__(self, image: RomImage, provider: str, options: Callable[[], ort.SessionOptions], path: NamePath) -> None:
        self._image, self._provider, self._options, self._path = image, provider, options, path
        self._lock = threading.Lock()
        self.kept = Lru(f"heads that act inside ROM {image.rom_id[:12]}")

    def run(self, x: Floats, name: str, plugs: list[Plugs], bound: int) -> Floats:
        """Features of x, the input `name`; plugs: one for all, or, on CUDA, one per picture.   bound: bytes to keep."""
        with self._lock:
            self.kept.bound = bound
        session, feeds = self._on_cpu(plugs[0]) if self._provider == "CPUExecutionProvider" else self._on_cuda(plugs, len(x))
        out: Floats = session.run(None, {name: x, **feeds})[0]
        return out

    def close(self) -> None:
        """Let all sessions go."""
        with self._lock:
            self.kept.clear()

    # -- CPU

    def _on_cpu(self, plugs: Plugs) -> tuple[ort.InferenceSession, Mapping[str, Floats]]:
        form = structure(self._image.sockets, plugs)
        by_form: Hashable = ("session", form)
        by_head: Hashable = ("head", plugs.key)
        with self._lock:
            made = self.kept.get(by_form)
            if made is None:
                graph = self._refillable(form)
                size = len(graph.graph) + graph.sites.nbytes + sum(i.nbytes for i in graph.order.values()) + _BESIDE
                made = (self._session(graph.graph, optimise=False), Refillable(b"", graph.sites, graph.order))
                self.kept.put(by_form, made, size)
                give_back()
            session, graph = made
            feeds = self.kept.get(by_head)
            if feeds is None:
                feeds = graph.feeds(plugs)
                size = sum(array.nbytes + _PER_ARRAY for array in feeds.values())
                self.kept.put(by_head, feeds, size, needed=(by_form,))
        return session, feeds

    def _refillable(self, form: Structure) -> Refillable:
        path = self._path(f"refill {refill.FORM} {form}")
        if path is not None:
            with contextlib.suppress(Exception):  # missing or damaged in any way: it is made again
                data = path.read_bytes()
                if hashlib.sha256(data).hexdigest() == path.with_suffix(".sha256").read_text().strip():
                    return Refillable.from_bytes(data)
        made = refill.refillable(self._image, form, self._optimised)
        if path is not None:
            with contextlib.suppress(OSError):  # a full or read-only disk costs the cache, not the answer
                data = made.to_bytes()
                write_whole(path, data)
                write_whole(path.with_suffix(".sha256"), hashlib.sha256(data).hexdigest().encode())
        return made

    def _optimised(self, graph: bytes) -> bytes:
        """What ONNX Runtime makes of a graph; it gives that only into a file."""
        try:
            with tempfile.TemporaryDirectory(prefix="edgecl-") as folder:
                path = Path(folder) / "optimised.onnx"
                self._session(graph, into=str(path))
                return path.read_bytes()
        except OSError as error:
            raise RomError(f"the ROM's graph cannot be optimised for heads: {error}; make room on the disk") from error

    # -- CUDA

    def _on_cuda(self, plugs: list[Plugs], n: int) -> tuple[ort.InferenceSession, Mapping[str, Floats]]:
        from edgecl.rom import socketed

        if plugs[0].reweighted:
            return self._baked(plugs[0]), {}
        kinds = socketed.needed(plugs)
        key: Hashable = ("session", kinds)
        with self._lock:
            session = self.kept.get(key)
            if session is None:
                graph = socketed.with_inputs(self._image, kinds)
                session = self._session(graph)
                self.kept.put(key, session, len(graph) + _BESIDE)
        return session, socketed.pack(self._image.sockets, kinds, plugs, n)

    def _baked(self, plugs: Plugs) -> ort.InferenceSession:
        """A head with weights of its own is a network of its own: weights cannot differ from picture to picture of a batch."""
        from edgecl.rom.baking import bake

        key: Hashable = ("baked", plugs.key)
        with self._lock:
            session = self.kept.get(key)
            if session is None:
                graph = bake(self._image, plugs)
                session = self._session(graph)
                self.kept.put(key, session, len(graph) + _BESIDE)
        return session

    # -- both

    def _session(self, graph: bytes, optimise: bool = True, into: str = "") -> ort.InferenceSession:
        options = self._options()
        options.optimized_model_filepath = into
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = ort.InferenceSession(graph, options, providers=[provider(self._provider)])
        except Exception as error:
            raise RomError(
                f"ONNX Runtime {ort.__version__} refuses the graph of ROM {self._image.rom_id[:12]} with plugs: {error}"
            ) from error
        if session.get_providers()[0] != self._provider:
            raise RuntimeUnavailable(f"{self._provider} did not start; ONNX Runtime runs {session.get_providers()}")
        session.disable_fallback()
        lighten(session)
        return session


def provider(name: str) -> Any:
    """A provider as ONNX Runtime takes it; TF32 keeps ten bits of the pixels, too few to agree with other runtimes."""
    return (name, {"use_tf32": "0"}) if name == "CUDAExecutionProvider" else name


def lighten(session: Any) -> None:
    """Let go of the model's bytes, which the Python wrapper keeps to open the session on another provider: never done here."""
    if hasattr(session, "_model_bytes"):
        session._model_bytes = b""


_arena = threading.Lock()
_arena_there = False


def share_arena() -> None:
    """One pool of working memory for all sessions of this process that ask for it.

    Else each session keeps one of its own, as large as its largest batch ever needed: 370 MB for 32 pictures on lite0.
    """
    global _arena_there
    with _arena:
        if not _arena_there:
            info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
            with contextlib.suppress(Exception):  # the program we are embedded in has registered one: that one is shared
                ort.create_and_register_allocator(info, None)
            _arena_there = True


def empty_picture(size: int) -> Floats:
    """(1, 3, s, s): something to run where only the run's side effect is wanted."""
    return np.zeros((1, 3, size, size), np.float32)

"""From a ROM's ONNX graph to a TensorRT engine: parsed, asserted, built, and kept under a name made of all that matters.

Precision lives in the ONNX file and nowhere else: the network is strongly typed, TF32 is off, and before anything is built the
parsed network must have the inputs, the output and the types that the ROM's manifest speaks of. An engine is code for one GPU
and its file holds no signature: the digest beside it finds damage, not malice, so the cache is as private as the home it is in.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecl.errors import RomError
from edgecl.files import write_whole
from edgecl.rom import socketed
from edgecl.rom.base import BATCH
from edgecl.rom.image import GRAPH, RomImage
from edgecl.rom.sockets import Plugs
from edgecl.rom.trt_api import TensorRT, logger

_SUFFIX = (".engine", ".head.engine")  # of the ROM's own, and of single heads
BATCHES = (1, 8, BATCH)  # pictures in one call: the fewest, the number it is tuned for, the most
PLAIN = "none"  # beside socketed.KINDS: the ROM's own graph
BAKED = "baked"  # what stands there for an engine with one head as its constants
HEADS_KEPT = 16  # engines of single heads in a folder; those built longest ago go first
FORM = 1  # of the name and of the facts beside an engine
Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]  # (stage, done, total)


@dataclass(frozen=True)
class Target:
    """What an engine is built for. sm: compute capability, "86".   gpu, driver: only where a build depends on them."""

    sm: str
    gpu: str = ""
    driver: str = ""


@dataclass(frozen=True)
class Facts:
    """What was found about one engine before it was built; stands beside it as JSON.

    convolutions: type -> how many answer in it.   quantised: Q/DQ layers.   inputs, outputs: name -> "fp32 (n, 3, 224, 224)".
    """

    built_with: str
    rom_id: str
    sm: str
    sockets: str
    precision: str
    convolutions: Mapping[str, int]
    quantised: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    batches: tuple[int, int, int]
    seconds: float
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Engine:
    """An engine's bytes. path: where it lies, None where it could not be kept.   built: now, and not found in the cache."""

    data: bytes
    facts: Facts
    path: Path | None
    built: bool


def engine(
    image: RomImage,
    sockets: str,
    trt: TensorRT,
    target: Target,
    folder: Path | None,
    say: Say = lambda line: None,
    progress: Progress = lambda stage, done, total: None,
    plugs: Plugs | None = None,
) -> Engine:
    """The engine for `target` from `folder`, or built now and kept there, whole or not at all.

    sockets: "none", one of socketed.KINDS, or "baked" for an engine of the one head with `plugs`: weights of its own can be no
    inputs, see `baking`.   Raises RomError for a graph that TensorRT cannot build or that is not what the manifest says,
    RomMismatch for plugs of another ROM, KeyboardInterrupt when the person stops it; no file is left by any.
    """
    if image.precision == "int8":
        raise RomError(
            f"ROM {image.rom_id[:12]} is INT8 as ONNX Runtime's CPU runs it fastest, with zero points and 32-bit biases, which "
            f"TensorRT does not read. Build engines from the FP16 ROM: edgecl export --precision fp16"
        )
    path = folder / f"{key(image, sockets, trt, target, plugs)}{_SUFFIX[sockets == BAKED]}" if folder else None
    if path and path.exists():
        try:
            return _read(path)
        except (OSError, ValueError, TypeError, KeyError) as error:
            say(f"the engine {path} is damaged ({error}); building it again")
    say(f"building an engine with {trt} for compute capability {target.sm}, sockets: {sockets} ...")
    started = time.monotonic()
    parsed = Parsed(trt, graph_of(image, sockets, plugs))
    found = parsed.check(image, sockets)
    timing = folder / f"timing-{_short(_where(trt, target))}.cache" if folder and not trt.rtx else None
    data = parsed.build(target, timing, progress)
    facts = Facts(
        built_with=str(trt),
        rom_id=image.rom_id,
        sm=target.sm,
        sockets=sockets,
        batches=BATCHES,
        seconds=round(time.monotonic() - started, 2),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        **found,
    )
    if path:
        try:
            write_whole(path, data)
            write_whole(path.with_suffix(".json"), json.dumps(asdict(facts), indent=2).encode())
            _forget_old_heads(path.parent)
        except OSError as error:  # a full or read-only disk costs the cache, not the answer
            say(f"the engine could not be kept in {folder}: {error.strerror}; it will be built again next time")
            path = None
    return Engine(data, facts, path, built=True)


def graph_of(image: RomImage, sockets: str, plugs: Plugs | None = None) -> bytes:
    """The ONNX model that an engine is built from."""
    if sockets == BAKED:
        from edgecl.rom.baking import bake

        return bake(image, plugs or Plugs())
    return image.read(GRAPH) if sockets == PLAIN else socketed.with_inputs(image, sockets)


def _forget_old_heads(folder: Path) -> None:
    """Each head that was ever tried leaves an engine as large as the ROM's: only the newest stay on the disk."""
    kept = sorted(folder.glob(f"*{_SUFFIX[True]}"), key=lambda path: path.stat().st_mtime)
    for old in kept[:-HEADS_KEPT]:
        for beside in (old, old.with_suffix(".json"), old.with_suffix(".kernels")):
            beside.unlink(missing_ok=True)


def key(image: RomImage, sockets: str, trt: TensorRT, target: Target, plugs: Plugs | None = None) -> str:
    """The engine's name: a digest over all that it depends on."""
    plain = (FORM, image.files[GRAPH]["sha256"], image.precision, BATCHES, *_where(trt, target))
    plugged: tuple[Any, ...] = (sockets, socketed.FORM, image.weights, [s.to_dict() for s in image.sockets])
    plugged += (plugs.key, image.rom_id) if plugs else ()  # the free places say what a head's own weights mean
    return _short(plain if sockets == PLAIN else plain + plugged)


def _where(trt: TensorRT, target: Target) -> tuple[str, ...]:
    """TensorRT-RTX builds the same engine on any machine; the others choose by timing on this GPU under this driver."""
    machine = () if trt.rtx else (platform.system(), platform.machine(), target.gpu, target.driver)
    return (trt.name, trt.version, target.sm, *machine)


def _short(parts: tuple[Any, ...]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _read(path: Path) -> Engine:
    """Raises OSError, ValueError, TypeError or KeyError for anything but a whole engine with its facts."""
    data = path.read_bytes()
    raw = json.loads(path.with_suffix(".json").read_text())
    facts = Facts(**{**raw, "batches": tuple(raw["batches"])})
    if hashlib.sha256(data).hexdigest() != facts.sha256:
        raise ValueError("it differs from its digest")
    return Engine(data, facts, path, built=False)


class Parsed:
    """A graph as TensorRT understands it. Raises RomError where it does not."""

    def __init__(self, trt: TensorRT, graph: bytes) -> None:
        self.trt, self._log = trt, logger(trt)
        self._builder = trt.module.Builder(self._log)
        if self._builder is None:
            raise RomError(f"{trt} does not start: {self._log.said()}")
        self.network = self._builder.create_network(trt.network_flags())
        self._parser = trt.module.OnnxParser(self.network, self._log)  # owns the weights until the build is over
        if not self._parser.parse(graph):
            errors = [self._parser.get_error(i) for i in range(self._parser.num_errors)]
            said = "; ".join(f"{e.desc()} (node {e.node_name()}, {e.node_operator()})" for e in errors)
            self._log.said()
            raise RomError(
                f"{trt} cannot read the ROM's graph: {said[:600]}. Another version of TensorRT may know the operator"
            )

    def check(self, image: RomImage, sockets: str) -> dict[str, Any]:
        """What the network is, after it has been compared with the manifest. Raises RomError where they differ."""
        size, network = image.preprocess.size, self.network
        inputs = {"pixels": (3, size, size)} | (socketed.inputs(image.sockets, sockets) if sockets in socketed.KINDS else {})
        for what, wanted, found in (
            ("takes", _described(inputs), self._tensors(network.num_inputs, network.get_input)),
            ("answers", _described({"features": (image.features,)}), self._tensors(network.num_outputs, network.get_output)),
        ):
            if wanted != found:
                raise RomError(
                    f"the network that {self.trt} reads {what} {found}, the manifest says {wanted}; export the ROM again"
                )
        kinds, layers = self.trt.module.LayerType, [network.get_layer(i) for i in range(network.num_layers)]
        types = Counter(self.trt.type_name(la.get_output(0).dtype) for la in layers if la.type == kinds.CONVOLUTION)
        quantised = sum(la.type in (kinds.QUANTIZE, kinds.DEQUANTIZE) for la in layers)
        precision = "int8" if quantised else next((name for name, _ in types.most_common(1)), "unknown")
        if precision != image.precision:
            raise RomError(
                f"the manifest says precision {image.precision}, the graph is {precision}: convolutions {dict(types)}, "
                f"{quantised} quantising layers. Export the ROM again with the precision that is wanted"
            )
        return {
            "precision": precision,
            "convolutions": dict(types),
            "quantised": quantised,
            "inputs": self._tensors(network.num_inputs, network.get_input),
            "outputs": self._tensors(network.num_outputs, network.get_output),
        }

    def _tensors(self, count: int, get: Callable[[int], Any]) -> dict[str, str]:
        return {t.name: f"{self.trt.type_name(t.dtype)} {_shape(tuple(t.shape))}" for t in map(get, range(count))}

    def build(self, target: Target, timing: Path | None, progress: Progress) -> bytes:
        """The engine. timing: file of timed tactics, read and written where the flavour has such."""
        module, config = self.trt.module, self._builder.create_builder_config()
        config.clear_flag(module.BuilderFlag.TF32)
        config.profiling_verbosity = module.ProfilingVerbosity.DETAILED  # so that the inspector names the types
        profile = self._builder.create_optimization_profile()
        for i in range(self.network.num_inputs):
            tensor = self.network.get_input(i)
            profile.set_shape(tensor.name, *((n, *tuple(tensor.shape)[1:]) for n in BATCHES))
        config.add_optimization_profile(profile)
        self.trt.aim(config, target.sm)
        if timing:
            config.set_timing_cache(config.create_timing_cache(timing.read_bytes() if timing.exists() else b""), False)
        monitor = _monitor(module, f"building the engine for {target.sm}", progress)
        config.progress_monitor = monitor
        built = self._builder.build_serialized_network(self.network, config)
        if monitor.raised:
            raise monitor.raised
        if built is None:
            raise RomError(f"{self.trt} cannot build the engine for compute capability {target.sm}: {self._log.said()}")
        progress(monitor.stage, 100, 100)
        if timing:
            with contextlib.suppress(OSError):  # it only saves time
                write_whole(timing, bytes(memoryview(config.get_timing_cache().serialize())))
        return bytes(memoryview(built))


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join('n' if d < 0 else str(d) for d in shape)})"


def _described(tensors: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    return {name: f"fp32 {_shape((-1, *shape))}" for name, shape in tensors.items()}


def _monitor(module: Any, stage: str, progress: Progress) -> Any:
    """Tells `progress` the percentage. What is raised meanwhile, such as Ctrl-C, stops the build; it must not cross C++."""

    class Monitor(module.IProgressMonitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.phases: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps, steps done
            self.raised: BaseException | None = None
            self.shown, self.stage = -1, stage

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.phases[name] = (parent, steps, 0)

        def step_complete(self, name: str, step: int) -> bool:
            try:
                parent, steps, _ = self.phases[name]
                self.phases[name] = (parent, steps, step + 1)
                percent = max(
                    (int(100 * self.share(n)) for n, (above, _, _) in self.phases.items() if above is None), default=0
                )
                if percent > self.shown:
                    self.shown = percent
                    progress(stage, min(percent, 100), 100)
            except BaseException as error:
                self.raised = error
            return self.raised is None

        def phase_finish(self, name: str) -> None:
            self.phases.pop(name, None)

        def share(self, name: str) -> float:
            """How much of a phase is done, with what runs inside it."""
            _, steps, done = self.phases[name]
            inside = max((self.share(n) for n, (above, _, _) in self.phases.items() if above == name), default=0.0)
            return min(1.0, (done + inside) / max(steps, 1))

    return Monitor()

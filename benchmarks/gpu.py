"""Everything that a GPU can show, in one command: is it right, how fast is it, and how far from what the machine could do.

    python benchmarks/gpu.py [--rom DIR] [-o gpu.json]            on any machine with an NVIDIA GPU
    python benchmarks/gpu.py --device cpu --quick                 a trial of the same steps without one

Runtimes that cannot run are named with their reason; those that can are each compared with PyTorch on the CPU first. Pictures
are noise: nothing here depends on what they show. Times include the preprocessing of uint8 pixels and the way to the GPU and
back, but for the roofline, which is of the network alone, in PyTorch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecl import EdgeDevice, config, registry
from edgecl.bench.conditions import conditions
from edgecl.errors import EdgeclError, RuntimeUnavailable
from edgecl.rom.base import Rom
from edgecl.rom.cuda import Gpu
from edgecl.rom.image import WEIGHTS, RomImage
from edgecl.rom.opening import open_rom, rom_folder
from edgecl.rom.parity import compare
from edgecl.rom.sockets import Plugs, norm_of
from edgecl.types import Pixels

HEADS = 14  # in a mixed batch
TOLERANCE = {"fp32": 1e-3, "fp16": 3e-2, "int8": 3e-1}  # of the largest feature, against PyTorch on the CPU


@dataclass(frozen=True)
class Sizes:
    """How much is measured. seconds: of one figure.   copied: bytes, side: of a square GEMM, both for the roofline."""

    batches: tuple[int, ...] = (1, 8, 32, 128)
    mixed: int = 64
    agents: tuple[int, ...] = (1, 2, 4, 8)
    learned: int = 400
    seconds: float = 2.0
    copied: int = 1 << 28
    side: int = 8192


QUICK = Sizes(batches=(1, 4), mixed=8, agents=(1, 2), learned=24, seconds=0.05, copied=1 << 22, side=256)


def main() -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rom", help="ROM image; default: the home's, made on first need")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that everything runs, measures nothing well")
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--methods", default=",".join(registry.HEADS), help="which learn, by comma; default: all")
    options = parser.parse_args()
    try:
        methods = [name.strip() for name in options.methods.split(",")]
        for name in methods:
            registry.check("head method", registry.HEADS, name)
        run(options.rom or "", options.device, methods, QUICK if options.quick else Sizes(), options.output)
    except EdgeclError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(rom: str, device: str, methods: Sequence[str], sizes: Sizes, output: Path) -> None:
    """All parts, one after the other. Raises RuntimeUnavailable where `device` is cuda and there is no GPU."""
    gpu = {}
    if device == "cuda":
        found = Gpu()
        gpu = {"name": found.name, "compute_capability": found.sm, "driver": found.driver}
        found.close()
    folder = rom_folder(rom, config.home(), print)
    image = RomImage.open(folder)
    report: dict[str, Any] = {
        "conditions": conditions("all", device, 0) | {"gpu": gpu},
        "rom": {"rom_id": image.rom_id, "backbone": image.backbone, "precision": image.precision},
        "sizes": vars(sizes),
        "unavailable": {},
    }
    with tempfile.TemporaryDirectory() as cache, open_rom(folder, "pytorch") as reference:
        for name in registry.RUNTIMES:
            if device == "cpu" and name in registry.CUDA_ONLY:
                continue
            try:
                started = time.perf_counter()
                with open_rom(folder, name, device, cache=Path(cache)) as opened:
                    seconds = time.perf_counter() - started
                    title = f"{name} {opened.version} ({opened.provider})"
                    print(f"\n{title}, opened in {seconds:.1f} s")
                    report[name] = {"title": title, "open_s": seconds, **measure(opened, reference, sizes)}
            except EdgeclError as error:
                report["unavailable"][name] = str(error)
                print(f"\n{name}: {error}")
        if not any(name in report for name in registry.RUNTIMES):
            raise RuntimeUnavailable(f"no runtime runs on {device} here: {'; '.join(report['unavailable'].values())}")
        report["learn"] = learn(folder, device, methods, sizes)
        report["roofline"] = roofline(folder, device, sizes)
    output.write_text(json.dumps(report, indent=2))
    print(f"\nwritten: {output}")


def measure(rom: Rom, reference: Rom, sizes: Sizes) -> dict[str, Any]:
    """Parity, throughput, mixed batches and agents of one runtime."""
    found: dict[str, Any] = {"parity": {}, "throughput": {}, "mixed": {}, "agents": {}}
    heads = {"shift": some_heads(rom.image, False), "shift+kernel": some_heads(rom.image, True)} if rom.image.sockets else {}
    pixels = noise(rom, 6)
    asked = {"plain": None} | {f"mixed {kind}": [None, *plugs[:5]] for kind, plugs in heads.items()}
    for what, plugs in asked.items():
        parity = compare(reference.features(pixels, plugs), rom.features(pixels, plugs))
        holds = parity.holds(TOLERANCE[rom.image.precision], 0.99)
        found["parity"][what] = {**parity.to_dict(), "holds": holds}
        row(f"parity, {what}", f"{parity}{'' if holds else '   DIFFERS'}")
    for n in sizes.batches:
        batch = noise(rom, n)
        found["throughput"][n] = rate = per_second(lambda batch=batch: rom.features(batch), n, sizes.seconds)
        row(f"plain, {n} at a time", f"{rate:10.1f} pictures/s   {1e3 / rate:8.3f} ms each")
    batch = noise(rom, sizes.mixed)
    for kind, plugs in heads.items():
        many = [plugs[i % HEADS] for i in range(sizes.mixed)]
        one = per_second(lambda plugs=plugs: rom.features(batch, plugs[0]), sizes.mixed, sizes.seconds)
        all_of_them = per_second(lambda many=many: rom.features(batch, many), sizes.mixed, sizes.seconds)
        found["mixed"][kind] = {"one_head": one, "mixed": all_of_them, "ratio": all_of_them / one}
        row(f"{sizes.mixed} at a time, {kind}", f"one head {one:.1f}, {HEADS} heads {all_of_them:.1f} pictures/s")
    for agents in sizes.agents:
        found["agents"][agents] = rate = shared(rom, agents, sizes.seconds)
        row(f"{agents} agents on one ROM", f"{rate:10.1f} pictures/s together, 8 at a time each")
    return found


def learn(folder: Path, device: str, methods: Sequence[str], sizes: Sizes) -> dict[str, Any]:
    """Seconds to learn one task of noise with each method, with PyTorch: the one runtime that all methods can learn on."""
    found: dict[str, Any] = {}
    print(f"\nlearning {sizes.learned} pictures of 4 classes, PyTorch on {device}")
    for method in methods:
        with tempfile.TemporaryDirectory() as home:
            try:
                with EdgeDevice(home, rom=folder, runtime="pytorch", device=device, feature_cache_mb=0) as edge:
                    pixels = noise(edge.rom, sizes.learned)
                    labels = [i % 4 for i in range(sizes.learned)]
                    for label in range(4):  # a stripe for each class, so that there is something to learn
                        pixels[label::4, 8 * label : 8 * label + 8] = 255
                    started = time.perf_counter()
                    edge.learn_pictures(method, list(pixels), labels, ("a", "b", "c", "d"), method=method)
                    seconds = time.perf_counter() - started
            except EdgeclError as error:
                found[method] = {"refused": str(error)}
                row(method, str(error))
                continue
        found[method] = {"seconds": seconds, "pictures_per_second": sizes.learned / seconds}
        row(method, f"{seconds:8.2f} s, {sizes.learned / seconds:8.1f} pictures/s")
    return found


def shared(rom: Rom, agents: int, seconds: float) -> float:
    """Pictures a second of `agents` threads, each asking the same ROM for eight at a time."""
    batch, done, failed = noise(rom, 8), [0] * agents, []
    rom.features(batch)
    start, until = threading.Barrier(agents), [0.0]

    def work(i: int) -> None:
        try:
            if start.wait() == 0:
                until[0] = time.perf_counter() + seconds
            while not until[0] or time.perf_counter() < until[0]:
                rom.features(batch)
                done[i] += len(batch)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(agents)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return sum(done) / (time.perf_counter() - began)


def roofline(folder: Path, device: str, sizes: Sizes) -> dict[str, Any]:
    """Per stage of the network: what it must compute and move at the least, against its time and the machine's own peaks.

    Peaks are measured, by a copy and by a product of matrices in float32. A stage's bytes are those of its convolutions'
    inputs, outputs and weights, each once; whatever a runtime fuses lies below that.
    """
    from edgecl.rom.pytorch import feature_network, torch

    torch.backends.cudnn.allow_tf32 = False  # or the convolutions would be held against another machine's peak
    image = RomImage.open(folder)
    wait: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None
    one = torch.zeros(sizes.copied // 4, device=device)
    two = torch.empty_like(one)
    square = torch.randn(sizes.side, sizes.side, device=device)
    bandwidth = 2 * sizes.copied * per_second(lambda: (two.copy_(one), wait()), 1, sizes.seconds)
    flops = 2 * sizes.side**3 * per_second(lambda: (square @ square, wait()), 1, sizes.seconds)
    print(f"\nroofline, PyTorch on {device}: {bandwidth / 1e9:.1f} GB/s, {flops / 1e12:.3f} TFLOP/s in float32")
    network, n = feature_network(image.backbone).to(device), sizes.batches[-1]
    stages = dict(_stages(network))
    work: dict[str, list[float]] = {name: [0.0, 0.0] for name in stages}
    times: dict[str, list[float]] = {name: [] for name in stages}
    began: dict[str, float] = {}

    def count(stage: str) -> Callable[..., None]:
        def hook(conv: Any, given: Any, out: Any) -> None:
            moved = given[0].numel() + out.numel() + conv.weight.numel()
            work[stage][0] += 2.0 * out.numel() * conv.weight[0].numel()
            work[stage][1] += 4.0 * moved

        return hook

    def begin(stage: str) -> Callable[..., None]:
        def hook(module: Any, given: Any) -> None:
            wait()
            began[stage] = time.perf_counter()

        return hook

    def end(stage: str) -> Callable[..., None]:
        def hook(module: Any, given: Any, out: Any) -> None:
            wait()
            times[stage].append(time.perf_counter() - began[stage])

        return hook

    x = torch.randn(n, 3, image.preprocess.size, image.preprocess.size, device=device)
    with torch.inference_mode():
        counting = [
            m.register_forward_hook(count(name))
            for name, stage in stages.items()
            for m in stage.modules()
            if isinstance(m, torch.nn.Conv2d)
        ]
        network(x)
        for handle in counting:
            handle.remove()
        for name, stage in stages.items():
            stage.register_forward_pre_hook(begin(name))
            stage.register_forward_hook(end(name))
        per_second(lambda: network(x), n, sizes.seconds)
    found: dict[str, Any] = {"bandwidth": bandwidth, "flops": flops, "batch": n, "stages": {}}
    for name, (needed, moved) in work.items():
        if not needed or not times[name]:
            continue
        seconds = statistics.median(times[name])
        bound = max(needed / flops, moved / bandwidth)
        limit = "compute" if needed / flops > moved / bandwidth else "memory"
        found["stages"][name] = {"flops": needed, "bytes": moved, "seconds": seconds, "bound_s": bound, "limit": limit}
        amounts = f"{needed / 1e9:8.2f} GFLOP {moved / 1e6:9.1f} MB {seconds * 1e3:9.3f} ms"
        row(f"{name}, {n} pictures", f"{amounts}, {bound / seconds:5.0%} of the {limit} bound")
    return found


def _stages(network: Any) -> Iterator[tuple[str, Any]]:
    """The network's children, sequences of blocks taken apart once."""
    for name, child in network.named_children():
        parts = list(child.named_children()) if type(child).__name__ == "Sequential" else []
        if parts:
            yield from ((f"{name}.{inner}", part) for inner, part in parts)
        else:
            yield name, child


def some_heads(image: RomImage, kernels: bool) -> list[Plugs]:
    """Plugs of HEADS heads, as large as learning makes them: a tenth of what the network's norms do there."""
    from safetensors.numpy import load

    weights = load(image.read(WEIGHTS))
    out = []
    for seed in range(HEADS):
        rng = np.random.default_rng(seed)
        shift = {s.name: rng.normal(0, 0.1, s.channels).astype(np.float32) for s in image.sockets}
        kernel = {}
        for socket in image.sockets if kernels else ():
            norm, side = norm_of(socket, weights), 3 if socket.side > 1 else 1
            scale = np.abs(norm.scale)[:, None, None] if norm else 1.0
            kernel[socket.name] = (0.1 / side * scale * rng.normal(size=(socket.channels, side, side))).astype(np.float32)
        out.append(Plugs(shift=shift, kernel=kernel))
    return out


def noise(rom: Rom, n: int) -> Pixels:
    """(n, s, s, 3) uint8."""
    size = rom.preprocess.size
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)


def per_second(call: Callable[[], Any], items: int, seconds: float) -> float:
    """Items a second at the median call, after two calls that are not counted."""
    call(), call()
    times: Sequence[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        call()
        times = [*times, time.perf_counter() - started]
    return items / statistics.median(times)


def row(what: str, found: str) -> None:
    """One line of the table."""
    print(f"  {what:34} {found}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""A sealed FP32 image -> a compacted one: part of its weights is freed for heads, the rest makes up for what is gone.

The published way, pruning step by step while training on the first task, needs that task's pictures: ImageNet is at hand on no
device. So the network is walked once, convolution by convolution, on calibration pictures. Of each row of weights those go
that matter least (magnitude times the root mean square of what they multiply; Sun et al., A Simple and Effective Pruning
Approach for Large Language Models, ICLR 2024), and those that stay are fitted anew, in closed form, so that the convolution
gives what it gave in the uncompacted network, though what it reads has changed. Depthwise convolutions and the first one, a
few hundredths of all weights, lose none and are only fitted.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from edgecl.errors import ConfigError, RomError
from edgecl.rom import image as rom_image
from edgecl.rom.graphs import find, open_graph, set_initializer
from edgecl.rom.image import RomImage
from edgecl.rom.ort import OrtRom
from edgecl.rom.parity import compare
from edgecl.rom.preprocess import normalise
from edgecl.rom.pytorch import PytorchRom, load_network
from edgecl.rom.sockets import Socket, norm_of
from edgecl.rom.torch_compat import torch
from edgecl.types import Pixels
from export import calibrate, gate, verify
from export.gate import Verdict
from export.reduce import require_place
from export.refit import fitted, inputs_at, outputs_at, places_of

PICTURES = 128  # that the walk is made on
MOST = 0.9  # of a layer that can be freed
_STEP = 0.1  # by which the share is lowered while the goal is missed

Places = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Compacted:
    """state: the weights, by name.   free: socket -> freed places of its convolution."""

    state: Mapping[str, NDArray[Any]]
    free: Places


def shares(image: RomImage, share: float) -> dict[str, float]:
    """Socket -> the share of its weights to be freed, such that `share` of all convolutions' weights is.

    Large layers give more: a layer keeps weights in proportion to the sum of its inputs and outputs, not to their product
    (Erdos-Renyi, as in Evci et al., Rigging the Lottery, ICML 2020).
    Raises ConfigError where `share` is more than the network can give.
    """
    shapes = {s.name: image.free[s.name].shape for s in image.sockets}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    give = [s.name for i, s in enumerate(image.sockets) if i and not s.depthwise]
    density = {name: (shapes[name][0] + sizes[name] // shapes[name][0]) / sizes[name] for name in give}
    wanted = share * sum(sizes.values())
    most = MOST * sum(sizes[name] for name in give)
    if not 0 < share < 1 or wanted > most:
        raise ConfigError(
            f"--free {share:g}: a share above 0 is asked, and at most {most / max(1, sum(sizes.values())):.2f} for ROM "
            f"{image.rom_id[:12]}"
        )
    low, high = 0.0, 1 / min(density.values())  # kept: all of them at `high`
    for _ in range(60):
        middle = (low + high) / 2
        found = {name: min(MOST, max(0.0, 1 - middle * density[name])) for name in give}
        low, high = (middle, high) if sum(found[n] * sizes[n] for n in give) > wanted else (low, middle)
    return {name: part for name, part in found.items() if part > 0}


def compact(image: RomImage, share: float, pictures: Pixels, progress: Callable[[str, int, int], None]) -> Compacted:
    """Free `share` of the weights of all convolutions. pictures: (n, s, s, 3) uint8, what the rest is fitted on."""
    wanted = shares(image, share)
    x = torch.from_numpy(normalise(pictures, image.preprocess)).contiguous(memory_format=torch.channels_last)
    network, told = load_network(image), {}
    places: dict[str, Any] = {}

    def listen(socket: Socket) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            q = module.weight[0].numel()
            places[socket.name] = places_of(output.shape, q, socket)
            told[socket.name] = outputs_at(output, places[socket.name])

        return hook

    convs = {s.name: (s, network.get_submodule(s.name)) for s in image.sockets}
    handles = [conv.register_forward_hook(listen(s)) for s, conv in convs.values()]
    with torch.inference_mode():
        network(x)
    for handle in handles:
        handle.remove()
    free: dict[str, NDArray[np.bool_]] = {}

    def fit(socket: Socket, norm: Any) -> Callable[..., None]:
        def hook(module: Any, inputs: Any) -> None:
            read = inputs_at(module, inputs[0], places[socket.name])
            share = wanted.get(socket.name, 0.0)
            weight, bias, gone = fitted(
                module.weight.numpy().astype(np.float64), module.groups, read, told.pop(socket.name), share
            )
            if module.bias is not None:
                bias = bias - module.bias.double().numpy()
            module.weight.copy_(torch.from_numpy(weight))
            if norm is not None:
                norm.running_mean.sub_(torch.from_numpy(bias))
            elif module.bias is not None:
                module.bias.add_(torch.from_numpy(bias))
            if gone.any():
                free[socket.name] = gone
            progress("compacting", len(convs) - len(told), len(convs))

        return hook

    for s, conv in convs.values():
        conv.register_forward_pre_hook(fit(s, network.get_submodule(s.norm) if s.norm else None))
    # One thread for the many small systems: several wait for one another longer than they solve, and give other last bits.
    with torch.inference_mode(), threadpool_limits(1, "blas"):
        network(x)
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    if not all(np.isfinite(v).all() for v in state.values()):
        raise RomError("compacting gave numbers that are not finite; give other calibration pictures (--calibration)")
    return Compacted(state, free)


def written(folder: Path, image: RomImage, made: Compacted, record: Mapping[str, Any], parity: Mapping[str, Any]) -> RomImage:
    """Write a compacted image: the ROM's graph with the new numbers in it."""
    model, weights = open_graph(image)
    for name, node in find(model, weights, image.sockets).items():
        norm = norm_of(node.socket, made.state)
        scale = norm.scale if norm else np.ones(node.socket.channels)
        bias = made.state.get(f"{name}.bias", np.zeros(node.socket.channels)) * scale + (norm.offset if norm else 0)
        folded = made.state[f"{name}.weight"] * scale[:, None, None, None]
        set_initializer(model, node.conv.input[1], folded.astype(np.float32))
        if len(node.conv.input) > 2 or bias.any():  # a bias of zeros is left out by the exporter
            inputs = [*node.conv.input[:2], f"{name}.compacted.bias"]  # not the old name: equal vectors may share one
            del node.conv.input[:]
            node.conv.input.extend(inputs)
            set_initializer(model, inputs[2], bias.astype(np.float32))
    unread = {i.name for i in model.graph.initializer} - {name for node in model.graph.node for name in node.input}
    for one in [i for i in model.graph.initializer if i.name in unread]:
        model.graph.initializer.remove(one)
    return rom_image.write(
        folder,
        backbone=image.backbone,
        features=image.features,
        preprocess=image.preprocess,
        precision="fp32",
        graph=model.SerializeToString(),
        weights=made.state,
        parity=parity,
        made_with=image.made_with,
        sockets=image.sockets,
        free=made.free,
        compacted=record,
    )


def free(
    image: RomImage,
    folder: Path,
    share: float,
    goal: float | None = None,
    *,
    calibration: Path | None = None,
    pictures: Path | None = None,
    labelled: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> RomImage:
    """Write `image` compacted into `folder`, with `share` of its convolutions' weights free, or as much as keeps the goal.

    goal: joint accuracy (task and class) that may be lost, 0..1, on the tasks in `labelled` or on stand-ins; the share is
    lowered by a tenth until it is kept. None: the share is what was asked, whatever it costs, and the manifest says what.
    calibration: folder of pictures that the rest is fitted on; else training pictures of the tasks in `labelled`, or, without
    these, crops of two photographs, which keep less.   pictures: for the comparison with PyTorch.
    Raises RomError where no share keeps the goal, or the graph is not the network; nothing is then written.
    """
    require_place(folder)
    if image.precision != "fp32" or image.compacted:
        what = "compacted already" if image.compacted else image.precision
        raise RomError(f"ROM {image.rom_id[:12]} is {what}; give a plain FP32 image")
    shares(image, share)
    tasks, proxy = gate.labelled(labelled)
    seen = _seen(image, calibration, [] if proxy else tasks)
    compared = verify.sample_pictures(image.preprocess, pictures)
    with tempfile.TemporaryDirectory() as place, OrtRom(image) as reference:
        say(f"learning on the plain ROM: {sum(len(t.train) + len(t.test) for t in tasks)} pictures")
        before = gate.accuracy(reference, tasks)
        tried = share
        while True:
            say(f"freeing {tried:.0%} with {len(seen.pictures)} pictures: {seen.source}")
            made = compact(image, tried, seen.pictures, progress)
            draft = written(Path(tempfile.mkdtemp(dir=place)) / "rom", image, made, {}, {})
            with OrtRom(draft) as compacted, PytorchRom(draft) as same:
                parity = compare(same.features(compared), compacted.features(compared))
                verdict = gate.judge("compacted", reference, compacted, compared, tasks, proxy, before)
            if not parity.holds():
                raise RomError(f"the compacted graph does not match PyTorch: {parity}; nothing was written")
            say(f"{tried:.0%} free: {verdict}")
            if goal is None or verdict.loss <= goal:
                break
            tried = round(tried - _STEP, 6)
            if tried <= 0:
                raise RomError(
                    f"freeing {tried + _STEP:.0%} of the weights already loses {100 * verdict.loss:.2f} points of joint "
                    f"accuracy, the goal allows {100 * goal:.2f}. Nothing was written; calibrate with pictures like those it "
                    f"will see (--calibration)"
                )
        return written(folder, image, made, _record(tried, made, seen, image, goal, verdict), parity.to_dict())


def _seen(image: RomImage, folder: Path | None, tasks: Sequence[gate.Labelled]) -> calibrate.Calibration:
    """The pictures that the walk is made on. No test picture of the tasks is among them, or the gate would judge itself."""
    files = [path for task in tasks for path in task.train]
    if folder is None and files:
        seen = verify.spread(image.preprocess, files, PICTURES)
        if len(seen):
            return calibrate.Calibration(seen, "training pictures of the tasks of --gate")
    return calibrate.calibration(image.preprocess, folder, PICTURES)


def _record(
    share: float, made: Compacted, seen: calibrate.Calibration, image: RomImage, goal: float | None, verdict: Verdict
) -> dict[str, Any]:
    """What the manifest says of how the places became free."""
    total = sum(f.size for f in image.free.values())
    return {
        "share": round(sum(int(f.sum()) for f in made.free.values()) / total, 4),
        "asked": share,
        "goal": goal,
        "against": image.rom_id,
        "calibration": seen.to_dict(),
        "verdict": verdict.to_dict(),
    }

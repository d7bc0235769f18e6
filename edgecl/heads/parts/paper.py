"""BB and CLR learned as published: a fresh linear layer and the plugs together, by Adam, on the pictures as they are.

We depart in one point: the model is selected on a fifth of the training pictures, where BB's reference code selects on the test
split and CLR's on the split that it reports. What is learned is folded into plugs at the end (`sockets.fold`). These recipes
keep no state on disk and cannot be resumed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgecl.errors import ConfigError, RomError
from edgecl.heads.base import Head, Learned, Session, lead
from edgecl.heads.parts import packing
from edgecl.heads.parts.recipe import choose, hold_out, read_pixels
from edgecl.rom.base import Rom
from edgecl.rom.preprocess import normalise
from edgecl.rom.pytorch import load_network
from edgecl.rom.sockets import Norm, Plugs, Socket, fold, onward
from edgecl.rom.surgery import Tensor, depthwise, scrambled_bias
from edgecl.rom.torch_compat import limited, torch
from edgecl.types import Floats, Ints, Pixels, Task

nn = torch.nn
_EVALUATED = 16  # pictures a call


class Bias(torch.nn.Module):
    """One number per channel, from zero; `scrambled`: in the reference code's layout."""

    def __init__(self, channels: int, scrambled: bool = False) -> None:
        super().__init__()
        self.beta, self.scrambled = nn.Parameter(torch.zeros(channels)), scrambled

    def forward(self, x: Tensor) -> Tensor:
        return scrambled_bias(x, self.beta) if self.scrambled else x + self.beta[:, None, None]


class Kernel(torch.nn.Module):
    """A kernel per channel, from the identity."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.r = nn.Parameter(torch.zeros(channels, side, side))
        with torch.no_grad():
            self.r[:, side // 2, side // 2] = 1

    def forward(self, x: Tensor) -> Tensor:
        return depthwise(x, self.r)

    def kernel(self) -> Any:
        """(C, K, K), as folding takes it."""
        return self.r.detach().numpy().astype(np.float64)


class Gated(torch.nn.Module):
    """y = x + a (.) (g (*) x); a starts at zero, so that only a learns at the first step."""

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = (1 / 9) ** 0.5  # the library's start for a depthwise 3x3 convolution
        self.g = nn.Parameter(torch.empty(channels, 3, 3).uniform_(-bound, bound, generator=generator))
        self.a = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.a[:, None, None] * depthwise(x, self.g)

    def kernel(self) -> Any:
        """(C, 3, 3), as folding takes it."""
        out = (self.a[:, None, None] * self.g).detach().numpy().astype(np.float64)
        out[:, 1, 1] += 1
        return out


class Reprogrammed(torch.nn.Module):
    """The network with a layer behind each socket's convolution, and a fresh linear layer on its features."""

    def __init__(
        self, network: torch.nn.Module, sockets: Sequence[Socket], layer: Callable[[Socket], Any], width: int, k: int, seed: int
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.network, self.sockets = network, tuple(sockets)
        self.before = {name: _numbers(norm) for name, norm in self.norms().items()}
        self.layers: dict[str, Any] = {}
        for socket in sockets:
            made = layer(socket)
            if made is None:
                continue
            self.layers[socket.name] = made
            parent, _, leaf = socket.name.rpartition(".")
            setattr(network.get_submodule(parent), leaf, nn.Sequential(network.get_submodule(socket.name), made))
        self.linear = nn.utils.skip_init(nn.Linear, width, k)  # its own start would draw from torch's generator
        with torch.no_grad():
            for value in self.linear.parameters():
                value.uniform_(-(width**-0.5), width**-0.5, generator=generator)

    def convolution(self, name: str) -> Any:
        """The frozen convolution of that socket."""
        module = self.network.get_submodule(name)
        return module[0] if isinstance(module, nn.Sequential) else module

    def norms(self) -> dict[str, Any]:
        """Socket name -> the norm behind it."""
        return {s.name: self.network.get_submodule(s.norm) for s in self.sockets if s.norm}

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.network(x))
        return out


def stops(epoch: int, best_epoch: int, patience: int) -> bool:
    """Whether to stop after `epoch`, counted from 1; `best_epoch` starts at 1."""
    return epoch - best_epoch > patience


def clr_rate(epoch: int, epochs: int = 60) -> float:
    """Adam's step in that epoch, counted from 1: a tenth after each third."""
    return float(1e-3 * 0.1 ** ((epoch - 1) // max(1, epochs // 3)))


def norm_penalty(values: Sequence[Tensor]) -> Tensor:
    """Sum of Euclidean norms, one per tensor, not squared; a tensor of zeros has no slope and is left out."""
    norms = [v.norm() for v in values if bool(v.detach().any())]
    return torch.stack(norms).sum() if norms else torch.zeros(())


def learn_bb(task: Task, rom: Rom, seed: int, false_reject: float, epochs: int, scrambled: bool, session: Session) -> Learned:
    """BB's recipe: at most 100 epochs, batch 32, rate 1e-3, patience 10, norms fixed, no augmentation."""

    _require(task, rom, rom.image.sockets, dict.fromkeys((s.name for s in rom.image.sockets), 0), session)
    if scrambled:
        rom.require(Plugs(scrambled={s.name: np.zeros(s.channels, np.float32) for s in rom.image.sockets}))
    pixels = read_pixels(task, rom)

    def layer(socket: Socket) -> Bias:
        return Bias(socket.channels, scrambled)

    model = Reprogrammed(load_network(rom.image), rom.image.sockets, layer, rom.width, len(task.classes), seed)
    learned = [*model.linear.parameters(), *(made.beta for made in model.layers.values())]
    with limited(rom.threads):
        report = _fit(model, learned, [], task, pixels, rom, seed, epochs or 100, 10, lambda epoch: 1e-3, False, session)
    if scrambled:
        plugs = Plugs(scrambled={name: made.beta.detach().numpy() for name, made in model.layers.items()})
    else:
        plugs = _folded(model, task.name)
    return _head("bb", model, plugs, task, pixels, rom, seed, false_reject, {**report, "scrambled": scrambled})


def learn_clr(
    task: Task, rom: Rom, seed: int, false_reject: float, epochs: int, variant: str, sides: Mapping[str, int], session: Session
) -> Learned:
    """CLR's recipe: at most 60 epochs, batch 32, rate 1e-3 down by thirds, patience 21, norms in training mode, penalty.

    sides: socket name -> side of the kernel there, 0 for none.
    """
    _require(task, rom, rom.image.sockets, sides, session)
    pixels = read_pixels(task, rom)
    generator = torch.Generator().manual_seed(seed + 1)

    def layer(socket: Socket) -> Any:
        if not sides[socket.name]:
            return None
        return Gated(socket.channels, generator) if variant == "gated" else Kernel(socket.channels, sides[socket.name])

    model = Reprogrammed(load_network(rom.image), rom.image.sockets, layer, rom.width, len(task.classes), seed)
    for norm in model.norms().values():
        norm.requires_grad_(True)
    norms = [p for norm in model.norms().values() for p in (norm.weight, norm.bias) if p is not None]
    kernels = [p for made in model.layers.values() for p in made.parameters()]
    penalised = [*model.linear.parameters(), *norms]
    if variant != "gated":
        penalised += kernels
    learned = [*model.linear.parameters(), *norms, *kernels]
    limit = epochs or 60
    with limited(rom.threads):
        report = _fit(
            model, learned, penalised, task, pixels, rom, seed, limit, 21, lambda epoch: clr_rate(epoch, limit), True, session
        )
    return _head("clr", model, _folded(model, task.name), task, pixels, rom, seed, false_reject, {**report, "variant": variant})


def _require(task: Task, rom: Rom, sockets: Sequence[Socket], sides: Mapping[str, int], session: Session) -> None:
    """Raise ConfigError for bounds that the recipe cannot keep, and for a ROM without sockets, before any work."""
    choose(sockets, "all")
    if session.budget is not None:
        raise ConfigError(f"'{task.name}': the recipe 'paper' runs as long as it takes and keeps no budget; leave --budget out")
    if session.resume:
        raise ConfigError(f"'{task.name}': the recipe 'paper' keeps no state on disk to go on from; leave --resume out")
    k = len(task.classes)
    needed = 4 * k * (rom.width + 1) + 2 * sum(s.channels * (1 + sides[s.name] ** 2) for s in sockets)
    if session.head_bytes is not None and needed > session.head_bytes:
        raise ConfigError(
            f"'{task.name}': a head of {k} classes by the recipe 'paper' takes about {needed:,} bytes, "
            f"{max(0, session.head_bytes):,} are left beside anchors and card. Nothing was changed. Allow more"
        )


def _fit(
    model: Reprogrammed,
    learned: Sequence[Tensor],
    penalised: Sequence[Tensor],
    task: Task,
    pixels: Pixels,
    rom: Rom,
    seed: int,
    epochs: int,
    patience: int,
    rate: Callable[[int], float],
    batch_statistics: bool,
    session: Session,
) -> dict[str, Any]:
    """Train in place; the model ends as it was after its best epoch."""
    held, y = hold_out(task.labels, seed), torch.from_numpy(task.labels)
    for value in learned:
        value.requires_grad_(True)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(learned, lr=1e-3)
    best, best_epoch, kept = -1.0, 1, copy.deepcopy(model.state_dict())
    epoch, train, stopped = 0, np.flatnonzero(~held), False
    own = set(model.norms().values())
    apart = [m for m in model.network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m not in own]
    try:
        for epoch in range(1, epochs + 1):
            model.train(batch_statistics)
            for norm in apart:  # no plug could carry statistics of theirs
                norm.eval()
            for group in optimizer.param_groups:
                group["lr"] = rate(epoch)
            order = np.random.default_rng([seed, epoch]).permutation(train)
            for at in np.array_split(order, -(-len(order) // 32)):
                loss = nn.functional.cross_entropy(model(_input(pixels[at], rom)), y[torch.from_numpy(at)])
                if penalised:
                    loss = loss + 1e-5 * norm_penalty(penalised)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            accuracy = _accuracy(model, pixels[held], task.labels[held], rom)
            session.progress("learning as published, epochs at most", epoch, epochs)
            if accuracy > best:
                best, best_epoch, kept = accuracy, epoch, copy.deepcopy(model.state_dict())
            elif stops(epoch, best_epoch, patience):
                break
    except KeyboardInterrupt:
        if best < 0:
            raise
        stopped = True
        session.say(f"stopped in epoch {epoch}; the best so far, epoch {best_epoch}, is kept")
    model.load_state_dict(kept)
    model.eval()
    training = {"epochs": epoch, "best_epoch": best_epoch, "stopped_early": stopped, "torch": str(torch.__version__)}
    return {"recipe": "paper", "training": training}


def _input(pixels: Pixels, rom: Rom) -> Tensor:
    return torch.from_numpy(normalise(pixels, rom.preprocess)).contiguous(memory_format=torch.channels_last)


def _accuracy(model: Reprogrammed, pixels: Pixels, labels: Ints, rom: Rom) -> float:
    model.eval()
    with torch.no_grad():
        parts = [model(_input(pixels[at : at + _EVALUATED], rom)).argmax(1).numpy() for at in range(0, len(pixels), _EVALUATED)]
    return float((np.concatenate(parts) == labels).mean())


def _folded(model: Reprogrammed, task: str) -> Plugs:
    """What the model has learned behind its sockets, as plugs."""
    original, norms = model.before, model.norms()
    shift: dict[str, Floats] = {}
    kernel: dict[str, Floats] = {}
    for socket in model.sockets:
        made, rom = model.layers.get(socket.name), original.get(socket.name)
        own = _numbers(norms[socket.name]) if socket.name in norms else None
        bias = made.beta.detach().numpy().astype(np.float64) if isinstance(made, Bias) else None
        taps = made.kernel() if made is not None and not isinstance(made, Bias) else None
        changed = own is not None and rom is not None and not _same(own, rom)
        s, d = fold(socket, rom, bias=bias, kernel=taps, task=own if changed else None)
        if s is not None and s.any():
            shift[socket.name] = s
        if d is not None:
            kernel[socket.name] = d
    by_name = {socket.name: socket for socket in model.sockets}
    for name in [s.name for s in model.sockets if s.feeds in by_name and s.name in shift and s.name not in kernel]:
        after = by_name[name].feeds
        if after not in kernel:  # the bias moves on through the 1x1 convolution, exactly, and need not travel
            weight = model.convolution(after).weight.detach().numpy()
            moved = onward(shift.pop(name).astype(np.float64), weight, original.get(after))
            shift[after] = (shift.get(after, 0) + moved).astype(np.float32)
    if not shift and not kernel:
        raise RomError(f"'{task}': the recipe has learned nothing behind any socket")
    return Plugs(shift=shift, kernel=kernel)


def _numbers(norm: Any) -> Norm:
    """A batch norm's state in float64."""
    ones = np.ones(norm.num_features)
    gain = ones if norm.weight is None else norm.weight.detach().numpy().astype(np.float64)
    shift = 0 * ones if norm.bias is None else norm.bias.detach().numpy().astype(np.float64)
    mean, variance = (v.numpy().astype(np.float64) for v in (norm.running_mean, norm.running_var))
    return Norm(gain, shift, mean, variance, float(norm.eps))


def _same(a: Norm, b: Norm) -> bool:
    pairs = ((a.gain, b.gain), (a.shift, b.shift), (a.mean, b.mean), (a.variance, b.variance))
    return all(np.array_equal(x, y) for x, y in pairs)


def _head(
    method: str,
    model: Reprogrammed,
    plugs: Plugs,
    task: Task,
    pixels: Pixels,
    rom: Rom,
    seed: int,
    false_reject: float,
    report: dict[str, Any],
) -> Learned:
    """The head with half-precision plugs, where they fit, and the linear layer as its map, reading plugged features only."""
    arrays, layout = packing.plug_arrays(plugs, "float16")
    form = "float16" if all(np.isfinite(a).all() for a in arrays.values()) else "float32"
    arrays, layout = packing.plug_arrays(plugs, form)
    maps = packing.store("w", model.linear.weight.detach().numpy(), "float32")
    settings: dict[str, Any] = {"plugs": layout, "reads": "plugged", "phi": "identity"}
    head = Head(method, task.classes, rom.rom_id, {**maps, "b": model.linear.bias.detach().numpy(), **arrays}, settings)
    held, y = hold_out(task.labels, seed), task.labels
    scored = held if held.any() else np.ones_like(held)
    scores = head.answer(rom, pixels, task.features)
    settings["unknown_below"] = float(np.quantile(lead(scores[scored]), false_reject))
    report |= {
        "validation_accuracy": round(float((scores[scored].argmax(1) == y[scored]).mean()), 4),
        "validation_pictures": int(scored.sum()),
        "plugs": {"sockets": len(model.sockets), "numbers": plugs.nbytes // 4, "form": form},
    }
    return Learned(Head(method, task.classes, rom.rom_id, head.arrays, settings), scores, report)

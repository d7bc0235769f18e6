"""One run of learning plugs in PyTorch: estimate first, then views, the main epochs, the look at what was held out, the rest.

Bounded on every side: pictures, activations kept in memory, seconds. Ctrl-C keeps the best so far; a state on disk after
every epoch lets a run go on after a power cut, to the same bits.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import ConfigError, RomError, RuntimeUnavailable
from edgecl.heads.base import Session
from edgecl.heads.parts import crossfit
from edgecl.heads.parts.checkpoint import Checkpoint
from edgecl.heads.parts.compaction import LEVELS, give_back
from edgecl.heads.parts.folded import FoldedNetwork
from edgecl.heads.parts.recipe import MOST_PICTURES, VIEW_BYTES, Recipe
from edgecl.heads.parts.settled import settled
from edgecl.heads.parts.views import Views, features
from edgecl.rom.base import Rom
from edgecl.rom.overlay import Below
from edgecl.rom.parity import compare
from edgecl.rom.sockets import Plugs
from edgecl.rom.torch_compat import torch
from edgecl.types import Floats, Ints, Pixels, Task

_ALIKE = 0.999  # cosine of features, of the folded network in PyTorch against the runtime; half precision costs 1e-5
TORCH = str(torch.__version__)
_REFRESH_RATE = 0.2  # of the main epochs' peak


class OutOfTime(KeyboardInterrupt):
    """The budget is spent; ends a learning as Ctrl-C does."""


@dataclass
class Trained:
    """What came of a run.

    plugs: exact.   over_rom: makes of plugs above other heads such over the ROM alone, for the runtime.
    tried: (n, d) features of all pictures after the main epochs, which had not seen those held out.
    features: (n, d) of the pictures with some plugs, in PyTorch.
    """

    plugs: Plugs
    over_rom: Callable[[Plugs], Plugs]
    tried: Floats
    features: Callable[[Plugs], Floats]
    report: dict[str, Any]


def run(
    task: Task,
    rom: Rom,
    pixels: Pixels,
    held: NDArray[np.bool_],
    recipe: Recipe,
    sides: Mapping[str, int],
    seed: int,
    key: str,
    session: Session,
    started: float,
    per_fit: float,
    below: Below | None = None,
) -> Trained:
    """Learn the plugs. Raises ConfigError before any work when the estimate exceeds the session's budget.

    started: by the session's clock, when the budget began.   per_fit: seconds of one discriminant.   below: of heads that
    this one stands on.
    """
    device = _device(rom)
    y, k, n = task.labels, len(task.classes), len(task)
    network = FoldedNetwork(rom.image, sides, device, below=below)
    over_rom = below.composed if below else lambda plugs: plugs
    rows = _some(y, held, seed) if n > MOST_PICTURES else np.arange(n)
    train = rows[~held[rows]]
    epochs = recipe.main_epochs(len(train))
    per_lower, per_step, bytes_each, resident = _probe(network, rom, pixels, session, below)
    passes = (recipe.variants + 1) * n, epochs * len(train) + recipe.refresh * len(rows)
    kept = passes[0] * bytes_each <= VIEW_BYTES
    lower = passes[0] if kept else passes[1]  # what is not kept is computed when it is used
    # At the end: four looks at what was learned, one of them by the runtime, and as many fits.
    looks = 4 + (len(LEVELS) if recipe.goal else 0) + (below is not None)
    tail = looks * (n * (per_step / 2 + (0 if kept else per_lower)) + per_fit)
    spent = session.clock() - started
    estimate = spent + lower * per_lower + passes[1] * per_step + (epochs + recipe.refresh) * crossfit.FOLDS * per_fit + tail
    session.say(
        f"'{task.name}': plugs for {len(sides)} of {len(rom.image.sockets)} sockets, {epochs} + {recipe.refresh} epochs of "
        f"{len(train)} pictures in PyTorch ({device}); about {estimate:.0f} s and "
        f"{(resident + kept * passes[0] * bytes_each) / 1e9:.1f} GB"
    )
    if session.budget is not None and estimate > session.budget:
        room = max(0.0, session.budget)
        raise ConfigError(
            f"'{task.name}': learning the plugs would take about {estimate:.0f} s, the budget has {room:.0f} s left. Nothing "
            f"was changed. Allow more, use fewer sockets (--sockets last:10), or learn a linear head"
        )
    done, learning = 0, True

    def tick(pictures: int) -> None:
        nonlocal done
        done += pictures
        session.progress("learning the plugs", min(done, sum(passes)), sum(passes))
        if learning and session.budget is not None and session.clock() - started > session.budget - tail:
            raise OutOfTime

    try:
        views = Views(
            pixels,
            rom.preprocess,
            network.lower,
            variants=recipe.variants,
            seed=seed,
            limit=VIEW_BYTES,
            device=device,
            tick=tick,
        )
    except OutOfTime:
        raise _too_slow(task, session, session.clock() - started) from None
    saved = Checkpoint(session.checkpoint, key, session.resume) if session.checkpoint else None
    if saved and not session.resume and saved.path.exists():
        session.say("the state of an earlier learning of this task is overwritten; --resume would have gone on with it")
    if saved and session.resume:
        session.say(
            "going on from the state on disk" if saved.found else "there is no state on disk to go on from: a fresh start"
        )
    main = crossfit.Schedule(epochs, recipe.batch, recipe.rate)
    plain = features(network.upper, views, n) if below else task.features
    try:
        did, losses = crossfit.learn(
            network, views, y, k, plain, main, seed=seed, rows=train, saved=saved, stage="main", tick=tick
        )
    except OutOfTime:
        raise _too_slow(task, session, session.clock() - started) from None
    learning = False  # the looks at what was learned are what the tail is for
    with settled(session.say):
        compacted = give_back(network, recipe.own, recipe.goal, lambda: features(network.upper, views, n), y, k, held)
        tried = features(network.upper, views, n)
    learning, refreshed = True, 0
    if did == epochs and recipe.refresh:
        short = crossfit.Schedule(recipe.refresh, recipe.batch, recipe.rate * _REFRESH_RATE)
        try:
            refreshed, more = crossfit.learn(
                network, views, y, k, tried, short, seed=seed + 1, rows=rows, saved=saved, stage="refresh", tick=tick
            )
            losses += more
        except KeyboardInterrupt:
            session.say("stopped: the plugs of the main epochs are kept")
    learning = False
    stopped = did < epochs or refreshed < recipe.refresh
    if stopped:
        session.say(f"stopped after {did + refreshed} of {epochs + recipe.refresh} epochs; the best so far is kept")

    def with_plugs(plugs: Plugs) -> Floats:
        network.set(plugs)
        return features(network.upper, views, n)

    report = {
        "training": {
            "epochs": did + refreshed,
            "stopped_early": stopped,
            "pictures": len(rows),
            "loss": [round(v, 4) for v in losses],
            "estimated_seconds": round(estimate, 1),
            "seconds": round(session.clock() - started, 1),
            "device": device,
            "torch": TORCH,
        },
        **compacted,
    }
    return Trained(network.plugs(), over_rom, tried, with_plugs, report)


def kernels() -> str:
    """What the bits of a sum depend on besides its terms."""
    return f"torch {TORCH}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def _too_slow(task: Task, session: Session, seconds: float) -> ConfigError:
    return ConfigError(
        f"'{task.name}': after {seconds:.0f} s of learning the plugs, the budget of {session.budget:.0f} s leaves no time "
        f"for a first epoch; the machine was slower than estimated. Nothing was changed. Allow more, or learn a linear head"
    )


def _some(labels: Ints, held: NDArray[np.bool_], seed: int) -> Ints:
    """MOST_PICTURES rows, drawn by `seed`; those that are not held out keep a few of each class, or no fold could score it."""
    k = int(labels.max()) + 1
    if crossfit.FOLDS * k > MOST_PICTURES:
        raise ConfigError(
            f"plugs learn from {MOST_PICTURES} pictures at most, too few for {k} classes; learn a linear head for so many"
        )
    order = np.random.default_rng([seed, 6]).permutation(len(labels))
    few = np.zeros(len(labels), np.bool_)
    for c in range(k):
        few[order[(labels[order] == c) & ~held[order]][: crossfit.FOLDS]] = True
    order = np.concatenate([order[few[order]], order[~few[order]]])
    return np.sort(order[:MOST_PICTURES])


def _device(rom: Rom) -> str:
    """Where plugs learn: on the GPU when the ROM runs there."""
    if rom.provider.lower().startswith(("cuda", "tensorrt")):
        if not torch.cuda.is_available():
            raise RuntimeUnavailable(
                f"the ROM runs on {rom.provider}, but torch {torch.__version__} sees no GPU to learn plugs on; install a CUDA "
                f"build of torch, or learn with --device cpu"
            )
        return "cuda"
    return "cpu"


def _wait_for(device: str) -> None:
    """A GPU answers before it has worked."""
    if device == "cuda":
        torch.cuda.synchronize()


def _probe(
    network: FoldedNetwork, rom: Rom, pixels: Pixels, session: Session, below: Below | None
) -> tuple[float, float, int, int]:
    """Try everything once before the work: that the network is the ROM's, with what is below, and that the runtime takes plugs.

    Returns seconds a picture below and above the cut, bytes of a picture at the cut, and bytes of the process's memory with
    one pass of the learning in it.
    """
    some = np.resize(np.arange(len(pixels)), crossfit.PART)
    views = Views(pixels[some], rom.preprocess, network.lower, variants=0, seed=0, limit=0, device=network.device)
    rows = np.arange(crossfit.PART)
    seconds = []
    for _ in range(4):  # the first one also builds the kernels, and another process may get in the way of any
        at = session.clock()
        x = views.batch(0, rows)
        _wait_for(network.device)
        middle = session.clock()
        torch.autograd.grad(network.upper(x).square().mean(), [value for _, value in network.parameters()])
        _wait_for(network.device)
        seconds.append((middle - at, session.clock() - middle))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    with torch.no_grad():
        found = network.upper(views.batch(0, rows)).float().cpu().numpy()
    start = below.composed(network.plugs()) if below else network.plugs()
    agreement = compare(rom.features(pixels[some], start if below else None), found)
    if not agreement.cosine >= _ALIKE:
        raise RomError(
            f"the network of ROM {rom.rom_id[:12]} as plugs learn in it answers otherwise than the ROM on {rom.runtime} "
            f"({agreement}); only linear heads can be learned on it"
        )
    rom.features(pixels[:1], start)  # still zeros; a runtime that cannot take them says so now
    lower, step = (min(of_part) for of_part in zip(*seconds[1:], strict=True))
    return lower / crossfit.PART, step / crossfit.PART, views.bytes_each, peak

"""What a training step of CPG costs against a plain step of the same network.

    python benchmarks/cpg_step.py [--net vgg16_bn] [--width 0.25] [--batch 32] [--steps 4] [--blocks 15] [--threads 1]

Plain: PyTorch's fused SGD with momentum, Nesterov and weight decay over all parameters. CPG: a task's phase A, of the first
task, which has nothing to pick, and of a later one that owns half of the weights and picks of the other half; and phase B of a
later one, in which picks stay. All take turns with the plain step in blocks of some steps; a block counts by its quickest step,
in seconds of the processor, and each kind's ratio is the median over the blocks: what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from edgecl.learners.cpg.job import Job
from edgecl.learners.cpg.settings import Config
from edgecl.learners.cpg.state import State
from edgecl.learners.cpg.steps import MOMENTUM
from edgecl.learners.cpg.training import Work, new_head

TARGET = 1.25
CLASSES, SIDE, LR = 5, 32, 1e-4  # so small that nothing runs away on random pictures


def state(job: Job, task: int, share: float) -> State:
    """Before phase A of `task`, which owns that share of each layer; task 1 owns the rest."""
    start, draw = job.start(), np.random.default_rng(0)
    owners = {n: np.where(draw.random(w.shape) < share, task, 1).astype(np.uint8) for n, w in start.weights.items()}
    head = new_head(job.network(1.0).features, CLASSES, False, torch.Generator().manual_seed(0))
    return replace(start, owners=owners, head=head)


def plain(job: Job, x: torch.Tensor, y: torch.Tensor) -> Callable[[], object]:
    """What anybody would write."""
    work = Work(job.network(1.0), state(job, 1, 1.0), 1, job.config)
    module, head = work.net.module, work.head
    values = [*module.parameters(), *head.values()]
    sgd = torch.optim.SGD(values, LR, momentum=MOMENTUM, nesterov=True, weight_decay=job.config.decay, fused=True)
    module.train()

    def step() -> object:
        sgd.zero_grad()
        scores = torch.nn.functional.linear(module(x), head["weight"], head["bias"])
        torch.nn.functional.cross_entropy(scores, y).backward()
        sgd.step()
        return int((scores.detach().argmax(1) == y).sum())

    return step


def ours(job: Job, x: torch.Tensor, y: torch.Tensor, task: int, mask_lr: float) -> Callable[[], object]:
    """A step of `Work.train`."""
    before = state(job, task, 1.0 if task == 1 else 0.5)
    work = Work(job.network(1.0), before if task == 1 else before.fresh_scores(), task, job.config)
    steps = work.steps(mask_lr)
    steps.set_rates(LR, mask_lr)
    work.net.module.train()
    return lambda: work.step(x, y, steps, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--net", default="vgg16_bn")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="a block")
    parser.add_argument("--blocks", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    config = Config(net=a.net, width=a.width, batch=a.batch)
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(a.batch, 3, SIDE, SIDE, generator=draw), torch.randint(CLASSES, (a.batch,), generator=draw)
    shape = (SIDE, SIDE, 3)
    jobs = [Job("cpg", shape, CLASSES, 0, config) for _ in range(4)]
    kinds = {
        "plain": plain(jobs[0], x, y),
        "first task": ours(jobs[1], x, y, 1, config.mask_lr),
        "later task, picking": ours(jobs[2], x, y, 2, config.mask_lr),
        "later task, pruning": ours(jobs[3], x, y, 2, 0.0),
    }
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for step in kinds.values():
        step()  # optimisers make their arrays
    for _ in range(a.blocks):
        for name, step in kinds.items():
            seconds = []
            for _ in range(a.steps):
                began = time.process_time()
                step()
                seconds.append(time.process_time() - began)
            taken[name].append(min(seconds))
    base = np.array(taken["plain"])
    print(f"{a.net}, width {a.width:g}, batch {a.batch}, {a.threads} threads; plain {np.median(base) * 1e3:.1f} ms a step")
    print(f"target: at most {TARGET:g} times a plain step")
    for name, seconds in taken.items():
        ratio = np.array(seconds) / base
        print(f"{name:20} {np.median(ratio):.3f}  (quarter {np.quantile(ratio, 0.25):.3f} to {np.quantile(ratio, 0.75):.3f})")


if __name__ == "__main__":
    main()

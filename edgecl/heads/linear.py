"""The linear head: one affine map from ROM features to class scores.

Default recipe, closed form: shrinkage discriminant analysis on square-rooted, unit-length features. With class means m_j,
within-class residuals R (n rows) and a ridge g, A = R'R/n + g I, and class j scores -(z - m_j)'A^-1(z - m_j)/2 less what is
common to all classes: affine in z = phi(x). Every training picture is also scored exactly as if it had been left out
(rank-one downdates, no refits). These scores pick g, set the temperature and the unknown-class threshold, undo the handicap
of classes with few pictures, and are the validation accuracy. Nothing is random. Classes are taken to be equally likely.

`recipe="paper"`: cross-entropy with Adam on plain features (Ge et al., Lightweight Learner for Shared Knowledge Lifelong
Learning, TMLR 2023). We depart in one point: the model is selected on a fifth of the training pictures, where the reference
code selects on the test pictures.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import BundleError, ConfigError, MissingDependency
from edgecl.heads.base import Head, Learned, lead
from edgecl.rom.base import Rom
from edgecl.space import unit_sqrt
from edgecl.types import Floats, Ints, Task

# g as a share of the features' total variance: 0.001 had the best leave-one-out accuracy over the benchmark's tasks.
_RIDGE = 1e-3
_RIDGES = _RIDGE * np.geomspace(0.1, 100, 13)
_TRUST = 2.0  # how firmly it is expected: weight of log(g / _RIDGE)^2 against the sum of the log losses
_HALF_BOUND = 1e-2  # float16 is kept when no training score moves by more; scores are logits
_LARGEST = 1e12  # of a stored number; beyond it float32 scores overflow, and a probability would be no number

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Config:
    recipe: str = "default"  # or "paper"
    seed: int = 0  # of the paper recipe's split, start and order; the default recipe draws nothing
    false_reject: float = 0.02  # share of a class's own pictures that may be called "unknown class"
    epochs: int = 100  # paper: at most
    patience: int = 10  # paper: epochs without a better one before stopping
    batch: int = 32  # paper
    learning_rate: float = 1e-3  # paper: per step, Adam

    def __post_init__(self) -> None:
        if self.recipe not in ("default", "paper"):
            raise ConfigError(f"the linear head has no recipe '{self.recipe}'; known are default and paper")
        if not 0 < self.false_reject < 0.5 or min(self.epochs, self.patience, self.batch) < 1 or self.learning_rate <= 0:
            raise ConfigError(f"a setting of the linear head is out of range: {asdict(self)}")


def learn(task: Task, rom: Rom, config: Config, previous: Head | None = None) -> Learned:
    """Fit one affine map from ROM features to the task's classes; `previous` is ignored, each task starts afresh.

    Each class needs two pictures or more. Returns the head, its held-out scores (n, k), and a report.
    """
    x, y, k = task.features, task.labels, len(task.classes)
    if config.recipe == "paper":
        w, b, held_out, scored, report = _adam(x, y, k, config)
        settings: dict[str, Any] = {"phi": "identity"}
    else:
        w, b, held_out, report = _discriminant(x, y, k)
        scored = np.arange(len(y))
        settings = {"phi": "unit_sqrt"}
    typical = lead(held_out[scored].astype(np.float32))
    settings |= {"recipe": config.recipe, "unknown_below": float(np.quantile(typical, config.false_reject))}
    w32, half = w.astype(np.float32), w.astype(np.float16)
    z = _PHI[settings["phi"]](x)
    moved = float(np.abs(z @ (w32 - half.astype(np.float32)).T).max()) if np.isfinite(half).all() else np.inf
    arrays = {"w": half if moved <= _HALF_BOUND else w32, "b": b.astype(np.float32)}
    head = Head("linear", task.classes, rom.rom_id, arrays, settings)
    accuracy = float((held_out[scored].argmax(1) == y[scored]).mean())
    report |= {
        "validation_accuracy": round(accuracy, 4),
        "validation_pictures": len(scored),
        "weights_dtype": str(arrays["w"].dtype),
        "float16_score_change": round(moved, 6) if np.isfinite(moved) else None,
    }
    return Learned(head, held_out.astype(np.float32), report)


def scores(head: Head, features: Floats) -> Floats:
    """Calibrated logits (n, k) float32 from features (n, d); a float16 map is widened first, so the arithmetic is float32."""
    z = _PHI[head.settings["phi"]](features)
    out: Floats = z @ np.asarray(head.arrays["w"], np.float32).T + head.arrays["b"]
    return out


def check(head: Head) -> None:
    """Raise BundleError unless `head` has a map w (k, d) and b (k,), and settings that `scores` knows."""
    k, arrays = len(head.classes), head.arrays
    if set(arrays) != {"w", "b"} or arrays["w"].ndim != 2 or arrays["w"].shape[0] != k or arrays["b"].shape != (k,):
        shapes = {name[:20]: value.shape for name, value in list(arrays.items())[:4]}
        raise BundleError(f"a linear head of {k} classes needs w ({k}, d) and b ({k},), it has {shapes}")
    if not arrays["w"].size or any(not float(np.abs(a).max()) < _LARGEST for a in arrays.values()):
        raise BundleError("a linear head needs numbers that scores can be made of, and one feature or more")
    if any(a.dtype.kind != "f" for a in arrays.values()) or head.settings.get("phi") not in list(_PHI):
        raise BundleError(
            f"a linear head needs float arrays and phi in {sorted(_PHI)}, it has phi {str(head.settings.get('phi'))[:40]!r}"
        )
    below = head.settings.get("unknown_below", 0.0)
    if isinstance(below, bool) or not isinstance(below, (int, float)) or not abs(below) < _LARGEST:
        raise BundleError("a linear head's unknown_below must be a finite number")


def width(head: Head) -> int:
    """d of the features that the map takes."""
    return int(head.arrays["w"].shape[1])


def _identity(x: Floats) -> Floats:
    return x


_PHI = {"identity": _identity, "unit_sqrt": unit_sqrt}


def _log_loss(s: Doubles, y: Ints) -> float:
    s = s - s.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(s).sum(1)) - s[np.arange(len(y)), y]))


def _leave_out(dist: Doubles, y: Ints, cross: Doubles, count: Doubles) -> Doubles:
    """(n, k) squared distances v'A^-1 v to the class means -> the same had picture i been in neither means nor A.

    v = z_i - m_j, cross[i, j] = v'A^-1 r_i with r_i = z_i - m_y(i); count: (k,) pictures per class.
    """
    i, c = np.arange(len(y)), count[y]
    a = c / np.maximum(c - 1, 1)  # without i, n A loses a r r', and its class mean moves so that v = a r
    room = np.maximum(1 - a * cross[i, y] / len(y), 1e-9)
    out: Doubles = dist + (a / room / len(y))[:, None] * cross**2
    out[i, y] = a * a * dist[i, y] / room
    alone = c == 1  # nothing is left of its class: a miss
    out[i[alone], y[alone]] = 2 * out[alone].max(1) + 1e-9
    return out


def _discriminant(x: Floats, y: Ints, k: int) -> tuple[Doubles, Doubles, Doubles, dict[str, Any]]:
    """The default recipe: w (k, d), b (k,), left-out scores (n, k), report."""
    z = unit_sqrt(x).astype(np.float64)
    center = z.mean(0)
    z -= center
    n, i, count = len(y), np.arange(len(y)), np.bincount(y, minlength=k).astype(np.float64)
    means = np.eye(k)[y].T @ z / count[:, None]
    r, size = z - means[y], (z * z).sum(1)
    total = max(float(size.mean()), 1e-12)
    if n <= z.shape[1]:  # A's axes (rows) and the variances along them, from the smaller of the two Gram matrices
        var, u = np.linalg.eigh(r @ r.T / n)
        some = var > 1e-9 * total
        var, axes = var[some], (u[:, some] / np.sqrt(var[some] * n)).T @ r
    else:
        var, columns = np.linalg.eigh(r.T @ r / n)
        axes = columns.T
    zp, mp, zm, mm = z @ axes.T, means @ axes.T, z @ means.T, means @ means.T
    others = 1 / np.maximum(count - np.eye(k)[y], 1)  # one over a class's pictures, i left out
    seen = count[y] > 1 if count.max() > 1 else count[y] > 0
    best: tuple[Any, ...] = (np.inf,)
    for g in _RIDGES * total:
        shrink = 1 / (var + g) - 1 / g  # A^-1 = I / g + axes' diag(shrink) axes
        gz, gm = zm / g + (zp * shrink) @ mp.T, mm / g + (mp * shrink) @ mp.T
        dist = np.maximum((size / g + zp**2 @ shrink)[:, None] - 2 * gz + np.diag(gm), 0)
        cross = (dist + dist[i, y][:, None] - (np.diag(gm)[:, None] + np.diag(gm) - 2 * gm)[y]) / 2
        dist = _leave_out(dist, y, cross, count)
        noise = np.mean(dist[i, y][seen] / (1 + others[i, y][seen]))
        s = (noise * others - dist) / 2  # a mean of c pictures lies noise / c too far from everything
        for t in max(s.std(), 1e-9) * np.geomspace(0.02, 4, 40):
            loss = _log_loss(s[seen] / t, y[seen]) + _TRUST * np.log(g / total / _RIDGE) ** 2 / n
            if loss < best[0]:
                best = loss, g, t, s, (means / g + (mp * shrink) @ axes) / t, (noise / count - np.diag(gm)) / 2 / t
    loss, g, t, s, w, b = best
    held_out = (s - s.mean(1, keepdims=True)) / t
    report = {
        "ridge": float(g / total),
        "temperature": float(t),
        "validation_log_loss": round(_log_loss(held_out[seen], y[seen]), 4),
    }
    return w, b - w @ center, held_out, report


def _adam(x: Floats, y: Ints, k: int, config: Config) -> tuple[Doubles, Doubles, Doubles, Ints, dict[str, Any]]:
    """The paper's recipe: w (k, d), b (k,), scores (n, k), indices of the held-out pictures, report."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependency("recipe 'paper' trains in PyTorch; add the extra: pip install 'edgecl[learn]'") from error
    order = np.random.default_rng(config.seed).permutation(len(y))
    held = np.zeros(len(y), np.bool_)
    for c in range(k):  # a fifth of each class, one picture at least
        own = order[y[order] == c]
        held[own[: max(1, len(own) // 5)]] = True
    generator = torch.Generator().manual_seed(config.seed)
    features, labels = torch.from_numpy(x), torch.from_numpy(y)
    layer = torch.nn.utils.skip_init(torch.nn.Linear, x.shape[1], k)  # its own start would draw from torch's generator
    with torch.no_grad():
        for value in layer.parameters():
            value.uniform_(-(x.shape[1] ** -0.5), x.shape[1] ** -0.5, generator=generator)
    optimizer = torch.optim.Adam(layer.parameters(), lr=config.learning_rate)
    train, validation = torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))
    best, best_epoch, kept = -1.0, 1, {n: v.clone() for n, v in layer.state_dict().items()}
    epoch = 0
    for epoch in range(1, config.epochs + 1):
        for batch in train[torch.randperm(len(train), generator=generator)].split(config.batch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(features[batch]), labels[batch]).backward()
            optimizer.step()
        with torch.inference_mode():
            accuracy = float((layer(features[validation]).argmax(1) == labels[validation]).float().mean())
        if accuracy > best:
            best, best_epoch, kept = accuracy, epoch, {n: v.clone() for n, v in layer.state_dict().items()}
        elif epoch - best_epoch > config.patience:
            break
    w, b = kept["weight"].double().numpy(), kept["bias"].double().numpy()
    return w, b, x @ w.T + b, np.flatnonzero(held), {"epochs": epoch, "best_epoch": best_epoch}

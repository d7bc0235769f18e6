"""The linear head: one affine map from ROM features to class scores.

Default recipe, closed form: shrinkage discriminant analysis (`parts.discriminant`) on square-rooted, unit-length features.
Its exact leave-one-out scores pick the ridge, set the temperature and the unknown-class threshold, undo the handicap of
classes with few pictures, and are the validation accuracy. Nothing is random. Classes are taken to be equally likely.

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
from edgecl.heads.base import QUIET, Head, Learned, Session, lead
from edgecl.heads.parts import discriminant
from edgecl.rom.base import Rom
from edgecl.rom.sockets import Plugs
from edgecl.space import unit_sqrt
from edgecl.types import Floats, Ints, Task

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


def learn(task: Task, rom: Rom, config: Config, previous: Head | None = None, session: Session = QUIET) -> Learned:
    """Fit one affine map from ROM features to the task's classes; `previous` is ignored, each task starts afresh.

    Each class needs two pictures or more. Returns the head, its held-out scores (n, k), and a report.
    """
    x, y, k = task.features, task.labels, len(task.classes)
    needed = k * (2 * x.shape[1] + 4)
    if session.head_bytes is not None and needed > session.head_bytes:
        raise ConfigError(
            f"'{task.name}': a linear head of {k} classes takes {needed:,} bytes, {max(0, session.head_bytes):,} are left "
            f"beside anchors and card. Nothing was changed. Allow more"
        )
    if config.recipe == "paper":
        w, b, held_out, scored, report = _adam(x, y, k, config)
        settings: dict[str, Any] = {"phi": "identity"}
    else:
        d = discriminant.fit(unit_sqrt(x), y, k)
        w, b, held_out = d.w, d.b, d.held_out
        report = {"ridge": d.ridge, "temperature": d.temperature, "validation_log_loss": round(d.log_loss, 4)}
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


def scores(head: Head, features: Floats, plugged: Floats | None = None) -> Floats:
    """Calibrated logits (n, k) float32 from features (n, d); a float16 map is widened first, so the arithmetic is float32."""
    z = _PHI[head.settings["phi"]](features)
    out: Floats = z @ np.asarray(head.arrays["w"], np.float32).T + head.arrays["b"]
    return out


def merge(a: Head, b: Head, a_counts: Ints, b_counts: Ints, order: Ints) -> Head:
    """The mean of two maps of the same k classes, class by class weighted by the pictures (k,) they were made from.

    order: (k,), where b has a's classes. A mean of two scores is no surer than they are, though oftener right, so probabilities
    err to the low side. The lower of the two thresholds stays: no more of the known pictures become "unknown class".
    Raises BundleError for maps that do not read features alike.
    """
    if any(a.settings.get(key) != b.settings.get(key) for key in ("phi", "recipe")) or a.width != b.width:
        raise BundleError("the two linear heads do not read features alike; they cannot be merged")
    share = a_counts / (a_counts + b_counts)

    def centred(array: NDArray[Any]) -> Doubles:  # what is common to all classes means nothing, and must not be weighted
        wide: Doubles = np.asarray(array, np.float64)
        out: Doubles = wide - wide.mean(0)
        return out

    w = share[:, None] * centred(a.arrays["w"]) + (1 - share[:, None]) * centred(b.arrays["w"])[order]
    bias = share * centred(a.arrays["b"]) + (1 - share) * centred(b.arrays["b"])[order]
    dtype = np.result_type(a.arrays["w"].dtype, b.arrays["w"].dtype)
    settings = {**a.settings, "unknown_below": min(a.unknown_below, b.unknown_below)}
    if not np.isfinite(settings["unknown_below"]):
        del settings["unknown_below"]
    return Head("linear", a.classes, a.rom_id, {"w": w.astype(dtype), "b": bias.astype(np.float32)}, settings)


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


def plugs(head: Head) -> Plugs:
    """None: the head reads plain features."""
    return Plugs()


def width(head: Head) -> int:
    """d of the features that the map takes."""
    return int(head.arrays["w"].shape[1])


def _identity(x: Floats) -> Floats:
    return x


_PHI = {"identity": _identity, "unit_sqrt": unit_sqrt}


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

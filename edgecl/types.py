"""Frozen values that every part speaks. `n, d, k` are samples, features, classes everywhere."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import ConfigError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]
Arrays = Mapping[str, NDArray[Any]]

Opinion = tuple[str, str | None, float]  # name, label or None, confidence

_BLANK_LETTERS = "\u115f\u1160\u3164\uffa0"  # Hangul fillers: letters by category, nothing to see


def task_name(name: str) -> str:
    """The task's name in its one accepted form (NFC), or ConfigError.

    A name is a key in banks and a part of file names on other people's devices, so it must not be a path, must print on
    one line, and must look the same to two people who compare it: letters, digits, `_ . -` and inner spaces, at most 64.
    """
    name = unicodedata.normalize("NFC", name)
    ends = [c for c in (name[:1], name[-1:]) if c]
    good = (
        0 < len(name) <= 64
        and all(_is_word(c) or c in "-. " for c in name)
        and all(_is_word(c) for c in ends)
        and unicodedata.category(name[0])[0] != "M"  # a mark needs a letter before it
        and unicodedata.normalize("NFKC", name) == name  # no ligatures, no full-width twins of other letters
    )
    if not good:
        shown = name.encode("unicode_escape").decode()[:80]
        raise ConfigError(
            f"'{shown}' cannot be a task name: use 1 to 64 letters, digits, '_', '-', '.' or inner spaces, beginning and "
            f"ending with a letter, digit or '_' (a path to the pictures goes into --data)"
        )
    return name


def _is_word(character: str) -> bool:
    """A letter, a mark on one, a digit or an underscore, that can be seen."""
    return character == "_" or (unicodedata.category(character)[0] in "LMN" and character not in _BLANK_LETTERS)


@dataclass(frozen=True)
class Task:
    """What a head is learned from.

    features: (n, d) float32, plain ROM features, read through the deployed runtime.   labels: (n,) int64 in 0..k-1.
    pictures: where the n pictures are, for methods that must look again; may be empty.   digests: sha256 of the n pictures'
    bytes, "" where they have none; may be empty.
    """

    name: str
    classes: tuple[str, ...]
    features: Floats
    labels: Ints
    pictures: tuple[Any, ...] = ()
    digests: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture.

    task, label: what it is, or None where the answer is "unknown"; `unknown` is then "task" or "class".
    confidence: probability of `label` (or of the nearest class) by the head's calibrated softmax, 0..1.
    strangeness: how far the picture lies from its nearest task, as a share of that task's limit; above 1 the task is called
        unknown. The limit is set so that a stated share (5 %) of the task's own held-out pictures lies above it.
    nearest_task, nearest_label: the best guess also where the answer is "unknown".
    error: why there is no answer; every other field is then empty.
    opinions: where they were asked for: the name of each second opinion on the task, its label (None: "unknown class"), and how
        sure it is.
    """

    source: str
    task: str | None = None
    label: str | None = None
    confidence: float = 0.0
    strangeness: float = 0.0
    unknown: str | None = None
    nearest_task: str | None = None
    nearest_label: str | None = None
    top: tuple[tuple[str, float], ...] = field(default=())
    error: str | None = None
    opinions: tuple[Opinion, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as every interface gives them: `error` alone, or all the others."""
        if self.error is not None:
            return {"picture": self.source, "error": self.error}
        return {
            "picture": self.source,
            "task": self.task,
            "class": self.label,
            "unknown": self.unknown,
            "confidence": round(self.confidence, 6),
            "strangeness": round(self.strangeness, 6),
            "nearest_task": self.nearest_task,
            "nearest_class": self.nearest_label,
            "top": [[label, round(p, 6)] for label, p in self.top],
            **({"opinions": [[n, label, round(p, 6)] for n, label, p in self.opinions]} if self.opinions else {}),
        }

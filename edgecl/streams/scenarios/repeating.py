"""What permuted and rotated share: every sample in every experience, changed another way in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgecl.errors import ConfigError
from edgecl.streams.base import Dataset, Experience, Samples, Stream

_MOST = 1000  # domains; each holds all samples


def check_domains(scenario: str, domains: int) -> None:
    """Raise ConfigError where so many domains cannot be made."""
    if not 1 <= domains <= _MOST:
        raise ConfigError(f"{scenario}: domains must lie between 1 and {_MOST}, got {domains}")


def repeated(
    dataset: Dataset, scenario: str, seed: int, names: Sequence[str], change: Callable[[int], Callable[[Any], Any]]
) -> Stream:
    """An experience a name: all samples, shuffled anew, with `change(i)` applied to x (n, ...) of all three parts."""
    rng = np.random.default_rng(seed)
    experiences = []
    for i, name in enumerate(names):
        shuffled = dataset.train[rng.permutation(len(dataset.train))]
        train, val, test = (_changed(part, change(i)) for part in (shuffled, dataset.val, dataset.test))
        experiences.append(Experience(name, i, train, val, test))
    return Stream(dataset.name, scenario, dataset.classes, tuple(experiences))


def _changed(samples: Samples, change: Callable[[Any], Any]) -> Samples:
    return replace(samples, x=change(samples.x[:]))

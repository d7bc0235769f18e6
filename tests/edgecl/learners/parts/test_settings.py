"""Settings out of range are refused by a sentence that names them."""

from __future__ import annotations

import math

import pytest

from edgecl.errors import ConfigError
from edgecl.learners.baselines import ncm, ranpac, slda
from edgecl.learners.parts import settings


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "3", None])
def test_whole_number(value: object) -> None:
    with pytest.raises(ConfigError, match="buffer must be a whole number of at least 1"):
        settings.whole("buffer", value, 1)


@pytest.mark.parametrize("value", [0, -1e-9, math.nan, math.inf, True, "0.1"])
def test_number_above(value: object) -> None:
    with pytest.raises(ConfigError, match="lr must be a finite number above 0"):
        settings.real("lr", value, 0, above=True)


def test_values_in_range_are_taken() -> None:
    settings.whole("buffer", 1, 1)
    settings.real("lr", 1, 0, 1)
    settings.real("weight_decay", 0, 0)


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (slda.Config, {"shrinkage": 0}),
        (slda.Config, {"shrinkage": 1.5}),
        (ncm.Config, {"space": "cosine"}),
        (ranpac.Config, {"projections": 0}),
        (ranpac.Config, {"ridge": -1.0}),
    ],
)
def test_closed_forms_refuse(config: type, options: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        config(**options)

"""Names are listed without loading, and a wrong one is answered with those there are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgecl import registry
from edgecl.errors import ConfigError, UnknownName

KINDS = {
    "head method": registry.HEADS,
    "mapper": registry.MAPPERS,
    "runtime": registry.RUNTIMES,
    "scenario": registry.SCENARIOS,
}
EACH = [(kind, name) for kind, names in KINDS.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_every_name_loads(kind: str, name: str) -> None:
    if name == "pytorch":
        pytest.importorskip("torch", reason="the runtime 'pytorch' needs torch")
    assert registry.load(kind, KINDS[kind], name)


@pytest.mark.parametrize("name", registry.MAPPERS)
def test_mappers_carry_the_name_they_are_registered_under(name: str) -> None:
    """A bundle's anchors are found by it."""
    assert registry.load("mapper", registry.MAPPERS, name).name == name


@pytest.mark.parametrize("name", registry.HEADS)
def test_head_methods_have_the_four_names_of_the_contract(name: str) -> None:
    method = registry.load("head method", registry.HEADS, name)
    assert all(callable(getattr(method, part)) for part in ("Config", "learn", "scores", "check"))
    with pytest.raises(AttributeError):
        method.Config().seed = 1  # frozen


def test_default_mappers_are_registered() -> None:
    assert set(registry.DEFAULT_MAPPERS) <= set(registry.MAPPERS)


def test_unknown_name_lists_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        registry.load("mapper", registry.MAPPERS, "mahalonobis")
    sentence = str(caught.value)
    assert "did you mean 'mahalanobis'?" in sentence and all(name in sentence for name in registry.MAPPERS)
    with pytest.raises(ConfigError, match="no runtime ''"):
        registry.load("runtime", registry.RUNTIMES, "")


def test_listing_loads_no_method() -> None:
    program = "import sys; from edgecl import registry; list(registry.MAPPERS); print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "False"

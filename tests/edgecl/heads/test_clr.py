"""CLR's variants by their published numbers, and what its settings refuse."""

from __future__ import annotations

from functools import cache

import pytest

from edgecl.errors import ConfigError
from edgecl.heads import clr
from edgecl.rom.sockets import Socket

pytest.importorskip("torch", reason="sockets are found in PyTorch; pip install 'edgecl[learn]'")

from edgecl.rom.pytorch import feature_network
from edgecl.rom.surgery import find_sockets

# kernels; with the norms' affine parts; with their statistics too
TABLE = {
    ("resnet18", "default"): (35_136, 44_736, 54_336),
    ("resnet18", "mixed"): (36_032, 45_632, 55_232),
    ("resnet18", "full"): (43_200, 52_800, 62_400),
    ("resnet50", "default"): (34_560, 87_680, 140_800),
    ("resnet50", "mixed"): (57_280, 110_400, 163_520),
    ("resnet50", "full"): (239_040, 292_160, 345_280),
    ("legacy_xception", "full"): (452_808, 507_336, 561_864),
    ("legacy_xception", "default"): (208_296, 262_824, 317_352),
}
LAYERS = {"resnet18": (17, 20, 20), "resnet50": (17, 53, 53)}  # wrapped by default, mixed, full


@cache
def sockets(backbone: str) -> tuple[Socket, ...]:
    return find_sockets(feature_network(backbone), 64)


@pytest.mark.parametrize(("backbone", "variant"), TABLE)
def test_a_task_takes_the_published_number_of_numbers(backbone: str, variant: str) -> None:
    found = clr.count(sockets(backbone), variant)
    kernels, affine, statistics = found["kernels"], found["affine"], found["statistics"]
    assert (kernels, kernels + affine, kernels + affine + statistics) == TABLE[backbone, variant]


@pytest.mark.parametrize("backbone", LAYERS)
def test_each_variant_wraps_the_published_number_of_layers(backbone: str) -> None:
    sides = [clr.kernel_sides(sockets(backbone), variant) for variant in ("default", "mixed", "full")]
    assert tuple(sum(side > 0 for side in one.values()) for one in sides) == LAYERS[backbone]
    assert set(sides[1].values()) == {1, 3} and set(sides[2].values()) == {3}
    assert clr.kernel_sides(sockets(backbone), "gated") == sides[2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variant": "ful"}, "known are default, full, mixed, gated"),
        ({"variant": "gated"}, "--recipe paper"),
        ({"recipe": "papr"}, "known are default and paper"),
        ({"sockets": "last:0"}, "all, deep or last:N"),
        ({"sockets": "last:"}, "all, deep or last:N"),
        ({"sockets": "first:3"}, "all, deep or last:N"),
        ({"sockets": "last:-1"}, "all, deep or last:N"),
        ({"sockets": "last:1e9"}, "all, deep or last:N"),
        ({"sockets": "x" * 5000}, "all, deep or last:N"),
        ({"epochs": -1}, "epochs"),
        ({"false_reject": 0.5}, "false_reject"),
        ({"false_reject": float("nan")}, "false_reject"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        clr.Config(**options)
    assert len(str(caught.value)) < 300

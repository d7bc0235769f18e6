"""Settings as people write them, against the types that a method declares."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, get_type_hints

import pytest

from edgecl.errors import ConfigError
from edgecl.options import Text, assignment, checked, read_tables


class Net(StrEnum):
    LINEAR = "linear"
    MLP = "mlp"


@dataclass(frozen=True)
class Config:
    m: int = 10
    beta: float = 0.1
    bias: bool = True
    rule: str = "WTA"
    buffer: int | None = None
    space: Literal["plain", "unit"] = "plain"
    net: Net = Net.MLP
    sizes: tuple[int, ...] = ()


HINTS = get_type_hints(Config)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *(("m", "8", 8), ("beta", "1e-3", 1e-3), ("beta", "1", 1.0), ("bias", "False", False), ("buffer", "none", None)),
        *(
            ("rule", "none", "none"),
            ("rule", "7", "7"),
            ("buffer", "7", 7),
            ("space", "unit", "unit"),
            ("net", "linear", Net.LINEAR),
        ),
        ("sizes", "3, 8,8", (3, 8, 8)),
    ],
)
def test_text_is_read_as_the_type_that_is_wanted(name: str, value: str, expected: object) -> None:
    found = checked(HINTS, {name: Text(value)}, "er")[name]
    assert found == expected and type(found) is type(expected)


def test_values_of_a_file_keep_their_types() -> None:
    given: dict[str, Any] = {"m": 3, "beta": 2, "bias": False, "buffer": 4, "sizes": [1, 2], "rule": "x", "net": "mlp"}
    assert checked(HINTS, given, "er") == {**given, "beta": 2.0, "sizes": (1, 2), "net": Net.MLP}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("m", 1.0), ("m", True), ("m", "8"), ("m", Text("8.5")), ("bias", 1), ("bias", Text("maybe")), ("rule", 3)),
        *(("beta", float("nan")), ("beta", Text("inf")), ("space", Text("cube")), ("net", "conv"), ("sizes", [1, "a"])),
        *(("sizes", 3), ("buffer", Text("few")), ("m", None), ("m", Text("none")), ("beta", [])),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^er: {name} must be .*, got "):
        checked(HINTS, {name: value}, "er")


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"er has no setting 'bufer'; did you mean 'buffer'\? It takes beta, bias, buffer"):
        checked(HINTS, {"bufer": 1}, "er")
    with pytest.raises(ConfigError, match="It takes none"):
        checked({}, {"x": 1}, "iid")


def test_an_assignment_has_three_parts() -> None:
    assert assignment("er.net = a=b") == ("er", "net", "a=b")
    assert assignment("er.small.buffer=8") == ("er.small", "buffer", "8")
    for wrong in ("", "er", "er.buffer", "buffer=8", "er.=8", ".buffer=8"):
        with pytest.raises(ConfigError, match="written LEARNER"):
            assignment(wrong)


def test_a_file_of_tables(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('[er]\nbuffer = 8\n["er 100"]\nlearner = "er"\n')
    assert read_tables(path) == {"er": {"buffer": 8}, "er 100": {"learner": "er"}}
    for text, why in (("m = 1\n", "outside a table"), ("[", "cannot be read"), ("#" * (2 << 20), "no file of settings")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=why):
            read_tables(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_tables(tmp_path / "missing.toml")

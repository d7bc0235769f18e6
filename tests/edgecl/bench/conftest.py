"""`valid`: is a report what its schema says? The product needs no JSON Schema package for that, nor do its tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

SCHEMA: dict[str, Any] = json.loads((files("edgecl.bench") / "schema.json").read_text())
_KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "number": (int, float),
    "integer": int,
}


def check(value: Any, schema: dict[str, Any], where: str = "report") -> None:
    """Assert the part of JSON Schema 2020-12 that our schema uses."""
    assert not set(schema) - {
        "$schema", "$defs", "$ref", "title", "description", "type", "enum", "const", "minimum",
        "properties", "required", "additionalProperties", "items",
    }  # fmt: skip
    if "$ref" in schema:
        return check(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], where)
    if "const" in schema:
        assert value == schema["const"], where
    if "enum" in schema:
        assert value in schema["enum"], where
    if "type" in schema:
        names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        fits = [isinstance(value, _KINDS[n]) and not (isinstance(value, bool) and n in ("number", "integer")) for n in names]
        assert any(fits), f"{where} is {value!r}, not {names}"
    if "minimum" in schema and value is not None:
        assert value >= schema["minimum"], where
    if isinstance(value, dict):
        known = schema.get("properties", {})
        assert not set(schema.get("required", ())) - set(value), where
        for key, item in value.items():
            more = schema.get("additionalProperties", True)
            assert key in known or more is not False, f"{where}: unknown key {key}"
            check(item, known.get(key, more if isinstance(more, dict) else {}), f"{where}.{key}")
    for item in value if isinstance(value, list) else ():
        check(item, schema.get("items", {}), f"{where}[]")
    return None


@pytest.fixture(scope="session")
def valid() -> Callable[[Any], None]:
    return lambda report: check(report, SCHEMA)

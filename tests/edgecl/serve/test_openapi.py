"""The description holds: every route is in it, and real answers have the fields it names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgecl.device import EdgeDevice
from edgecl.serve.api import Api
from edgecl.serve.guard import Limits
from edgecl.serve.openapi import SCHEMAS, description


def check(value: Any, schema: Mapping[str, Any]) -> None:
    """As much of JSON Schema as the description uses."""
    if "$ref" in schema:
        return check(value, SCHEMAS[schema["$ref"].rpartition("/")[2]])
    if "oneOf" in schema:
        assert sum(holds(value, one) for one in schema["oneOf"]) == 1, (value, schema)
    if "enum" in schema:
        assert value in schema["enum"]
    if "const" in schema:
        assert value == schema["const"]
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
    }
    wanted = schema.get("type", [])
    if wanted:
        assert any(isinstance(value, kinds[kind]) for kind in ([wanted] if isinstance(wanted, str) else wanted)), (
            value,
            schema,
        )
    if isinstance(value, dict) and "properties" in schema:
        assert set(schema["required"]) <= set(value) <= set(schema["properties"]), set(value) ^ set(schema["properties"])
        for name, inner in value.items():
            check(inner, schema["properties"][name])
    if isinstance(value, list) and "items" in schema:
        for inner in value:
            check(inner, schema["items"])
    if isinstance(value, list) and "prefixItems" in schema:
        for inner, one in zip(value, schema["prefixItems"], strict=True):
            check(inner, one)
    return None


def holds(value: Any, schema: Mapping[str, Any]) -> bool:
    try:
        check(value, schema)
    except AssertionError:
        return False
    return True


def test_every_route_is_described_and_nothing_else(serving: Callable[..., Any]) -> None:
    running = serving()
    routes = {(route.path, method.lower()) for route, method, _ in Api(running.service).routes}
    paths = description(Limits())["paths"]
    assert routes == {(path, verb) for path, verbs in paths.items() for verb in verbs if verb != "parameters"}
    for path, verbs in paths.items():
        named = set(re.findall(r"{(\w+)}", path))
        assert named == {parameter["name"] for parameter in verbs.get("parameters", [])}


def test_answers_have_the_fields_that_are_described(
    serving: Callable[..., Any], learned: EdgeDevice, picture: bytes, home: Path
) -> None:
    (home / "pictures" / "empty").mkdir(parents=True)
    url = serving().url
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]

    def described(response: httpx.Response, path: str) -> None:
        responses = paths[path][response.request.method.lower()]["responses"]
        entry = responses.get(str(response.status_code), responses["default"])
        check(response.json(), entry["content"]["application/json"]["schema"])
        assert set(entry.get("headers", {})) <= {name.title() for name in response.headers}

    jpeg = {"content-type": "image/jpeg"}
    for path in ("/health", "/v1/heads", "/v1/jobs", "/openapi.json"):
        described(httpx.get(f"{url}{path}"), path)
    described(httpx.get(f"{url}/v1/heads/colours"), "/v1/heads/{task}")
    described(httpx.get(f"{url}/v1/heads/nothing"), "/v1/heads/{task}")
    described(httpx.post(f"{url}/v1/infer", content=picture, headers=jpeg), "/v1/infer")
    described(httpx.post(f"{url}/v1/infer", content=b"x", headers=jpeg), "/v1/infer")
    taken = httpx.post(f"{url}/v1/learn", json={"task": "empty"})
    described(taken, "/v1/learn")
    described(httpx.get(f"{url}{taken.headers['location']}"), "/v1/jobs/{id}")
    described(httpx.delete(f"{url}{taken.headers['location']}"), "/v1/jobs/{id}")
    described(httpx.get(f"{url}/v1/jobs/0"), "/v1/jobs/{id}")


def test_the_description_is_valid_openapi_3_1() -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="comes with moto[server], of the extra test")
    validator.validate(description(Limits()))

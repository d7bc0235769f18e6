"""The local API in its own words: OpenAPI 3.1. `tests/edgecl/serve/test_openapi.py` holds it against real answers."""

from __future__ import annotations

from typing import Any

from edgecl import __version__, registry
from edgecl.serve.guard import Limits
from edgecl.serve.jobs import STATES

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_NUMBER = {"type": "number"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_FREE = {"type": "object"}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


SCHEMAS: dict[str, Any] = {
    "Answer": _object(
        {
            "task": {**_MAYBE_TEXT, "description": "null where the task is unknown"},
            "class": {**_MAYBE_TEXT, "description": "null where task or class is unknown"},
            "unknown": {"enum": [None, "task", "class"]},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "strangeness": {"type": "number", "description": "Above 1 the task is called unknown."},
            "nearest_task": _MAYBE_TEXT,
            "nearest_class": _MAYBE_TEXT,
            "top": _list({"type": "array", "prefixItems": [_TEXT, _NUMBER], "minItems": 2, "maxItems": 2}),
        }
    ),
    "LearnRequest": _object(
        {
            "task": _TEXT,
            "data": {
                **_TEXT,
                "description": "A folder on the device, below its data_root (without one: below pictures/ in its home), with a "
                "folder per class, or train/ inside. Default: the task's name.",
            },
            "method": {"enum": list(registry.METHODS), "default": "linear"},
            "seed": {"type": "integer", "minimum": 0, "default": 0},
            "budget": {"type": "number", "exclusiveMinimum": 0, "description": "Seconds; kept, or refused."},
            "max_bytes": {"type": "integer", "minimum": 1, "description": "Of the bundle; kept, or refused."},
        },
        ("data", "method", "seed", "budget", "max_bytes"),
    ),
    "Job": _object(
        {
            "id": _TEXT,
            "task": _TEXT,
            "method": _TEXT,
            "state": {"enum": list(STATES)},
            "interrupted": {"type": "boolean", "description": "It was asked to stop; done: the best until then was kept."},
            "progress": _object({"stage": _TEXT, "done": _COUNT, "total": _COUNT}),
            "said": {**_list(_TEXT), "description": "Its last lines."},
            "report": {"oneOf": [{"type": "null"}, _FREE], "description": "As of edgecl learn --json."},
            "error": {"oneOf": [{"type": "null"}, _ref("Error")]},
        }
    ),
    "Head": _object(
        {
            "task": _TEXT,
            "generation": {"type": "integer", "minimum": 1},
            "digest": _TEXT,
            "bytes": _COUNT,
            "serves": {"type": "boolean", "description": "Whether it answers here; edgecl heads verify says why not."},
        }
    ),
    "HeadCard": _object(
        {
            "task": _TEXT,
            "classes": _list(_TEXT),
            "method": _TEXT,
            "rom_id": _TEXT,
            "report": _FREE,
            "provenance": _FREE,
            "digest": _TEXT,
            "serves": {"type": "boolean"},
            "signer": {"type": "string", "description": '"this device", a peer\'s name, "a stranger" or "nobody".'},
            "fingerprint": _TEXT,
            "history": _list(
                _object(
                    {"generation": _COUNT, "current": {"type": "boolean"}, "action": _TEXT, "bytes": _COUNT, "digest": _TEXT}
                )
            ),
        }
    ),
    "Health": _object(
        {
            "status": {"const": "ok"},
            "version": _TEXT,
            "rom_id": _TEXT,
            "backbone": _TEXT,
            "runtime": _TEXT,
            "provider": _TEXT,
            "precision": _TEXT,
            "tasks": _list(_TEXT),
        },
        ("version", "rom_id", "backbone", "runtime", "provider", "precision", "tasks"),
    ),
    "Error": _object(
        {
            "error": {**_TEXT, "description": "A sentence."},
            "kind": {**_TEXT, "description": "Class of the error."},
            "reason": _TEXT,
        }
    ),
}


def _response(description: str, schema: dict[str, Any], headers: dict[str, Any] | None = None) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}}
    return {"description": description, "content": content, **({"headers": headers} if headers else {})}


_ERRORS = {
    "400": "Not understood: a wrong field, value or name.",
    "401": "The token is missing or wrong (only where the service asks for one).",
    "403": "Not allowed: a folder outside the device's pictures, or a page of another site.",
    "404": "No such task, job or route.",
    "409": "What the device holds stands against it: nothing learned yet, or a head of another ROM.",
    "413": "The body is too large.",
    "415": "A media type that is not taken.",
    "422": "The picture cannot be read.",
    "503": "No room now; ask again after Retry-After seconds.",
    "default": "Other refusals: 405, 408 and 431 (limits), 421 (Host), 507 (disk), 500 (this device's trouble).",
}


def _operation(summary: str, good: dict[str, Any], errors: str, **more: Any) -> dict[str, Any]:
    responses = dict(good)
    for status in [*errors.split(), "default"]:
        after = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}} if status == "503" else None
        responses[status] = _response(_ERRORS[status], _ref("Error"), after)
    return {"summary": summary, "responses": responses, **more}


def _path(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT, "description": description}


def description(limits: Limits) -> dict[str, Any]:
    """The whole document."""
    picture = {"schema": {"type": "string", "format": "binary", "maxLength": limits.body}}
    task, job = _path("task", "Name of a task."), _path("id", "Of a job.")
    jobs, heads = _list(_ref("Job")), _list(_ref("Head"))
    where = {"Location": {"schema": _TEXT, "description": "Of the job."}}
    paths = {
        "/v1/infer": {
            "post": _operation(
                "Answer for one encoded picture.",
                {"200": _response("Which task, which class, how sure; or unknown.", _ref("Answer"))},
                "400 401 404 409 413 415 422 503",
                parameters=[
                    {
                        "name": "task",
                        "in": "query",
                        "schema": _TEXT,
                        "description": "When it is known: the mapper is not asked.",
                    }
                ],
                requestBody={"required": True, "content": {"image/*": picture, "application/octet-stream": picture}},
            )
        },
        "/v1/learn": {
            "post": _operation(
                "Learn a task from a folder on the device, as a job.",
                {"202": _response("It is in the line.", _ref("Job"), where)},
                "400 401 403 404 413 415 503",
                requestBody={"required": True, "content": {"application/json": {"schema": _ref("LearnRequest")}}},
            )
        },
        "/v1/jobs": {
            "get": _operation("All jobs that are remembered, oldest first.", {"200": _response("Jobs.", jobs)}, "401")
        },
        "/v1/jobs/{id}": {
            "parameters": [job],
            "get": _operation("One job.", {"200": _response("The job.", _ref("Job"))}, "401 404"),
            "delete": _operation(
                "Take a job out of the line, or ask it to stop; what has ended stays as it is.",
                {"200": _response("It has ended.", _ref("Job")), "202": _response("It will end.", _ref("Job"))},
                "401 404",
            ),
        },
        "/v1/heads": {"get": _operation("The heads in force.", {"200": _response("Heads.", heads)}, "401")},
        "/v1/heads/{task}": {
            "parameters": [task],
            "get": _operation("One head: card, signer, history.", {"200": _response("It.", _ref("HeadCard"))}, "400 401 404"),
        },
        "/health": {
            "get": _operation(
                "Whether the device can answer. Without a token, where one is asked for: the status alone.",
                {"200": _response("It can.", _ref("Health"))},
                "503",
                security=[],
            )
        },
        "/metrics": {
            "get": _operation(
                "Figures for Prometheus.",
                {"200": {"description": "Figures.", "content": {"text/plain": {"schema": _TEXT}}}},
                "401",
            )
        },
        "/openapi.json": {"get": _operation("This description.", {"200": _response("It.", _FREE)}, "401")},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgecl local API",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Answers and learning of one device. Every refusal is an Error.",
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }

"""One call between a pool and a worker, as JSON text. The same for every kind of pool, so that none of them can differ.

    {"op": "learn", "arguments": {...}}   ->   {"result": ...}
                                          or   {"error": class, "message": text, "fields": {...}, "trace": text}

Errors of edgecl's own tree arrive as what they were; of any other kind only the text crosses, as a RuntimeError.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from edgecl import errors
from edgecl.errors import EdgeclError

CLOSE = "close"  # told to what `start` gave at the end, where it has such a method


def request(op: str, arguments: Mapping[str, Any]) -> str:
    """The text of a call. Raises TypeError for arguments that JSON cannot carry."""
    return json.dumps({"op": op, "arguments": dict(arguments)})


def begin(start: str, settings: Mapping[str, Any]) -> Any:
    """What `start`, "module:function", gives when called with the settings: an object with a method for each op."""
    module, _, function = start.partition(":")
    return getattr(import_module(module), function)(json.loads(json.dumps(settings)))


def answer(host: Any, text: str) -> str:
    """The reply of `host` to a request. Raises nothing but what ends a process, such as KeyboardInterrupt."""
    try:
        asked = json.loads(text)
        return json.dumps({"result": getattr(host, asked["op"])(**asked["arguments"])})
    except Exception as error:
        return failure(error)


def end(host: Any) -> None:
    """Let the host put away what it has open."""
    if close := getattr(host, CLOSE, None):
        close()


def failure(error: Exception) -> str:
    """The reply that carries an error."""
    trace = "".join(traceback.format_exception(error))
    # A subclass from elsewhere comes back as the class of the tree that it is made from.
    name = next((c.__name__ for c in type(error).__mro__ if c is getattr(errors, c.__name__, None)), None)
    if name is None:
        return json.dumps({"error": None, "message": f"{type(error).__name__}: {error}", "fields": {}, "trace": trace})
    fields = {key: value for key, value in vars(error).items() if isinstance(value, str | int | float)}
    return json.dumps({"error": name, "message": str(error), "fields": fields, "trace": trace})


def result(text: str) -> Any:
    """What a reply holds. Raises the error that it carries, with the worker's traceback as a note."""
    reply = json.loads(text)
    if "result" in reply:
        return reply["result"]
    known = getattr(errors, str(reply["error"]), None)
    error: Exception
    if isinstance(known, type) and issubclass(known, EdgeclError):
        error = known(reply["message"])
        for key, value in reply["fields"].items():
            if key in vars(error):
                setattr(error, key, type(vars(error)[key])(value))
    else:
        error = RuntimeError(reply["message"])
    error.add_note(f"in a worker:\n{reply['trace']}")
    raise error

"""Coverage-guided fuzzing of what reads bytes from strangers: bundles, messages, streams of parts, successions.

    pip install atheris        # it has wheels for CPython up to 3.11 or so
    python -m benchmarks.fuzz_atheris bundle|message|stream|succession -max_total_time=120 [CORPUS]

Everything after the word goes to libFuzzer. Only BundleError and ProtocolError may come out; anything else ends the run with
the input that did it. What is read must be written again as the same bytes, or mean the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["edgecl.sharing", "edgecl.heads", "edgecl.mapping.base", "json"]):
    from edgecl.errors import BundleError, ProtocolError
    from edgecl.sharing import protocol, succession
    from edgecl.sharing.bundle import from_bytes
    from edgecl.sharing.chunks import PartsReader


def bundle(data: bytes) -> None:
    """A file."""
    if from_bytes(data).to_bytes() != data:
        raise AssertionError("two files mean one bundle")


def message(data: bytes) -> None:
    """What a peer says."""
    said = protocol.decode(data)
    if protocol.decode(protocol.encode(said)) != said:
        raise AssertionError("a message does not survive being said again")


def stream(data: bytes) -> None:
    """What a peer sends."""
    reader = PartsReader()
    for at in range(0, len(data), 7):
        list(reader.feed(data[at : at + 7]))
    reader.end()


def chain(data: bytes) -> None:
    """A device's successions."""
    if succession.to_json(succession.from_json(data)) != data:
        raise AssertionError("two files mean one chain")


TARGETS: dict[str, Callable[[bytes], None]] = {"bundle": bundle, "message": message, "stream": stream, "succession": chain}


def main() -> None:
    """Fuzz the one that is named."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(f"say what is to be fuzzed: {', '.join(TARGETS)}")
    target = TARGETS[sys.argv.pop(1)]

    def one(data: bytes) -> None:
        try:
            target(data)
        except (BundleError, ProtocolError) as error:
            if not str(error).isprintable():
                raise AssertionError(f"a refusal acts on the terminal: {str(error)!r}") from error

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""The fuzzer itself, a short run of it: it refuses all, and it would notice what it should not."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import pytest

from benchmarks import fuzz_bundles


def run(monkeypatch: pytest.MonkeyPatch, count: int = 2000) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz_bundles", "--count", str(count)])
    fuzz_bundles.main()


def test_two_thousand_mutants_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch)
    said = capsys.readouterr().out
    assert "all refused" in said and "malformed" in said and "bad-signature" in said


def blinded(data: bytes, here: object) -> None:
    """A judge that looks at nothing."""


def test_one_that_is_accepted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_bundles, "judged", blinded)
    with pytest.raises(SystemExit, match="was accepted"):
        run(monkeypatch, 10)


@pytest.mark.parametrize("mutate", [fuzz_bundles.blind, fuzz_bundles.structured])
def test_mutants_follow_from_the_seed_and_differ(mutate: Callable[[random.Random, bytes], bytes]) -> None:
    whole = fuzz_bundles.GOLDEN.read_bytes()
    first, again = ([mutate(random.Random(seed), whole) for seed in range(50)] for _ in range(2))
    assert first == again and len(set(first)) > 40

"""A short run of the protocol's fuzzer, and a proof that it would notice."""

from __future__ import annotations

import sys

import pytest

from benchmarks import fuzz_protocol


def run(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz_protocol", "--count", str(count)])
    fuzz_protocol.main()


def test_two_thousand_mutants_leave_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, 2000)
    said = capsys.readouterr().out
    assert "nothing of them was kept" in said and "ProtocolError" in said and "Refusal" in said


def test_a_host_that_keeps_what_is_not_the_original_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = fuzz_protocol.Keeper.answers

    def careless(self, offers):  # type: ignore[no-untyped-def]
        self.bank.put("other", b"kept", "import")
        return real(self, offers)

    monkeypatch.setattr(fuzz_protocol.Keeper, "answers", careless)
    with pytest.raises(SystemExit, match="was kept"):
        run(monkeypatch, 50)

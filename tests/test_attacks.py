"""docs/attacks.md says what is tested; here it is kept true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8"))))


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_it_exists(file: str, name: str) -> None:
    found = [path for path in (ROOT / "tests").rglob(file) if f"def {name}(" in path.read_text(encoding="utf-8")]
    assert found, f"docs/attacks.md names {file}::{name}, which is not there"

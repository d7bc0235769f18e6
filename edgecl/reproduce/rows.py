"""All rows, by what is typed for them."""

from __future__ import annotations

from collections.abc import Mapping

from edgecl.registry import check
from edgecl.reproduce import competitors, cpg, memory_head, ours
from edgecl.reproduce.base import Row

ROWS: Mapping[str, Row] = {row.id: row for table in (memory_head, competitors, ours, cpg) for row in table.ROWS}


def row(id: str) -> Row:
    """The row of that id. Raises UnknownName."""
    check("row", ROWS, id)
    return ROWS[id]

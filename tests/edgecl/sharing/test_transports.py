"""Each transport x each check that fits it."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from edgecl.checks import transports
from edgecl.sharing.transport.bucket import Bucket
from edgecl.sharing.transport.folder import Folder
from edgecl.sharing.transport.memory import Memory


@pytest.fixture(params=["folder", "memory", "bucket, S3", "bucket, another store"])
def open_place(request: pytest.FixtureRequest, tmp_path: Path) -> transports.Opener:
    if request.param == "folder":
        return lambda: Folder(tmp_path)
    if request.param == "memory":
        bundles: dict[str, bytes] = {}
        return lambda: Memory(bundles)
    if request.param == "bucket, S3":
        request.getfixturevalue("s3")
        return lambda: Bucket("s3://floor/line 3")
    pytest.importorskip("fsspec", reason="needs fsspec: pip install 'edgecl[bucket]'")
    name = uuid.uuid4().hex
    return lambda: Bucket(f"memory://{name}")


@pytest.mark.parametrize("check", transports.CHECKS + transports.OPEN, ids=lambda check: check.__name__)
def test_transport(check: transports.Check, open_place: transports.Opener) -> None:
    check(open_place)


def test_every_check_is_listed() -> None:
    listed = {check.__name__ for check in transports.CHECKS + transports.OPEN}
    assert {name for name in vars(transports) if name.startswith("check_")} == listed

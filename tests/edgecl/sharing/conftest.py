"""An S3-compatible server of this machine's own, and what it counts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """Where the server answers."""
    pytest.importorskip("s3fs", reason="needs s3fs: pip install 'edgecl[bucket]'")
    server = pytest.importorskip("moto.server", reason="needs a server for S3: pip install 'edgecl[test]'")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def s3(s3_address: str, aws: pytest.MonkeyPatch) -> Any:
    """A client beside the product's, with an empty bucket `floor` on the server that the environment names."""
    import boto3

    aws.setenv("AWS_ENDPOINT_URL", s3_address)
    client = boto3.client("s3")
    existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    if "floor" in existing:
        for entry in client.list_objects_v2(Bucket="floor").get("Contents", ()):
            client.delete_object(Bucket="floor", Key=entry["Key"])
    else:
        client.create_bucket(Bucket="floor")
    return client


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Credentials that mean nothing anywhere, and none of this machine's own."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test-key",
        "AWS_SECRET_ACCESS_KEY": "very-secret-word",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch

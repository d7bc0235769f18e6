"""S3 and what speaks like it, by s3fs, with bounds of its own.

fsspec's common words would load a whole listing, and read whatever an answer brings. Here a listing comes in pages, an object
up to the byte that was asked for, and each request ends: after silence, and at the latest when a slow line would be through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

_SLOWEST = 20_000  # bytes a second; slower than that, a request is given up
_PAGE = 1_000  # names, as much as S3 gives at once
_PAGE_BYTES = 1 << 20  # of such a page, far above what one has
_PIECE = 1 << 18


class S3:
    """url: s3://bucket/folder; patience: seconds of silence."""

    def __init__(self, url: str, patience: float) -> None:
        """Raises ImportError where s3fs is not installed."""
        from fsspec.asyn import sync
        from fsspec.core import url_to_fs

        bounds = {
            "connect_timeout": patience,
            "read_timeout": patience,
            "retries": {"mode": "standard", "total_max_attempts": 2},
        }
        self._fs, path = url_to_fs(url, skip_instance_cache=True, use_listings_cache=False, config_kwargs=bounds)
        self._fs.retries = 1  # s3fs on top of that would make ten of two
        self._bucket, self._folder, _ = self._fs.split_path(path)
        self._sync, self._patience = sync, patience

    def names(self) -> Iterator[tuple[str, int]]:
        inside = f"{self._folder}/"
        where: dict[str, str] = {}
        while True:
            page = self._ask("list_objects_v2", _PAGE_BYTES, Prefix=inside, Delimiter="/", MaxKeys=_PAGE, **where)
            found = page.get("Contents") or ()
            for entry in found:
                yield str(entry["Key"]).removeprefix(inside), int(entry["Size"])
            if not page.get("IsTruncated"):
                return
            if not found:  # pages without end and without names would be counted by nobody
                yield "", 0
            where = {"ContinuationToken": page["NextContinuationToken"]}

    def read(self, name: str, most: int) -> bytes:
        async def body() -> bytes:
            answer = await self._fs._call_s3(
                "get_object", Bucket=self._bucket, Key=f"{self._folder}/{name}", Range=f"bytes=0-{most - 1}"
            )
            stream, got = answer["Body"], bytearray()
            try:
                while len(got) < most and (piece := await stream.read(min(most - len(got), _PIECE))):
                    got += piece
            finally:
                stream.close()
            return bytes(got)

        data: bytes = self._within(most, body)
        return data

    def write(self, name: str, data: bytes) -> None:
        self._ask("put_object", len(data), Key=f"{self._folder}/{name}", Body=data)

    def md5(self, name: str) -> tuple[int, str]:
        head = self._ask("head_object", 0, Key=f"{self._folder}/{name}")
        return int(head["ContentLength"]), str(head.get("ETag", "")).strip('"')

    def _ask(self, what: str, size: int, **words: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._within(size, lambda: self._fs._call_s3(what, Bucket=self._bucket, **words))
        return answer

    def _within(self, size: int, ask: Callable[[], Awaitable[Any]]) -> Any:
        """The answer, or TimeoutError when `size` bytes could have come twice over the slowest line."""
        return self._sync(self._fs.loop, ask, timeout=4 * self._patience + 2 * size / _SLOWEST)

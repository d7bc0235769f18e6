"""Tasks learned at the same time by several workers, each with its ROM; one device keeps what comes of it.

A worker learns as a device does and hands over the unsigned bundle. Whoever asked signs it: so the order of sequence numbers is
that of the tasks, and not of who was quicker, and workers need nobody's trust.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from edgecl.config import DeviceConfig
from edgecl.device import EdgeDevice
from edgecl.errors import ConfigError
from edgecl.learning import Fitted
from edgecl.sharing.bundle import from_bytes
from edgecl.streams.base import TaskPictures
from edgecl.workers.base import Cluster
from edgecl.workers.pool import Pool


class Learner:
    """What runs in a worker: a device with a home for as long as the work lasts."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """settings: `config`, fields of DeviceConfig, and `cache`, a folder or None.   Raises what opening the ROM raises."""
        self._place = tempfile.TemporaryDirectory(prefix="edgecl-learner-")
        self._device = EdgeDevice(self._place.name, cache=settings["cache"], **settings["config"])
        _ = self._device.rom

    def learn(
        self,
        task: str,
        pictures: Sequence[str],
        labels: Sequence[int],
        classes: Sequence[str],
        method: str,
        recipe: str,
        seed: int,
    ) -> dict[str, Any]:
        """Learn from picture files; a `Fitted` as JSON values, for `fitted`."""
        found = self._device.fit_pictures(task, pictures, labels, classes, method=method, recipe=recipe, seed=seed)
        plain = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
        blobs = {"bundle": found.bundle.to_bytes(), "sketch": found.sketch}
        return {**plain, **{name: base64.b64encode(data).decode() for name, data in blobs.items()}}

    def close(self) -> None:
        """Leave nothing behind."""
        self._device.close()
        self._place.cleanup()


def learners(
    kind: str,
    config: DeviceConfig,
    cache: Path | None = None,
    workers: int | None = None,
    most: int | None = None,
    cluster: Cluster | None = None,
) -> Pool:
    """Workers that learn as a device of this configuration does, `rom` filled in; close them.

    cache: of features, for workers that see this disk; None: each has its own.   All others: as for `Pool`.
    """
    plain = {**dataclasses.asdict(config), "rom": os.path.abspath(config.rom)}
    settings = {"config": plain, "cache": os.path.abspath(cache) if cache else None}
    return Pool(kind, f"{__name__}:{Learner.__name__}", settings, workers, most, cluster)


def learn_apart(pool: Pool, tasks: Sequence[TaskPictures], method: str, recipe: str, seed: int) -> list[Future[Any]]:
    """Hand out the tasks. Raises ConfigError for pictures that are no files: only names of files are sent."""
    for task in tasks:
        strange = [type(p).__name__ for p in task.train if not isinstance(p, str | os.PathLike)]
        if strange:
            raise ConfigError(
                f"'{task.name}' has pictures that are no files ({strange[0]}); write them to files, or learn without workers"
            )
    loads = [0] * pool.workers  # pictures; a worker's time goes with them
    handed = []
    for task in tasks:
        least = loads.index(min(loads))
        loads[least] += len(task.train)
        arguments = {
            "task": task.name,
            "pictures": [os.path.abspath(picture) for picture in task.train],
            "labels": [int(label) for label in task.train_labels],
            "classes": list(task.classes),
            "method": method,
            "recipe": recipe,
            "seed": seed,
        }
        handed.append(pool.submit("learn", arguments, least))
    return handed


def fitted(done: Future[Any]) -> Fitted:
    """What a worker has learned. Raises what went wrong there, or BundleError."""
    said = dict(done.result())
    bundle, sketch = (base64.b64decode(said.pop(name)) for name in ("bundle", "sketch"))
    skipped, warnings = (tuple(said.pop(name)) for name in ("skipped", "warnings"))
    return Fitted(bundle=from_bytes(bundle), sketch=sketch, skipped=skipped, warnings=warnings, **said)

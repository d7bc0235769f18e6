"""Workers that are actors of a Ray cluster. Only JSON text crosses; Ray's own pickling sees nothing else of ours."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from edgecl.errors import MissingDependency, RuntimeUnavailable
from edgecl.workers import calls
from edgecl.workers.base import Cluster, Worker, WorkerDied

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a device's programs report to nobody
try:
    import ray
except ImportError as error:
    raise MissingDependency("work on a Ray cluster needs the extra: pip install 'edgecl[fleet]'") from error

_PATIENCE = 5.0  # seconds that an idle worker gets to put its things away


class Joined:
    """A cluster, for as long as a pool uses it."""

    def __init__(self, cluster: Cluster) -> None:
        """Raises RuntimeUnavailable where there is no such cluster."""
        self._gpus, self._ours = cluster.gpus, not ray.is_initialized()
        if self._ours:
            quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
            try:
                ray.init(address=cluster.address, **quiet)
            except ConnectionError as error:
                if cluster.address != "auto":
                    raise RuntimeUnavailable(
                        f"there is no Ray cluster at {cluster.address}: {error}. Start one with: ray start --head; or use auto"
                    ) from error
                ray.init(address="local", include_dashboard=cluster.dashboard, **quiet)

    def room(self, workers: int | None) -> int:
        """For how many workers there is one. Raises RuntimeUnavailable when `workers` are more than there are GPUs for."""
        there = ray.cluster_resources()
        if not self._gpus:
            return max(1, int(there.get("CPU", 1)))
        gpus = int(there.get("GPU", 0))
        room = gpus // self._gpus
        if room < (workers or 1):
            raise RuntimeUnavailable(
                f"{workers or 1} workers with {self._gpus} GPU each were asked for, the Ray cluster has {gpus} GPUs; "
                f"use fewer workers, or the CPU"
            )
        return room

    def worker(self, start: str, settings: Mapping[str, Any]) -> Worker:
        """One actor, not started yet."""
        return OnRay(start, settings, self._gpus)

    def leave(self) -> None:
        """End a cluster that was started here; leave one that was joined."""
        if self._ours:
            ray.shutdown()


class Actor:
    """What runs in a worker of the cluster."""

    def begin(self, start: str, settings: str) -> str:
        """Start the host; a reply."""
        try:
            self._host = calls.begin(start, json.loads(settings))
        except Exception as error:
            return calls.failure(error)
        return '{"result": null}'

    def answer(self, text: str) -> str:
        """The host's reply."""
        return calls.answer(self._host, text)

    def end(self) -> None:
        """Put away what is open."""
        calls.end(self._host)

    def pid(self) -> str:
        """Of this worker, on its machine."""
        return str(os.getpid())


class OnRay(Worker):
    """An actor, from afar."""

    def __init__(self, start: str, settings: Mapping[str, Any], gpus: int) -> None:
        options = {"num_gpus": gpus, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        options["runtime_env"] = {"env_vars": _environment()}
        self._make = ray.remote(Actor).options(**options)
        self._start, self._settings = start, dict(settings)
        self._actor: Any = None
        self._busy = self._stopped = False
        self._pid = 0

    def start(self) -> None:
        self._kill()
        if self._stopped:
            raise WorkerDied
        self._actor = self._make.remote()
        self._pid = int(self._ask("pid"))
        calls.result(self._ask("begin", self._start, json.dumps(self._settings)))

    def call(self, text: str) -> str:
        return self._ask("answer", text)

    @property
    def pid(self) -> int:
        return self._pid

    def _ask(self, method: str, *arguments: str) -> str:
        if self._actor is None:
            raise WorkerDied
        self._busy = True
        try:
            reply: str = ray.get(getattr(self._actor, method).remote(*arguments))
            return reply
        except ray.exceptions.RayError as error:
            self._kill()  # if it is only out of reach: nobody may write where others go on
            raise WorkerDied from error
        finally:
            self._busy = False

    def stop(self) -> None:
        self._stopped = True
        if self._actor is not None and not self._busy:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(self._actor.end.remote(), timeout=_PATIENCE)
        self._kill()

    def _kill(self) -> None:
        actor, self._actor = self._actor, None
        if actor is not None:
            ray.kill(actor)


def _environment() -> dict[str, str]:
    """What a worker must have as this process has it."""
    installed = (sys.prefix, sys.base_prefix)
    places = [place for place in map(os.path.abspath, sys.path) if not place.startswith(installed)]
    return {
        "PYTHONPATH": os.pathsep.join(places),
        # Ray gives each worker one OpenMP thread; then PyTorch would not learn the same bits as it does without Ray.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
    }

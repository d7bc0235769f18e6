"""What a service tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from edgecl.errors import MissingDependency

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST
except ImportError as error:
    raise MissingDependency(
        "the service needs packages that are not installed; add the extra: pip install 'edgecl[serve]'"
    ) from error

MEDIA = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)


class Measures:
    """Counters of one service, apart from those of another in the same process. Labels take only words of our own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("edgecl_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry)
        self.latency = Histogram(
            "edgecl_request_seconds",
            "From the request's head to its answer.",
            ("route",),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.batches = Histogram(
            "edgecl_batch_pictures", "Pictures in one pass of the ROM.", registry=self.registry, buckets=(1, 2, 4, 8, 16, 32)
        )
        self.tasks = Gauge("edgecl_tasks", "Tasks that this device answers for.", registry=self.registry)
        self.bank = Gauge("edgecl_bank_bytes", "Bytes of all bundles, history included.", registry=self.registry)

    def peer(self, way: str, status: int) -> None:
        """A peer was answered."""
        self.requests.labels(f"peers {way}", "POST", str(status)).inc()

    def watch(self, queued: Callable[[], float], jobs: Callable[[str], float], states: tuple[str, ...]) -> None:
        """Figures that are looked up when they are asked for."""
        Gauge("edgecl_queue_pictures", "Pictures taken and not answered.", registry=self.registry).set_function(queued)
        gauge = Gauge("edgecl_jobs", "Learning jobs that are remembered.", ("state",), registry=self.registry)
        for state in states:
            gauge.labels(state).set_function(partial(jobs, state))

    def text(self) -> bytes:
        """Everything, in Prometheus' own format."""
        return generate_latest(self.registry)

"""What a pool needs of a worker: calls that are answered one after another, and to be told when it has died."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """For kind ray. address: a cluster to join; auto joins the one that runs here, or else starts one for as long as the pool
    lives.   gpus: that each worker has to itself.   dashboard: of a cluster that is started.
    """

    address: str = "auto"
    gpus: int = 0
    dashboard: bool = False


class WorkerDied(Exception):
    """The worker is gone, and with it whatever it was at. `start` makes a new one."""


class Worker(ABC):
    """One place where ops run. Used by one thread at a time."""

    @abstractmethod
    def start(self) -> None:
        """Bring it up, or again after it died. Raises what the host's own start raises, or WorkerDied."""

    @abstractmethod
    def call(self, text: str) -> str:
        """The reply to a request (`calls`). Raises WorkerDied."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """Its process, on the machine where it is."""

    @abstractmethod
    def stop(self) -> None:
        """End it: in peace when it is idle, by force when it is at work. Called from any thread, more than once."""

"""Every learner of a plan with every seed, one after another or by several processes; the runs are the same either way."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from edgecl.errors import ConfigError
from edgecl.learners import making
from edgecl.learners.figures import FIGURES, figures
from edgecl.learners.running import run
from edgecl.metrics.intervals import Interval, interval
from edgecl.options import Text
from edgecl.streaming.plan import Entry, Plan, data_digest, versions
from edgecl.streaming.record import Kept, Run, answers, run_of
from edgecl.streams.base import Dataset, Samples, Stream
from edgecl.workers.pool import Pool

Progress = Callable[[str, int, int], None]
STAGE = "learning from the stream"
_PUBLISHED = "published_"  # of a data set's arrays in a file


@dataclass(frozen=True)
class Comparison:
    """The result: `runs` by label, in the order of the plan's seeds. conditions: what it was made under."""

    plan: Plan
    data: str
    runs: Mapping[str, tuple[Run, ...]]
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def figures(self) -> Mapping[str, Mapping[str, Interval]]:
        """label -> figure -> its mean over the seeds and its interval; of peak memory the largest."""
        found = {}
        for label, runs in self.runs.items():
            each = [figures(one.result) for one in runs]
            values = {name: [told[name] for told in each] for name in FIGURES if all(name in told for told in each)}
            values["peak_memory"] = [max(values["peak_memory"])]  # only a process's first run shows all of it
            found[label] = {name: interval(row) for name, row in values.items()}
        return found

    @cached_property
    def ranking(self) -> list[str]:
        """Labels by mean accuracy at the end, the best first; of equals as the plan has them."""
        return sorted(self.runs, key=lambda label: -self.figures[label]["accuracy"].mean)

    def lead(self, first: str, second: str, figure: str = "accuracy") -> Interval:
        """How far `first` is ahead of `second`, seed by seed: what the seed does to both does not blur it."""
        pairs = zip(self.runs[first], self.runs[second], strict=True)
        return interval([figures(a.result)[figure] - figures(b.result)[figure] for a, b in pairs])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "plan": self.plan.to_dict(),
            "data": self.data,
            "conditions": dict(self.conditions),
            "figures": {label: {name: asdict(one) for name, one in row.items()} for label, row in self.figures.items()},
            "ranking": self.ranking,
            "runs": {label: [one.to_dict() | {"regions": None} for one in runs] for label, runs in self.runs.items()},
        }


def compare(
    plan: Plan,
    dataset: Dataset,
    *,
    workers: int = 1,
    folder: Path | None = None,
    conditions: Mapping[str, Any] | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Comparison:
    """Run every learner of the plan with every seed on the data.

    workers: processes; each has a copy of the data, so inputs must be arrays. Seconds then say little.   folder: where runs are
    kept as they are done; those that are there already are not run again. Learners that are long at one experience keep their
    states there too, so that what was killed goes on.   conditions: to be stated in the record.
    Raises UnknownName, ConfigError or DataError before anything is run, and what a learner raises.
    """
    for entry in plan.entries:
        _ = entry.config
    n = len(plan.stream(dataset, plan.seeds[0]))
    kept, digest = Kept(folder), data_digest(dataset)
    keys = {(entry.label, seed): plan.key(entry, seed, digest) for seed in plan.seeds for entry in plan.entries}
    done = {}
    for (label, seed), key in keys.items():
        if found := kept.get(key):
            done[label, seed] = Run(label, seed, found.experiences, found.result, found.regions)
    todo = [
        (_placed(entry, folder, keys[entry.label, seed]), seed)
        for seed in plan.seeds
        for entry in plan.entries
        if (entry.label, seed) not in done
    ]
    skipped = len(done)

    def within(i: int) -> None:
        progress(STAGE, len(done) * n + i, len(keys) * n)

    within(0)  # from here on time is measured
    for one in _apart(plan, dataset, todo, workers) if workers > 1 else _here(plan, dataset, todo, within, progress):
        done[one.label, one.seed] = one
        kept.put(keys[one.label, one.seed], one)
        within(0)
    runs = {entry.label: tuple(done[entry.label, seed] for seed in plan.seeds) for entry in plan.entries}
    stated = {**(conditions or {}), "versions": versions(), "workers": workers, "runs_kept_from_before": skipped}
    return Comparison(plan, dataset.name, runs, stated)


def _placed(entry: Entry, folder: Path | None, key: str) -> Entry:
    """With a place for its states beside the runs, where it has any and none was named; for each run another."""
    names = making.places(entry.config) - set(entry.options) if folder is not None else frozenset()
    return replace(entry, options={**entry.options, **{name: str(folder / name / key[:16]) for name in names if folder}})


def run_one(
    plan: Plan,
    entry: Entry,
    seed: int,
    stream: Stream,
    within: Callable[[int], None] = lambda i: None,
    progress: Progress | None = None,
) -> Run:
    """One learner, one seed. One thread for linear algebra, so that the bits do not depend on the machine's cores.

    within: told how many experiences are done.   progress: for learners that are long at one experience.
    """
    config = entry.config
    with threadpool_limits(1):
        learner = making.make(entry.learner, stream.shape, len(stream.classes), seed, config)
        if progress is not None:
            learner.progress = progress
        told = run(learner, stream, batch=plan.batch, every=plan.every, progress=lambda _, i, n: within(i) if i < n else None)
        regions = answers(learner, stream) if seed == plan.seeds[0] else None
    return Run(entry.label, seed, tuple(e.name for e in stream), told, regions)


def _here(
    plan: Plan, dataset: Dataset, todo: list[tuple[Entry, int]], within: Callable[[int], None], progress: Progress
) -> Iterator[Run]:
    streams: dict[int, Stream] = {}
    for entry, seed in todo:
        if seed not in streams:
            streams = {seed: plan.stream(dataset, seed)}
        yield run_one(plan, entry, seed, streams[seed], within, progress)


class Host:
    """What runs in a worker: the data and the plan, from a file and from JSON."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        plan = settings["plan"]
        entries = tuple(Entry(e["label"], e["learner"], _as_written(e["options"])) for e in plan["entries"])
        options = _as_written(plan["scenario_options"])
        self._plan = Plan(**{**plan, "entries": entries, "seeds": tuple(plan["seeds"]), "scenario_options": options})
        self._dataset = _load(Path(settings["data"]))

    def run(self, label: str, learner: str, options: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """The run as JSON values. label, learner, options: of the entry."""
        entry = Entry(label, learner, options)
        return run_one(self._plan, entry, seed, self._plan.stream(self._dataset, seed)).to_dict()


def _as_written(options: Mapping[str, Any]) -> dict[str, Any]:
    """JSON does not tell words of a command line, which are read as what is wanted, from strings; the plan has been checked."""
    return {name: Text(value) if isinstance(value, str) else value for name, value in options.items()}


def _apart(plan: Plan, dataset: Dataset, todo: list[tuple[Entry, int]], workers: int) -> Iterator[Run]:
    if not todo:
        return
    if not isinstance(dataset.train.x, np.ndarray):
        raise ConfigError("pictures that are read as they are asked for go to one process only; leave out --workers")
    plain = {**vars(plan), "entries": [asdict(entry) for entry in plan.entries]}
    with contextlib.ExitStack() as end:
        place = Path(end.enter_context(tempfile.TemporaryDirectory(prefix="edgecl-stream-"))) / "data.npz"
        _save(dataset, place)
        settings = {"plan": plain, "data": str(place)}
        pool = end.enter_context(Pool("processes", f"{__name__}:{Host.__name__}", settings, min(workers, len(todo))))
        # As values, not as words of a command line, which are known by a type that JSON does not keep.
        jobs = [{"label": e.label, "learner": e.learner, "options": asdict(e.config), "seed": s} for e, s in todo]
        futures = [pool.submit("run", job, affinity=i) for i, job in enumerate(jobs)]
        for future in as_completed(futures):
            yield run_of(future.result())


def _save(dataset: Dataset, path: Path) -> None:
    arrays = {"names": np.array([dataset.name]), "classes": np.array(dataset.classes), "groups": np.array(dataset.groups)}
    for part in ("train", "val", "test"):
        samples = getattr(dataset, part)
        arrays |= {f"{part}_{field}": np.asarray(getattr(samples, field)) for field in ("x", "y", "group")}
    arrays |= {f"{_PUBLISHED}{scenario}": rows for scenario, rows in dataset.published.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _load(path: Path) -> Dataset:
    with np.load(path, allow_pickle=False) as found:
        train, val, test = (
            Samples(*(found[f"{part}_{field}"] for field in ("x", "y", "group"))) for part in ("train", "val", "test")
        )
        classes, groups = (tuple(map(str, found[field])) for field in ("classes", "groups"))
        published = {name.removeprefix(_PUBLISHED): found[name] for name in found.files if name.startswith(_PUBLISHED)}
        return Dataset(str(found["names"][0]), classes, groups, train, val, test, published=published)

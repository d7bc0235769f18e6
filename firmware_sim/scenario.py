"""A scenario: who is in the fleet, what there is to learn, how they reach one another, and what goes wrong. TOML in.

    name = "ring"
    agents = 100
    [tasks]
    folder = "tasks/"
    [network]
    topology = "ring"
    [faults]
    power_cuts_per_hour = 30

Every key has a default; an unknown one is refused, with the nearest known. A run is settled by its scenario, seed included.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from edgecl.errors import ConfigError
from edgecl.registry import METHODS, check
from edgecl.text import printable
from firmware_sim.foes.attacks import ATTACKS

BUILT_IN = Path(__file__).with_name("scenarios")
SOURCES = ("folder", "synthetic", "features")
GENERATORS = ("one_each", "overlapping", "dirichlet", "viewpoints", "drifting")
TOPOLOGIES = ("ring", "star", "mesh", "random", "moving", "late_joiner")
STANDINGS = ("stranger", "trusted", "revoked")


@dataclass(frozen=True)
class Tasks:
    """What there is to learn, and who learns it."""

    source: str = "folder"  # of tasks, each with train/ and test/; or synthetic (drawn pictures), features (no pictures)
    folder: str = ""
    count: int = 0  # of tasks; 0: all there are, of synthetic ones one for each agent
    classes: int = 4  # of a synthetic task
    per_class: int = 12  # pictures of a synthetic class to learn from
    most: int = 0  # training pictures of a task that are used; 0: all
    generator: str = "one_each"
    alpha: float = 0.5  # of the Dirichlet distribution
    agents_per_task: int = 3  # of the generators that divide a task
    by: str = "classes"  # of viewpoints: classes or domain
    steps: int = 3  # of drifting
    step_s: float = 60.0  # between two of them
    arrival_s: float = 0.0  # pictures of a task are there at a time drawn from 0..this
    method: str = "linear"
    recipe: str = "default"


@dataclass(frozen=True)
class Partition:
    """From one virtual second until another, agents of different groups cannot meet. Agents in no group are one together."""

    from_s: float
    until_s: float
    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Order:
    """What the fleet's owner types in at one device; it goes round with the contacts of the devices."""

    at_s: float
    who: str  # agent whose trust is taken back
    at: str  # agent at which it is typed in
    do: str = "revoke"
    spreads: bool = True


@dataclass(frozen=True)
class Network:
    """How agents reach one another."""

    topology: str = "ring"
    degree: int = 4  # of random
    side_m: float = 200.0  # of moving: the square they walk in
    range_m: float = 40.0
    speed_m_s: float = 1.5  # at most
    latency_ms: float = 5.0
    mbit_s: float = 0.0  # 0: what the slower of the two boards' radios gives
    loss: float = 0.0  # share of packets
    gossip_s: float = 30.0  # each agent greets a neighbour about so often
    eager: int = 2  # contacts without news until one with news stops telling; 0: it waits for its turn to greet
    trust: str = "neighbours"  # besides the authors: neighbours, or all
    awake_s: float = 0.0  # of each `duty_s`; 0: the radio is always on
    duty_s: float = 60.0
    joins_at_s: float = 60.0  # of late_joiner
    partitions: tuple[Partition, ...] = ()


@dataclass(frozen=True)
class Faults:
    """What goes wrong by itself; rates are of one agent."""

    power_cuts_per_hour: float = 0.0
    down_s: float = 20.0
    corrupt_sectors_per_hour: float = 0.0
    clock_jumps_per_hour: float = 0.0
    full_flash_agents: int = 0  # that have room for `full_flash_kb` of bank alone
    full_flash_kb: int = 400
    until_s: float = math.inf  # no fault afterwards


@dataclass(frozen=True)
class Foes:
    """Who means harm."""

    count: int = 0  # agents besides the honest ones
    standing: str = "stranger"
    attacks: tuple[str, ...] = ()  # by name; none: all there are
    period_s: float = 10.0
    rounds: int = 1  # through all the attacks; 0: until the end
    poisoned: int = 0  # honest agents, the last authors, whose signed heads have their classes mixed up


@dataclass(frozen=True)
class Scenario:
    """All of a run."""

    name: str = "ring"
    agents: int = 10
    seed: int = 0
    until_s: float = 3600.0
    ends: str = "known"  # as soon as all know all; or "until"
    at_least_s: float = 0.0  # not before that
    board: str = "raspberry-pi-4"
    boards: dict[str, int] = field(default_factory=dict)  # name -> how many agents, from the last one backwards
    own_boards: dict[str, dict[str, Any]] = field(default_factory=dict)
    runtime: str = "onnxruntime"
    device: str = "cpu"
    evaluate: bool = True  # every agent answers all test pictures at the end
    probes: int = 1  # agents that do so whenever they have learned of something new; 0: none
    baselines: bool = False
    tasks: Tasks = field(default_factory=Tasks)
    network: Network = field(default_factory=Network)
    faults: Faults = field(default_factory=Faults)
    foes: Foes = field(default_factory=Foes)
    orders: tuple[Order, ...] = ()

    def __post_init__(self) -> None:
        t, n, f = self.tasks, self.network, self.foes
        check("source of tasks", SOURCES, t.source)
        check("generator", GENERATORS, t.generator)
        check("topology", TOPOLOGIES, n.topology)
        check("standing", STANDINGS, f.standing)
        for attack in f.attacks:
            check("attack", ATTACKS, attack)
        check("end", ("known", "until"), self.ends)
        check("trust", ("neighbours", "all"), n.trust)
        for attack in f.attacks:
            check("attack", ATTACKS, attack)
        check("method", METHODS, t.method)
        for order in self.orders:
            check("order", ("revoke",), order.do)
        least, most = (2, 2_000) if n.topology in ("mesh", "moving", "late_joiner") else (2, 100_000)
        least = 3 if n.topology == "random" else least
        if not least <= self.agents <= most:
            raise ConfigError(f"agents must lie between {least} and {most:,} for the topology {n.topology}, got {self.agents}")
        _within("[network]", n, latency_ms=(1e-6, 1e6), loss=(0, 0.89), gossip_s=(1e-3, 1e9), mbit_s=(0, 1e6))
        _within("[network]", n, awake_s=(0, n.duty_s), duty_s=(1e-3, 1e9), joins_at_s=(0, 1e9), eager=(0, 1000))
        _within("the scenario", self, until_s=(1e-6, 1e9), seed=(0, 2**63 - 1), at_least_s=(0, 1e9), probes=(0, 1000))
        rates = dict.fromkeys(("power_cuts_per_hour", "corrupt_sectors_per_hour", "clock_jumps_per_hour"), (0.0, 3600.0))
        _within("[faults]", self.faults, **rates, down_s=(0, 1e9), full_flash_agents=(0, self.agents), full_flash_kb=(64, 1e9))
        _within("[foes]", f, count=(0, 1000), period_s=(1e-3, 1e9), rounds=(0, 1e6), poisoned=(0, self.agents))
        _within("[tasks]", t, count=(0, 100_000), classes=(2, 1000), per_class=(3, 100_000), most=(0, 1e9), steps=(1, 1000))
        _within("[tasks]", t, agents_per_task=(1, 100_000), step_s=(0, 1e9), arrival_s=(0, 1e9), alpha=(1e-6, 1e6))
        for order in self.orders:
            _within("[[orders]]", order, at_s=(0, 1e9))
        if min(self.boards.values(), default=0) < 0:
            raise ConfigError(f"boards says how many agents have each kind, got {self.boards}")
        if t.source == "folder" and not t.folder:
            raise ConfigError(
                'a fleet needs something to learn: [tasks] folder = "FOLDER", --tasks FOLDER, or source = "synthetic"'
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, that `from_dict` takes."""
        out: dict[str, Any] = _plain(dataclasses.asdict(self))
        return out


def _within(where: str, of: Any, **bounds: tuple[float, float]) -> None:
    """Raise ConfigError for a field of `of` that lies outside of its bounds."""
    for name, (least, most) in bounds.items():
        if not least <= getattr(of, name) <= most:
            raise ConfigError(f"{where}: {name} must lie between {least:g} and {most:g}, got {getattr(of, name)}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if value == math.inf else value


def names() -> list[str]:
    """The scenarios that come with edgecl."""
    return sorted(path.stem for path in BUILT_IN.glob("*.toml"))


def described() -> dict[str, str]:
    """Name -> what it is, of each that comes with edgecl: the comment at the head of its file."""
    return {name: (BUILT_IN / f"{name}.toml").read_text().splitlines()[0].lstrip("# ") for name in names()}


def load(word: str, **changes: Any) -> Scenario:
    """The scenario in a file, or a built-in one by its name. changes: `agents=`, or `tasks={"folder": ...}`; None is dropped.

    Raises ConfigError, UnknownName.
    """
    path = Path(word)
    if not word.endswith(".toml"):
        check("scenario", names(), word)
        path = BUILT_IN / f"{word}.toml"
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the scenario {printable(path)} cannot be read: {error}") from error
    values.setdefault("name", path.stem)
    for key, value in changes.items():
        if isinstance(value, Mapping):
            if not isinstance(values.get(key, {}), dict):
                raise ConfigError(f"{printable(path)}: {key} must be a table")
            values[key] = {**values.get(key, {}), **{k: v for k, v in value.items() if v is not None}}
        elif value is not None:
            values[key] = value
    return from_dict(values, str(path))


def from_dict(values: Mapping[str, Any], where: str = "the scenario") -> Scenario:
    """The scenario of plain values. Raises ConfigError for a key or value that cannot be meant."""
    made: Scenario = _made(Scenario, values, where)
    return made


def _made(cls: Any, values: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(cls)
    found = {}
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f". Known: {', '.join(hints)}"
            raise ConfigError(f"{where}: unknown key '{printable(key, 60)}'{hint}")
        found[key] = _typed(hints[key], value, f"{where}: {key}")
    needed = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    if lacking := [name for name in needed if name not in found]:
        raise ConfigError(f"{where}: {lacking[0]} is not said")
    return cls(**found)


def _typed(wanted: Any, value: Any, where: str) -> Any:
    origin = get_origin(wanted) or wanted
    if dataclasses.is_dataclass(wanted):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a table")
        return _made(wanted, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, got {value!r}")
        return tuple(_typed(get_args(wanted)[0], inner, where) for inner in value)
    if wanted is float:
        if value is None:
            return math.inf
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e18 < value <= math.inf:
            raise ConfigError(f"{where} must be a number, got {printable(repr(value), 60)}")
        return float(value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a table")
        inner = get_args(wanted)[1]
        return {key: one if inner is Any else _typed(inner, one, f"{where}.{printable(key, 60)}") for key, one in value.items()}
    if wanted is int and isinstance(value, int) and abs(value) > 2**63:
        raise ConfigError(f"{where} must be a smaller number")
    if isinstance(value, bool) != (wanted is bool) or not isinstance(value, origin):
        raise ConfigError(f"{where} must be {origin.__name__}, got {type(value).__name__} {value!r}")
    return value

"""Fleets of real devices on the tiny ROM, in virtual time: what must come out, and that it comes out alike wherever it runs."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgecl.device import EdgeDevice
from edgecl.errors import ConfigError, DataError
from firmware_sim.scenario import from_dict
from firmware_sim.simulation import SUMMARY, TRACE, replay, simulate
from firmware_sim.trace import read

Run = Callable[..., tuple[dict[str, Any], list[dict[str, Any]], Path]]


@pytest.fixture
def run(tmp_path: Path, tiny_rom: Path) -> Run:
    """Simulates a fleet that learns from features; gives summary, events and folder."""
    number = 0

    def go(scenario: dict[str, Any], **how: Any) -> tuple[dict[str, Any], list[dict[str, Any]], Path]:
        nonlocal number
        number += 1
        tasks = {"source": "features", "count": 3, "per_class": 10, **scenario.pop("tasks", {})}
        made = from_dict({"name": "test", "agents": 4, "board": "raspberry-pi-5", "probes": 0, "tasks": tasks, **scenario})
        folder = how.pop("folder", tmp_path / f"run-{number}")
        done = simulate(made, folder, rom=tiny_rom, cache=tmp_path / "cache", threads=1, **how)
        return done, list(read(folder / TRACE)), folder

    return go


STORMY: dict[str, Any] = {
    "at_least_s": 70.0,
    "until_s": 900.0,
    "evaluate": False,
    "network": {"gossip_s": 8.0, "loss": 0.05, "mbit_s": 2.0},
    "faults": {
        "power_cuts_per_hour": 300.0,
        "down_s": 3.0,
        "corrupt_sectors_per_hour": 60.0,
        "clock_jumps_per_hour": 60.0,
        "until_s": 65.0,
    },
}


def of(events: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] in names]


@pytest.mark.parametrize("topology", ["ring", "star", "mesh", "random", "moving"])
def test_what_one_has_learned_all_can_do_bit_for_bit(run: Run, topology: str, tiny_rom: Path) -> None:
    network = {"topology": topology, "degree": 2, "gossip_s": 5.0, "side_m": 60.0}
    done, events, folder = run({"network": network}, watched=True)
    assert done["known_at_s"] is not None and done["violations"] == [] and done["identical"]
    learned = {event["task"]: event for event in of(events, "learned")}
    assert len(learned) == 3 and len(of(events, "evaluated")) == 4
    bundles: dict[str, set[bytes]] = {task: set() for task in learned}
    for name in done["per_agent"]:
        with EdgeDevice(folder / "homes" / name, rom=tiny_rom) as device:
            assert device.tasks == tuple(sorted(learned))
            for task, held in bundles.items():
                held.add(device.export(task))
    assert all(len(held) == 1 for held in bundles.values())
    joint = {event["joint"] for event in of(events, "evaluated")}
    assert len(joint) == 1 and 0.5 < joint.pop() <= 1


def test_the_same_seed_gives_the_same_trace_and_another_one_another(run: Run) -> None:
    first, _, folder = run({**STORMY, "seed": 3})
    again, _, other = run({**STORMY, "seed": 3})
    assert (folder / TRACE).read_bytes() == (other / TRACE).read_bytes()
    assert first["per_agent"] == again["per_agent"]
    _, _, different = run({**STORMY, "seed": 4})
    assert (folder / TRACE).read_bytes() != (different / TRACE).read_bytes()


@pytest.mark.parametrize(("workers", "count"), [("processes", 4), ("ray", 2)])
def test_several_processes_and_ray_give_the_trace_of_one(run: Run, workers: str, count: int) -> None:
    if workers == "ray":
        pytest.importorskip("ray", reason="needs the extra 'fleet'")
    alone, _, folder = run({**STORMY, "seed": 5})
    spread, events, other = run({**STORMY, "seed": 5}, workers=workers, count=count)
    assert (folder / TRACE).read_bytes() == (other / TRACE).read_bytes()
    assert alone["per_agent"] == spread["per_agent"] and of(events, "fault")


@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_killed_worker_changes_nothing(run: Run, all_of_them: bool) -> None:
    _, _, folder = run({**STORMY, "seed": 6})
    seen = 0

    def heard(event: dict[str, Any]) -> None:
        nonlocal seen
        seen += event["event"] == "session"
        if event["event"] == "session" and seen in (4, 9):
            workers = sorted(psutil.Process().children(), key=lambda child: child.pid)
            for worker in workers if all_of_them else workers[-1:]:  # they leave the logs of banks that lay idle, too
                os.kill(worker.pid, signal.SIGKILL)

    done, _, other = run({**STORMY, "seed": 6}, workers="processes", count=2, heard=heard)
    assert seen > 10 and (folder / TRACE).read_bytes() == (other / TRACE).read_bytes() and done["violations"] == []


@pytest.mark.parametrize("seed", range(12))
def test_whatever_goes_wrong_nothing_acknowledged_is_lost_and_all_know_all_in_the_end(run: Run, seed: int) -> None:
    done, events, _ = run({**STORMY, "seed": seed, "agents": 3, "tasks": {"count": 2}}, watched=True)
    assert done["violations"] == [] and done["known_at_s"] is not None and of(events, "fault")


def test_a_head_that_vanishes_is_seen(run: Run, tmp_path: Path) -> None:
    """The looks at devices are no formality: somebody takes a head out of a bank."""
    robbed = False

    def heard(event: dict[str, Any]) -> None:
        nonlocal robbed
        if event["event"] == "taken" and not robbed:
            robbed = True
            with sqlite3.connect(tmp_path / "run-1" / "homes" / event["agent"] / "bank.sqlite") as db:
                db.execute("DELETE FROM current WHERE task = ?", (event["task"],))

    done, _, _ = run({**STORMY, "seed": 1}, watched=True, heard=heard)
    assert robbed and any("believed to know" in line or "nobody has made" in line for line in done["violations"])


def test_power_goes_inside_a_bank_and_a_line_breaks(run: Run) -> None:
    """At a bit a second, so to speak, cuts come in the middle of sessions."""
    network = {"gossip_s": 4.0, "mbit_s": 0.05, "topology": "mesh"}
    faults = {"power_cuts_per_hour": 600.0, "down_s": 1.0, "until_s": 100.0}
    done, events, _ = run({"network": network, "faults": faults, "evaluate": False, "until_s": 2000.0}, watched=True)
    assert len(of(events, "broken")) > 3 and done["violations"] == [] and done["known_at_s"] is not None


def test_a_bad_sector_is_healed_by_a_neighbour(run: Run) -> None:
    faults = {"corrupt_sectors_per_hour": 600.0, "until_s": 100.0}
    done, events, _ = run(
        {"faults": faults, "network": {"gossip_s": 5.0}, "at_least_s": 110.0, "seed": 2, "evaluate": False}, watched=True
    )
    lost = [event for event in of(events, "fault") if event["lost"]]
    assert lost and of(events, "healed") and done["known_at_s"] is not None and done["violations"] == []


def test_strangers_get_nowhere_whatever_they_try(run: Run) -> None:
    done, events, _ = run(
        {"network": {"topology": "mesh"}, "foes": {"count": 1, "period_s": 2.0}, "until_s": 100.0, "ends": "until"},
        watched=True,
    )
    attacks = of(events, "attack")
    assert len({event["kind"] for event in attacks}) > 25
    assert all(event["refused"] and not event["broke"] and not event["took"] for event in attacks)
    assert done["violations"] == [] and all(one["knows"] == 3 for one in done["per_agent"].values())


def test_a_poisoned_head_harms_until_its_signer_is_revoked_everywhere(run: Run) -> None:
    """A revocation that the owner types in at one device, and that goes round with the devices' contacts."""
    scenario = {
        "foes": {"poisoned": 1},
        "network": {"topology": "ring", "gossip_s": 5.0},
        "orders": [{"at_s": 60.0, "do": "revoke", "who": "agent-002", "at": "agent-000"}],
        "until_s": 200.0,
        "ends": "until",
    }
    done, events, _ = run(scenario, watched=True)
    task = next(event["task"] for event in of(events, "learned") if event["agent"] == "agent-002")
    taken = {event["agent"] for event in of(events, "taken") if event["task"] == task}
    revoked = {event["agent"]: event["t"] for event in of(events, "revoked")}
    assert taken == {"agent-000", "agent-001", "agent-003"} == set(revoked) and done["violations"] == []
    assert revoked["agent-000"] == 60.0 < revoked["agent-001"] and max(revoked.values()) < 120
    ends = {event["agent"]: event["knows"] for event in of(events, "end")}
    assert all(task not in ends[agent] for agent in taken)


def test_a_small_flash_is_full_and_the_fleet_goes_on(run: Run) -> None:
    done, events, _ = run(
        {"faults": {"full_flash_agents": 1, "full_flash_kb": 80}, "until_s": 60.0, "evaluate": False}, watched=True
    )
    assert done["known_at_s"] is None and done["violations"] == []
    knows = [one["knows"] for one in done["per_agent"].values()]
    assert knows[:-1] == [3, 3, 3] and knows[-1] < 3
    assert of(events, "refused")


def test_halves_that_are_cut_off_learn_of_each_other_afterwards(run: Run) -> None:
    network = {
        "topology": "mesh",
        "gossip_s": 3.0,
        "partitions": [{"from_s": 0.0, "until_s": 50.0, "groups": [[0, 1], [2, 3]]}],
    }
    done, events, _ = run({"network": network, "evaluate": False})
    early = [{event["agent"], event["peer"]} for event in of(events, "session") if event["t"] < 50.0]
    assert early and all(pair in ({"agent-000", "agent-001"}, {"agent-002", "agent-003"}) for pair in early)
    assert done["known_at_s"] > 50.0


def test_who_comes_late_gets_everything(run: Run) -> None:
    done, events, _ = run({"network": {"topology": "late_joiner", "joins_at_s": 80.0}, "evaluate": False})
    last = [event for event in of(events, "taken") if event["agent"] == "agent-003"]
    assert len(last) == 3 and min(event["t"] for event in last) > 80.0 and done["known_at_s"] > 80.0


def test_a_board_without_the_memory_does_not_learn(run: Run) -> None:
    done, events, _ = run({"board": "coral", "tasks": {"method": "clr"}, "until_s": 30.0, "evaluate": False})
    assert len(of(events, "learn_failed")) == 3 and {event["kind"] for event in of(events, "fault")} == {"out_of_memory"}
    assert done["tasks"] == []


def test_a_trace_is_repeated_up_to_the_moment_before_it_went_wrong(run: Run, tmp_path: Path, tiny_rom: Path) -> None:
    _, events, folder = run({**STORMY, "seed": 8})
    busy = [(event["t"] - event["seconds"], event["t"]) for event in of(events, "session", "broken")]
    moment = next(t for t in (n / 4 for n in range(8, 400)) if not any(start <= t <= end for start, end in busy))
    how = {"rom": tiny_rom, "cache": tmp_path / "cache", "threads": 1}
    replay(folder / TRACE, tmp_path / "again", until=moment, **how)
    then: dict[str, dict[str, str]] = {}
    for event in of(events, "learned", "taken"):
        if event["t"] < moment:
            then.setdefault(event["agent"], {})[event["task"]] = event["digest"]
    for name in ("agent-000", "agent-001", "agent-002", "agent-003"):
        with EdgeDevice(tmp_path / "again" / "homes" / name, rom=tiny_rom) as device:
            assert device.bank.current() == then.get(name, {})
    lines = (folder / TRACE).read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if '"session"' in line)
    lines[at] = lines[at].replace('"known":', '"known":1')
    (tmp_path / "forged.jsonl").write_text("".join(lines))
    with pytest.raises(DataError, match="the run is not the one in"):
        replay(tmp_path / "forged.jsonl", tmp_path / "third", **how)
    with pytest.raises(ConfigError, match="another folder"):
        replay(folder / TRACE, folder, **how)
    (tmp_path / "none.jsonl").write_text('{"event":"session"}\n')
    with pytest.raises(DataError, match="does not begin as a trace"):
        replay(tmp_path / "none.jsonl", tmp_path / "fourth", **how)


def test_a_folder_that_holds_something_else_is_left_alone(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="something else"):
        run({}, folder=mine)
    assert (mine / "thesis.txt").read_text() == "years of work"
    done, _, folder = run({"agents": 2, "evaluate": False})
    again, _, _ = run({"agents": 2, "evaluate": False}, folder=folder)
    assert again["per_agent"] == done["per_agent"] and json.loads((folder / SUMMARY).read_text())["agents"] == 2

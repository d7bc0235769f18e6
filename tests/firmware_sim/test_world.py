"""What a scenario settles before anything happens, in every process alike."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from edgecl.errors import ConfigError, UnknownName
from firmware_sim.scenario import GENERATORS, from_dict
from firmware_sim.world import World


def world(**keys: Any) -> World:
    tasks = {"source": "features", "count": 3, "per_class": 12, **keys.pop("tasks", {})}
    return World(from_dict({"agents": 6, "tasks": tasks, **keys}), 32)


def test_boards_of_several_kinds_and_of_ones_own() -> None:
    own = {"hut": {"base": "raspberry-pi-4", "battery_wh": 50, "charge_w": 6}}
    made = world(board="jetson-nano", boards={"hut": 2, "raspberry-pi-5": 1}, own_boards=own)
    names = [made.profile(i).name for i in range(6)]
    assert names == ["jetson-nano"] * 3 + ["raspberry-pi-5"] + ["hut"] * 2
    assert made.profile(5).battery_wh == 50 and made.profile(5).ram_mb == world(board="raspberry-pi-4").profile(0).ram_mb
    with pytest.raises(UnknownName):
        world(board="raspberry-pi-44")
    with pytest.raises(UnknownName, match="battery"):
        world(own_boards={"hut": {"base": "raspberry-pi-4", "batery_wh": 50}})


def test_the_line_is_as_fast_as_the_slower_radio_unless_it_is_said() -> None:
    made = world(board="jetson-agx-orin", boards={"raspberry-pi-4": 1}, network={"latency_ms": 3.0})
    slow, fast = made.profile(5).link_mbit_s, made.profile(0).link_mbit_s
    assert made.quality(0, 5).rate == min(slow, fast) * 1e6 and made.quality(0, 1).rate == fast * 1e6
    assert made.quality(0, 5).latency == 0.003
    assert world(network={"mbit_s": 2.0}).quality(0, 1).rate == 2e6


def test_devices_trust_their_neighbours_and_the_authors_or_all() -> None:
    made = world(agents=12, tasks={"count": 2})
    authors = {lesson.agent for lesson in made.lessons}
    trusted, revoked = made.trusts(4)
    assert set(trusted) == {made.names[i] for i in {3, 5, *authors} - {4}} and revoked == {}
    assert trusted["agent-003"] == made.signer(3).key
    assert len(world(agents=12, network={"trust": "all"}).trusts(4)[0]) == 11
    foes = {"count": 2, "standing": "revoked"}
    assert set(world(foes=foes).trusts(0)[1]) == {"agent-006", "agent-007"}
    assert "agent-006" not in world(foes={"count": 1}).trusts(0)[0]


def test_keys_are_of_a_name_in_a_run() -> None:
    assert world().signer(2).key == world().signer(2).key != world().signer(3).key
    assert world().signer(2).key != world(seed=1).signer(2).key


def test_power_comes_back_before_it_goes_again() -> None:
    made = world(faults={"power_cuts_per_hour": 1000.0, "down_s": 10.0, "until_s": 2000.0})
    cuts = made.power_cuts(1)
    assert len(cuts) > 10 and all(at + down < later for (at, down), (later, _) in pairwise(cuts))
    assert cuts == made.power_cuts(1) != made.power_cuts(2) and cuts[-1][0] < 2000.0
    assert world().power_cuts(1) == []


@pytest.mark.parametrize("generator", GENERATORS)
def test_every_generator_gives_lessons_that_can_be_learned(generator: str) -> None:
    made = world(tasks={"generator": generator, "agents_per_task": 2, "arrival_s": 50.0, "classes": 4, "by": "classes"})
    assert made.lessons and all(len(lesson.classes) >= 2 and len(lesson.train) >= 6 for lesson in made.lessons)
    assert any(lesson.arrives_s > 0 for lesson in made.lessons)
    assert [vars(one) for one in made.lessons] == [
        vars(one)
        for one in world(
            tasks={"generator": generator, "agents_per_task": 2, "arrival_s": 50.0, "classes": 4, "by": "classes"}
        ).lessons
    ]


def test_the_pictures_that_are_used_can_be_bounded() -> None:
    made = world(tasks={"source": "synthetic", "count": 2, "classes": 3, "per_class": 8, "most": 13})
    assert [len(lesson.train) for lesson in made.lessons] == [13, 13]
    assert {lesson.train_labels.count(c) for lesson in made.lessons for c in range(3)} <= {4, 5}


def test_an_agent_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="agent-000 to agent-005"):
        world().index("agent-999")

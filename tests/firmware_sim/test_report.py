"""Reports from traces: the figures against their definition, and what a hostile name or a damaged file may not do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecl.errors import DataError
from firmware_sim import analysis, report, trace, wording
from firmware_sim.knowledge import knowledge
from firmware_sim.page import page

MakeRun = Callable[..., Path]
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\x1b[2J|`"


def event(t: float, agent: str, name: str, **more: Any) -> dict[str, Any]:
    return {"t": t, "agent": agent, "event": name, **more}


def two_agents() -> list[dict[str, Any]]:
    """a learns at 10, b takes it at 14."""
    return [event(10, "a", "learned", task="birds", digest="d1"), event(14, "b", "taken", task="birds", digest="d1")]


def knows(at: float, **held: str) -> list[dict[str, Any]]:
    return [event(at, agent, "end", knows={"birds": digest}) for agent, digest in held.items()]


def test_curves_agree_with_a_count_by_hand_at_each_moment(make_run: MakeRun) -> None:
    events = list(trace.read(make_run() / "trace.jsonl"))
    found = knowledge(events)
    for k in range(0, len(found.times), 37):
        held: dict[str, set[str]] = {agent: set() for agent in found.agents}
        down = set()
        for e in events[1:]:
            if e["t"] > found.times[k] or e["agent"] not in held:
                continue
            if e["event"] in ("learned", "taken"):
                held[e["agent"]].add(e["task"])
            held[e["agent"]] -= set(e.get("lost", ()))
            if e.get("kind") in ("power_cut", "brown_out"):
                down.add(e["agent"])
            if e["event"] == "boot":
                down.discard(e["agent"])
        live = [tasks for agent, tasks in held.items() if agent not in down]
        assert found.everywhere[k] == len(set.intersection(*live))
        assert found.mean[k] == pytest.approx(np.mean([len(tasks) for tasks in live]))
        assert found.least[k] == min(map(len, live))


def test_time_to_knowledge_is_counted_from_the_first_learning_to_the_last_live_agent() -> None:
    found = knowledge([*two_agents(), event(15, "c", "taken", task="birds", digest="d1")])
    assert found.spread().tolist() == [[4.0, 5.0, 5.0]]
    dead = knowledge([*two_agents(), event(11, "c", "fault", kind="power_cut")])
    assert dead.spread()[0, 2] == 4.0, "c is down and is not waited for"


def test_a_new_generation_counts_as_known_only_where_it_arrived() -> None:
    events = [*two_agents(), event(20, "a", "learned", task="birds", digest="d2")]
    assert knowledge(events).after == math.inf
    assert knowledge([*events, event(26, "b", "taken", task="birds", digest="d2")]).after == 26


def test_a_lost_head_is_known_again_from_its_healing() -> None:
    events = [*two_agents(), event(20, "b", "fault", kind="corrupt_sector", lost=["birds"])]
    assert knowledge(events).complete == 1
    healed = knowledge([*events, event(23, "b", "taken", task="birds", digest="d1")])
    assert (healed.complete, healed.after) == (2, 23)


def test_the_end_of_the_trace_has_the_last_word() -> None:
    assert knowledge([*two_agents(), event(30, "b", "end", knows={})]).complete == 1
    assert knowledge([*two_agents(), *knows(30, a="d1", b="evil")]).foreign == [("b", "birds")]


def test_a_foe_and_its_tasks_are_not_the_fleets() -> None:
    foe = [
        event(1, "foe", "learned", task="evil", digest="e"),
        event(2, "foe", "attack", kind="replay", victim="a", refused="replay"),
    ]
    found = knowledge([*foe, *two_agents()])
    assert (found.agents, found.tasks) == (["a", "b"], ["birds"])


def test_one_that_joins_late_is_not_live_before(make_run: MakeRun) -> None:
    found = knowledge([*two_agents(), event(20, "c", "boot"), event(22, "c", "taken", task="birds", digest="d1")])
    at = dict(zip(found.times.tolist(), found.everywhere.tolist(), strict=True))
    assert [at[t] for t in (14, 20, 22)] == [1, 0, 1]


def test_traffic_adds_up_both_ways_and_both_ends() -> None:
    sessions = [event(1, "a", "session", peer="b", out=10, **{"in": 5}), event(3, "b", "session", peer="a", out=1, **{"in": 2})]
    found = analysis.traffic([*sessions, event(4, "a", "broken", peer="b", why="partition")])
    assert found.links == {("a", "b"): 18}
    assert (found.times.tolist(), found.total.tolist(), found.sessions, found.broken) == ([1, 3], [15, 18], 2, 1)


def test_faults_say_what_became_of_them() -> None:
    found = analysis.faults(
        [
            event(1, "a", "fault", kind="power_cut"),
            event(9, "a", "boot", down=8),
            event(10, "b", "fault", kind="corrupt_sector"),
            event(11, "foe", "attack", kind="rollback", victim="a", refused="rollback"),
            event(12, "foe", "attack", kind="poisoned", victim="b", refused=None),
        ]
    )
    assert [(trouble.came, trouble.reason) for trouble in (*found.faults, *found.attacks)] == [
        ("up", ""),
        ("", ""),
        ("refused", "rollback"),
        ("", ""),
    ]
    assert found.faults[0].after == 8


def test_the_result_stands_first(make_run: MakeRun) -> None:
    run = analysis.read(make_run())
    first = wording.headline(run)[0]
    assert first.startswith("All 19 live agents know all 14 tasks, each head bit-identical to its author's, after ")
    assert first in page(run).replace("&#x27;", "'")


def test_a_task_that_died_with_its_author_is_named_and_blamed_on_no_other(make_run: MakeRun) -> None:
    sentences = wording.headline(analysis.read(make_run(dies_at=6.5)))
    assert sentences[0].startswith("All 19 live agents know 13 of the 14 tasks")
    assert sentences[1] == "Tasks that no live agent has at the end: 'task-01', learned by agent-001."


def test_an_attack_that_got_through_is_said(make_run: MakeRun) -> None:
    folder = make_run()
    with (folder / "trace.jsonl").open("a") as file:
        file.write(json.dumps(event(81, "foe-000", "attack", kind="poisoned", victim="agent-004", refused="")) + "\n")
    run = analysis.read(folder)
    assert "Of 13 attacks, 1 were not refused: poisoned (1)." in wording.headline(run)
    assert "NOT REFUSED" in page(run)


def test_the_report_is_written_and_fits_100_columns(make_run: MakeRun) -> None:
    folder = make_run()
    names = {path.name for path in report.write(folder)}
    drawn = {"knowledge.png", "time_to_knowledge.png", "accuracy.png", "bytes_per_agent.png", "mapper_confusion.png"}
    assert names == {"report.md", "report.html"} | (drawn if find_spec("matplotlib") else set())
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 100
    assert ("matplotlib is not installed" in text) is (find_spec("matplotlib") is None)


class Seen(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [str(value) for name, value in attrs if name in ("href", "src")]


@pytest.mark.parametrize("agents", [20, 200])
def test_no_name_from_the_trace_becomes_markup(make_run: MakeRun, agents: int) -> None:
    folder = make_run(agents=agents, names=[HOSTILE, "leaf|rust", "</style><svg onload=alert(1)>"])
    raw = json.loads((folder / "summary.json").read_text())
    raw["scenario"] = HOSTILE
    raw["baselines"][HOSTILE] = {"joint": 0.5}
    raw["per_agent"]["agent-001"]["board"] = HOSTILE
    (folder / "summary.json").write_text(json.dumps(raw))
    attack = event(81, HOSTILE, "attack", kind=HOSTILE, victim=HOSTILE, refused=HOSTILE)
    with (folder / "trace.jsonl").open("a") as file:
        file.write(json.dumps(attack) + "\n")
    report.write(folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    seen = Seen(text)
    assert seen.tags["script"] == 2, "the data and the page's own"
    assert "img" not in seen.tags
    assert not [name for name in seen.attributes if name.startswith("on")]
    assert "\x1b" not in text
    assert "<script" not in (folder / "report.md").read_text(encoding="utf-8")


def test_the_page_fetches_nothing_and_stays_small(make_run: MakeRun) -> None:
    text = page(analysis.read(make_run(agents=1000, tasks=30, topology="random")))
    seen = Seen(text)
    assert all(address.startswith("data:image/png;base64,") for address in seen.addresses)
    assert "http://" not in text and "https://" not in text and "url(" not in text
    assert len(text) < 2_000_000


def test_a_run_in_which_nothing_happened_has_a_report_too(tmp_path: Path) -> None:
    (tmp_path / "trace.jsonl").write_text('{"event":"scenario","name":"ring"}\n')
    (tmp_path / "summary.json").write_text("{}")
    report.write(tmp_path)
    assert "Nobody learned a task in this run." in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"event": "learned", "t": 1, "agent": "a", "task": 7, "digest": "d"}, "'task' is no str"),
        ({"event": "learned", "t": float("nan"), "agent": "a", "task": "x", "digest": "d"}, "without its second"),
        ({"event": "session", "t": 1, "agent": "a", "peer": "b", "out": "9", "in": 1}, "'out' is no float"),
        ({"event": "end", "t": 1, "knows": {}}, "or its agent"),
    ],
)
def test_an_event_that_is_none_is_refused(tmp_path: Path, line: dict[str, Any], says: str) -> None:
    (tmp_path / "trace.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(DataError, match=says):
        report.write(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "nonsense", "[" * 100_000])
def test_a_summary_that_is_none_is_refused(make_run: MakeRun, text: str) -> None:
    folder = make_run()
    (folder / "summary.json").write_text(text)
    with pytest.raises(DataError, match=r"summary\.json"):
        report.write(folder)


def test_figures_of_a_summary_are_not_trusted_for_their_shape(make_run: MakeRun) -> None:
    folder = make_run()
    odd = {
        "per_agent": {"agent-000": 3, "x": {"energy_j": "much", "board": 7}},
        "accuracy": {"joint": 0.5, "confusion": [[1], [1, 2]]},
    }
    odd |= {
        "baselines": {"a": None, "b": {"joint": True}, "c": {"joint": 0.4, "curve": [1, None, [2, "x"], [1, 2, 3]]}},
        "virtual_s": "long",
    }
    (folder / "summary.json").write_text(json.dumps(odd))
    report.write(folder)
    run = analysis.read(folder)
    assert analysis.accuracies(run) == {"the fleet": (0.5, []), "c": (0.4, [])}
    assert analysis.confusion(run) is None

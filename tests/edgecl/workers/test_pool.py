"""All kinds of workers keep one contract, and a killed one leaves no trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edgecl.bank.bank import HeadBank
from edgecl.errors import BundleError, Reason, RomError, WorkerLost
from edgecl.workers.pool import KINDS, Pool

HERE = Path(__file__).parent
START = "bank_host:Host"
Open = Callable[..., Pool]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray cluster for all tests of this file: it takes seconds to start. Pools that find one join it."""
    if find_spec("ray") is None:
        pytest.skip("work on a Ray cluster needs the extra: pip install 'edgecl[fleet]'")
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="error", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("cluster")
    return str(request.param)


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens pools over the host in `bank_host`, and closes them."""
    monkeypatch.syspath_prepend(HERE)
    opened: list[Pool] = []

    def make(kind: str, workers: int = 1, **settings: Any) -> Pool:
        settings = {"folder": str(tmp_path), **settings}
        opened.append(Pool(kind, START, settings, workers))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def knows(home: Path) -> tuple[list[tuple[int, str, str]], list[str]]:
    """All that an op has written there."""
    bank = HeadBank(home / "bank.sqlite", lambda: 0.0)
    try:
        assert not bank.verify()
        return [(g.number, g.digest, g.action) for g in bank.history("t")], sorted(os.listdir(home / "incoming"))
    finally:
        bank.close()


def gone(pid: int) -> bool:
    """Whether the process has ended, a moment after it should have."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_values_and_errors_come_back_as_they_went(kind: str, pool: Open) -> None:
    one = pool(kind)
    value = {"a": [1, 0.1, None, "ä"], "b": True}
    assert one.submit("echo", {"value": value}).result() == value
    assert one.submit("echo", {"value": (1, 2)}).result() == [1, 2], "a tuple is a list everywhere, or kinds differ"
    with pytest.raises(BundleError, match="no such signature") as refused:
        one.submit("refuse", {}).result()
    assert (str(refused.value), refused.value.reason) == ("no such signature", Reason.BAD_SIGNATURE)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero") as stumbled:
        one.submit("stumble", {}).result()
    assert "bank_host.py" in stumbled.value.__notes__[0], "where in the worker it happened"
    assert one.submit("echo", {"value": 3}).result() == 3, "an error ends no worker"


def test_a_host_that_cannot_start_says_why(kind: str, pool: Open) -> None:
    with pytest.raises(RomError, match="no ROM here"):
        pool(kind, refuse="no ROM here")


def test_the_affinity_chooses_the_worker_and_keeps_the_order(kind: str, pool: Open, tmp_path: Path) -> None:
    three = pool(kind, workers=3)
    pids = [three.submit("pid", {}, affinity).result() for affinity in range(6)]
    assert pids[:3] == pids[3:]
    assert len(set(pids)) == (1 if kind == "local" else 3)
    wait([three.submit("note", {"line": str(i)}, affinity=4) for i in range(20)])
    assert (tmp_path / "notes").read_text().split() == [str(i) for i in range(20)]


def test_ops_on_one_home_keep_their_order_over_all_workers(pool: Open, tmp_path: Path) -> None:
    home = str(tmp_path / "agent")
    two = pool("processes", workers=2)
    assert [f.result() for f in [two.submit("add", {"home": home}, i, [home]) for i in range(12)]] == list(range(1, 13))


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_killed_worker_leaves_no_trace(kind: str, deaths: int, pool: Open, tmp_path: Path) -> None:
    """The worker dies after its op has committed; the op is run again from its beginning, on the bank as it was before."""
    if kind == "local":
        pytest.skip("a local worker is this process")
    struck, spared = tmp_path / "struck", tmp_path / "spared"
    two = pool(kind, workers=2)
    results = []
    for home, kill in ((spared, 0), (struck, deaths)):
        # The second worker has the home open as well: it must not go on with what it saw there before.
        steps = [("add", 0, 0), ("add", 1, 0), ("add", 0, kill), ("add", 1, 0)]
        found = [two.submit(op, {"home": str(home), "kill": kill}, lane, [home]) for op, lane, kill in steps]
        results.append([one.result() for one in found])
    assert len(list(tmp_path.glob("death-*"))) == deaths
    assert results[0] == results[1] == [1, 2, 3, 4]
    two.close()
    assert knows(struck) == knows(spared)


def test_a_home_that_an_op_was_to_make_is_made_once(pool: Open, tmp_path: Path) -> None:
    home = tmp_path / "new"
    one = pool("processes")
    assert one.submit("add", {"home": str(home), "kill": 1}, homes=[home]).result() == 1
    one.close()
    assert len(knows(home)[0]) == 1


def test_an_op_that_kills_every_worker_is_given_up_and_undone(pool: Open, tmp_path: Path) -> None:
    home = tmp_path / "agent"
    one = pool("processes")
    one.submit("add", {"home": str(home)}, homes=[home]).result()
    with pytest.raises(WorkerLost, match="'add'"):
        one.submit("add", {"home": str(home), "kill": 99}, homes=[home]).result()
    assert one.submit("add", {"home": str(home)}, homes=[home]).result() == 2, "as if it had never been asked"


def test_a_worker_killed_while_it_is_idle_is_replaced(pool: Open) -> None:
    two = pool("processes", workers=2)
    os.kill(two.pids[0], signal.SIGKILL)
    assert two.submit("echo", {"value": 1}, 0).result() == 1


def test_closing_ends_idle_workers_in_peace_and_busy_ones_at_once(pool: Open, tmp_path: Path) -> None:
    two = pool("processes", workers=2)
    pids = two.pids
    asleep, never = two.submit("sleep", {"seconds": 600}, 0), two.submit("echo", {"value": 1}, 0)
    while not list(tmp_path.glob("asleep-*")):
        time.sleep(0.01)
    two.close()
    for unfinished in (asleep, never):
        with pytest.raises(CancelledError):
            unfinished.result(0)
    assert [path.name for path in tmp_path.glob("closed-*")] == [f"closed-{pids[1]}"]
    assert all(gone(pid) for pid in pids)


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from edgecl.workers.pool import Pool
with Pool("processes", "bank_host:Host", {"folder": sys.argv[2]}, workers=2) as pool:
    ops = [pool.submit("sleep", {"seconds": 600}, i) for i in range(2)]
    ops[0].result()
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_no_worker_outlives_its_parent(how: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(HERE), str(tmp_path)]
    # Ctrl-C goes to all processes of a terminal's group, so they have one of their own here.
    parent = subprocess.Popen(command, cwd=HERE.parents[2], stderr=subprocess.DEVNULL, start_new_session=True)
    while len(pids := [int(path.name[7:]) for path in tmp_path.glob("asleep-*")]) < 2:
        assert parent.poll() is None
        time.sleep(0.01)
    os.killpg(parent.pid, how) if how == signal.SIGINT else os.kill(parent.pid, how)
    assert parent.wait(60)
    assert all(gone(pid) for pid in pids)

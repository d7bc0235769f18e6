"""Links are symmetric, stay as they are until they are said to change, and lead everywhere."""

import itertools
import math

import numpy as np
import pytest

from edgecl.errors import ConfigError, UnknownName
from firmware_sim.topology import Cut, DutyCycle, Partitions, Static, make, phases

N = 12
KINDS = {
    "ring": {},
    "star": {"hub": 3},
    "mesh": {},
    "random": {"degree": 3},
    "moving": {"side_m": 100.0, "range_m": 30.0, "rest_s": 5.0},
    "late_joiner": {"at_s": 50.0},
}


def overlaid(seed=0):
    """All that there is at once."""
    cuts = [Cut(40.0, 90.0, ((0, 1, 2), (3, 4))), Cut(90.0, 95.0, ((0, 5),))]
    sleepy = DutyCycle(make("moving", N, seed, **KINDS["moving"]), 20.0, 13.0, phases(N, 20.0, seed))
    return Partitions(sleepy, cuts)


def all_topologies():
    return {**{kind: make(kind, N, 5, **options) for kind, options in KINDS.items()}, "overlaid": overlaid()}


@pytest.mark.parametrize("kind", [*KINDS, "overlaid"])
def test_both_ends_agree_and_the_three_answers_say_the_same(kind):
    topology = all_topologies()[kind]
    for t in np.random.default_rng(1).uniform(0, 300, 40).tolist():
        near = [topology.neighbours(agent, t) for agent in range(N)]
        for a, b in itertools.product(range(N), repeat=2):
            assert (b in near[a]) == (a in near[b]) == (topology.open_until(a, b, t) > t)
            assert topology.open_until(a, b, t) == topology.open_until(b, a, t)
        assert all(list(others) == sorted(set(others) - {agent}) for agent, others in enumerate(near))


@pytest.mark.parametrize("kind", [*KINDS, "overlaid"])
def test_nothing_changes_before_the_next_change(kind):
    topology, rng = all_topologies()[kind], np.random.default_rng(2)
    for t in rng.uniform(0, 200, 25).tolist():
        agent = int(rng.integers(N))
        change = topology.next_change(agent, t)
        assert change > t
        last = min(change - 1e-6, t + 500)  # a microsecond: roots of quadratics are rounded
        for between in [*rng.uniform(t, max(t, last), 20).tolist(), max(t, last)]:
            assert topology.neighbours(agent, between) == topology.neighbours(agent, t)


@pytest.mark.parametrize("kind", ["moving", "overlaid"])
def test_an_open_link_stays_open_until_it_is_said_to_close_and_is_closed_then(kind):
    topology, rng, closed = all_topologies()[kind], np.random.default_rng(3), 0
    for t in rng.uniform(0, 200, 30).tolist():
        a = int(rng.integers(N))
        for b in topology.neighbours(a, t):
            until = topology.open_until(a, b, t)
            assert all(b in topology.neighbours(a, float(x)) for x in rng.uniform(t, until, 10))
            assert b not in topology.neighbours(a, until), "what is said to be its end is not"
            closed += 1
    assert closed > 20


def test_walking_from_change_to_change_misses_no_contact():
    """An event loop does this; a change that is reported again and again would keep it where it is."""
    topology, end = make("moving", N, 9, **KINDS["moving"]), 400.0
    seen, t = [], 0.0
    while t < end:
        seen.append((t, topology.neighbours(0, t)))
        t = topology.next_change(0, t)
    times = [at for at, _ in seen]
    assert all(one != other for (_, one), (_, other) in itertools.pairwise(seen)), "each is a change"
    for t in np.linspace(0, end, 801)[:-1].tolist():
        assert seen[np.searchsorted(times, t, "right") - 1][1] == topology.neighbours(0, t)


def test_moving_devices_agree_with_a_simulation_of_their_positions():
    """The walk in small steps: nobody jumps, nobody leaves, and neighbours are those within reach."""
    options = {**KINDS["moving"], "slowest_m_s": 1.0, "fastest_m_s": 3.0}
    topology, step = make("moving", N, 4, **options), 0.25
    before = topology.positions(0.0)
    for t in np.arange(step, 150, step).tolist():
        now = topology.positions(t)
        assert np.all((now >= -1e-9) & (now <= 100 + 1e-9))
        assert np.hypot(*(now - before).T).max() <= 3.0 * step + 1e-9
        before = now
    for t in np.random.default_rng(6).uniform(0, 1000, 50).tolist():
        p = topology.positions(t)
        far = np.hypot(p[:, None, 0] - p[None, :, 0], p[:, None, 1] - p[None, :, 1])
        for a in range(N):
            assert topology.neighbours(a, t) == tuple(b for b in range(N) if b != a and far[a, b] < 30.0)


def test_a_walk_does_not_depend_on_what_was_asked_before():
    early, late = make("moving", N, 7), make("moving", N, 7)
    late.positions(5000.0)
    for t in (0.0, 123.4, 4000.0, 17.0):
        assert np.array_equal(early.positions(t), late.positions(t))
    assert not np.array_equal(early.positions(17.0), make("moving", N, 8).positions(17.0))


@pytest.mark.parametrize("kind", ["ring", "star", "mesh", "random"])
@pytest.mark.parametrize("n", [5, 6, 50])
def test_everybody_can_be_reached(kind, n):
    for seed in range(5):
        topology, reached, edge = make(kind, n, seed), {0}, [0]
        while edge:
            new = set(topology.neighbours(edge.pop(), 0.0)) - reached
            reached |= new
            edge += new
        assert reached == set(range(n))


def test_a_random_topology_has_its_degree_and_its_seed():
    links = [make("random", 60, seed, degree=5) for seed in (1, 1, 2)]
    near = [[topology.neighbours(agent, 0.0) for agent in range(60)] for topology in links]
    assert near[0] == near[1] != near[2]
    assert max(map(len, near[0])) <= 5 and np.mean(list(map(len, near[0]))) > 4.5


def test_a_late_joiner_is_met_from_its_time_on():
    topology = make("late_joiner", 5, at_s=10.0)
    assert topology.neighbours(4, 9.999) == () and topology.neighbours(4, 10.0) == (0, 3)
    assert topology.next_change(4, 0.0) == 10.0 and topology.next_change(4, 10.0) == math.inf


def test_a_partition_cuts_between_groups_only():
    topology = Partitions(make("mesh", 5), [Cut(10.0, 20.0, ((0, 1),))])
    assert topology.neighbours(0, 15.0) == (1,) and topology.neighbours(2, 15.0) == (3, 4)
    assert topology.open_until(0, 2, 5.0) == 10.0 and topology.open_until(0, 1, 5.0) == math.inf
    assert topology.open_until(0, 2, 15.0) == 15.0 and topology.open_until(0, 2, 20.0) == math.inf


def test_radios_that_sleep_wake_at_their_phase():
    topology = DutyCycle(make("ring", 3), 10.0, 4.0, (0.0, 3.0, 5.0))
    assert [topology.neighbours(0, t) for t in (0.0, 3.0, 4.0, 13.5)] == [(), (1,), (), (1,)]
    assert topology.open_until(0, 1, 13.5) == 14.0
    assert DutyCycle(make("ring", 3), 10.0, 10.0).next_change(0, 3.0) == math.inf


def test_cycles_are_told_apart_far_from_zero_too():
    """k * period is rounded: a floor of the quotient alone would say that the change is now, for ever."""
    topology, t = DutyCycle(make("ring", 3), 0.1, 0.03, phases(3, 0.1, 2)), 1e6
    for _ in range(300):
        after = topology.next_change(1, t)
        assert t < after < t + 0.1
        t = after


def test_what_cannot_be_is_refused():
    with pytest.raises(UnknownName, match="ring, star"):
        make("rng", 5)
    with pytest.raises(ConfigError, match="its options are degree"):
        make("random", 5, hub=2)
    for wrong in (
        lambda: make("ring", 1),
        lambda: make("random", 5, degree=5),
        lambda: make("moving", 5, range_m=900.0),
        lambda: Static(3, [(0, 3)]),
        lambda: Partitions(make("ring", 5), [Cut(0.0, 5.0, ((0, 1), (1, 2)))]),
        lambda: Partitions(make("ring", 5), [Cut(5.0, 5.0, ((0,),))]),
        lambda: DutyCycle(make("ring", 5), 5.0, 6.0),
        lambda: DutyCycle(make("ring", 5), 5.0, 1.0, [0.0]),
    ):
        with pytest.raises(ConfigError):
            wrong()

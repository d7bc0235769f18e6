"""The NumPy memory: the specification's golden traces, its invariants, its sizes, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecl.errors import ConfigError
from edgecl.learners.parts.memory_config import Draws, MemoryConfig, initial
from edgecl.learners.parts.memory_numpy import Memory

X = np.array([(0.8, 0.6), (0.3, -0.9), (0.25, -0.95), (-0.5, -0.7)])
Y = (0, 1, 1, 0)
MH = MemoryConfig(
    m=3,
    delta=2,
    gamma=5.0,
    beta=0.1,
    tau_alpha=0.5,
    tau_mu=2.0,
    tau_eta=2.0,
    tau_on_scaled_similarity=True,
    promote_scrambled=False,
)
CNU = replace(MH, distance="cosine", timing="before_blend", tau_on_scaled_similarity=False, promote_scrambled=True)
STATE = {
    "keys": np.array([[(1, 0), (0, 1), (-0.6, -0.8)]]),
    "units": (np.arange(18) / 10 - 0.8).reshape(1, 3, 6),
    "mu": np.zeros((1, 3)),
    "eta": np.full((1, 3), 2.0),
}
# Each step: loss, then what the specification gives of the state after it: (row, key), (row, unit), mu, eta.
TRACES = {
    "A": (
        MH,
        [
            (1.116594, (0, (0.989342, 0.031974)), (0, (-0.761433, -0.671075, -0.551792, -0.538567, -0.428925, -0.348208)),
             (1, 0, 0), (1, 3, 3)),
            (0.644385, (2, (-0.564362, -0.803960)), None, (1, 0, 1), (2, 4, 1)),
            (0.606995, (2, (-0.528873, -0.810324)), None, (1, 0, 2), (3, 5, 1)),
            (0.769540, (2, (-0.526850, -0.802594)), None, (1, 0, 3), (4, 6, 1)),
        ],
    ),
    "B": (
        replace(MH, distance="cosine"),
        [
            (1.116594, (0, (0.998460, 0.055470)), None, (1, 0, 0), (1, 3, 3)),
            (0.642481, (1, (0.316228, -0.948683)), (1, (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)), (1, 0, 1), (2, 4, 1)),
            (0.633299, (1, (0.310669, -0.950518)), (2, (0.389379, 0.531864, 0.564595, 0.710621, 0.768136, 0.935405)),
             (1, 1, 1), (3, 1, 2)),
            (0.716217, (2, (-0.540312, -0.841465)), None, (1, 1, 2), (4, 2, 1)),
        ],
    ),
    "C": (
        CNU,
        [
            (1.116594, (0, (0.998460, 0.055470)), None, (1, 0, 0), (1, 3, 3)),
            (0.641544, (2, (-0.536147, -0.844125)), None, (1, 0, 1), (2, 4, 1)),
            (0.595188, (2, (-0.477063, -0.878869)), None, (1, 0, 2), (3, 5, 1)),
            (0.781231, (2, (-0.486838, -0.873493)), None, (1, 0, 3), (4, 6, 1)),
        ],
    ),
}  # fmt: skip


def golden(config: MemoryConfig) -> Memory:
    return Memory(config, 2, 2, lr=0.1, dtype=np.float64, state=STATE)


def small(seed: int = 0, config: MemoryConfig | None = None, **changed: object) -> Memory:
    config = config or MemoryConfig(m=5, delta=3, gamma=4.0, beta=0.1, tau_alpha=0.9, tau_mu=3.0, tau_eta=4.0, **changed)
    return Memory(config, 4, 3, lr=0.2, seed=seed, dtype=np.float64)


def samples(n: int, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 4)), rng.integers(0, 3, n).tolist()


@pytest.mark.parametrize("trace", TRACES)
def test_golden_trace(trace: str) -> None:
    config, steps = TRACES[trace]
    memory = golden(config)
    for x, y, (loss, (row, key), unit, mu, eta) in zip(X, Y, steps, strict=True):
        scores = memory.step(x, y)
        assert np.log(np.exp(scores - scores[y]).sum()) == pytest.approx(loss, abs=1e-6)
        assert memory.keys[row] == pytest.approx(key, abs=1e-6)
        if unit:
            assert memory.units[unit[0]].reshape(-1) == pytest.approx(unit[1], abs=1e-6)
        assert tuple(memory.mu) == mu and tuple(memory.eta) == eta


@pytest.mark.parametrize(
    ("trace", "scores"), [("A", (-1.252103, -0.532103)), ("B", (-1.184457, -0.464457)), ("C", (-1.219829, -0.499829))]
)
def test_golden_first_scores(trace: str, scores: tuple[float, float]) -> None:
    assert golden(TRACES[trace][0]).step(X[0], 0) == pytest.approx(scores, abs=1e-6)


def test_an_input_that_some_key_resembles_replaces_nothing() -> None:
    """Trace C's second step: the plain cosine .569 is above .5; trace B compares cosine / sqrt(2), which is not."""
    counts = []
    for config in (CNU, replace(MH, distance="cosine"), replace(MH, distance="cosine", tau_on_scaled_similarity=False)):
        memory = golden(config)
        for x, y in zip(X[:2], Y[:2], strict=True):
            memory.step(x, y)
        counts.append(memory.scrambles)
    assert counts == [0, 1, 0]


@given(st.integers(0, 10**6), st.sampled_from(["cosine", "dot_scaled", "euclidean"]))
def test_a_step_is_the_closed_form(seed: int, distance: str) -> None:
    """-lr alpha_w e [x; 1] on the winner's unit, by explicit formulas; every other unit keeps its bits."""
    memory = small(seed, scramble=False, distance=distance)
    x, y = samples(1, seed)
    before, config = memory.state(), memory.config
    keys, units = before["keys"][0], before["units"][0].reshape(5, 3, 5)
    if distance == "euclidean":
        near = np.array([np.exp(-((x[0] - k) ** 2).sum() / 2) for k in keys])
    else:
        near = keys @ x[0] / 2 / (np.linalg.norm(x[0]) if distance == "cosine" else 1)
    top = sorted(range(5), key=lambda j: -near[j])[:3]
    share = np.exp(config.gamma * near[top]) / np.exp(config.gamma * near[top]).sum()
    weights = sum(a * units[j] for a, j in zip(share, top, strict=True))
    scores = weights[:, :4] @ x[0] + weights[:, 4]
    error = np.exp(scores) / np.exp(scores).sum() - np.eye(3)[y[0]]
    assert memory.scores(x)[0] == pytest.approx(scores)
    assert memory.step(x[0], y[0]) == pytest.approx(scores)
    expected = units[top[0]] - 0.2 * share[0] * np.outer(error, [*x[0], 1])
    assert memory.units[top[0]] == pytest.approx(expected)
    others = [j for j in range(5) if j != top[0]]
    assert np.array_equal(memory.units[others], units[others])


@pytest.mark.parametrize("y", [0, 1, 2])
def test_the_hinge_pushes_only_what_is_on_the_wrong_side(y: int) -> None:
    memory = Memory(MemoryConfig(m=1, scramble=False), 4, 3, lr=0.5, loss="hinge", dtype=np.float64)
    (x,), _ = samples(1, 3)
    before = memory.units[0].copy()
    scores = memory.step(x, y)
    t = np.where(np.arange(3) == y, 1, -1)
    assert memory.units[0] == pytest.approx(before + 0.5 * np.outer(t * (t * scores < 0), [*x, 1]))


@pytest.mark.parametrize("timing", ["after_backward", "before_blend"])
@pytest.mark.parametrize("promote", [True, False])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_what_holds_after_every_step(timing: str, promote: bool, distance: str) -> None:
    memory = small(timing=timing, promote_scrambled=promote, distance=distance)
    for x, y in zip(*samples(120), strict=True):
        before, count = memory.state(), memory.scrambles
        memory.step(x, y)
        after = memory.state()
        if distance == "cosine":
            assert np.linalg.norm(memory.keys, axis=1) == pytest.approx(1)
        winner = int(np.flatnonzero(memory.eta == 1)[0])
        others = np.arange(5) != winner
        assert (memory.eta[others] == before["eta"][0, others] + 1).all()
        replaced = memory.scrambles - count
        assert replaced in (0, 1)
        gained = memory.mu.sum() - before["mu"].sum()
        assert gained == 1 if not replaced else gained <= 1
        moved = np.flatnonzero((after["keys"][0] != before["keys"][0]).any(1))
        assert len(moved) <= (1 if promote else 1 + replaced)
    assert memory.scrambles > 3  # else the above says little


def test_a_replaced_key_is_the_input_and_its_unit_the_winners() -> None:
    memory = small(promote_scrambled=False)
    for x, y in zip(*samples(60), strict=True):
        before, count = memory.state(), memory.scrambles
        near = np.exp(-((memory.keys - x) ** 2).sum(1) / 2)
        memory.step(x, y)
        if memory.scrambles > count and (row := int(np.flatnonzero((memory.keys == x).all(1))[0])) != near.argmax():
            assert np.array_equal(memory.units[row].reshape(-1), before["units"][0, near.argmax()])
            assert memory.mu[row] == 0
            break
    else:
        pytest.fail("nothing was replaced")


def test_a_promoted_key_learns_at_once() -> None:
    """Without it, the old winner learns and the new key, of no wins and old, is the next to go."""
    rows = []
    for promote in (True, False):
        memory = small(promote_scrambled=promote)
        memory.keys += 10  # nothing resembles the input
        before = memory.units.copy()
        memory.step(np.ones(4), 0)
        rows.append((memory.scrambles, memory.mu.tolist(), memory.eta.tolist(), (memory.units != before).any((1, 2)).sum()))
    (one, won, age, _), (other, old_won, old_age, _) = rows
    assert one == other == 1
    assert won[0] == 1 and age[0] == 1  # row 0 is the first of the oldest
    assert old_won[0] == 0 and old_age[0] == 5


def test_fresh_units_are_drawn_from_the_seed() -> None:
    units = []
    for seed in (1, 1, 2):
        memory = small(
            config=MemoryConfig(m=3, fresh_memories=True, promote_scrambled=False, tau_mu=9.0, tau_eta=0.0), seed=seed
        )
        memory.keys += 10
        memory.step(np.ones(4), 0)
        units.append(memory.units[0].copy())
    assert np.array_equal(units[0], units[1]) and not np.array_equal(units[0], units[2])
    assert np.abs(units[0]).max() <= 1 / np.sqrt(15)


def test_one_unit_is_a_linear_layer() -> None:
    memory = Memory(MemoryConfig(m=1, gamma=7.0), 4, 3, lr=0.3, dtype=np.float64)
    w = memory.units[0].copy()
    for x, y in zip(*samples(20), strict=True):
        x1 = np.append(x, 1)
        assert memory.scores(x[None])[0] == pytest.approx(w @ x1)
        p = np.exp(w @ x1)
        w -= 0.3 * np.outer(p / p.sum() - np.eye(3)[y], x1)
        memory.step(x, y)


def test_equal_units_make_keys_irrelevant_and_order_never_matters() -> None:
    x, _ = samples(9)
    memory = small()
    shuffled = {name: (value[:, [3, 0, 4, 1, 2]] if value.ndim > 1 else value) for name, value in memory.state().items()}
    other = Memory(memory.config, 4, 3, lr=0.2, dtype=np.float64, state=shuffled)
    assert other.scores(x) == pytest.approx(memory.scores(x))
    memory.units[:] = memory.units[0]
    one = memory.scores(x)
    memory.keys[:] = np.random.default_rng(5).normal(size=memory.keys.shape)
    assert memory.scores(x) == pytest.approx(one)


def test_scoring_changes_nothing_and_shares_sum_to_one() -> None:
    memory = small()
    before = memory.state()
    x, _ = samples(30)
    share = memory._shares(memory._similarities(memory._project(x)))
    assert share.sum(1) == pytest.approx(1) and ((share > 0).sum(1) == 3).all()
    memory.scores(x)
    assert all(np.array_equal(before[name], value) for name, value in memory.state().items())


def test_it_goes_on_from_its_state() -> None:
    x, y = samples(80)
    memory = small()
    for i in range(40):
        memory.step(x[i], y[i])
    other = Memory(memory.config, 4, 3, lr=0.2, dtype=np.float64, state=memory.state())
    for i in range(40, 80):
        memory.step(x[i], y[i])
        other.step(x[i], y[i])
    assert all(np.array_equal(value, other.state()[name]) for name, value in memory.state().items())


def test_first_values_are_torchs_draws_in_order() -> None:
    """Published figures were made with torch's seeds; a board without torch draws the same."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(1234)
    state = initial(MemoryConfig(m=7), 5, 3, 1234)
    for name, bound, shape in (("keys", 5**-0.5, (1, 7, 5)), ("units", 18**-0.5, (1, 7, 18))):
        assert np.array_equal(state[name], torch.empty(shape).uniform_(-bound, bound, generator=generator).numpy())
    assert np.abs(Draws(0).uniform(0.5, (1000,))).max() <= 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"upd_k": "none"},
        {"upd_k": "grad_WTA"},  # with scrambling
        {"distance": "manhattan"},
        {"m": 0},
        {"sigma_eu": 0.0},
        {"tau_alpha": float("nan")},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        MemoryConfig(**wrong)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (MemoryConfig(upd_m="none"), "upd_m none"),
        (MemoryConfig(shared_keys=False), "key set for each output"),
        (MemoryConfig(layer_norm=True), "layer_norm"),
        (MemoryConfig(key_size=3), "key_size is 3"),
        (MemoryConfig(psi="resize2d", picture=(1, 3, 3)), "9 values"),
        (MemoryConfig(psi="resize2d", picture=(1, 2, 2), key_size=3), "times a square"),
    ],
)
def test_what_this_implementation_cannot_do_is_refused(config: MemoryConfig, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        Memory(config, 4, 3, lr=0.1)


@pytest.mark.parametrize(
    "state",
    [{"keys": np.zeros((1, 4, 4))}, {"units": np.full((1, 5, 15), np.inf)}, {"values": np.zeros(3)}],
    ids=["shape", "infinite", "unknown"],
)
def test_a_state_that_does_not_belong_is_refused(state: dict) -> None:
    with pytest.raises(ConfigError, match="state"):
        Memory(MemoryConfig(m=5), 4, 3, lr=0.1, state=state)

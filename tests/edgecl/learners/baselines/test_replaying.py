"""What each step of the replay methods is, on a linear network with plain gradient descent, computed by hand in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="learners with a network need PyTorch: pip install 'edgecl[learn]'")

from edgecl.checks import synthetic
from edgecl.errors import ConfigError
from edgecl.learners.baselines import agem, ensemble, er, er_random, finetune, gdumb, joint, mir

D, K, LR = 6, 3, 0.1
PLAIN = {"net": "linear", "space": "plain", "optimiser": "sgd", "lr": LR}


def data(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.normal(size=(n, D)).astype(np.float32), draw.integers(0, K, n)


def weights(learner: finetune.FineTune) -> np.ndarray:
    """(k, d + 1), the bias last."""
    w, b = (value.detach().numpy().copy() for value in learner._net.parameters())
    return np.concatenate([w, b[:, None]], 1)


def cross_entropy(w: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each sample's loss (n,), and the slope of their mean (k, d + 1)."""
    wide = np.concatenate([x, np.ones((len(x), 1))], 1)
    s = wide @ w.T
    p = np.exp(s - s.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return -np.log(p[np.arange(len(y)), y]), (p - np.eye(w.shape[0])[y]).T @ wide / len(x)


def feed(learner: finetune.FineTune, x: np.ndarray, y: np.ndarray) -> None:
    for i in range(len(y)):
        learner.observe(x[i : i + 1], y[i : i + 1])


def test_er_adds_the_mean_losses_of_the_batch_and_of_what_was_in_memory() -> None:
    """Everything fits and everything is replayed, so nothing is left to chance."""
    x, y = data()
    learner = er.Er((D,), K, 0, er.Config(**PLAIN, buffer=100, replay=100))
    w = weights(learner)
    for start in range(0, 40, 4):
        new = slice(start, start + 4)
        slope = cross_entropy(w, x[new], y[new])[1]
        if start:
            slope = slope + cross_entropy(w, x[:start], y[:start])[1]
        w = w - LR * slope
        learner.observe(x[new], y[new])
    assert np.allclose(weights(learner), w, atol=1e-5)


@pytest.mark.parametrize("counted_before", [False, True])
def test_literal_mir_is_er_bit_for_bit(counted_before: bool) -> None:
    x, y = data()
    options = {"net": "mlp", "hidden": 9, "buffer": 20, "replay": 4, "counted_before": counted_before}
    plain, literal = er.Er((D,), K, 7, er.Config(**options)), mir.Mir((D,), K, 7, mir.Config(**options, literal=True))
    real = mir.Mir((D,), K, 7, mir.Config(**options, candidates=12))
    for learner in (plain, literal, real):
        feed(learner, x, y)
    assert np.array_equal(plain.predict(x), literal.predict(x))
    assert not np.array_equal(plain.predict(x), real.predict(x)), "a candidate pool changes nothing"


def test_mir_replays_what_the_virtual_step_hurts_most() -> None:
    x, y = data()
    learner = mir.Mir((D,), K, 0, mir.Config(**PLAIN, buffer=30, replay=5, candidates=30))
    learner._memory.extend(x[:30], y[:30])
    w, new = weights(learner), slice(30, 32)
    moved = w - LR * cross_entropy(w, x[new], y[new])[1]
    rise = cross_entropy(moved, x[:30], y[:30])[0] - cross_entropy(w, x[:30], y[:30])[0]
    found, _ = learner._retrieve(x[new], y[new])
    assert {row.tobytes() for row in found} == {x[i].tobytes() for i in np.argsort(-rise)[:5]}


def test_agem_never_goes_against_the_memory() -> None:
    """Along the batch's own slope where the two agree; else what is left of it is at a right angle to the memory's."""
    x, y = data(200)
    learner = agem.Agem((D,), K, 0, agem.Config(**PLAIN, buffer=400, replay=400))
    bent = 0
    for i in range(len(y)):
        w = weights(learner)
        own = cross_entropy(w, x[i : i + 1], y[i : i + 1])[1]
        learner.observe(x[i : i + 1], y[i : i + 1])
        went = (w - weights(learner)) / LR
        if not i:
            continue
        reference = cross_entropy(w, x[:i], y[:i])[1]
        if (own * reference).sum() >= 0:
            assert np.allclose(went, own, atol=1e-4)
        else:
            bent += 1
            assert abs((went * reference).sum()) < 1e-4 and not np.allclose(went, own, atol=1e-4)
    assert bent > 20, "too few steps were bent for this test to mean anything"


def test_er_random_differs_from_er_only_once_full() -> None:
    x, y = data()
    options = {"buffer": 20, "replay": 4}
    a, b = er.Er((D,), K, 0, er.Config(**options)), er_random.ErRandom((D,), K, 0, er_random.Config(**options))
    for learner in (a, b):
        feed(learner, x[:20], y[:20])
    assert np.array_equal(a.predict(x), b.predict(x))
    for learner in (a, b):
        feed(learner, x[20:], y[20:])
    assert not np.array_equal(a.predict(x), b.predict(x))


def test_gdumb_knows_its_memory_and_nothing_else() -> None:
    """What had no place in memory has no influence; and the past does not: each end starts afresh."""
    x, y = data()
    wide = gdumb.Gdumb((D,), K, 0, gdumb.Config(buffer=9, epochs=60, lr=0.1))
    feed(wide, x, y)
    before = wide.predict(x)
    wide.end_task()
    assert not np.array_equal(wide.predict(x), before)
    kept_x, kept_y = wide._memory.all((D,))
    assert sorted(kept_y.tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (wide.predict(kept_x).argmax(1) == kept_y).all()


def test_ensemble_of_one_is_fine_tuning_and_of_more_their_mean() -> None:
    x, y = data()
    one, plain = ensemble.Ensemble((D,), K, 4, ensemble.Config(members=1)), finetune.FineTune((D,), K, 4, finetune.Config())
    for learner in (one, plain):
        feed(learner, x, y)
    assert np.array_equal(one.predict(x), plain.predict(x))
    five = ensemble.Ensemble((D,), K, 4, ensemble.Config(members=5))
    mean = np.mean([member(five._input(x)).detach().numpy() for member in five._net.members], axis=0)
    assert np.allclose(five.predict(x), mean, atol=1e-6)
    assert five.nbytes() == 5 * 4 * (D + 1) * K


def test_joint_is_at_the_minimum_of_its_loss_whatever_came_first() -> None:
    x, y = data()
    decay = 1e-2
    learners = []
    for order in (np.arange(60), np.argsort(y)):
        learner = joint.Joint((D,), K, 0, joint.Config(space="plain", weight_decay=decay))
        for part in np.array_split(order, 3):
            learner.observe(x[part], y[part])
            learner.end_task()
        learners.append(learner)
        w = weights(learner)
        assert np.abs(cross_entropy(w, x, y)[1] + decay * w).max() < 1e-3
    assert np.allclose(weights(learners[0]), weights(learners[1]), atol=2e-2)
    assert learners[0].nbytes() == x.nbytes + y.nbytes + 4 * (D + 1) * K


PICTURES = {
    "finetune": (finetune.FineTune, finetune.Config()),
    "joint": (joint.Joint, joint.Config(epochs=15, lr=3e-3)),
    "er": (er.Er, er.Config(buffer=40)),
    "er_random": (er_random.ErRandom, er_random.Config(buffer=40)),
    "mir": (mir.Mir, mir.Config(buffer=40, candidates=20)),
    "agem": (agem.Agem, agem.Config(buffer=40, replay=10)),
    "gdumb": (gdumb.Gdumb, gdumb.Config(buffer=40, epochs=15, lr=3e-3)),
    "ensemble": (ensemble.Ensemble, ensemble.Config(members=2)),
}


@pytest.mark.parametrize("net", ["conv", "mlp"])
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_learned_and_kept_as_bytes(name: str, net: str) -> None:
    """(n, s, s, 3) uint8, as they are read; a sample in memory costs a byte a value."""
    made, labels = synthetic.pictures(2, 30, 16)
    x, order = np.stack(made), np.random.default_rng(0).permutation(60)
    method, config = PICTURES[name]
    config = type(config)(**{**config.__dict__, "net": net})
    learner = method((16, 16, 3), 2, 0, config)
    started = learner.nbytes()
    for start in range(0, 60, 4):
        learner.observe(x[order[start : start + 4]], labels[order[start : start + 4]])
    learner.end_task()
    new, wanted = synthetic.pictures(2, 20, 16, seed=1)
    assert (learner.predict(np.stack(new)).argmax(1) == wanted).mean() > 0.9
    kept = {"joint": 60, "finetune": 0, "ensemble": 0}.get(name, 40)
    weights = started if name == "ensemble" else sum(4 * v.numel() for v in learner._net.parameters())
    moments = 0 if name == "joint" and net == "linear" else 2 * weights  # of Adam, and one float32 count an array
    assert learner.nbytes() == weights + moments + 4 * len(list(learner._net.parameters())) + kept * (16 * 16 * 3 + 8)


def test_more_to_replay_than_candidates_is_refused() -> None:
    with pytest.raises(ConfigError, match="candidates must be at least replay, 10, got 5"):
        mir.Config(candidates=5)

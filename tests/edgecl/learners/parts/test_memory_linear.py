"""The torch memory layer: the same steps as the NumPy one, its own modes, frozen state, gradients where they belong."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the memory layer needs torch: pip install 'edgecl[learn]'")

from edgecl.learners.parts.memory_config import MemoryConfig  # noqa: E402
from edgecl.learners.parts.memory_linear import MemoryLinear  # noqa: E402
from edgecl.learners.parts.memory_numpy import Memory  # noqa: E402

SMALL = MemoryConfig(m=5, delta=3, gamma=4.0, beta=0.1, tau_alpha=0.9, tau_mu=3.0, tau_eta=4.0)
ALL = replace(SMALL, upd_m="none")
BY_GRADIENT = replace(SMALL, upd_k="grad_WTA", scramble=False)


def layer(config: MemoryConfig = SMALL, n_in: int = 4, n_out: int = 3, seed: int = 0) -> MemoryLinear:
    return MemoryLinear(n_in, n_out, config, seed=seed).double()


def learn(one: MemoryLinear, x: torch.Tensor, y: torch.Tensor, lr: float = 0.2) -> torch.Tensor:
    optimiser = torch.optim.SGD(one.parameters(), lr=lr)
    optimiser.zero_grad()
    out = one(x)
    torch.nn.functional.cross_entropy(out, y).backward()
    optimiser.step()
    return out.detach()


def data(n: int, seed: int = 0, n_in: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, n_in, generator=generator, dtype=torch.float64), torch.randint(0, 3, (n,), generator=generator)


def state(one: MemoryLinear) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in one.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


RESIZED = [
    {"psi": "identity"},
    {"psi": "sign"},
    {"psi": "resize1d", "key_size": 4},
    {"psi": "resize1d", "key_size": 17},
    {"psi": "resize2d", "key_size": 8, "picture": (2, 2, 3)},
    {"psi": "resize2d_sign", "key_size": 18, "picture": (2, 3, 2)},
]


@settings(max_examples=50)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["cosine", "dot_scaled", "euclidean"]),
    st.sampled_from(RESIZED),
    st.sampled_from(["after_backward", "before_blend"]),
    st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    st.integers(1, 6),
)
def test_numpy_takes_the_same_steps(
    seed: int, distance: str, psi: dict, timing: str, flags: tuple[bool, ...], delta: int
) -> None:
    scramble, scaled, promote, fresh, bias = flags
    if psi["psi"].endswith("sign"):  # inputs with equal signs make equal keys, and rounding decides between those
        scramble = False
    config = MemoryConfig(
        m=5, delta=delta, gamma=3.0, beta=0.2, distance=distance, timing=timing, scramble=scramble, bias=bias, **psi,
        tau_alpha=0.9, tau_mu=3.0, tau_eta=4.0,
        tau_on_scaled_similarity=scaled, promote_scrambled=promote, fresh_memories=fresh,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    ours = Memory(config, 12, 3, lr=0.3, seed=seed, dtype=np.float64)
    theirs = layer(config, 12, 3, seed)
    for _ in range(16):
        x, y = rng.normal(size=12), int(rng.integers(3))
        scores = learn(theirs, torch.from_numpy(x)[None], torch.tensor([y]), 0.3)
        assert ours.step(x, y) == pytest.approx(scores.numpy()[0], abs=1e-9)
        for name, value in ours.state().items():
            assert value == pytest.approx(theirs.state_dict()[name].numpy(), abs=1e-9), name
    x = rng.normal(size=(9, 12))
    assert ours.scores(x) == pytest.approx(theirs.eval()(torch.from_numpy(x)).detach().numpy(), abs=1e-9)


MODES = [
    SMALL,
    replace(SMALL, shared_keys=False),
    replace(SMALL, timing="before_blend", distance="cosine"),
    replace(SMALL, layer_norm=True),
    replace(SMALL, shared_keys=False, layer_norm=True, bias=False),
    ALL,
    BY_GRADIENT,
    replace(BY_GRADIENT, distance="cosine"),
    replace(BY_GRADIENT, upd_m="none", upd_k="none", distance="dot_scaled"),
]


@pytest.mark.parametrize("config", MODES, ids=range(len(MODES)))
@pytest.mark.parametrize("b", [1, 7])
def test_every_mode_learns_and_answers_without_changing(config: MemoryConfig, b: int) -> None:
    one = layer(config)
    x, y = data(b)
    y = (x[:, 0] > 0).long()
    first = torch.nn.functional.cross_entropy(one.eval()(x), y)
    one.train()
    for _ in range(60):
        learn(one, x, y)
    one.eval()
    before = state(one)
    assert torch.nn.functional.cross_entropy(one(x), y) < first / 2
    one(x[None]).sum().backward()  # leading axes are kept, and a gradient in eval mode changes nothing either
    assert one(x[None]).shape == (1, b, 3)
    assert same(before, state(one))


@pytest.mark.parametrize("config", MODES, ids=range(len(MODES)))
def test_the_state_dict_brings_everything_back(config: MemoryConfig) -> None:
    one, other = layer(config), layer(config, seed=9)
    x, y = data(40)
    for i in range(20):
        learn(one, x[i : i + 1], y[i : i + 1])
    other.load_state_dict(one.state_dict())
    for i in range(20, 40):
        learn(one, x[i : i + 1], y[i : i + 1])
        learn(other, x[i : i + 1], y[i : i + 1])
    assert same(state(one), state(other))


def test_keys_go_by_one_name_in_every_mode() -> None:
    """They are a buffer or a parameter, so that a checkpoint of one mode can go on in another."""
    layer(BY_GRADIENT).load_state_dict(layer(SMALL).state_dict())


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("distance", ["cosine", "euclidean", "dot_scaled"])
def test_only_the_winner_has_a_gradient(shared: bool, distance: str) -> None:
    """alpha_w e [x; 1], e by explicit softmax; 0 elsewhere; and x's own gradient is W' e, with no way through the keys."""
    one = layer(replace(SMALL, shared_keys=shared, distance=distance, scramble=False))
    x, y = data(1)
    x.requires_grad_()
    near = one._similarities(one._project(x.detach()), one.keys)
    top, rows = near.topk(3, dim=2)
    share = torch.softmax(4 * top, 2)
    weights = torch.stack([(share[0, s, :, None] * one.units[s, rows[0, s]]).sum(0) for s in range(len(one.keys))]).detach()
    out = one(x)
    torch.nn.functional.cross_entropy(out, y).backward()
    error = torch.softmax(out.detach()[0], 0) - torch.nn.functional.one_hot(y[0], 3)
    plain = torch.outer(error, torch.cat([x.detach()[0], torch.ones(1)])).reshape(len(one.keys), -1)
    expected = torch.zeros_like(one.units)
    for s in range(len(one.keys)):
        expected[s, rows[0, s, 0]] = share[0, s, 0] * plain[s]
    assert torch.allclose(one.units.grad, expected) and (one.units.grad[expected == 0] == 0).all()
    assert torch.allclose(x.grad[0], weights.reshape(3, 5)[:, :4].T @ error)


def test_in_the_vanilla_mode_every_attended_unit_learns_its_share() -> None:
    one = layer(ALL)
    x, y = data(1)
    near, rows = one._similarities(x, one.keys)[0, 0].topk(3)
    learn(one, x, y, 1e-9)
    moved = one.units.grad[0].abs().sum(1)
    share = torch.softmax(4 * near, 0)
    assert torch.allclose(moved[rows] / moved.sum(), share) and (moved > 0).sum() == 3


def test_keys_learn_through_the_winners_weight_alone_or_through_all() -> None:
    """By finite differences of a loss in which what is detached is held still."""
    x, y = data(1)
    for config in (BY_GRADIENT, replace(BY_GRADIENT, upd_m="none", upd_k="none")):
        one = layer(config)
        torch.nn.functional.cross_entropy(one(x), y).backward()
        with torch.no_grad():
            _, rows = one._similarities(x, one.keys)[0, 0].topk(3)
            held = torch.softmax(4 * one._similarities(x, one.keys)[0, 0, rows], 0)

            for j in range(5):
                losses = []
                for sign in (1, -1):
                    keys = one.keys.clone()
                    keys[0, j, 1] += sign * 1e-6
                    share = torch.softmax(4 * one._similarities(x, keys)[0, 0, rows], 0)
                    if config.upd_m == "WTA":
                        share = torch.cat([share[:1], held[1:]])
                    out = (share[:, None] * one.units[0, rows]).sum(0).view(3, 5) @ torch.cat([x[0], torch.ones(1)])
                    losses.append(float(torch.nn.functional.cross_entropy(out[None], y)))
                assert float(one.keys.grad[0, j, 1]) == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-7)


def test_shared_keys_equal_as_many_equal_sets() -> None:
    one, many = layer(), layer(replace(SMALL, shared_keys=False))
    with torch.no_grad():
        many.keys.copy_(one.keys.expand(3, 5, 4))
        many.units.copy_(one.units.view(5, 3, 5).transpose(0, 1))
    for x, y in zip(*data(30), strict=True):
        assert torch.allclose(learn(one, x[None], y[None]), learn(many, x[None], y[None]))
    assert torch.allclose(many.keys[2], one.keys[0]) and many.scrambles.tolist() == one.scrambles.tolist() * 3
    assert int(one.scrambles) > 2


@pytest.mark.parametrize("timing", ["after_backward", "before_blend"])
@pytest.mark.parametrize("distance", ["cosine", "euclidean", "dot_scaled"])
def test_a_batch_moves_keys_from_where_they_were(distance: str, timing: str) -> None:
    """All increments start from the same old key; counters take the winners found afterwards."""
    one = layer(replace(SMALL, distance=distance, timing=timing, scramble=False))
    x, y = data(6)
    keys = one.keys[0].clone()
    at = torch.nn.functional.normalize(x) if distance == "cosine" else x
    expected = keys.clone()
    for h in range(6):
        if distance == "euclidean":
            near = torch.exp(-(at[h] - keys).square().sum(1) / 2)
            w = int(near.argmax())
            expected[w] += 0.1 / 2 * near[w] * (at[h] - keys[w])
        else:
            w = int((keys @ at[h]).argmax())
            expected[w] += (0.1 if distance == "cosine" else 0.05) * at[h]
    if distance == "cosine":
        expected /= expected.norm(dim=1, keepdim=True)
    learn(one, x, y)
    assert torch.allclose(one.keys[0], expected)
    after = -torch.cdist(at, one.keys[0]) if distance == "euclidean" else at @ one.keys[0].T
    wins = torch.bincount(after.argmax(1), minlength=5).double()
    assert torch.equal(one.mu[0], wins)
    assert torch.equal(one.eta[0], torch.where(wins > 0, 6.0, 10.0).double())


def test_a_batch_replaces_one_key_at_most_and_the_least_like_any() -> None:
    one = layer()
    x, y = data(8)
    x[5] += 20
    with torch.no_grad():
        one.keys[0, 0] -= 50  # so that no other input pulls at it
    learn(one, x, y)
    assert int(one.scrambles) == 1
    assert torch.equal(one.keys[0, 0], x[5])  # row 0: the first of the equally old


def test_the_gradient_goes_to_the_key_that_was_promoted() -> None:
    for promote, learned in ((True, 0), (False, 3)):
        one = layer(replace(SMALL, promote_scrambled=promote))
        with torch.no_grad():
            one.keys[0] = torch.tensor([9.0, 8, 7, 6, 8])[:, None]
        learn(one, torch.zeros(1, 4, dtype=torch.float64), torch.tensor([0]))
        assert one.units.grad[0].abs().sum(1).nonzero().flatten().tolist() == [learned]


def test_each_pass_counts_with_its_own_inputs() -> None:
    """Two forward passes before one backward, the released code would count the second one twice."""
    one, other = layer(replace(SMALL, scramble=False)), layer(replace(SMALL, scramble=False))
    x, _ = data(2)
    (one(x[:1]).sum() + one(x[1:]).sum()).backward()
    for i in (1, 0):  # gradients come in reverse
        other(x[i : i + 1]).sum().backward()
    assert torch.allclose(one.keys, other.keys) and torch.equal(one.mu, other.mu)
    with torch.no_grad():
        one(x)
    assert torch.equal(one.mu, other.mu)


def test_a_frozen_layer_stays_as_it_is_whatever_flows_through_it() -> None:
    """Below it something still learns, so gradients pass; train() must not wake it."""
    below, old, new = torch.nn.Linear(4, 4).double(), layer(), layer(seed=1)
    x, y = data(12)
    for i in range(6):
        learn(old, x[i : i + 1], y[i : i + 1])
    old.freeze()
    before = state(old)
    net = torch.nn.ModuleList([below, old, new]).train()
    for i in range(6, 12):
        at = below(x[i : i + 1])
        torch.nn.functional.cross_entropy(torch.cat([old(at), new(at)], 1), y[i : i + 1] + 3).backward()
        torch.optim.SGD(net.parameters(), lr=0.5).step()
    assert same(before, state(old))
    assert below.weight.grad.abs().sum() > 0 and float(new.mu.sum()) > 0


@pytest.mark.parametrize("by_std", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_layer_norm_is_inside_the_unit(by_std: bool, shared: bool) -> None:
    config = replace(SMALL, m=1, shared_keys=shared, layer_norm=True, divide_by_std=by_std)
    one = layer(config).eval()
    with torch.no_grad():
        one.units.copy_(torch.randn(one.units.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    (x, *_), _ = data(1)
    v = float(x.var()) + 1e-5
    normed = (x - x.mean()) / (math.sqrt(v) if by_std else v)
    for o in range(3):
        unit = one.units[0 if shared else o, 0]
        w, scale, shift = (unit[5 * o : 5 * o + 5] if shared else unit[:5]), unit[-8:-4], unit[-4:]
        expected = (scale * w[:4] * (normed + shift)).sum() + w[4]
        assert float(one(x)[o].detach()) == pytest.approx(float(expected.detach()))


def test_copies_are_independent() -> None:
    one = layer()
    other = copy.deepcopy(one)
    x, y = data(1)
    learn(one, x, y)
    assert same(state(other), state(layer()))

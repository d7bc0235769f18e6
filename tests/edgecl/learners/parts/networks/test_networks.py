"""Networks: their published numbers of weights, what is shared and what is a task's own, and the angular head."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="learners with a network need PyTorch: pip install 'edgecl[learn]'")

from edgecl.errors import ConfigError  # noqa: E402
from edgecl.learners.parts.networks import GROWING  # noqa: E402
from edgecl.learners.parts.networks.base import linear_head  # noqa: E402
from edgecl.learners.parts.networks.building import auto, build  # noqa: E402
from edgecl.learners.parts.networks.sphere import angular_head, angular_loss, angular_scores  # noqa: E402

SHAPE = (32, 32, 3)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def counts(multiplier: float) -> tuple[int, int, int]:
    """Weights of convolutions and of linear layers, and what comes out."""
    net = build("vgg16_bn", multiplier, SHAPE, draw())
    sizes = [weight.numel() for weight in net.weights.values()]
    return sum(sizes[:13]), sum(sizes[13:]), net.features


@pytest.mark.parametrize(
    ("multiplier", "expected"), [(1.0, (14_710_464, 18_874_368, 4096)), (1.5, (22_045_356, 28_305_288, 5016))]
)
def test_vgg_has_the_published_numbers_of_weights(multiplier: float, expected: tuple[int, int, int]) -> None:
    assert counts(multiplier) == expected


def test_vgg_at_twice_its_weights() -> None:
    conv, linear, features = counts(2.0)
    assert (conv + linear, features) == (67_152_663, 5792)


def test_what_a_task_has_of_its_own_in_a_vgg() -> None:
    net = build("vgg16_bn", 1.0, SHAPE, draw())
    private = {name: value.numel() for name, value in net.private.items()}
    assert sum(n for name, n in private.items() if name.endswith("running_mean")) == 4_224
    assert sum(private.values()) == 4 * 4_224 + 8_192
    assert sum(value.size for value in linear_head(net.features, 5, draw()).values()) == 20_485


def test_resnet50_has_the_published_numbers() -> None:
    net = build("resnet50", 1.0, SHAPE, draw())
    assert sum(weight.numel() for weight in net.weights.values()) == 23_454_912
    assert sum(value.numel() for value in net.private.values()) == 4 * 26_560 and net.features == 2048
    with pytest.raises(ConfigError, match="one width"):
        build("resnet50", 1.5, SHAPE, draw())


def test_the_sphere_cnn_has_twenty_layers_and_slopes() -> None:
    net = build("sphere20", 0.01, (48, 48, 3), draw())
    assert len(net.layers) == 21, "20 convolutions and the linear layer that gives the features"
    assert all(value.dim() == 1 for value in net.private.values()) and len(net.private) == 21
    assert net.module(torch.zeros(2, 3, 48, 48)).shape == (2, net.features)


@pytest.mark.parametrize("name", GROWING)
def test_a_network_without_weights_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="width larger"):
        build(name, 1e-9, SHAPE, draw())


def test_pictures_too_small_for_a_vgg_are_refused_and_get_another_network() -> None:
    with pytest.raises(ConfigError, match="32 pixels a side"):
        build("vgg16_bn", 0.01, (8, 40, 3), draw())
    assert [auto(shape) for shape in ((32, 32, 3), (31, 40, 3), (5,))] == ["vgg16_bn", "cnn", "mlp"]
    for side in (1, 31):
        net = build(auto((side, side, 3)), 1.0, (side, side, 3), draw())
        assert net.module(torch.zeros(2, 3, side, side)).shape == (2, 128)


def test_weights_come_from_the_seed_and_global_draws_are_left_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = (build("cnn", 1.0, SHAPE, draw(seed)).weights for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    for name, value in first.items():
        assert torch.equal(value, second[name]) and not torch.equal(value, other[name])


def test_the_angular_loss_is_the_papers() -> None:
    """Against angles computed one by one: psi = (-1)^k cos(4 angle) - 2 k for an angle between k and k + 1 quarter turns."""
    generator = np.random.default_rng(0)
    x, w, y = generator.normal(size=(6, 4)), generator.normal(size=(3, 4)), np.array([0, 1, 2, 0, 1, 2])
    step, losses = 50, []
    plain = max(5.0, 1500 / (1 + 0.1 * step))
    for row, label in zip(x, y, strict=True):
        length = np.linalg.norm(row)
        scores = np.array([length * (row @ one) / length / np.linalg.norm(one) for one in w])
        angle = math.acos(scores[label] / length)
        k = math.floor(4 * angle / math.pi)
        scores[label] = (plain * scores[label] + length * ((-1) ** k * math.cos(4 * angle) - 2 * k)) / (1 + plain)
        losses.append(np.log(np.exp(scores).sum()) - scores[label])
    found = angular_loss(torch.tensor(x), torch.tensor(w), torch.tensor(y), step)
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-6)


def test_an_angular_head_answers_by_angle_and_length() -> None:
    head = angular_head(5, 3, draw())
    assert np.linalg.norm(head["weight"], axis=1) == pytest.approx(np.ones(3), rel=1e-5) and set(head) == {"weight"}
    x = torch.randn(2, 5, generator=draw())
    turned = angular_scores(x, 7 * torch.from_numpy(head["weight"]))
    assert torch.allclose(turned, x @ torch.from_numpy(head["weight"]).T, atol=1e-5)

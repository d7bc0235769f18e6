"""Sockets found in known networks have the published counts, and plugs in PyTorch do what the two methods say.

Networks have random weights and see small pictures: counts and identities do not depend on either.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from edgecl.rom.sockets import Plugs, Socket, fold, norm_of, onward

pytest.importorskip("torch", reason="sockets are found in PyTorch; pip install 'edgecl[learn]'")

from edgecl.rom.pytorch import feature_network
from edgecl.rom.surgery import Place, cut, depthwise, fill, find_sockets, install, scrambled_bias
from edgecl.rom.torch_compat import torch

# network -> convolutions, their channels; wider than 1x1, their channels; norms that follow one directly, their channels
COUNTS = {
    "legacy_xception": ((74, 50_312), (36, 23_144), (40, 27_264)),
    "resnet18": ((20, 4_800), (17, 3_904), (20, 4_800)),
    "resnet50": ((53, 26_560), (17, 3_840), (53, 26_560)),
    "tf_efficientnet_lite0": ((49, 21_008), (17, 8_992), (49, 21_008)),
}
SIZE = 64


@cache
def sockets(backbone: str) -> tuple[Socket, ...]:
    return find_sockets(network(backbone), SIZE)


def network(backbone: str) -> torch.nn.Module:
    """With random weights, and norms as after some training: else a norm that was left out would not be noticed."""
    made = feature_network(backbone)
    generator = torch.Generator().manual_seed(0)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for value, (low, high) in (
                (module.running_mean, (-0.2, 0.2)),
                (module.running_var, (0.7, 1.4)),
                (module.weight.data, (0.8, 1.2)),
                (module.bias.data, (-0.2, 0.2)),
            ):
                value.uniform_(low, high, generator=generator)
    return made


def x(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def ask(net: torch.nn.Module, *plugs: Plugs, n: int = 2) -> torch.Tensor:
    with torch.inference_mode():
        if plugs:
            fill({p.socket.name: p for p in net.modules() if isinstance(p, Place)}, plugs)
        return net(x(n))


def count(some: list[Socket]) -> tuple[int, int]:
    return len(some), sum(s.channels for s in some)


@pytest.mark.parametrize("backbone", COUNTS)
def test_counts_of_sockets(backbone: str) -> None:
    found = list(sockets(backbone))
    wide = [s for s in found if s.side > 1]
    assert (count(found), count(wide), count([s for s in found if s.norm])) == COUNTS[backbone]


def test_xception_in_its_parts() -> None:
    """96 / 23,048 / 25,032 / 2,136 in stem, depthwise, pointwise and skip; a bias folds to 27,264 numbers."""
    found = sockets("legacy_xception")
    stem, depth = [s for s in found if s.side > 1 and not s.depthwise], [s for s in found if s.depthwise]
    skip = [s for s in found if s.side == 1 and "skip" in s.name]
    point = [s for s in found if s.side == 1 and s not in skip]
    assert [count(part) for part in (stem, depth, point, skip)] == [(2, 96), (34, 23_048), (34, 25_032), (4, 2_136)]
    assert all(s.feeds and not s.norm for s in depth) and all(s.norm and not s.feeds for s in found if not s.depthwise)
    assert sum(s.channels for s in found if not s.feeds) == 27_264


@pytest.mark.parametrize(
    ("backbone", "reduced", "mixed", "full"),
    [
        ("resnet18", 35_136, 36_032, 43_200),
        ("resnet50", 34_560, 57_280, 239_040),
        ("legacy_xception", 208_296, None, 452_808),
    ],
)
def test_counts_of_kernel_numbers(backbone: str, reduced: int, mixed: int | None, full: int) -> None:
    """The published variants of CLR: 3x3 behind wide convolutions; with 1x1 behind the others; 3x3 behind all."""
    found = sockets(backbone)
    assert sum(9 * s.channels for s in found if s.side > 1) == reduced
    assert sum(9 * s.channels for s in found) == full
    if mixed:
        assert sum((9 if s.side > 1 else 1) * s.channels for s in found) == mixed


@pytest.mark.parametrize("backbone", COUNTS)
def test_network_with_empty_sockets_and_with_zeros_is_the_same_bit_for_bit(backbone: str) -> None:
    net = network(backbone)
    plain = ask(net)
    install(net, sockets(backbone))
    assert torch.equal(ask(net, Plugs()), plain)
    zeros = Plugs(
        {s.name: np.zeros(s.channels, np.float32) for s in sockets(backbone)},
        {s.name: np.zeros((s.channels, 3, 3), np.float32) for s in sockets(backbone) if s.side > 1},
    )
    assert torch.equal(ask(net, Plugs(zeros.shift)), plain)
    assert torch.equal(ask(net, zeros), plain)


def test_xceptions_biases_fold_to_half_without_loss() -> None:
    """50,312 learned biases against 27,264 folded shifts: outputs agree to 3e-7 relative, but for the border's rounding."""
    net, found = network("legacy_xception"), {s.name: s for s in sockets("legacy_xception")}
    state = {name: value.numpy().astype(np.float64) for name, value in net.state_dict().items()}
    rng = np.random.default_rng(0)
    biases = {s.name: 0.1 * rng.normal(size=s.channels) for s in found.values()}
    folded: dict[str, np.ndarray] = {}
    for s in found.values():
        target, bias = s, biases[s.name]
        if s.feeds:
            target = found[s.feeds]
            shift = onward(bias, state[f"{s.feeds}.weight"], norm_of(target, state))
        else:
            shift, _ = fold(s, norm_of(s, state), bias=bias)
        folded[target.name] = folded.get(target.name, 0) + shift
    assert sum(v.size for v in folded.values()) == 27_264
    betas = {name: torch.from_numpy(value.astype(np.float32)) for name, value in biases.items()}
    hooks = [
        net.get_submodule(name).register_forward_hook(lambda _, __, out, b=beta: out + b[None, :, None, None])
        for name, beta in betas.items()
    ]
    learned = ask(net)
    for hook in hooks:
        hook.remove()
    plain = ask(net)
    install(net, tuple(found.values()))
    carried = ask(net, Plugs({name: value.astype(np.float32) for name, value in folded.items()}))
    difference = float((carried - learned).abs().max() / learned.abs().max())
    assert difference <= 2e-6, difference  # float32 on other paths; 3e-7 is the typical one
    assert float((carried - learned).abs().mean() / learned.abs().mean()) <= 3e-7 * 3
    assert float((plain - learned).abs().max() / learned.abs().max()) > 1e-3


# -- layers alone


def test_scrambled_layout_by_numbers() -> None:
    y = scrambled_bias(torch.zeros(1, 3, 2, 2), torch.tensor([1.0, 2.0, 3.0]))
    assert y[0].tolist() == [[[1, 2], [3, 1]], [[2, 3], [1, 2]], [[3, 1], [2, 3]]]


def test_scrambled_bias_equals_a_bias_per_channel_on_one_pixel() -> None:
    beta = torch.randn(5)
    assert torch.equal(scrambled_bias(torch.zeros(2, 5, 1, 1), beta)[1, :, 0, 0], beta)


@pytest.mark.parametrize(("side", "stride"), [(7, 2), (3, 1), (1, 1)])
def test_identity_kernels_change_no_bit_behind_a_convolution(side: int, stride: int) -> None:
    conv = torch.nn.Conv2d(3, 8, side, stride, side // 2, bias=False)
    c = conv(x())
    identity = torch.zeros(8, 3, 3)
    identity[:, 1, 1] = 1
    assert torch.equal(depthwise(c, identity), c)


def test_a_kernel_acts_on_its_own_channel_only() -> None:
    c, kernel = torch.randn(2, 6, 9, 9), torch.randn(6, 3, 3)
    other = kernel.clone()
    other[4] += 1
    changed = (depthwise(c, kernel) != depthwise(c, other)).flatten(2).any(2).any(0)
    assert changed.tolist() == [False] * 4 + [True, False]


def test_a_shift_kernel_moves_the_picture_by_one() -> None:
    c, kernel = torch.randn(1, 2, 5, 5), torch.zeros(2, 3, 3)
    kernel[:, 1, 2] = 1
    y = depthwise(c, kernel)
    assert torch.equal(y[..., :-1], c[..., 1:]) and not y[..., -1].any()


def test_composition_with_the_convolution_before_it_holds_inside() -> None:
    """Stride 1: kernel (*) (W * x) is one 5x5 convolution, but for a border of a pixel that zero padding makes differ."""
    conv, kernel, picture = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False), torch.randn(4, 3, 3), x(1)
    composed = torch.zeros(4, 3, 5, 5)
    for u in range(3):
        for v in range(3):
            composed[:, :, u : u + 3, v : v + 3] += kernel[:, None, u, v, None, None] * conv.weight.data
    whole = torch.nn.functional.conv2d(picture, composed, padding=2)
    found = depthwise(conv(picture), kernel).detach()
    assert torch.allclose(found[..., 1:-1, 1:-1], whole[..., 1:-1, 1:-1], atol=1e-5)


def test_a_kernel_per_picture_is_each_pictures_own() -> None:
    c, kernels = torch.randn(3, 4, 6, 6), torch.randn(3, 4, 3, 3)
    alone = torch.cat([depthwise(c[i : i + 1], kernels[i]) for i in range(3)])
    assert torch.allclose(depthwise(c, kernels), alone, atol=1e-6)


# -- the network cut in two


@pytest.mark.parametrize(
    "backbone", ["test_efficientnet", "test_resnet", "resnet18", "tf_efficientnet_lite0", "legacy_xception"]
)
@pytest.mark.parametrize("deep", [2, 8])
def test_halves_together_are_the_network(backbone: str, deep: int) -> None:
    net, found = network(backbone), find_sockets(network(backbone), SIZE)
    places = install(net, found)
    first = found[-deep]
    halves = cut(net, first.norm or first.name)
    assert halves is not None, f"{backbone} cannot be cut before {first.name}"
    lower, upper = halves
    whole = ask(net, Plugs())
    with torch.inference_mode():
        below = lower(x())
        assert torch.equal(upper(below), whole)
        fill(places, [Plugs({first.name: np.full(first.channels, 0.3, np.float32)})])
        assert torch.equal(lower(x()), below), "the cut lies above the socket"
        changed = upper(below)
    assert torch.equal(changed, ask(net, Plugs({first.name: np.full(first.channels, 0.3, np.float32)})))
    assert not torch.equal(changed, whole)


def test_a_network_is_not_cut_where_nothing_lies_below() -> None:
    assert cut(network("test_resnet"), "no.such.module") is None
    assert cut(network("test_resnet"), find_sockets(network("test_resnet"), SIZE)[0].name) is None

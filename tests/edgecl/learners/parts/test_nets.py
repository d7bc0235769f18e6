"""Base networks: PyTorch's own start from a generator, and the kind that fits the inputs."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: pip install 'edgecl[learn]'")

from edgecl.errors import ConfigError  # noqa: E402
from edgecl.learners.parts.nets import NetConfig, build, kind  # noqa: E402


def test_weights_are_those_of_torch_under_the_same_seed() -> None:
    """So that a published seed means what it meant there."""
    with torch.random.fork_rng():
        torch.manual_seed(1234)
        theirs = torch.nn.Sequential(torch.nn.Linear(2, 25), torch.nn.Tanh(), torch.nn.Linear(25, 4))
    ours = build((2,), 4, NetConfig(net="mlp", hidden=25), torch.Generator().manual_seed(1234))
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-7)


def test_auto_is_conv_for_pictures_and_linear_for_vectors() -> None:
    assert kind((32, 32, 3), NetConfig()) == "conv" and kind((1280,), NetConfig()) == "linear"
    assert kind((32, 32, 3), NetConfig(net="mlp")) == "mlp"


def test_conv_needs_pictures() -> None:
    with pytest.raises(ConfigError, match=r"conv, which needs pictures"):
        build((64,), 3, NetConfig(net="conv"), torch.Generator())


@pytest.mark.parametrize(
    "options", [{"net": "resnet"}, {"hidden": 0}, {"optimiser": "lion"}, {"lr": 0.0}, {"weight_decay": -1}]
)
def test_settings_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        NetConfig(**options)

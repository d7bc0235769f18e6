"""The ROM in PyTorch: the reference that exports are compared with. Plugs learn in a folded copy (`heads.parts.folded`)."""

from __future__ import annotations

import difflib
import threading
from typing import Any

from edgecl.errors import ConfigError, MissingDependency, RomError, RomTampered, RuntimeUnavailable
from edgecl.rom.base import Rom
from edgecl.rom.image import WEIGHTS, RomImage, weights_digest
from edgecl.rom.overlay import effective
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


def load_network(image: RomImage) -> torch.nn.Module:
    """The image's network with its own weights, in eval mode and frozen. Raises RomTampered or RomError."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    network = feature_network(image.backbone)
    try:
        weights = load(image.read(WEIGHTS))
        if weights_digest({name: value.numpy() for name, value in weights.items()}) != image.weights:
            raise RomTampered(f"{image.folder / WEIGHTS} holds other weights than ROM {image.rom_id[:12]}; export again")
        network.load_state_dict(weights)
    except (RuntimeError, SafetensorError) as error:
        raise RomError(f"{image.folder / WEIGHTS} does not fit timm {timm.__version__}'s {image.backbone}: {error}") from error
    return network


class PytorchRom(Rom):
    """PyTorch behind the ROM contract."""

    runtime = "pytorch"
    version = str(torch.__version__)
    mixes = True
    scrambles = True

    def __init__(self, image: RomImage, device: str = "cpu", threads: int = 0, cache: Any = None) -> None:
        """Raises RuntimeUnavailable when `device` is cuda and torch sees none. `cache` is not needed here."""
        super().__init__(image)
        if image.precision == "int8":
            raise RuntimeUnavailable(
                f"ROM {image.rom_id[:12]} is INT8; the runtime 'pytorch' would compute FP32 features, for which its heads "
                f"were not made. Use --runtime onnxruntime, or the FP32 ROM"
            )
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeUnavailable(f"CUDA was asked for, but torch {torch.__version__} sees no GPU; use --device cpu")
        self.provider = device
        self.threads = threads
        if threads:
            torch.set_num_threads(threads)
        self.network = load_network(image)
        self.places = install(self.network, image.sockets)
        # A convolution without a norm stands inside its place.
        self._weights = {s.name: f"{s.name}.weight" if s.norm else f"{s.name}.module.weight" for s in image.sockets}
        self._filling = threading.Lock()
        self.network.to(device, memory_format=torch.channels_last)  # 1.7 times as fast on a CPU

    def _run(self, x: Floats) -> Floats:
        return self._run_plugged(x, [Plugs()])

    def _run_plugged(self, x: Floats, plugs: list[Plugs]) -> Floats:
        # The places are the network's: one caller at a time. TF32 keeps ten bits of the pixels, too few to agree with others.
        with self._filling, torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            fill(self.places, plugs, self.provider)
            pixels = torch.from_numpy(x).to(self.provider).contiguous(memory_format=torch.channels_last)
            # In place of the network's own for this call alone; nothing is written into them.
            others = {self._weights[name]: self._effective(plugs[0], name) for name in plugs[0].reweighted} if plugs else {}
            out: Floats = torch.func.functional_call(self.network, others, (pixels,)).float().cpu().numpy()
        return out

    def _effective(self, plugs: Plugs, name: str) -> torch.Tensor:
        plain = self.network.get_parameter(self._weights[name]).cpu().numpy()
        made = torch.from_numpy(effective(plain, self.image.free[name], plugs, name))
        return made.to(self.provider, memory_format=torch.channels_last)

    def _close(self) -> None:
        del self.network

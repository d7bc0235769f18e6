"""The whole way: backbone -> ONNX -> parity with PyTorch on real pictures -> sealed ROM image."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

from edgecl.errors import RomError
from edgecl.rom import image as rom_image
from edgecl.rom.image import RomImage
from edgecl.rom.ort import OrtRom
from edgecl.rom.parity import Parity, compare
from edgecl.rom.pytorch import PytorchRom
from edgecl.rom.surgery import find_sockets
from edgecl.rom.torch_compat import timm, torch
from export import backbones, verify
from export.onnx_graph import to_onnx
from export.reduce import reduce, require_place


def seal(
    folder: Path,
    backbone: str,
    weights: str = "auto",
    pictures: Path | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    precision: str = "fp32",
    calibration: Path | None = None,
    labelled: Path | None = None,
    force: bool = False,
) -> RomImage:
    """Export `backbone` into `folder` as a sealed ROM image, which is compared with PyTorch before it appears there.

    pictures: folder of pictures for the comparison; None takes those that come with scikit-learn.   precision: fp32, fp16 or
    int8; the lower ones are made from the FP32 image and gated, see `reduce`, which the last three arguments go to.
    Raises RomError when ONNX Runtime's features differ from PyTorch's by more than rounding, or when the gate of a lower
    precision does not hold; nothing is then written.
    """
    require_place(folder)
    say(f"loading {backbone}, weights: {weights}")
    network, preprocess = backbones.load(backbone, weights, seed)
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    say("exporting to ONNX, about 20 seconds")
    graph = to_onnx(network, preprocess.size)
    sockets = find_sockets(network, preprocess.size)
    with torch.inference_mode():
        width = network(torch.zeros(1, 3, preprocess.size, preprocess.size)).shape[1]
    say("comparing with PyTorch on real pictures")
    images = verify.sample_pictures(preprocess, pictures)
    made_with = {"torch": torch.__version__, "timm": timm.__version__, "onnx": onnx.__version__}

    def write(where: Path, parity: Parity | None) -> RomImage:
        return rom_image.write(
            where,
            backbone=backbone,
            features=width,
            preprocess=preprocess,
            precision="fp32",
            graph=graph,
            weights=state,
            parity=parity.to_dict() if parity else {},
            made_with=made_with,
            sockets=sockets,
        )

    # The comparison runs on a complete image, so that it covers the files as they were written and read back.
    with tempfile.TemporaryDirectory() as draft:
        image = write(Path(draft) / "rom", None)
        with PytorchRom(image) as reference, OrtRom(image) as sealed:
            parity = compare(reference.features(images), sealed.features(images))
        if not parity.holds():
            raise RomError(f"the exported graph does not match PyTorch: {parity}; nothing was written")
        if precision != "fp32":
            say(f"parity with PyTorch: {parity}")
            return reduce(
                image,
                folder,
                precision,
                calibration=calibration,
                pictures=pictures,
                labelled=labelled,
                force=force,
                say=say,
            )
    return write(folder, parity)

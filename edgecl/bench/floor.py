"""The floor: the runtime itself on the same sealed ROM, without anything of ours but the two steps no one can leave out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecl.pictures.decode import decode
from edgecl.rom.base import BATCH, Rom
from edgecl.rom.image import GRAPH, WEIGHTS
from edgecl.rom.preprocess import normalise
from edgecl.types import Floats

Raw = Callable[[Floats], Floats]  # (n, 3, s, s) float32, normalised -> (n, d) float32


def raw_runtime(rom: Rom, threads: int) -> Raw:
    """A second instance of the runtime that `rom` runs on, with the same options, called as its own manual says."""
    if rom.runtime == "pytorch":
        return _pytorch(rom)
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = ort.InferenceSession(rom.image.read(GRAPH), options, providers=[rom.provider])
    name = session.get_inputs()[0].name

    def run(x: Floats) -> Floats:
        out: Floats = session.run(None, {name: x})[0]
        return out

    return run


def _pytorch(rom: Rom) -> Raw:
    from safetensors.torch import load

    from edgecl.rom.pytorch import feature_network
    from edgecl.rom.torch_compat import torch

    network = feature_network(rom.image.backbone)
    network.load_state_dict(load(rom.image.read(WEIGHTS)))
    network.to(rom.provider)

    def run(x: Floats) -> Floats:
        with torch.inference_mode():
            out: Floats = network(torch.from_numpy(x).to(rom.provider)).cpu().numpy()
        return out

    return run


def floor(rom: Rom, raw: Raw, pictures: list[bytes]) -> None:
    """Decode, normalise, run: encoded pictures in batches as `Rom` takes them, one step after the other."""
    for at in range(0, len(pictures), BATCH):
        raw(normalise(np.stack([decode(data, rom.preprocess) for data in pictures[at : at + BATCH]]), rom.preprocess))

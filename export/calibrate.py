"""What quantising needs to be told: pictures, the range of every value on them, and which layers bear it badly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper
from PIL import Image

from edgecl.errors import RomError
from edgecl.rom.preprocess import Preprocess, normalise, pixels
from edgecl.types import Floats, Pixels
from export import verify

COUNT = 48  # pictures; 64 of 19 photographs gave the same accuracy as 48 crops of two
_STEPS = 64  # of a range per doubling: ranges are rounded up to these, so that another machine's rounding gives the same file

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Calibration:
    """The pictures (n, s, s, 3) uint8 that ranges are measured on, and where they came from."""

    pictures: Pixels
    source: str

    def to_dict(self) -> dict[str, Any]:
        """For the manifest: no path of this machine, but the digest of what was seen."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pictures).tobytes()).hexdigest()
        return {"source": self.source, "pictures": len(self.pictures), "sha256": digest}


def calibration(preprocess: Preprocess, folder: Path | None = None, count: int = COUNT) -> Calibration:
    """Pictures spread over `folder` (of pictures, or of tasks); None takes crops of scikit-learn's two photographs."""
    if folder is not None:
        return Calibration(verify.sample_pictures(preprocess, folder, count), "pictures of the user")
    from sklearn.datasets import load_sample_images

    rng, photographs = np.random.default_rng(0), load_sample_images().images
    out = []
    for i in range(count):
        picture = photographs[i % len(photographs)]
        side = int(min(picture.shape[:2]) * rng.uniform(0.35, 1))
        top, left = (int(rng.integers(0, n - side + 1)) for n in picture.shape[:2])
        crop = picture[top : top + side, left : left + side][:, :: -1 if rng.random() < 0.5 else 1]
        out.append(pixels(Image.fromarray(np.ascontiguousarray(crop)), preprocess))
    return Calibration(np.stack(out), "crops of scikit-learn's sample photographs")


def ranges(graph: bytes, pictures: Pixels, preprocess: Preprocess) -> dict[str, tuple[float, float]]:
    """Least and largest value of every float tensor of `graph` over `pictures`, by name, 0 included.

    Both ends are rounded outwards to a coarse grid: a sum in another order on another machine then gives the same numbers.
    """
    model = onnx.load_from_string(graph)
    wanted = [name for node in model.graph.node for name in node.output if name]
    answers = {output.name for output in model.graph.output}
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted if name not in answers)
    session = open_session(model.SerializeToString())
    found: dict[str, tuple[float, float]] = {}
    for picture in pictures:
        x = normalise(picture[None], preprocess)
        values = zip(wanted, session.run(wanted, {"pixels": x}), strict=True)
        for name, value in (("pixels", x), *values):
            if value.dtype == np.float32:
                low, high = found.get(name, (0.0, 0.0))
                found[name] = min(low, float(value.min())), max(high, float(value.max()))
    if not np.isfinite(list(found.values())).all():
        raise RomError("the network answers non-finite numbers on the calibration pictures; nothing was written")
    return {name: (-_outwards(-low), _outwards(high)) for name, (low, high) in found.items()}


def _outwards(size: float) -> float:
    return float(2 ** (np.ceil(np.log2(size) * _STEPS) / _STEPS)) if size > 0 else 0.0


def open_session(graph: bytes) -> Any:
    """ONNX Runtime on the CPU, without its warnings."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def features(graph: bytes, pictures: Pixels, preprocess: Preprocess, batch: int = 16) -> Floats:
    """(n, d) float32 of `graph`, without sealing it first."""
    session = open_session(graph)
    batches = (pictures[at : at + batch] for at in range(0, len(pictures), batch))
    return np.concatenate([session.run(None, {"pixels": normalise(some, preprocess)})[0] for some in batches])


def sensitivity(
    build: Callable[[Sequence[str]], bytes],
    layers: Sequence[str],
    reference: Floats,
    pictures: Pixels,
    preprocess: Preprocess,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """What keeping each layer alone in float32 gains: the fall of the features' mean squared error, as a share of it.

    build: names of layers to keep -> quantised graph.   reference: (n, d), the float32 features of `pictures`.
    """

    def error(keep: Sequence[str]) -> float:
        return float(np.square(features(build(keep), pictures, preprocess) - reference).mean())

    whole = max(error(()), 1e-30)
    gains = {}
    for i, layer in enumerate(layers):
        gains[layer] = 1 - error((layer,)) / whole
        progress(i + 1, len(layers))
    return gains

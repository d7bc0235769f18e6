"""`python -m export`: the thin command line; `edgecl export` is the same. Errors end with one line on stderr."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from edgecl.errors import ConfigError, EdgeclError, MissingDependency
from edgecl.rom.image import GRAPH, PRECISIONS, RomImage
from edgecl.rom.parity import Parity


def main(arguments: list[str] | None = None) -> int:
    """Export as told; returns the exit code."""
    parser = argparse.ArgumentParser(prog="export", description="Seal a frozen backbone into a ROM image.")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="any timm model")
    parser.add_argument("--weights", default="auto", help="auto, random, or a .safetensors, .pth or .pt file")
    parser.add_argument("--pictures", type=Path, help="folder of pictures for the comparison with PyTorch")
    parser.add_argument("--seed", type=int, default=0, help="of --weights random")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "int8"), help="of the ONNX file")
    parser.add_argument("--calibration", type=Path, help="int8: folder of pictures that ranges are measured on")
    parser.add_argument("--gate", type=Path, help="folder of tasks with train/ and test/ that accuracy is measured on")
    parser.add_argument("--force", action="store_true", help="write it even when the gate does not hold")
    parser.add_argument("--rom", type=Path, help="FP32 image to make another precision of, instead of exporting a backbone")
    parser.add_argument("--free", type=float, help="compact: share of the weights to free for heads, such as 0.5")
    parser.add_argument("--goal", help="of --free: accuracy it may cost, such as 0.5pt; less is freed to keep it")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the image")
    options = parser.parse_args(arguments)
    try:
        run(
            options.backbone,
            options.weights,
            options.pictures,
            options.seed,
            options.output,
            precision=options.precision,
            calibration=options.calibration,
            gate=options.gate,
            force=options.force,
            rom=options.rom,
            free=options.free,
            goal=options.goal,
        )
    except EdgeclError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(
    backbone: str,
    weights: str,
    pictures: Path | None,
    seed: int,
    output: Path,
    *,
    precision: str = "fp32",
    calibration: Path | None = None,
    gate: Path | None = None,
    force: bool = False,
    rom: Path | None = None,
    free: float | None = None,
    goal: str | None = None,
) -> None:
    """Seal, saying what happens. rom: an FP32 image that is there, to make `precision` of, or to compact. Raises EdgeclError.

    free: share of the weights to be freed for heads.   goal: points of joint accuracy that this may cost, as in "0.5pt".
    """
    started = time.perf_counter()
    _check(precision, calibration, gate, force, rom, free, goal)

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        if free is not None:
            image = _compacted(output, backbone, weights, pictures, seed, rom, free, goal, calibration, gate, say)
        elif rom is not None:
            from export.reduce import reduce

            image = reduce(
                RomImage.open(rom),
                output,
                precision,
                calibration=calibration,
                pictures=pictures,
                labelled=gate,
                force=force,
                say=say,
            )
        else:
            from export.seal import seal

            image = seal(output, backbone, weights, pictures, seed, say, precision, calibration, gate, force)
    except ImportError as error:
        raise MissingDependency(f"the export needs {error.name}; add the extras: pip install 'edgecl[learn,cpu]'.") from error
    if image.precision == "fp32":
        print(f"parity with PyTorch: {Parity(**image.parity)}")
    size = sum(file["bytes"] for file in image.files.values()) / 1e6
    print(
        f"sealed ROM {image.rom_id[:12]} ({image.backbone}, {image.precision}, {image.features} features, {size:.1f} MB, graph "
        f"{image.files[GRAPH]['bytes'] / 1e6:.1f} MB) in {image.folder}, {time.perf_counter() - started:.0f} s"
    )


def _compacted(
    output: Path,
    backbone: str,
    weights: str,
    pictures: Path | None,
    seed: int,
    rom: Path | None,
    share: float,
    goal: str | None,
    calibration: Path | None,
    gate: Path | None,
    say: Callable[[str], None],
) -> RomImage:
    """Compact `rom`, or the image of the backbone, which is then made beside it and let go."""
    from export.compact import free
    from export.reduce import require_place
    from export.seal import seal

    bound = None if goal is None else points(goal)
    require_place(output)
    with tempfile.TemporaryDirectory() as draft:
        image = RomImage.open(rom) if rom else seal(Path(draft) / "rom", backbone, weights, pictures, seed, say)
        return free(image, output, share, bound, calibration=calibration, pictures=pictures, labelled=gate, say=say)


def points(text: str) -> float:
    """ "0.5pt" -> 0.005 of accuracy. Raises ConfigError."""
    number = text.removesuffix("pt").strip()
    try:
        value = float(number) / 100
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1 or not text.endswith("pt"):
        raise ConfigError(f"a goal is given in points of accuracy, such as 0.5pt; got '{text[:40]}'")
    return value


def _check(
    precision: str,
    calibration: Path | None,
    gate: Path | None,
    force: bool,
    rom: Path | None,
    free: float | None,
    goal: str | None,
) -> None:
    """Raise ConfigError for options that would be passed over in silence, or that name nothing."""
    if precision not in PRECISIONS:
        raise ConfigError(f"there is no precision '{precision}'; known are {', '.join(PRECISIONS)}")
    if goal is not None and free is None:
        raise ConfigError("--goal bounds what --free may cost; add --free 0.5")
    if free is not None and not 0 < free < 1:
        raise ConfigError(f"--free takes the share of the weights to free, between 0 and 1; got {free:g}")
    if free is not None and (precision != "fp32" or force):
        raise ConfigError("--free compacts an FP32 image; make another precision of what comes of it, and leave out --force")
    if precision == "fp32" and free is None and (gate or force or rom):
        raise ConfigError("--gate, --force and --rom make another precision of FP32; add --precision fp16 or int8, or --free")
    if precision != "int8" and free is None and calibration:
        raise ConfigError("--calibration measures the ranges of INT8; add --precision int8, or --free")
    for option, folder in (("--calibration", calibration), ("--gate", gate)):
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"{option} {folder}: there is no such folder")


if __name__ == "__main__":
    sys.exit(main())

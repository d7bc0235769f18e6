"""`python -m export`: the thin command line; `edgecl export` is the same. Errors end with one line on stderr."""

from __future__ import annotations

import argparse
import sys
import time
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
) -> None:
    """Seal, saying what happens. rom: an FP32 image that is there, to make `precision` of. Raises EdgeclError."""
    started = time.perf_counter()
    _check(precision, calibration, gate, force, rom)

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        if rom is not None:
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


def _check(precision: str, calibration: Path | None, gate: Path | None, force: bool, rom: Path | None) -> None:
    """Raise ConfigError for options that would be passed over in silence, or that name nothing."""
    if precision not in PRECISIONS:
        raise ConfigError(f"there is no precision '{precision}'; known are {', '.join(PRECISIONS)}")
    if precision == "fp32" and (gate or force or rom):
        raise ConfigError("--gate, --force and --rom make another precision of FP32; add --precision fp16 or int8")
    if precision != "int8" and calibration:
        raise ConfigError("--calibration measures the ranges of INT8; add --precision int8")
    for option, folder in (("--calibration", calibration), ("--gate", gate)):
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"{option} {folder}: there is no such folder")


if __name__ == "__main__":
    sys.exit(main())

"""`python -m export`: the thin command line; `edgecl export` is the same. Errors end with one line on stderr."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from edgecl.errors import EdgeclError, MissingDependency


def main(arguments: list[str] | None = None) -> int:
    """Export as told; returns the exit code."""
    parser = argparse.ArgumentParser(prog="export", description="Seal a frozen backbone into a ROM image.")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="any timm model")
    parser.add_argument("--weights", default="auto", help="auto, random, or a .safetensors, .pth or .pt file")
    parser.add_argument("--pictures", type=Path, help="folder of pictures for the comparison with PyTorch")
    parser.add_argument("--seed", type=int, default=0, help="of --weights random")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the image")
    options = parser.parse_args(arguments)
    try:
        run(options.backbone, options.weights, options.pictures, options.seed, options.output)
    except EdgeclError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(backbone: str, weights: str, pictures: Path | None, seed: int, output: Path) -> None:
    """Seal, saying what happens. Raises EdgeclError."""
    started = time.perf_counter()
    try:
        from export.seal import seal
    except ImportError as error:
        raise MissingDependency(f"the export needs {error.name}; add the extras: pip install 'edgecl[learn,cpu]'.") from error
    image = seal(output, backbone, weights, pictures, seed, say=lambda line: print(line, flush=True))
    from edgecl.rom.parity import Parity

    print(f"parity with PyTorch: {Parity(**image.parity)}")
    size = sum(file["bytes"] for file in image.files.values()) / 1e6
    print(
        f"sealed ROM {image.rom_id[:12]} ({image.backbone}, {image.features} features, {size:.1f} MB) in {image.folder}, "
        f"{time.perf_counter() - started:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())

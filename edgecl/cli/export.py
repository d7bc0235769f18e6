"""`edgecl export`: a backbone -> a sealed ROM image; or, for a target, a ROM image -> engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgecl import config, registry
from edgecl.cli.common import RomOption, configured, progress, say
from edgecl.errors import ConfigError

TARGETS = {"tensorrt": "export.engine"}


def export(
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder of the image; new or empty. Of engines: default the home's cache."),
    ] = None,
    backbone: Annotated[str, typer.Option("--backbone", help="Any timm model.")] = "tf_efficientnet_lite0",
    weights: Annotated[str, typer.Option("--weights", help="auto, random, or a .safetensors, .pth or .pt file.")] = "auto",
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder of pictures for the comparison with PyTorch.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of --weights random.")] = 0,
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, fp16 or int8, of the ONNX file; lower ones must pass their gate.")
    ] = "fp32",
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="int8: folder of pictures like those it will see."),
    ] = None,
    gate: Annotated[
        Path | None, typer.Option("--gate", help="Folder of tasks, each with train/ and test/, to measure accuracy on.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it even when the gate does not hold.")] = False,
    free: Annotated[
        float | None, typer.Option("--free", help="Compact: the share of the weights to free for heads (cpg), such as 0.5.")
    ] = None,
    goal: Annotated[
        str | None, typer.Option("--goal", help="Of --free: accuracy it may cost, such as 0.5pt; less is freed to keep it.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="tensorrt: engines of a ROM image that is there.")] = None,
    rom: RomOption = None,
    sm: Annotated[
        str, typer.Option("--sm", help="Build for these compute capabilities, as in 86,89. Default: the GPU of this machine.")
    ] = "",
    sockets: Annotated[
        str, typer.Option("--sockets", help="Of engines: none, shift, shift+kernel, or several by comma. Default: all.")
    ] = "",
) -> None:
    """Seal a frozen backbone into a ROM image, compared with PyTorch on real pictures before it is written.

    Lower precisions are made from FP32 (of the backbone, or of the image given with --rom) and compared with it: features, and
    the accuracy of heads learned on both. --free makes a compacted image, of the backbone or of --rom: part of the weights is
    freed for heads of the method cpg, the others are fitted anew on --calibration, or else on training pictures of --gate,
    which also measures what it costs. With --target tensorrt, build engines of a ROM image instead; those in the home's cache
    are what infer and learn find.
    """
    if target is not None:
        if precision != "fp32" or calibration or gate or force or free is not None:
            raise ConfigError("engines take the precision of their ROM image; export that with --precision first, then build")
        registry.check("target", TARGETS, target)
        _engines(rom, output or config.home() / "cache" / "sessions", _listed(sm), _listed(sockets))
        return
    if sm or sockets:
        raise ConfigError("--sm and --sockets go with --target tensorrt; without a target, a backbone is sealed")
    if rom and precision == "fp32" and free is None:
        raise ConfigError("--rom goes with --target tensorrt, with --precision fp16 or int8, or with --free")
    if output is None:
        raise ConfigError("the image needs a folder to lie in: edgecl export -o FOLDER")
    from export.__main__ import run

    run(
        backbone,
        weights,
        pictures,
        seed,
        output,
        precision=precision,
        calibration=calibration,
        gate=gate,
        force=force,
        rom=rom,
        free=free,
        goal=goal,
    )


def _engines(rom: Path | None, folder: Path, sms: list[str], sockets: list[str]) -> None:
    from export.engine import described, engines

    image = Path(configured(rom=rom).rom)
    with progress() as report:
        for made in engines(image, folder, sms, sockets, say, report):
            print(described(made), flush=True)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]

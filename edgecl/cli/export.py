"""`edgecl export`: a backbone -> a sealed ROM image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the image; new or empty.")],
    backbone: Annotated[str, typer.Option("--backbone", help="Any timm model.")] = "tf_efficientnet_lite0",
    weights: Annotated[str, typer.Option("--weights", help="auto, random, or a .safetensors, .pth or .pt file.")] = "auto",
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder of pictures for the comparison with PyTorch.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of --weights random.")] = 0,
) -> None:
    """Seal a frozen backbone into a ROM image, compared with PyTorch on real pictures before it is written."""
    from export.__main__ import run

    run(backbone, weights, pictures, seed, output)

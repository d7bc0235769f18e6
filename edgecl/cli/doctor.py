"""`edgecl doctor`: what works here, and what not and why."""

from __future__ import annotations

import dataclasses
import json

import typer

from edgecl import config
from edgecl.cli.common import JsonOption, RomOption


def doctor(rom: RomOption = None, as_json: JsonOption = False) -> None:
    """Say what is installed and which runtimes really work here; exit code 1 when ROM, bank, disk or onnxruntime fails."""
    from edgecl.doctor import examine

    home = config.home()
    settings = config.load(home, {"rom": str(rom) if rom else None})
    findings = []
    for finding in examine(home, settings):
        findings.append(finding)
        if not as_json:
            mark = {True: "works", False: "NO", None: ""}[finding.works]
            print(f"{finding.what:<34}{mark:<7}{finding.detail}", flush=True)
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    if any(finding.works is False and finding.what in ("ROM", "bank", "disk", "onnxruntime on cpu") for finding in findings):
        raise typer.Exit(1)

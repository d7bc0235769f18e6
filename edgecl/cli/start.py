"""The command's entry point: ends cleanly on Ctrl-C even while the rest is still being imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Import and run the command line."""
    try:
        from edgecl.cli.main import main as run
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None
    run()

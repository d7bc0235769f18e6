"""`python -m firmware_sim`: what `edgecl simulate` does."""

from __future__ import annotations

import sys

from edgecl.cli.start import main

if __name__ == "__main__":
    sys.argv.insert(1, "simulate")
    main()

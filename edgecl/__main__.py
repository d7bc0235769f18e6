"""`python -m edgecl`: the command line, also where its script is not on the path."""

from edgecl.cli.start import main

main()

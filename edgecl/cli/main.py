"""`edgecl`: one verb per file; here only how they are found, and how errors end.

Exit codes: 0 done; 1 failed; 2 wrong usage or setting; 3 a runtime or package is missing; 4 a picture or data set cannot be
used (`infer` answers all others first); 5 the ROM image; 6 a bundle; 7 the bank; 8 this device's key; 9 a place for
bundles cannot be used; 70 a bug in edgecl; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys

# Before NumPy is imported: its BLAS would spin its own threads against the runtime's for matrices of a few hundred rows,
# which costs seconds on a small board.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import warnings
from pathlib import Path
from typing import Annotated

import typer

from edgecl import __version__, config
from edgecl.cli import (
    bench,
    demo,
    doctor,
    evaluate,
    export,
    heads,
    infer,
    learn,
    peers,
    reproduce,
    serve,
    share,
    simulate,
    stream,
    teach,
)
from edgecl.errors import EdgeclError
from edgecl.text import printable

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A camera that learns new things where it stands, and answers without being told which task it sees.",
)
app.command()(learn.learn)
app.command()(teach.teach)
app.command()(infer.infer)
app.add_typer(heads.app, name="heads")
app.command()(serve.serve)
app.command()(share.share)
app.command()(share.pull)
app.add_typer(peers.app, name="peers")
app.command()(export.export)
app.command()(evaluate.evaluate)
app.command()(bench.bench)
app.command()(doctor.doctor)
app.command()(demo.demo)
app.command()(simulate.simulate)
app.add_typer(stream.app, name="stream")
app.command()(reproduce.reproduce)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"edgecl {__version__}")
        raise typer.Exit


@app.callback()
def options(
    home: Annotated[
        Path | None, typer.Option(help="Folder of this device: bank, ROM, config.toml. Default: $EDGECL_HOME.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")] = False,
) -> None:
    if home is not None:
        os.environ["EDGECL_HOME"] = str(config.home(home))


def main() -> None:
    """Entry point: errors become one sentence and an exit code, never a traceback."""
    warnings.filterwarnings("ignore", module="PIL")  # damaged metadata; what cannot be decoded is reported by us
    code = 0
    try:
        if (code := app(standalone_mode=False) or 0) == 130:  # typer's answer to Ctrl-C
            raise KeyboardInterrupt
    except EdgeclError as error:
        print(f"{type(error).__name__}: {printable(str(error), 2000)}", file=sys.stderr)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("stopped; what the bank held, it still holds", file=sys.stderr)
        code = 130
    except (BrokenPipeError, SystemExit) as error:  # a reader that went away, as in `edgecl infer ... | head`, is no failure
        if not isinstance(error if isinstance(error, BrokenPipeError) else error.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # typer's own usage errors
            error.show()
            code = error.exit_code
        elif os.environ.get("EDGECL_TRACEBACK"):
            raise
        else:
            print(
                f"edgecl failed unexpectedly: {type(error).__name__}: {error}\nThis is a bug; run again with "
                "EDGECL_TRACEBACK=1 and report what it prints.",
                file=sys.stderr,
            )
            code = 70
    sys.exit(code)


if __name__ == "__main__":
    main()

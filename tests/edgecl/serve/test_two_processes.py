"""The command line between two devices as a person uses it: serve, trust, share, pull, ls --remote, rotate, revoke."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="serving peers needs the extra: pip install 'edgecl[serve]'")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def edgecl(tmp_path: Path, tiny_rom: Path) -> Run:
    """edgecl("a", "share", ...): in the home of that name."""

    def run(home: str, *words: object, code: int = 0, text: str | None = None) -> subprocess.CompletedProcess[str]:
        folder = tmp_path / home
        folder.mkdir(exist_ok=True)
        (folder / "config.toml").write_text(f'rom = "{tiny_rom}"\nthreads = 1\n')
        command = [sys.executable, "-m", "edgecl", "--home", str(folder), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, input=text or "", timeout=120, check=False)
        assert done.returncode == code and "Traceback" not in done.stderr, (words, done.stdout, done.stderr)
        return done

    return run


@pytest.fixture
def serving(tmp_path: Path, edgecl: Run) -> Iterator[Callable[[str], str]]:
    """Starts `edgecl serve` in a home; gives HOST:PORT for peers."""
    running = []

    def start(home: str) -> str:
        edgecl(home, "peers", "id")
        words = ["serve", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--no-announce"]
        process = subprocess.Popen(
            [sys.executable, "-m", "edgecl", "--home", str(tmp_path / home), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ},
        )
        running.append(process)
        assert process.stdout
        for line in process.stdout:
            if found := re.fullmatch(r"ready https://(127\.0\.0\.1:\d+)", line.strip()):
                return found[1]
        raise AssertionError("the service ended before it was ready")

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def key_of(edgecl: Run, home: str) -> dict[str, Any]:
    return json.loads(edgecl(home, "peers", "id", "--json").stdout)


def states(done: subprocess.CompletedProcess[str]) -> list[tuple[str, str, str]]:
    return [(o["task"], o["state"], o["reason"]) for o in map(json.loads, done.stdout.splitlines())]


def test_from_first_contact_to_revocation(
    edgecl: Run, serving: Callable[[str], str], pictures_task: Any, tmp_path: Path
) -> None:
    edgecl("a", "learn", "--task", "shapes", "--data", pictures_task["shapes"])
    at = serving("b")
    a, b = key_of(edgecl, "a"), key_of(edgecl, "b")
    # Nothing is said before somebody has compared.
    assert "trusts nobody yet" in edgecl("a", "share", "--to", at, code=9).stderr
    assert b["fingerprint"] in edgecl("a", "peers", "trust", "b", at, code=2).stderr
    wrong = edgecl("a", "peers", "trust", "b", at, "--fingerprint", a["fingerprint"], code=2)
    assert "somebody else's" in wrong.stderr
    trusted = edgecl("a", "peers", "trust", "b", at, "--fingerprint", b["fingerprint"])
    assert b["fingerprint"] in trusted.stdout and a["fingerprint"] in trusted.stderr  # both, for both ends
    assert "does not trust this device" in edgecl("a", "share", "--to", "b", code=9).stderr
    edgecl("b", "peers", "trust", "a", a["key"], "--fingerprint", a["fingerprint"])
    # Share, look, pull; by name and by address.
    assert states(edgecl("a", "share", "--to", "b", "--json")) == [("shapes", "shared", "")]
    assert states(edgecl("a", "share", "shapes", "--to", at, "--json")) == [("shapes", "known", "")]
    edgecl("b", "learn", "--task", "colours", "--data", pictures_task["colours"])
    listed = json.loads(edgecl("a", "heads", "ls", "--remote", "b", "--json").stdout)
    assert [(row["task"], row["here"]) for row in listed] == [("colours", "new"), ("shapes", "known")]
    assert "no 'birds'" in edgecl("a", "pull", "birds", "--from", "b", code=7).stderr
    assert states(edgecl("a", "pull", "colours", "--from", "b", "--json")) == [("colours", "taken", "")]
    assert states(edgecl("a", "pull", "--all", "--from", at, "--json")) == [("colours", "known", ""), ("shapes", "known", "")]
    assert "learned by b" in edgecl("a", "heads", "verify", "colours").stdout
    pictures = sorted(pictures_task["shapes"].glob("test/*/*"))
    answers = [edgecl(home, "infer", *pictures, "--json").stdout for home in "ab"]
    assert answers[0] == answers[1]
    # A new key on either side needs no person.
    edgecl("a", "peers", "rotate")
    edgecl("a", "learn", "--task", "shapes", "--data", pictures_task["shapes"], "--seed", "1")
    assert states(edgecl("a", "share", "shapes", "--to", "b", "--json")) == [("shapes", "shared", "")]
    assert key_of(edgecl, "a")["fingerprint"] in edgecl("b", "peers", "ls").stdout
    edgecl("b", "peers", "rotate")
    pulled = edgecl("a", "pull", "--from", "b", "--json")
    assert ("colours", "taken", "") in states(pulled) and "'b' has a new key" in pulled.stderr
    # The end.
    assert "shapes" in edgecl("b", "peers", "revoke", "a").stdout
    assert "does not trust" in edgecl("a", "share", "--to", "b", code=9).stderr
    edgecl("a", "peers", "revoke", "b")
    assert "revoked here" in edgecl("a", "pull", "--from", "b", code=9).stderr


def test_one_place_that_fails_keeps_none_of_the_others_empty(edgecl: Run, tmp_path: Path, pictures_task: Any) -> None:
    edgecl("a", "learn", "--task", "shapes", "--data", pictures_task["shapes"])
    (tmp_path / "stick").mkdir()
    done = edgecl("a", "share", "--to", "127.0.0.1:9", "--to", tmp_path / "stick", "--to", tmp_path / "none", code=9)
    assert "2 of 3 places" in done.stderr and list((tmp_path / "stick").rglob("*.bundle"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["share"], "say where"),
        (["pull"], "say where"),
        (["pull", "x", "--all", "--from", "y"], "--all"),
        (["heads", "ls", "--remote", "a folder"], "no peer's name"),
        (["peers", "trust", "x", "no-key"], "64 hexadecimal"),
        (["peers", "trust", "x", "127.0.0.1:9"], "does not answer as a device"),
        (["serve", "--api", "off", "--listen", "off"], "nothing would be served"),
        (["serve", "--listen", "nonsense"], "--listen takes HOST:PORT"),
    ],
)
def test_words_that_cannot_be_meant(edgecl: Run, words: list[str], said: str) -> None:
    code = 9 if "127.0.0.1:9" in words else 2
    assert said in edgecl("a", *words, code=code).stderr

"""`edgecl serve` as it is typed, and what `packaging/` types."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

PACKAGING = Path(__file__).parents[3] / "packaging"


def edgecl(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edgecl", *map(str, words)], capture_output=True, text=True, timeout=120)


def options(*verb: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]*", edgecl(*verb, "--help").stdout))


def commands() -> list[list[str]]:
    """Every edgecl command that the packaging runs."""
    unit, container = ((PACKAGING / name).read_text() for name in ("edgecl.service", "Containerfile"))
    found = [shlex.split(line)[1:] for line in re.findall(r"^ExecStart=(.*edgecl .*)$", unit, re.M)]
    found += [json.loads(line) for line in re.findall(r"^CMD (\[.*\])$", container, re.M)]
    found += [shlex.split(line) for line in re.findall(r"^#.* edgecl (serve .*)$", container, re.M)]
    return found


def test_the_commands_of_the_packaging_exist() -> None:
    assert len(commands()) == 3
    verbs, known = options(), options("serve")
    for command in commands():
        at = command.index("serve")
        assert {word for word in command[:at] if word.startswith("--")} <= verbs
        assert {word for word in command[at:] if word.startswith("--")} <= known


def test_the_container_runs_as_nobody_in_particular_and_looks_after_its_health() -> None:
    container = (PACKAGING / "Containerfile").read_text()
    assert container.rindex("\nUSER edgecl") > container.rindex("\nRUN ")
    assert "/health" in container and "HEALTHCHECK" in container and "VOLUME /home/edgecl/device" in container


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not on this machine")
    unit = (PACKAGING / "edgecl.service").read_text()
    (tmp_path / "edgecl.service").write_text(unit.replace("/opt/edgecl/bin/edgecl", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "edgecl.service")], capture_output=True, text=True
    )
    said = [line for line in done.stderr.splitlines() if "edgecl.service" in line]
    assert done.returncode == 0 and not said, done.stderr
    for word in ("DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "MemoryMax="):
        assert word in unit


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--api", "0.0.0.0:0"), "--insecure"),
        (("--api", "edge.local:0"), "--insecure"),
        (("--api", "7434"), "HOST:PORT"),
        (("--api", "127.0.0.1:99999"), "HOST:PORT"),
        (("--api", "off"), "nothing"),
        (("--max-queue", "0"), "max-queue"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_sentence(home: Path, words: tuple[str, ...], said: str) -> None:
    done = edgecl("serve", "--listen", "off", *words)
    assert done.returncode == 2 and said in done.stderr, done.stderr


def test_a_port_that_is_taken_is_named_before_the_rom_is_opened(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = edgecl("serve", "--listen", "off", "--api", f"127.0.0.1:{taken.getsockname()[1]}", "--rom", home / "none")
    assert done.returncode == 2 and "cannot listen" in done.stderr


def test_off_loopback_it_asks_for_a_token_and_says_that_it_travels_in_the_clear(home: Path, tiny_rom: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "edgecl",
        "serve",
        "--listen",
        "off",
        "--api",
        "0.0.0.0:0",
        "--insecure",
        "--rom",
        str(tiny_rom),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout
    port = process.stdout.readline().strip().rpartition(":")[2]
    token = (home / "api-token").read_text().strip()
    assert httpx.get(f"http://127.0.0.1:{port}/v1/heads").status_code == 401
    assert httpx.get(f"http://127.0.0.1:{port}/v1/heads", headers={"authorization": f"Bearer {token}"}).json() == []
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "unencrypted" in said and "api-token" in said and token not in said
    assert "ROM" in said and "onnxruntime" in said and "0 tasks" in said
    assert stat.S_IMODE((home / "api-token").stat().st_mode) == 0o600

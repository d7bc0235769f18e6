"""The demo of two devices, with a process that really serves; and what it says when a device does not do what is claimed."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn", reason="two devices need the extra: pip install 'edgecl[serve]'")
import psutil
import typer

from edgecl import demo
from edgecl.cli.two_devices import play
from edgecl.config import DeviceConfig
from edgecl.device import EdgeDevice
from edgecl.errors import ConfigError, EdgeclError, MissingDependency, PeerRefused
from edgecl.sharing.signing import Signer, identity
from edgecl.streams.base import TaskPictures
from edgecl.two_devices import story
from edgecl.two_devices.served import Served

MANY = 100  # classes: a head that is larger than what is written to disk at once, also with the tiny ROM


@pytest.fixture(scope="module")
def tasks(pictures_task: Mapping[str, Path]) -> list[TaskPictures]:
    """Two drawn tasks, and between them one with a large head."""

    def loaded(name: str, part: str, classes: tuple[str, ...]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
        files = [
            (path, i) for i, label in enumerate(classes) for path in sorted((pictures_task[name] / part / label).iterdir())
        ]
        return tuple(np.asarray(Image.open(path).convert("RGB")) for path, _ in files), tuple(i for _, i in files)

    def drawn(name: str) -> TaskPictures:
        classes = tuple(sorted(path.name for path in (pictures_task[name] / "train").iterdir()))
        return TaskPictures(name, classes, *loaded(name, "train", classes), *loaded(name, "test", classes))

    rng = np.random.default_rng(0)
    labels = tuple(i for i in range(MANY) for _ in range(3))
    grids = [np.kron(rng.integers(0, 2, (6, 6)) * 255, np.ones((16, 16))) for _ in range(MANY)]
    pictures = [np.clip(grids[i] + rng.normal(0, 10, (96, 96)), 0, 255).astype(np.uint8) for i in labels]
    many = TaskPictures(
        "grids", tuple(f"g{i:02}" for i in range(MANY)), tuple(pictures), labels, tuple(pictures[:30:3]), labels[:30:3]
    )
    return [drawn("colours"), many, drawn("shapes")]


@pytest.fixture
def run(tiny_rom: Path, tasks: list[TaskPictures], tmp_path: Path) -> Callable[[], story.Result]:
    """The story with the tiny ROM."""
    return lambda: story.run(tmp_path / "demo", tasks, DeviceConfig(rom=str(tiny_rom), threads=1))


def failed(result: story.Result) -> set[str]:
    return {claim.claim for claim in result.claims if not claim.held}


def children() -> list[psutil.Process]:
    """Processes of ours that serve."""
    return [p for p in psutil.Process().children(recursive=True) if "serve" in p.cmdline()]


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    assert not children()


@pytest.fixture(scope="module")
def kept(tiny_rom: Path, tasks: list[TaskPictures], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One run in words, as typed with --keep: the folder, and what was printed."""
    home = tmp_path_factory.mktemp("demo") / "both devices"
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.setenv("EDGECL_HOME", str(home.parent / "own"))
        patch.setattr(demo, "learned", lambda quick: tasks)
        play(home, True, {"rom": tiny_rom, "threads": 1}, as_json=False)
    assert not (home.parent / "own").exists()  # the user's own device was not even made
    return home, said.getvalue()


def test_every_claim_holds_and_is_told_on_a_page(kept: tuple[Path, str]) -> None:
    told = kept[1].partition("Play on")[0]
    assert "All 16 claims held" in told and "FAILED" not in told
    long = [line for line in told.splitlines() if len(line) > 80 or "…" in line]
    assert [line for line in long if "They live in" not in line and "devices stay in" not in line] == []
    assert len(told.splitlines()) < 130
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", told)
    assert "learned nothing" in told and "SIGKILL" in told and "broke off in the middle" in told
    for word in ("bad-signature", "rollback", "35 of 35 answers", "45 of 45 answers", "2 of 2 heads"):
        assert word in told, word


def test_the_commands_printed_at_the_end_run_as_written(kept: tuple[Path, str], tmp_path: Path) -> None:
    commands = [line.strip() for line in kept[1].partition("Play on:")[2].splitlines() if " --home " in line]
    environment = {**os.environ, "EDGECL_HOME": str(tmp_path / "other")}
    done = [
        subprocess.run(command, shell=True, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        for command in commands
    ]
    assert [one.returncode for one in done] == [0] * 5, [one.stderr for one in done]
    assert "REVOKED" in done[1].stdout and "shapes" in done[3].stdout
    assert len(done[4].stdout.splitlines()) == 3  # B, which learned nothing, answers


def test_a_folder_in_use_is_refused_before_anything_is_done(
    tiny_rom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(demo, "learned", lambda quick: pytest.fail("too late"))
    with pytest.raises(ConfigError, match="not empty"):
        play(tmp_path, True, {"rom": tiny_rom}, as_json=False)


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingDependency, match=r"edgecl\[serve\]"):
        play(None, True, {}, as_json=False)


# -- a device that does not do what is claimed


def test_a_second_device_that_is_not_new(
    run: Callable[[], story.Result], tasks: list[TaskPictures], monkeypatch: pytest.MonkeyPatch
) -> None:
    """B has learned the colours itself: A's are refused, and its answers are its own."""
    start = Served.start

    def not_new(self: Served) -> float:
        with EdgeDevice(self.home) as b:
            if not b.tasks:
                task = tasks[0]
                b.learn_pictures(task.name, task.train, task.train_labels, task.classes, seed=5)
        return start(self)

    monkeypatch.setattr(Served, "start", not_new)
    assert {"B, new, knows nothing", "heads of a trusted peer are taken"} <= failed(run())


def test_trust_that_comes_too_early(run: Callable[[], story.Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever they speak to is trusted before anybody has compared anything."""
    tried = story._Story._tried

    def trusting(self: story._Story, word: str, tasks: Any = ()) -> tuple[bool, int]:
        if not self.a.trust.peers:
            with EdgeDevice(self.b.home) as b:
                self.a.trust.trust(story.Peer("B", b.trust.signer.key, address=self.cable.address))
            self.b.command(
                "peers", "trust", "A", self.a.trust.signer.key, "--fingerprint", story.fingerprint(self.a.trust.own_key)
            )
        return tried(self, word, tasks)

    monkeypatch.setattr(story._Story, "_tried", trusting)
    assert {"A sends nothing to whom it does not trust", "B lets in nobody whom it does not trust"} <= failed(run())


def test_a_second_device_that_forgets_and_answers_otherwise(
    run: Callable[[], story.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    start, ask = Served.start, Served.ask

    def forgetting(self: Served) -> float:
        self.kill()
        for path in self.home.glob("bank.sqlite*"):
            path.unlink()
        shutil.rmtree(self.home / "incoming", ignore_errors=True)
        return start(self)

    def otherwise(self: Served, picture: bytes) -> tuple[int, dict[str, Any]]:
        status, answer = ask(self, picture)
        return status, {name: value + 1e-6 if name == "confidence" else value for name, value in answer.items()}

    monkeypatch.setattr(Served, "start", forgetting)
    monkeypatch.setattr(Served, "ask", otherwise)
    result = run()
    assert failed(result) == {
        "B answers right at once",
        "B answers as A does, in every field",
        "killed, B loses nothing it acknowledged",
        "the transfer goes on where it stopped",
        "and B answers as A does, as to all tasks",
    }
    assert not result.held and {row.same for row in result.rows} == {0}


def test_attacks_that_get_through_and_a_trust_that_stays(
    tiny_rom: Path,
    tasks: list[TaskPictures],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is sent as tampered and as older is the head in force, the stranger is A, a head goes, and nobody is revoked."""
    command, learn = Served.command, EdgeDevice.learn_pictures

    def untampered(value: Any, **changes: Any) -> Any:
        return dataclasses.replace(value, **{name: new for name, new in changes.items() if name != "head"})

    def not_revoked(self: Served, *words: str) -> str:
        return command(self, *(words if words[1] != "revoke" else ("peers", "ls")))

    def once(self: EdgeDevice, name: str, *arguments: Any, **options: Any) -> Any:
        return None if options.get("seed") else learn(self, name, *arguments, **options)

    def not_strange() -> Signer:
        with EdgeDevice(tmp_path / "demo" / "B") as b:
            b.bank.remove("shapes")
        return identity(tmp_path / "demo" / "A")

    monkeypatch.setattr(story, "replace", untampered)
    monkeypatch.setattr(Served, "command", not_revoked)
    monkeypatch.setattr(EdgeDevice, "learn_pictures", once)
    monkeypatch.setattr(story, "Signer", SimpleNamespace(fresh=not_strange))
    monkeypatch.setattr(demo, "learned", lambda quick: tasks)
    monkeypatch.setenv("EDGECL_HOME", str(tmp_path / "own"))
    with pytest.raises(typer.Exit) as ended:
        play(tmp_path / "demo", True, {"rom": tiny_rom, "threads": 1}, as_json=True)
    assert ended.value.exit_code == 1
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert not result["held"] and len(printed.out.splitlines()) == 1
    assert {claim["claim"] for claim in result["claims"] if not claim["held"]} == {
        "a trusted peer's tampered bundle is refused",
        "a trusted peer's older bundle is refused",
        "a stranger stops at the handshake",
        "nothing of the attacks is kept",
        "a revoked peer's heads answer no more",
        "nor is it let in any more",
    }
    assert "FAILED: a trusted peer's tampered bundle" in printed.err


def test_a_fingerprint_that_is_not_the_one_shown_ends_it(
    run: Callable[[], story.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "first_look", lambda host, port: Signer.fresh().key)
    with pytest.raises(PeerRefused, match="somebody stands between"):
        run()


def test_a_second_device_that_does_not_start(run: Callable[[], story.Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecl.two_devices.served.WORDS", ("serve", "--listen", "nowhere"))
    with pytest.raises(EdgeclError, match=r"ended before it answered.*HOST:PORT"):
        run()


def test_a_second_device_that_dies_is_said_to_have_died(
    run: Callable[[], story.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story._Story, "_learn", lambda self, tasks: (self.b.kill(), self._answers_of_b([tasks[0].name])))
    with pytest.raises(EdgeclError, match="does not answer POST /v1/infer"):
        run()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_no_process(tiny_rom: Path, tmp_path: Path, how: signal.Signals) -> None:
    try:
        demo.learned(quick=True)
    except MissingDependency as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "edgecl", "demo", "--two-devices", "--quick", "--rom", str(tiny_rom)]
    environment = {**os.environ, "EDGECL_HOME": str(tmp_path / "own"), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if "2. A learns" in line:
            break
    (b,) = children()
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped" in said and "Traceback" not in said
    for _ in range(500):
        if not b.is_running():
            break
        time.sleep(0.02)
    assert not b.is_running() and not list(tmp_path.glob("edgecl-demo-*"))

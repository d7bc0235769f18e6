"""The command line as a person meets it: real processes, real pictures, what they print and how they end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecl import EdgeDevice

Done = subprocess.CompletedProcess[str]


def edgecl(home: Path, *arguments: object, stdin: str | bytes = "", cwd: Path | None = None) -> Done:
    """Run the command; a traceback is never acceptable, whatever the input."""
    done = subprocess.run(
        [sys.executable, "-m", "edgecl.cli.main", *map(str, arguments)],
        input=stdin if isinstance(stdin, bytes) else stdin.encode(),
        capture_output=True,
        env={**os.environ, "EDGECL_HOME": str(home), "COLUMNS": "120"},
        cwd=cwd,
        timeout=120,
    )
    out = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in out.stderr + out.stdout, out.stderr
    return out


def draw(folder: Path, hue: int, count: int, seed: int) -> None:
    """Noisy pictures of one colour, which even a random network tells apart."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        pixels = rng.integers(0, 60, (48, 64, 3), np.uint8)
        pixels[..., hue] += 150
        Image.fromarray(pixels).save(folder / f"{i:02}.png")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_rom: Path) -> Path:
    """A folder with a home that has learned the task `hues`, and its pictures."""
    base = tmp_path_factory.mktemp("world")
    for hue, name in enumerate(("red", "green", "blue")):
        draw(base / "hues" / name, hue, 12, hue)
    (base / "home").mkdir()
    (base / "home" / "config.toml").write_text(f'rom = "{tiny_rom}"\n')
    done = edgecl(base / "home", "learn", "--task", "hues", cwd=base)
    assert done.returncode == 0, done.stderr
    assert "learned 'hues' (generation 1, linear): 36 pictures, 3 classes" in done.stdout
    assert "CPUExecutionProvider" in done.stdout  # the runtime in use is always stated
    return base


@pytest.fixture(scope="module")
def other_rom(tmp_path_factory: pytest.TempPathFactory, tiny_rom: Path) -> Path:
    """The ROM of another backbone."""
    from export.seal import seal

    return seal(tmp_path_factory.mktemp("rom") / "other", "test_resnet", "random").folder


@pytest.fixture
def fresh(world: Path, tmp_path: Path) -> Path:
    """A copy of the learned home that a test may change."""
    return Path(shutil.copytree(world / "home", tmp_path / "home"))


def test_infer_finds_task_and_class_of_files_folders_globs_and_stdin(world: Path) -> None:
    one = world / "hues" / "red" / "00.png"
    several = (one, world / "hues" / "green", world / "hues/blue/*0.png", "-")
    done = edgecl(world / "home", "infer", *several, "--json", stdin=f"{one}\n")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [Path(line["picture"]).parent.name for line in lines] == ["red", *["green"] * 12, *["blue"] * 2, "red"]
    right = [line["class"] == Path(line["picture"]).parent.name and line["task"] == "hues" for line in lines]
    assert np.mean(right) > 0.8  # at 5 % stated false rejects
    assert all(0 <= line["confidence"] <= 1 for line in lines)


def test_infer_never_imports_torch(world: Path) -> None:
    code = (
        "import sys; sys.argv = ['edgecl', 'infer', sys.argv[1]]\n"
        "from edgecl.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules and 'edgecl.rom.ort' in sys.modules"
    )
    picture = str(world / "hues/red/00.png")
    env = {**os.environ, "EDGECL_HOME": str(world / "home")}
    done = subprocess.run([sys.executable, "-c", code, picture], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_unreadable_pictures_are_named_and_all_others_answered(world: Path, tmp_path: Path) -> None:
    (tmp_path / "zero.png").touch()
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    shutil.copy(world / "hues/red/00.png", tmp_path / "good one\x1b[31m.png")
    done = edgecl(world / "home", "infer", tmp_path, "missing.png")
    assert done.returncode == 4
    assert "red" in done.stdout and "\x1b" not in done.stdout + done.stderr
    assert all(name in done.stderr for name in ("zero.png", "torn.jpg", "missing.png", "3 of the pictures"))


def test_a_picture_unlike_anything_learned_is_unknown(world: Path, tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    done = edgecl(world / "home", "infer", tmp_path / "stripes.png")
    assert "unknown (no known task; nearest is hues" in done.stdout
    told = edgecl(world / "home", "infer", tmp_path / "stripes.png", "--task", "hues", "--json")
    assert json.loads(told.stdout)["task"] == "hues"  # told the task, the mapper is not asked


def test_an_empty_bank_says_what_to_do(home: Path, tiny_rom: Path, world: Path) -> None:
    done = edgecl(home, "infer", "--rom", tiny_rom, world / "hues/red/00.png")
    assert done.returncode == 4
    assert "learned nothing" in done.stderr and "edgecl learn" in done.stderr
    assert "the bank is empty" in edgecl(home, "heads", "ls").stdout


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "x\x1b[2J", "..", "n" * 65, "con\ntrol"])
def test_a_task_name_that_is_a_path_or_hides_something_is_refused(world: Path, name: str) -> None:
    done = edgecl(world / "home", "learn", "--task", name, "--data", world / "hues")
    assert done.returncode == 2
    assert "cannot be a task name" in done.stderr and "\x1b" not in done.stderr


def test_data_that_cannot_be_learned_from_is_refused_with_a_sentence(world: Path, tmp_path: Path) -> None:
    draw(tmp_path / "single" / "only", 0, 5, 0)
    draw(tmp_path / "few" / "a", 0, 5, 0)
    draw(tmp_path / "few" / "b", 1, 1, 1)
    cases = {"single": "a single class", "few": "too few readable pictures in 'b' (1)", "gone": "no such folder"}
    for folder, words in cases.items():
        done = edgecl(world / "home", "learn", "--task", "t", "--data", tmp_path / folder)
        assert done.returncode == 4
        assert words in done.stderr
    assert "looked for" in edgecl(world / "home", "learn", "--task", "nowhere", cwd=tmp_path).stderr
    assert json.loads(edgecl(world / "home", "heads", "ls", "--json").stdout)[0]["generation"] == 1


def test_unreadable_and_duplicate_training_pictures_are_reported_and_left_out(fresh: Path, world: Path, tmp_path: Path) -> None:
    task = tmp_path / "hues"
    shutil.copytree(world / "hues", task)
    shutil.copy(task / "red/00.png", task / "blue/copy.png")
    (task / "red/broken.png").write_bytes(b"no picture")
    done = edgecl(fresh, "learn", "--task", "hues", "--data", task)
    assert done.returncode == 0
    assert "broken.png" in done.stderr and "same" in done.stderr
    assert "generation 2" in done.stdout and "37 pictures" in done.stdout


def test_heads_history_rollback_removal_and_gc(fresh: Path, world: Path) -> None:
    first = json.loads(edgecl(fresh, "heads", "ls", "--json").stdout)[0]["digest"]
    edgecl(fresh, "learn", "--task", "hues", "--data", world / "hues", "--recipe", "default", "--seed", 1)
    assert "generation 1 again" in edgecl(fresh, "heads", "rollback", "hues").stdout
    assert json.loads(edgecl(fresh, "heads", "ls", "--json").stdout)[0]["digest"] == first
    assert edgecl(fresh, "heads", "rollback", "hues").returncode == 7  # there is nothing before the first
    assert edgecl(fresh, "heads", "rm", "hues").returncode == 0
    assert edgecl(fresh, "infer", world / "hues/red/00.png").returncode == 4
    assert edgecl(fresh, "heads", "rollback", "hues", "--to", 2).returncode == 0
    assert "red" in edgecl(fresh, "infer", world / "hues/red/00.png").stdout
    assert "freed" in edgecl(fresh, "heads", "gc", "--keep", 0).stdout
    assert "sound" in edgecl(fresh, "heads", "verify").stdout
    shown = edgecl(fresh, "heads", "show", "hues").stdout
    assert "where the bytes go" in shown and "validation_accuracy" in shown
    assert edgecl(fresh, "heads", "show", "nothing").returncode == 7


def test_a_head_travels_as_a_file_and_answers_the_same(fresh: Path, world: Path, tmp_path: Path, tiny_rom: Path) -> None:
    bundle = tmp_path / "hues.bundle"
    assert edgecl(fresh, "heads", "export", "hues", "-o", bundle).returncode == 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.toml").write_text(f'rom = "{tiny_rom}"\n')
    refused = edgecl(other, "heads", "import", bundle)
    assert refused.returncode == 6 and "edgecl peers trust" in refused.stderr
    me = json.loads(edgecl(fresh, "peers", "id", "--json").stdout)
    assert edgecl(other, "peers", "trust", "bench", me["key"], "--fingerprint", me["fingerprint"]).returncode == 0
    done = edgecl(other, "heads", "import", bundle)
    assert "imported 'hues' as generation 1" in done.stdout and f"by bench ({me['fingerprint']})" in done.stdout
    picture = world / "hues/red/00.png"
    assert edgecl(other, "infer", picture, "--json").stdout == edgecl(fresh, "infer", picture, "--json").stdout
    bundle.write_bytes(bundle.read_bytes()[:-3])
    refused = edgecl(other, "heads", "import", bundle)
    assert refused.returncode == 6
    assert "malformed" in refused.stderr or "truncated" in refused.stderr
    assert edgecl(other, "heads", "import", tmp_path).returncode == 6
    assert edgecl(fresh, "heads", "export", "hues", "-o", "/proc/none/x").returncode == 1


def test_a_rom_of_another_backbone_leaves_the_heads_out_and_says_so(fresh: Path, world: Path, other_rom: Path) -> None:
    done = edgecl(fresh, "infer", "--rom", other_rom, world / "hues/red/00.png")
    assert done.returncode == 7
    assert "'hues' was learned on ROM" in done.stderr
    assert edgecl(fresh, "infer", "--rom", other_rom, "--task", "hues", world / "hues/red/00.png").returncode == 5


def test_a_tampered_rom_is_refused_with_the_file_named(world: Path, tiny_rom: Path, tmp_path: Path) -> None:
    rom = Path(shutil.copytree(tiny_rom, tmp_path / "rom"))
    data = bytearray((rom / "rom.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (rom / "rom.onnx").write_bytes(data)
    done = edgecl(world / "home", "infer", "--rom", rom, world / "hues/red/00.png")
    assert done.returncode == 5
    assert "rom.onnx" in done.stderr and "tampered" in done.stderr


def test_a_bank_that_is_newer_or_no_bank_is_refused_and_left_alone(fresh: Path) -> None:
    import sqlite3

    db = sqlite3.connect(fresh / "bank.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    done = edgecl(fresh, "heads", "ls")
    assert done.returncode == 7
    assert "format 99" in done.stderr and "update edgecl" in done.stderr
    for leftover in ("bank.sqlite-wal", "bank.sqlite-shm"):
        (fresh / leftover).unlink(missing_ok=True)
    (fresh / "bank.sqlite").write_bytes(b"not a database at all" * 100)
    assert edgecl(fresh, "heads", "ls").returncode == 7
    assert (fresh / "bank.sqlite").read_bytes() == b"not a database at all" * 100


def test_wrong_settings_name_the_nearest_right_one(fresh: Path, world: Path) -> None:
    with (fresh / "config.toml").open("a") as file:
        file.write('runtme = "pytorch"\n')
    done = edgecl(fresh, "heads", "ls")
    assert done.returncode == 2
    assert "did you mean 'runtime'" in done.stderr
    unknown = edgecl(world / "home", "infer", "--runtime", "onnx", world / "hues/red/00.png")
    assert unknown.returncode == 2
    assert "onnxruntime" in unknown.stderr
    assert edgecl(world / "home", "learn", "--task", "t", "--data", world / "hues", "--method", "liner").returncode == 2
    assert edgecl(world / "home", "nonsense").returncode == 2


def test_a_runtime_that_cannot_run_is_an_error_and_never_replaced(world: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    done = edgecl(world / "home", "infer", "--device", "cuda", world / "hues/red/00.png")
    assert done.returncode == 3
    assert "CUDAExecutionProvider" in done.stderr
    assert done.stdout == ""


def test_two_processes_learn_the_same_task_and_both_generations_are_kept(fresh: Path, world: Path) -> None:
    command = [sys.executable, "-m", "edgecl.cli.main", "learn", "--task", "hues", "--data", str(world / "hues"), "--seed"]
    env = {**os.environ, "EDGECL_HOME": str(fresh)}
    both = [subprocess.Popen([*command, str(seed)], env=env, stdout=subprocess.PIPE, text=True) for seed in (5, 6)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(line[: line.index(":")] for line in said) == [f"learned 'hues' (generation {n}, linear)" for n in (2, 3)]
    assert edgecl(fresh, "heads", "verify").returncode == 0


def test_a_long_lived_device_takes_up_what_another_process_learns(fresh: Path, world: Path, tmp_path: Path) -> None:
    with EdgeDevice(fresh) as device:
        assert device.tasks == ("hues",)
        draw(tmp_path / "more" / "bright", 0, 6, 8)
        draw(tmp_path / "more" / "dark", 1, 6, 9)
        assert edgecl(fresh, "learn", "--task", "more", "--data", tmp_path / "more").returncode == 0
        assert device.tasks == ("hues", "more")
        assert edgecl(fresh, "heads", "rm", "hues").returncode == 0
        assert device.tasks == ("more",)


def test_ctrl_c_ends_cleanly_with_130(world: Path) -> None:
    env = {**os.environ, "EDGECL_HOME": str(world / "home")}
    process = subprocess.Popen(
        [sys.executable, "-m", "edgecl.cli.main", "infer", "-", "--json"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        # A test run in the background of a shell has it ignored, and hands that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdin and process.stdout
    process.stdin.write(f"{world / 'hues/red/00.png'}\n")
    process.stdin.flush()
    json.loads(process.stdout.readline())  # one picture in, one answer out, while the list goes on
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in complaint and "stopped" in complaint


def test_a_reader_that_goes_away_is_no_error(world: Path) -> None:
    command = f"set -o pipefail; {sys.executable} -m edgecl.cli.main infer {world / 'hues'} --json | head -1"
    env = {**os.environ, "EDGECL_HOME": str(world / "home")}
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.returncode) == ("", 0)
    json.loads(done.stdout)


def test_doctor_tries_the_runtimes_and_says_what_works(world: Path) -> None:
    done = edgecl(world / "home", "doctor", "--json")
    findings = {f["what"]: f for f in json.loads(done.stdout)}
    assert done.returncode == 0
    assert findings["onnxruntime on cpu"]["works"] and findings["bank"]["works"] and findings["ROM"]["works"]


def test_evaluate_writes_the_report_and_leaves_the_bank_alone(world: Path, tmp_path: Path) -> None:
    for task, hues in (("warm", ("red", "green")), ("cold", ("blue", "green"))):
        for i, hue in enumerate(hues):
            for split, count in (("train", 8), ("test", 4)):
                draw(tmp_path / "tasks" / task / split / hue, i + (task == "cold"), count, len(task + hue) + count)
    done = edgecl(world / "home", "evaluate", tmp_path / "tasks", "-o", tmp_path / "report", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report == json.loads(done.stdout)
    assert {"oracle", "mapper", "joint"} <= set(report["summary"]) and set(report["tasks"]) == {"warm", "cold"}
    assert report["summary"]["forgetting"] == 0 and report["summary"]["old_answers_bit_identical"] == 1
    assert "| **mean** |" in (tmp_path / "report" / "report.md").read_text()
    assert [r["task"] for r in json.loads(edgecl(world / "home", "heads", "ls", "--json").stdout)] == ["hues"]
    assert edgecl(world / "home", "evaluate", tmp_path / "nowhere").returncode == 4


def test_wrong_words_are_refused_before_any_picture_is_read(world: Path, tmp_path: Path) -> None:
    wrong = (
        ("--recipe", "papr"),
        ("--method", "liner"),
        ("--seed", "-1"),
        ("--seed", 2**63),
        ("--method", "bb", "--sockets", "last:0"),
        ("--method", "clr", "--sockets", "some"),
        ("--sockets", "all"),  # the linear head has none
        ("--method", "auto", "--recipe", "paper"),
    )
    for flags in wrong:
        done = edgecl(tmp_path / "empty", "learn", "--task", "t", "--data", world / "hues", *flags)
        assert done.returncode == 2
        assert not (tmp_path / "empty" / "rom").exists()  # not even the ROM was made


@pytest.mark.parametrize("classes", [("a", "a"), ("a", "b\x1b[2J"), ("a", "x" * 300), ("a", "")])
def test_class_names_that_could_not_be_read_back_are_refused(world: Path, classes: tuple[str, str]) -> None:
    from edgecl.errors import DataError

    picture = np.zeros((40, 40, 3), np.uint8)
    with EdgeDevice(world / "home") as device, pytest.raises(DataError, match="rename the classes"):
        device.learn_pictures("t", [picture] * 6, [0, 0, 0, 1, 1, 1], classes)


def test_inputs_that_lead_nowhere_keep_their_name_in_json(world: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    asked = ("nosuch.jpg", str(tmp_path / "*.gif"), str(tmp_path / "empty"))
    done = edgecl(world / "home", "infer", *asked, "--json")
    assert [json.loads(line)["picture"] for line in done.stdout.splitlines()] == list(asked)


def test_a_full_disk_stops_learning_but_not_answering(world: Path, tmp_path: Path) -> None:
    from firmware_sim.faults import small_disk

    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder, 4 << 20) as how:
        if how != "tmpfs":
            pytest.skip("a small disk needs the right to mount one")
        home = Path(shutil.copytree(world / "home", folder / "home", ignore=shutil.ignore_patterns("cache")))
        with (folder / "fill").open("wb", buffering=0) as file, pytest.raises(OSError, match="space"):
            while True:
                file.write(b"\0" * 4096)
        assert "red" in edgecl(home, "infer", world / "hues/red/00.png").stdout
        assert "hues" in edgecl(home, "heads", "ls").stdout
        full = edgecl(home, "learn", "--task", "hues", "--data", world / "hues", "--seed", 9)
        assert full.returncode == 7
        (folder / "fill").unlink()
        assert edgecl(home, "learn", "--task", "hues", "--data", world / "hues", "--seed", 9).returncode == 0


def test_the_paper_forms_are_reached_from_the_command_line(fresh: Path, world: Path) -> None:
    learn = edgecl(fresh, "learn", "--task", "hues", "--data", world / "hues", "--mapper", "gmmc-paper")
    assert learn.returncode == 0, learn.stderr
    answer = edgecl(fresh, "infer", "--mapper", "gmmc-paper", world / "hues/red/00.png", "--json")
    assert json.loads(answer.stdout)["task"] == "hues"


def test_one_damaged_head_is_named_and_the_others_listed(fresh: Path, world: Path, tmp_path: Path) -> None:
    import sqlite3

    draw(tmp_path / "more" / "bright", 0, 6, 8)
    draw(tmp_path / "more" / "dark", 1, 6, 9)
    edgecl(fresh, "learn", "--task", "more", "--data", tmp_path / "more")
    with sqlite3.connect(fresh / "bank.sqlite") as db:
        (digest,) = db.execute("SELECT digest FROM generations WHERE task = 'hues'").fetchone()
        db.execute("UPDATE bundles SET data = zeroblob(length(data)) WHERE digest = ?", (digest,))
    db.close()
    done = edgecl(fresh, "heads", "ls")
    assert done.returncode == 7
    assert "more" in done.stdout and "'hues' is damaged" in done.stderr
    assert edgecl(fresh, "infer", tmp_path / "more/bright/00.png", "--json").returncode == 0


def test_a_pipe_is_no_bundle_and_does_not_hang(world: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert edgecl(world / "home", "heads", "import", tmp_path / "pipe").returncode == 6


# -- heads that act inside the network


@pytest.fixture(scope="module")
def plugged(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has learned `hues` with plugs, within stated bounds."""
    pytest.importorskip("torch", reason="plugs learn in PyTorch; pip install 'edgecl[learn]'")
    home = Path(shutil.copytree(world / "home", tmp_path_factory.mktemp("plugged") / "home"))
    flags = ("--method", "bb", "--sockets", "last:3", "--budget", "120s", "--max-bytes", "200k")
    done = edgecl(home, "learn", "--task", "hues", "--data", world / "hues", *flags)
    assert done.returncode == 0, done.stderr
    assert "learned 'hues' (generation 2, bb): 36 pictures" in done.stdout
    assert "plugs for 3 of 17 sockets" in done.stderr and "GB" in done.stderr  # before the work: what it will take
    return home


def test_infer_with_a_head_that_acts_inside_the_network(plugged: Path, world: Path) -> None:
    """Without PyTorch; and again on PyTorch, with the same answers."""
    pictures = (world / "hues/red", world / "hues/blue")
    answers = []
    for runtime in ("onnxruntime", "pytorch"):
        done = edgecl(plugged, "infer", *pictures, "--json", "--runtime", runtime)
        assert done.returncode == 0, done.stderr
        answers.append([json.loads(line) for line in done.stdout.splitlines()])
        assert np.mean([a["class"] == Path(a["picture"]).parent.name for a in answers[-1]]) > 0.7
    assert [a["class"] for a in answers[0]] == [a["class"] for a in answers[1]]


def test_the_list_and_the_file_of_a_head_with_plugs(plugged: Path, world: Path, tmp_path: Path) -> None:
    assert edgecl(plugged, "heads", "verify").returncode == 0
    assert edgecl(plugged, "heads", "export", "hues", "-o", tmp_path / "hues.bundle").returncode == 0
    shutil.copytree(world / "home", tmp_path / "other", ignore=shutil.ignore_patterns("bank*", "cache", "identity.pem"))
    assert edgecl(tmp_path / "other", "heads", "import", tmp_path / "hues.bundle").returncode == 6
    me = json.loads(edgecl(plugged, "peers", "id", "--json").stdout)
    trusted = edgecl(
        tmp_path / "other", "peers", "trust", "p", "--bundle", tmp_path / "hues.bundle", "--fingerprint", me["fingerprint"]
    )
    assert trusted.returncode == 0, trusted.stderr
    done = edgecl(tmp_path / "other", "heads", "import", tmp_path / "hues.bundle")
    assert done.returncode == 0, done.stderr
    answer = edgecl(tmp_path / "other", "infer", world / "hues/red/00.png", "--task", "hues", "--json")
    assert json.loads(answer.stdout)["task"] == "hues"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--budget", "0"), "--budget takes a time"),
        (("--budget", "soon"), "--budget takes a time"),
        (("--budget=-5s",), "--budget takes a time"),
        (("--budget", "1e9"), "--budget takes a time"),
        (("--budget", "3 days"), "--budget takes a time"),
        (("--max-bytes", "lots"), "--max-bytes takes a size"),
        (("--max-bytes", "200s"), "--max-bytes takes a size"),
        (("--max-bytes", "0k"), "--max-bytes takes a size"),
        (("--budget", "0.001s"), "Nothing was changed"),
        (("--max-bytes", "10k"), "Nothing was changed"),
        (("--method", "cler"), "did you mean 'clr'?"),
        (("--sockets", "last:0"), "all, deep or last:N"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_bounds_that_cannot_be_kept_are_refused_with_a_sentence(fresh: Path, world: Path, flags: tuple, words: str) -> None:
    pytest.importorskip("torch", reason="plugs learn in PyTorch; pip install 'edgecl[learn]'")
    done = edgecl(fresh, "learn", "--task", "hues", "--data", world / "hues", "--method", "bb", *flags)
    assert done.returncode == 2
    assert words in done.stderr.replace("\n", " ") and done.stdout == ""
    assert json.loads(edgecl(fresh, "heads", "ls", "--json").stdout)[0]["generation"] == 1


def test_times_and_sizes_are_read_with_their_units() -> None:
    from edgecl.cli.common import amount, seconds

    assert [seconds(text, "--budget") for text in ("90", "90s", "1.5m", " 2 H ")] == [90, 90, 90, 7200]
    assert [amount(text, "--max-bytes") for text in ("200000", "200k", "0.2M", "200kB")] == [200_000] * 4


def test_ctrl_c_while_plugs_are_learned_ends_with_a_head_or_with_130(fresh: Path, world: Path) -> None:
    """Before the first epoch there is nothing to keep; afterwards the best so far is committed. Never a traceback."""
    pytest.importorskip("torch", reason="plugs learn in PyTorch; pip install 'edgecl[learn]'")
    command = ["learn", "--task", "hues", "--data", str(world / "hues"), "--method", "clr", "--sockets", "all"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgecl.cli.main", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "EDGECL_HOME": str(fresh)},
    )  # fmt: skip
    assert process.stderr
    while "plugs for" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    said, complaint = process.communicate(timeout=60)
    assert "Traceback" not in complaint
    generation = json.loads(edgecl(fresh, "heads", "ls", "--json").stdout)[0]["generation"]
    assert (process.returncode, generation) in {(0, 2), (130, 1)}
    assert ("learned" in said) == (generation == 2)


def test_evaluate_knows_the_ceiling_and_no_other_name_beside_the_methods(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="plugs learn in PyTorch; pip install 'edgecl[learn]'")
    for i, name in enumerate(("one", "same")):  # nothing to tell apart: gradients of a perfect fit are denormal, which is slow
        for split, count in (("train", 4), ("test", 3)):
            draw(tmp_path / "tasks" / "warm" / split / name, 0, count, 10 * i + count)
    done = edgecl(world / "home", "evaluate", tmp_path / "tasks", "--method", "finetune", "--mapper", "oracle", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["conditions"]["method"] == report["tasks"]["warm"]["method"] == "finetune"
    assert report["summary"]["old_answers_bit_identical"] == 1
    done = edgecl(world / "home", "evaluate", tmp_path / "tasks", "--method", "finetune", "--unknown-classes")
    assert done.returncode == 2 and "not offered" in done.stderr
    assert edgecl(world / "home", "evaluate", tmp_path / "tasks", "--method", "bbb").returncode == 2


# -- peers


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory, tiny_rom: Path) -> tuple[Path, Path, Path]:
    """Two homes, of which the first has learned `hues`, and its bundle."""
    base = tmp_path_factory.mktemp("peers")
    for hue, name in enumerate(("red", "green")):
        draw(base / "hues" / name, hue, 6, hue)
    for home in ("a", "b"):
        (base / home).mkdir()
        (base / home / "config.toml").write_text(f'rom = "{tiny_rom}"\n')
    assert edgecl(base / "a", "learn", "--task", "hues", cwd=base).returncode == 0
    assert edgecl(base / "a", "heads", "export", "hues", "-o", base / "hues.bundle").returncode == 0
    return base / "a", base / "b", base / "hues.bundle"


def me(home: Path) -> dict[str, str]:
    return json.loads(edgecl(home, "peers", "id", "--json").stdout)


def test_a_device_says_who_it_is(homes: tuple[Path, Path, Path]) -> None:
    a, b, _ = homes
    said = edgecl(a, "peers", "id")
    assert me(a)["fingerprint"] in said.stdout and me(a)["key"] in said.stdout and "peers trust" in said.stderr
    assert me(a) == me(a) != me(b)


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("KEY",), "give that with --fingerprint", 2),
        (("KEY", "--fingerprint", "AAAA-AAAA-AAAA-AAAA-AAAA"), "somebody else's", 2),
        (("12ab", "--fingerprint", "x"), "64 hexadecimal digits", 2),
        (("--bundle", "nowhere.bundle", "--fingerprint", "x"), "cannot be read", 6),
        (("KEY", "--bundle", "x"), "either the peer's key, or --bundle", 2),
    ],
)
def test_trust_is_not_given_by_mistake(
    arguments: tuple[str, ...], words: str, code: int, homes: tuple[Path, Path, Path]
) -> None:
    a, b, _ = homes
    given = [me(a)["key"] if word == "KEY" else word for word in arguments]
    done = edgecl(b, "peers", "trust", "hall", *given)
    assert done.returncode == code and words in done.stderr
    assert "nobody but itself" in edgecl(b, "peers", "ls").stdout


def test_trust_import_verify_and_revoke(homes: tuple[Path, Path, Path]) -> None:
    a, b, bundle = homes
    words = me(a)["fingerprint"]
    refused = edgecl(b, "heads", "import", bundle)
    assert refused.returncode == 6 and words in refused.stderr and "edgecl peers id" in refused.stderr
    done = edgecl(b, "peers", "trust", "hall", "--bundle", bundle, "--fingerprint", words.lower(), "--task", "hue*")
    assert done.returncode == 0 and f"'hall' ({words}) is trusted for hue*" in done.stdout
    listed = edgecl(b, "peers", "ls").stdout
    assert words in listed and "only hue*" in listed
    assert json.loads(edgecl(b, "peers", "ls", "--json").stdout)[0]["tasks"] == ["hue*"]
    assert f"learned by hall ({words})" in edgecl(b, "heads", "import", bundle).stdout
    told = edgecl(b, "heads", "verify", "hues").stdout
    for part in (f"learned by hall ({words}), its number 1, signature valid", "from 12 pictures: green 6, red 6", "by linear"):
        assert part in told
    assert "learned by this device" in edgecl(a, "heads", "verify", "hues").stdout
    assert "out of force: hues" in edgecl(b, "peers", "revoke", "hall").stdout
    assert "REVOKED" in edgecl(b, "peers", "ls").stdout
    assert edgecl(b, "heads", "import", bundle).returncode == 6
    assert edgecl(b, "peers", "revoke", "nobody").returncode == 2


def test_the_same_task_of_two_devices_as_opinion_and_as_one_head(homes: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, other, bundle = homes
    (b := tmp_path / "b").mkdir()
    shutil.copy(other / "config.toml", b)
    for hue, name in enumerate(("red", "green")):
        draw(tmp_path / "more" / name, hue, 6, 10 + hue)
    assert edgecl(b, "learn", "--task", "twin", "--data", tmp_path / "more").returncode == 0
    words = me(a)["fingerprint"]
    assert edgecl(b, "peers", "trust", "hall", "--bundle", bundle, "--fingerprint", words).returncode == 0
    refused = edgecl(b, "heads", "import", bundle)
    assert refused.returncode == 6 and "% of 'twin'" in refused.stderr and "has the classes 'green', 'red'" in refused.stderr
    edgecl(b, "heads", "rm", "twin")
    assert edgecl(b, "learn", "--task", "hues", "--data", tmp_path / "more").returncode == 0
    refused = edgecl(b, "heads", "import", bundle)
    assert refused.returncode == 6 and all(word in refused.stderr for word in ("--replace", "--as NAME", "--merge"))
    assert "a second opinion on 'hues'" in edgecl(b, "heads", "import", bundle, "--as", "hall says").stdout
    assert "hall says (opinion on hues)" in edgecl(b, "heads", "ls").stdout
    assert {row["task"]: row["opinion_on"] for row in json.loads(edgecl(b, "heads", "ls", "--json").stdout)} == {
        "hues": None,
        "hall says": "hues",
    }
    picture = tmp_path / "more" / "red" / "00.png"
    assert "hues / red" in (told := edgecl(b, "infer", picture, "--opinions").stdout) and "; hall says: red, " in told
    assert json.loads(edgecl(b, "infer", picture, "--opinions", "--json").stdout)["opinions"][0][:2] == ["hall says", "red"]
    assert "hall says / red" in edgecl(b, "infer", picture, "--task", "hall says").stdout
    assert "merged into 'hues', generation 2" in edgecl(b, "heads", "merge", "hues", "--with", "hall says").stdout
    assert "merged from several heads" in edgecl(b, "heads", "verify", "hues").stdout
    again = edgecl(b, "heads", "import", bundle, "--merge")
    assert again.returncode == 6 and "count twice" in again.stderr
    assert edgecl(b, "heads", "merge", "hues").returncode == edgecl(b, "pull", "--from", ".", "--as", "x").returncode == 2
    assert edgecl(b, "heads", "import", bundle, "--merge", "--anyway").returncode == 2


def test_share_to_a_stick_and_pull_from_it(
    homes: tuple[Path, Path, Path], tmp_path: Path, tiny_rom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, *_ = homes
    stick, other = tmp_path / "stick", tmp_path / "other"
    for folder in (stick, other):
        folder.mkdir()
    (other / "config.toml").write_text(f'rom = "{tiny_rom}"\n')
    assert "no heads in" in edgecl(other, "pull", "--from", stick).stdout
    done = edgecl(a, "share", "--to", stick, "--to", tmp_path / "nowhere")
    assert done.returncode == 9 and "shared 'hues'" in done.stdout and "is the stick mounted" in done.stderr
    assert "was there already" in edgecl(a, "share", "hues", "--to", stick).stdout
    refused = edgecl(other, "pull", "--from", stick)
    assert refused.returncode == 6 and "(unknown-signer)" in refused.stderr and "1 of 1 heads were refused" in refused.stderr
    who = me(a)
    assert edgecl(other, "peers", "trust", "a", who["key"], "--fingerprint", who["fingerprint"]).returncode == 0
    told = edgecl(other, "pull", "hues", "--from", stick, "--json")
    assert json.loads(told.stdout)["state"] == "taken" and told.returncode == 0
    assert "was there already" in edgecl(other, "pull", "--from", stick).stdout
    assert edgecl(other, "pull", "birds", "--from", stick).returncode == 7
    for arguments, words in (
        (("share",), "say where the heads shall go"),
        (("pull",), "say where the heads are"),
        (("share", "--to", "file:///x"), "folder"),
        (("pull", "../x", "--from", "."), "task name"),
    ):
        done = edgecl(other, *arguments)
        assert done.returncode == 2 and words in done.stderr
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(name, value)  # a store on this machine that nobody has started
    assert edgecl(other, "share", "--to", "s3://bucket/x").returncode == 9


def test_a_new_key_is_followed_and_told(homes: tuple[Path, Path, Path], tmp_path: Path, tiny_rom: Path) -> None:
    a, b, stick = (tmp_path / name for name in ("a", "b", "stick"))
    shutil.copytree(homes[0], a)
    for folder in (b, stick):
        folder.mkdir()
    (b / "config.toml").write_text(f'rom = "{tiny_rom}"\n')
    old = me(a)
    assert edgecl(b, "peers", "trust", "hall", old["key"], "--fingerprint", old["fingerprint"]).returncode == 0
    assert edgecl(a, "share", "--to", stick).returncode == edgecl(b, "pull", "--from", stick).returncode == 0
    done = edgecl(a, "peers", "rotate")
    new = me(a)
    assert done.returncode == 0 and f"fingerprint  {new['fingerprint']}" in done.stdout and "signed again: hues" in done.stdout
    assert new["former"] == [old["key"]] and f"before that  {old['fingerprint']}" in edgecl(a, "peers", "id").stdout
    assert f"learned by hall ({old['fingerprint']})" in edgecl(b, "heads", "verify", "hues").stdout
    assert edgecl(a, "share", "--to", stick).returncode == 0
    told = edgecl(b, "pull", "--from", stick)
    assert told.returncode == 0 and f"'hall' has a new key, signed by the old one: {new['fingerprint']}" in told.stderr
    assert "took 'hues'" in told.stdout and "older than what is there" in told.stdout
    listed = edgecl(b, "peers", "ls").stdout
    assert new["fingerprint"] in listed and "former keys: 1" in listed
    assert f"learned by hall ({new['fingerprint']}), its number 1" in edgecl(b, "heads", "verify", "hues").stdout
    assert edgecl(b, "heads", "rollback", "hues").returncode == 0
    assert f"learned by hall (former key {old['fingerprint']})" in edgecl(b, "heads", "verify", "hues").stdout
    assert "taken by 're-sign'" in edgecl(a, "heads", "verify", "hues").stdout
    assert json.loads(edgecl(a, "peers", "rotate", "--json").stdout)["signed"] == ["hues"]

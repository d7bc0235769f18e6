"""What the README promises is there: its two lines, its commands, its Python."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMAND = re.compile(r"^edgecl ((?:heads )?[a-z]+)", re.M)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_there_are_exactly_two_quick_start_lines_and_each_is_one_line() -> None:
    lines = re.findall(r"<!-- quickstart: (\w+) -->\n```\n(.*?)```", README, re.S)
    assert [name for name, _ in lines] == ["run", "test"]
    assert all(text.count("\n") == 1 and text.startswith("python3 -m venv") for _, text in lines)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edgecl.cli.main", *arguments], capture_output=True, text=True)


def test_every_command_in_the_readme_exists() -> None:
    commands = {m for block in blocks("sh") for m in COMMAND.findall(block)}
    assert {"learn", "infer", "evaluate", "bench", "doctor", "demo", "export"} <= {m.split()[0] for m in commands}
    for command in sorted(commands):
        done = run(*command.split(), "--help")
        assert done.returncode == 0, f"edgecl {command}: {done.stderr}"


def test_the_flags_in_the_readme_exist() -> None:
    for line in (line for block in blocks("sh") for line in block.splitlines()):
        words = line.split("#")[0].split()
        flags = [word for word in words if word.startswith("--")]
        if words[:1] == ["edgecl"] and flags:
            shown = run(*words[1 : 3 if words[1] in ("heads", "peers", "stream") else 2], "--help").stdout
            assert all(flag in shown for flag in flags), line


def test_the_python_in_the_readme_runs(device, pictures_task, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    import edgecl

    folder = next(iter(pictures_task.values()))
    picture = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    monkeypatch.setattr(edgecl, "EdgeDevice", lambda: device())  # the README's device, on the tests' ROM
    (code,) = blocks("python")
    code = code.replace("path/to/birds", str(folder)).replace("image.jpg", str(picture))
    exec(compile(code, "README.md", "exec"), {})

"""What the README promises is there: its two lines, its commands, its Python."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_there_are_exactly_two_quick_start_lines_and_each_is_one_line() -> None:
    lines = re.findall(r"<!-- quickstart: (\w+) -->\n```\n(.*?)```", README, re.S)
    assert [name for name, _ in lines] == ["run", "test"]
    assert all(text.count("\n") == 1 and text.startswith("python3 -m venv") for _, text in lines)


def test_every_command_in_the_readme_exists() -> None:
    commands = {m for block in blocks("") + blocks("sh") for m in re.findall(r"^edgecl ((?:heads )?[a-z]+)", block, re.M)}
    assert {"learn", "infer", "evaluate", "bench", "doctor", "demo", "export"} <= commands
    for command in sorted(commands):
        done = subprocess.run([sys.executable, "-m", "edgecl.cli.main", *command.split(), "--help"], capture_output=True, text=True)
        assert done.returncode == 0, f"edgecl {command}: {done.stderr}"


def test_the_flags_in_the_readme_exist() -> None:
    for block in blocks("sh"):
        for line in block.splitlines():
            words = line.split("#")[0].split()
            if words[:1] == ["edgecl"] and any(word.startswith("--") for word in words):
                command = words[1:3] if words[1] == "heads" else words[1:2]
                shown = subprocess.run([sys.executable, "-m", "edgecl.cli.main", *command, "--help"], capture_output=True, text=True)
                for flag in (word.split("=")[0] for word in words if word.startswith("--")):
                    assert flag in shown.stdout, f"{line}: {flag}"


def test_the_python_in_the_readme_runs(device, pictures_task, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    import edgecl

    folder = next(iter(pictures_task.values()))
    monkeypatch.setattr(edgecl, "EdgeDevice", lambda *a, **k: device())
    (code,) = blocks("python")
    code = code.replace("path/to/birds", str(folder)).replace("image.jpg", str(next(p for p in Path(folder).rglob("*") if p.is_file())))
    exec(compile(code.replace("from edgecl import EdgeDevice", "import edgecl; EdgeDevice = edgecl.EdgeDevice"), "README", "exec"), {})

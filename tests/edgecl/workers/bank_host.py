"""What the workers of these tests run: ops on real banks. Found by its name on the path that the tests set."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from edgecl.bank.bank import HeadBank
from edgecl.errors import BundleError, Reason, RomError


class Host:
    """settings: {"refuse": sentence, "folder": where `flag` files lie}, all optional."""

    def __init__(self, settings: dict[str, Any]) -> None:
        if "refuse" in settings:
            raise RomError(settings["refuse"])
        self.folder = Path(settings.get("folder", "."))
        self.open: dict[str, HeadBank] = {}

    def bank(self, home: str) -> HeadBank:
        if home not in self.open:
            self.open[home] = HeadBank(Path(home) / "bank.sqlite", lambda: 0.0)
        return self.open[home]

    def forget(self, homes: list[str]) -> None:
        for home in set(homes) & self.open.keys():
            self.open.pop(home).close()

    def close(self) -> None:
        self.forget(list(self.open))
        (self.folder / f"closed-{os.getpid()}").touch()

    def add(self, home: str, kill: int = 0) -> int:
        """A generation more of the task "t"; the first `kill` times it is asked, the worker dies when that is written."""
        bank = self.bank(home)
        number = bank.put("t", f"bundle {len(bank.history('t')) if bank.current() else 0}".encode(), "learn").number
        (Path(home) / "incoming").mkdir(exist_ok=True)
        (Path(home) / "incoming" / f"{number}").write_text("half")
        deaths = len(list(self.folder.glob("death-*")))
        if deaths < kill:
            (self.folder / f"death-{deaths}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def pid(self) -> int:
        return os.getpid()

    def echo(self, value: Any) -> Any:
        return value

    def refuse(self) -> None:
        raise BundleError("no such signature", Reason.BAD_SIGNATURE)

    def stumble(self) -> float:
        return 1 / 0

    def note(self, line: str) -> None:
        with (self.folder / "notes").open("a") as file:
            file.write(f"{line}\n")

    def sleep(self, seconds: float) -> None:
        (self.folder / f"asleep-{os.getpid()}").touch()
        time.sleep(seconds)

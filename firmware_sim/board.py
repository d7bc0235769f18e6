"""The board under one agent: memory, flash and energy that run out, in virtual time.

A board knows no clock and no device: whoever runs an operation says what it needs, and gets seconds, joules, or the reason
why it ends here. All state is plain numbers; the same seed and the same calls give the same state, in whatever process.
"""

from __future__ import annotations

import math
import random
from typing import Any, Literal

from edgecl.errors import BankFull, EdgeclError
from firmware_sim.profiles import Profile, names, profile, profile_from
from firmware_sim.rates import peak_ram_mb

__all__ = ["Activity", "Board", "BrownOut", "FlashWornOut", "OutOfMemory", "Profile", "names", "profile", "profile_from"]

Activity = Literal["idle", "busy", "radio"]
WAKES_AT = 0.1  # of a battery that was empty: below, the start alone would empty it again


class OutOfMemory(EdgeclError):
    """The board has less memory than the operation needs at its peak."""


class FlashWornOut(EdgeclError):
    """The flash has taken all the writes that it is good for."""


class BrownOut(EdgeclError):
    """The power gave in. `after`: seconds into what was being done.   `off`: seconds until `restart`; infinite for ever."""

    def __init__(self, message: str, after: float, off: float) -> None:
        super().__init__(message)
        self.after, self.off = after, off


class Board:
    """profile: what kind of board.   seed: of its brown-outs; boards of a fleet need different ones."""

    def __init__(self, profile: Profile, seed: int | str) -> None:
        self.profile = profile
        self.on = True
        self.used = 0  # bytes in the bank
        self.written = 0  # bytes that programs wrote
        self.worn = 0.0  # bytes that the cells took for them
        self.energy = 0.0  # joules drawn
        self.charge = profile.battery_wh * 3600  # joules left in the battery
        self.seconds: dict[Activity, float] = {"idle": 0.0, "busy": 0.0, "radio": 0.0}
        self.brown_outs = 0
        self._off = 0.0
        self._random = random.Random(f"board {seed}")  # a string is hashed alike in every process

    # -- memory

    def require_ram(self, method: str, pictures: int, classes: int) -> None:
        """Raise OutOfMemory when learning such a task would need more than is free."""
        needed, free = peak_ram_mb(method, pictures, classes), self.profile.ram_mb - self.profile.os_ram_mb
        if needed > free:
            raise OutOfMemory(
                f"learning {pictures} pictures by '{method}' needs {needed:.0f} MB, {self.profile.name} has {free:.0f} MB "
                f"free; learn a linear head, or fewer pictures, or take a larger board"
            )

    # -- flash

    @property
    def life_used(self) -> float:
        """The share of the flash's life that is gone, from 0 to 1."""
        return self.worn / (self.profile.endurance_tb * 1e12)

    def write(self, written: int, kept: int = 0) -> float:
        """Seconds of writing `written` bytes durably, by which the bank grows by `kept` bytes (shrinks, when negative).

        Raises BankFull or FlashWornOut; then nothing is written.
        """
        p = self.profile
        if kept > 0 and self.used + kept > p.bank_bytes:
            raise BankFull(
                f"the bank of {p.name} holds {self.used:,} bytes and may hold {p.bank_bytes:,.0f}; {kept:,} more do not fit. "
                f"Remove tasks, or allow more with bank_mb"
            )
        worn = self.worn + written * p.write_amplification
        if worn > p.endurance_tb * 1e12:
            raise FlashWornOut(
                f"the flash of {p.name} is good for {p.endurance_tb:g} TB and has taken {self.worn / 1e12:.4g}; "
                f"{written:,} bytes are not written. The board needs a new one"
            )
        speed = p.write_mb_s * 1e6 * (1 - (1 - p.worn_speed) * self.life_used)
        self.written, self.worn, self.used = self.written + written, worn, max(0, self.used + kept)
        return p.sync_ms / 1e3 + written / speed

    # -- energy

    def watts(self, activity: Activity) -> float:
        """What the board draws meanwhile."""
        p = self.profile
        return {"idle": p.idle_w, "busy": p.busy_w, "radio": p.idle_w + p.radio_w}[activity]

    def spend(self, seconds: float, activity: Activity) -> float:
        """Joules drawn by that long a time.

        Raises BrownOut when the battery is empty before its end, or the supply gives in as work begins; what was drawn until
        then is counted. The board is off from then on, and can do nothing before `restart`.
        """
        p, watts = self.profile, self.watts(activity)
        if not self.on:
            raise BrownOut(f"{p.name} is off; restart it after {self._off:.0f} s", 0.0, self._off)
        lasts, why = seconds, ""
        if activity == "busy" and p.brown_out and self._random.random() < p.brown_out:
            lasts, why = self._random.random() * seconds, f"the supply of {p.name} gave in at {watts:g} W"
        net = watts - p.charge_w
        if p.battery_wh and net > 0 and self.charge < net * lasts:
            lasts, why = self.charge / net, f"the battery of {p.name} is empty"
        self.seconds[activity] += lasts
        self.energy += watts * lasts
        if p.battery_wh:
            self.charge = min(p.battery_wh * 3600, max(0.0, self.charge - net * lasts))
        if why:
            self.on, self.brown_outs = False, self.brown_outs + 1
            self._off = p.restart_s + self._recharge_s()
            raise BrownOut(f"{why}; it is off for {self._off:.0f} s", lasts, self._off)
        return watts * lasts

    def restart(self) -> None:
        """On again, after the seconds that BrownOut said. Booting is the caller's to spend: `rates.boot_seconds`.

        A battery that nothing charges is then a full one that somebody has brought.
        """
        full = self.profile.battery_wh * 3600
        self.charge = full if math.isinf(self._off) else min(full, self.charge + self._off * self.profile.charge_w)
        self.on, self._off = True, 0.0

    def _recharge_s(self) -> float:
        """Until an empty battery can carry a start; 0 with mains."""
        missing = WAKES_AT * self.profile.battery_wh * 3600 - self.charge
        if missing <= 0:
            return 0.0
        return missing / self.profile.charge_w if self.profile.charge_w else math.inf

    # -- for reports

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers: joules, bytes, seconds and shares."""
        full = self.profile.battery_wh * 3600
        return {
            "board": self.profile.name,
            "energy_j": self.energy,
            "battery_left": self.charge / full if full else None,
            "bank_bytes": self.used,
            "written_bytes": self.written,
            "flash_life_used": self.life_used,
            **{f"{activity}_s": seconds for activity, seconds in self.seconds.items()},
            "brown_outs": self.brown_outs,
        }

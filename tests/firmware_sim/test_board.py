"""Boards run out of memory, flash and power where their numbers say; the numbers have their sources."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from edgecl.errors import BankFull, ConfigError, UnknownName
from firmware_sim.board import Board, BrownOut, FlashWornOut, OutOfMemory, names, profile, profile_from
from firmware_sim.profiles import KEYS, origins, tables

PAGE = Path(__file__).resolve().parents[2] / "docs" / "boards.md"
PI = "raspberry-pi-4"


def of(**changes):
    return Board(replace(profile(PI), **changes), seed=7)


def test_the_boards_of_the_issue_are_known():
    wanted = {"jetson-nano", "jetson-orin-nano", "jetson-agx-orin", PI, "raspberry-pi-5", "coral", "host"}
    assert set(names()) == wanted
    for name in wanted:
        assert profile(name).name == name


def test_every_number_has_either_a_source_or_a_reason():
    for board in (*names(), "defaults"):
        for key, entry in tables()[board].items():
            assert key in KEYS and len(entry) == 2 and ("source" in entry) != ("assumption" in entry), (board, key)
    assert all("https://" in text or "benchmarks/" in text for text in tables()["sources"].values())
    used = {entry.get("source") for name in names() for entry in tables()[name].values()}
    assert set(tables()["sources"]) == used - {None}, "a source that nothing is from"


@pytest.mark.parametrize("name", names())
def test_the_page_says_every_number_and_where_it_is_from(name):
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {name}\n")[1].split("\n## ")[0]
    board = profile(name)
    for key, (kind, text) in origins(name).items():
        value = getattr(board, key)
        shown = value if isinstance(value, str) else "none" if math.isinf(value) else f"{value:g}"
        assert f"| {key} | {shown} | {kind}: {text} |" in section, key


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'jetson-nano'"):
        profile("jetson-nanno")
    with pytest.raises(UnknownName, match="did you mean 'ram_mb'"):
        profile_from("mine", {"base": PI, "ram_md": 512})
    with pytest.raises(UnknownName, match="no board 'pi'"):
        profile_from("mine", {"base": "pi"})


def test_a_users_board_is_its_base_but_for_what_it_says():
    mine = profile_from("mine", {"base": PI, "ram_mb": 512, "battery_wh": 20})
    assert mine == replace(profile(PI), name="mine", ram_mb=512.0, battery_wh=20.0)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({}, "needs the board it is like"),
        ({"base": 5}, "needs the board it is like"),
        ({"base": PI, "ram_mb": -1}, "above 0"),
        ({"base": PI, "ram_mb": math.nan}, "above 0"),
        ({"base": PI, "cpu_mips": 0}, "above 0"),
        ({"base": PI, "brown_out": 1.5}, "from 0 to 1"),
        ({"base": PI, "busy_w": math.inf}, "finite"),
        ({"base": PI, "cores": True}, "must be a number"),
        ({"base": PI, "cores": "4"}, "must be a number"),
        ({"base": PI, "storage": 4}, "must be a word"),
    ],
)
def test_values_from_a_scenario_are_not_trusted(table, why):
    with pytest.raises(ConfigError, match=why):
        profile_from("mine", table)


def test_training_through_the_network_does_not_fit_into_a_gigabyte():
    coral = Board(profile("coral"), 0)
    coral.require_ram("linear", 400, 10)
    with pytest.raises(OutOfMemory, match="needs 1431 MB, coral has 774 MB free"):
        coral.require_ram("clr", 400, 10)
    Board(profile("host"), 0).require_ram("clr", 10**9, 10)


def test_flash_wears_by_what_the_cells_take_and_slows_as_it_does():
    board = of(write_mb_s=10.0, worn_speed=0.5, sync_ms=0.0, endurance_tb=1e-3, write_amplification=4.0)
    assert board.write(10_000_000) == pytest.approx(1.0)
    assert board.life_used == pytest.approx(0.04)
    board.write(230_000_000)
    assert board.write(1_000_000) == pytest.approx(0.1 / 0.52)  # 96 % of its life is gone
    with pytest.raises(FlashWornOut):
        board.write(100_000_000)
    assert board.written == 241_000_000, "what was refused is not written"


def test_the_bank_has_a_budget_and_what_is_removed_is_free_again():
    board = of(bank_mb=1.0)
    board.write(900_000, kept=900_000)
    with pytest.raises(BankFull):
        board.write(200_000, kept=200_000)
    assert board.written == 900_000
    board.write(1000, kept=-500_000)
    board.write(200_000, kept=200_000)
    assert board.used == 600_000


def test_energy_is_watts_times_seconds():
    board = of(idle_w=2.0, busy_w=5.0, radio_w=1.0)
    assert [board.spend(10, "idle"), board.spend(2, "busy"), board.spend(1, "radio")] == [20, 10, 3]
    assert board.to_dict()["energy_j"] == 33 and board.to_dict()["busy_s"] == 2


def test_an_empty_battery_ends_what_is_being_done_until_it_is_charged():
    board = of(busy_w=10.0, battery_wh=1.0, charge_w=4.0, restart_s=5.0)  # 3,600 J, of which 6 W more go than come
    with pytest.raises(BrownOut) as empty:
        board.spend(1000, "busy")
    assert empty.value.after == pytest.approx(600) and empty.value.off == pytest.approx(5 + 360 / 4)
    with pytest.raises(BrownOut, match="is off"):
        board.spend(1, "idle")
    board.restart()
    assert board.charge == pytest.approx(380) and board.to_dict()["battery_left"] == pytest.approx(380 / 3600)
    board.spend(1, "busy")


def test_a_battery_that_nothing_charges_is_empty_for_ever():
    board = of(busy_w=10.0, battery_wh=1.0)
    with pytest.raises(BrownOut) as empty:
        board.spend(1000, "busy")
    assert math.isinf(empty.value.off)
    board.restart()
    assert board.charge == 3600


def test_a_weak_supply_gives_in_under_load_alike_for_the_same_seed():
    def story(seed):
        board, told = Board(replace(profile(PI), brown_out=0.3), seed), []
        for _ in range(50):
            try:
                board.spend(10, "idle")
                told.append(board.spend(10, "busy"))
            except BrownOut as gone:
                told.append(gone.after)
                board.restart()
        return told, board.to_dict()

    assert story(1) == story(1) != story(2)
    assert 5 < story(1)[1]["brown_outs"] < 30

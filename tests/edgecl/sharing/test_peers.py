"""peers.toml: what a hand may write, what it may not, and that the program leaves the rest of it alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecl.errors import ConfigError
from edgecl.sharing.peers import PEERS_FILE, load, revoked, store
from edgecl.sharing.trust import Peer

KEY, OTHER = "a1" * 32, "b2" * 32


def write(home: Path, text: str) -> Path:
    (home / PEERS_FILE).write_text(text, encoding="utf-8")
    return home


def test_no_file_trusts_nobody(tmp_path: Path) -> None:
    assert load(tmp_path) == {}


@pytest.mark.parametrize(
    "peer",
    [
        Peer("hall-2", KEY),
        Peer("hall 2.b", KEY, False),
        Peer("hall-2", KEY, former=(OTHER, "c3" * 32)),
        Peer("\u5de5\u5834", KEY, True, ("birds", "line-*"), 2_000_000, "10.0.0.7:7433"),
    ],
)
def test_what_is_stored_is_loaded(peer: Peer, tmp_path: Path) -> None:
    store(tmp_path, peer)
    assert load(tmp_path) == {peer.name: peer}
    store(tmp_path, peer)
    assert load(tmp_path) == {peer.name: peer}


def test_what_a_hand_has_written_stays(tmp_path: Path) -> None:
    text = f'# our halls\n[hall-2]  # by the door\nkey = "{KEY}"\ntasks = ["birds"] # no more\n\n# next\n[x]\nkey = "{OTHER}"\n'
    write(tmp_path, text)
    store(tmp_path, Peer("hall-2", KEY, False, ("birds",)))
    after = (tmp_path / PEERS_FILE).read_text(encoding="utf-8")
    assert all(line in after for line in ("# our halls", "# by the door", '["birds"] # no more', "# next"))
    assert load(tmp_path) == {"hall-2": Peer("hall-2", KEY, False, ("birds",)), "x": Peer("x", OTHER)}
    store(tmp_path, Peer("hall-2", KEY))
    assert load(tmp_path)["hall-2"] == Peer("hall-2", KEY), "limits that are lifted are gone"


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "x = 1",
        "[x]",
        '[x]\nkey = "abc"',
        f'[x]\nkey = "{KEY.upper()}"',
        f'[x]\nkey = "{KEY}"\ntrust = true',
        f'[x]\nkey = "{KEY}"\nname = "y"',
        f'[x]\nkey = "{KEY}"\ntrusted = "yes"',
        f'[x]\nkey = "{KEY}"\ntasks = "birds"',
        f'[x]\nkey = "{KEY}"\ntasks = []',
        f'[x]\nkey = "{KEY}"\ntasks = [1]',
        f'[x]\nkey = "{KEY}"\nmax_bytes = 0',
        f'[x]\nkey = "{KEY}"\nmax_bytes = true',
        f'[x]\nkey = "{KEY}"\naddress = 7',
        f'[x]\nkey = "{KEY}"\nformer = "{OTHER}"',
        f'[x]\nkey = "{KEY}"\nformer = [7]',
        f'[x]\nkey = "{KEY}"\nformer = ["abc"]',
        f'[x]\nkey = "{KEY}"\nformer = ["{OTHER}", "{OTHER}"]',
        f'[x]\nkey = "{KEY}"\nformer = ["{KEY}"]',
        f'[x]\nkey = "{KEY}"\n[y]\nkey = "{OTHER}"\nformer = ["{KEY}"]',
        f'[x]\nkey = "{KEY}"\nformer = ["{"c3" * 32}"]\n[y]\nkey = "{OTHER}"\nformer = ["{"c3" * 32}"]',
        f'["../x"]\nkey = "{KEY}"',
        f'["\\u001b[2J"]\nkey = "{KEY}"',
        f'[x]\nkey = "{KEY}"\n[y]\nkey = "{KEY}"',
    ],
)
def test_what_cannot_be_meant_is_refused_and_not_written_over(text: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    for action in (lambda: load(tmp_path), lambda: store(tmp_path, Peer("z", OTHER))):
        with pytest.raises(ConfigError, match=r"peers\.toml"):
            action()
    assert (tmp_path / PEERS_FILE).read_text(encoding="utf-8") == text


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / PEERS_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("former", [f'["{OTHER}"]', "7", '[["x"], 7]'])
def test_who_is_revoked_is_so_by_all_keys_whatever_stands_there(former: str, tmp_path: Path) -> None:
    write(tmp_path, f'[x]\nkey = "{KEY}"\ntrusted = false\nformer = {former}\n')
    assert revoked(tmp_path)[KEY] == "x" and (OTHER in revoked(tmp_path)) == (OTHER in former)

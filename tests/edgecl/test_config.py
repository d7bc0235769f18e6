"""config.toml becomes settings, or a sentence about what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecl.config import DeviceConfig, home, load
from edgecl.errors import ConfigError


def write(folder: Path, text: str | bytes) -> Path:
    (folder / "config.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def test_no_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path) == load(tmp_path / "missing") == DeviceConfig()


def test_file_goes_before_defaults_and_flags_before_the_file(tmp_path: Path) -> None:
    write(tmp_path, 'mapper = "gmmc"\nthreads = 3\nfalse_reject = 0.1\n')
    config = load(tmp_path, {"threads": 1, "mapper": None})
    assert (config.mapper, config.threads, config.false_reject) == ("gmmc", 1, 0.1)
    assert config.runtime == DeviceConfig().runtime


def test_unknown_key_names_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.toml: unknown key 'maper'; did you mean 'mapper'\?"):
        load(write(tmp_path, 'maper = "gmmc"'))
    with pytest.raises(ConfigError, match="Known: data_root, "):
        load(write(tmp_path, "zzzz = 1"))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("threads = 1.5", "threads"),
        ("threads = true", "threads"),
        ('threads = "2"', "threads"),
        ("mapper = 3", "mapper"),
        ("false_reject = true", "false_reject"),
        ('false_reject = "5 %"', "false_reject"),
        ("[mapper]\nname = 1", "mapper"),
        ("data_root = []", "data_root"),
    ],
)
def test_wrong_type_is_named(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} must be"):
        load(write(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "false_reject = 0",
        "false_reject = 0.0",
        "false_reject = 0.5",
        "false_reject = -0.1",
        "false_reject = nan",
        "false_reject = inf",
        "threads = -1",
        "threads = 100000",
        "feature_cache_mb = -1",
        'device = "tpu"',
        'device = ""',
    ],
)
def test_value_out_of_range_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=text.split()[0]):
        load(write(tmp_path, text))


@pytest.mark.parametrize("text", ["threads = ", "= 1", "threads = 1\nthreads = 2", b"\xff\xfe", b"a = '\xe9'"])
def test_file_that_is_no_toml_is_named(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ConfigError, match=r"config\.toml cannot be read"):
        load(write(tmp_path, text))


def test_home_is_the_argument_then_the_variable_then_the_platforms_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECL_HOME", str(tmp_path / "from-environment"))
    assert home(tmp_path / "given") == tmp_path / "given"
    assert home() == tmp_path / "from-environment"
    monkeypatch.setenv("EDGECL_HOME", "")
    assert home().name == "edgecl"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home("~/mine") == tmp_path / "mine"

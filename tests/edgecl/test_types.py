"""A task's name is a key on other people's devices: one form, one line, no path."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecl.errors import ConfigError
from edgecl.types import Task, task_name


@pytest.mark.parametrize(
    "name", ["birds", "a", "7", "_", "leaf rust", "v1.2-b_c", "Bäume", "鳥", "птицы", "x" * 64, "a..b", "東京 タワー"]
)
def test_ordinary_name_is_kept(name: str) -> None:
    assert task_name(name) == unicodedata.normalize("NFC", name)


def test_two_spellings_of_one_name_become_one() -> None:
    assert task_name("cafe\u0301") == task_name("caf\u00e9") == "caf\u00e9"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc",
        "a\\b",
        "C:\\x",
        "~",
        "-rf",
        "a-",
        ".hidden",
        "a.",
        " a",
        "a ",
        "a\n",
        "a\nb",
        "a\tb",
        "a\0b",
        "a\x1b[2Jb",
        "a\x7fb",
        "a\x85b",
        "a\u2028b",
        "a\u202eb",
        "a\u200bb",
        "a\ufeffb",
        "a\u00a0b",
        "x" * 65,
        "*",
        "a|b",
        "a;b",
        "$(x)",
        "\U0001f426",
        "a\ud800b",
        "a'b",
        "%s%n",
    ],
    ids=ascii,
)
def test_name_that_is_a_path_acts_on_a_terminal_or_is_invisible_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        task_name(name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_endless_name_is_refused_with_a_short_sentence() -> None:
    with pytest.raises(ConfigError) as caught:
        task_name("x" * 1_000_000)
    assert len(str(caught.value)) < 400


@given(st.text(max_size=80))
def test_accepted_name_is_its_own_form_and_safe(name: str) -> None:
    try:
        accepted = task_name(name)
    except ConfigError as error:
        assert str(error).isprintable()
        return
    assert task_name(accepted) == accepted and 0 < len(accepted) <= 64 and accepted.isprintable()
    assert not set(accepted) & set('/\\:*?"<>|\0') and accepted not in (".", "..")


def test_task_has_the_length_of_its_pictures() -> None:
    import numpy as np

    assert len(Task("t", ("a", "b"), np.zeros((3, 2), np.float32), np.array([0, 1, 1]))) == 3


@pytest.mark.parametrize("name", ["पक्षी", "птицы", "鳥", "vögel 2", "a"])
def test_names_in_any_script_are_task_names(name: str) -> None:
    assert task_name(name) == name


@pytest.mark.parametrize("name", ["\u3164", "bir\u115fds", "\ufb01sh", "\uff42irds", "\u0301birds", "birds\u0301\u200b"])
def test_names_that_look_like_others_or_like_nothing_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a task name"):
        task_name(name)

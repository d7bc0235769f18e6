"""A bundle's bytes come from strangers: what is sound is read back bit for bit, everything else is refused with a sentence."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from edgecl import registry
from edgecl.checks import synthetic
from edgecl.errors import BundleError
from edgecl.heads.base import Head
from edgecl.sharing import bundle as format_
from edgecl.sharing.bundle import Bundle, digest, from_bytes
from edgecl.text import printable

WIDTH = 8
CLASSES = ("ash", "bay \u00e9", "\u4e2d")


def make(**changes: Any) -> Bundle:
    rng = np.random.default_rng(0)
    head = Head(
        "linear",
        CLASSES,
        "ab" * 32,
        {"w": rng.normal(size=(3, WIDTH)).astype(np.float16), "b": rng.normal(size=3).astype(np.float32)},
        {"phi": "unit_sqrt", "unknown_below": 0.25},
    )
    x, y = synthetic.features(0, 3, 4, WIDTH)
    anchors = {name: registry.load("mapper", registry.MAPPERS, name).anchor(x, y) for name in registry.DEFAULT_MAPPERS}
    return dataclasses.replace(Bundle("leaf rust", head, anchors, {"validation_accuracy": 0.5}, {"seed": 1}), **changes)


GOOD = make().to_bytes()
SMALL = make(anchors={}).to_bytes()  # for what is tried at every byte


def altered(
    card: Mapping[str, Any] | None = None, tensors: Mapping[str, Any] | None = None, drop: tuple[str, ...] = ()
) -> bytes:
    """GOOD with other fields of the card and other tensors, in canonical form."""
    values = {k: v for k, v in (load(GOOD) | dict(tensors or {})).items() if k not in drop}
    fields = {k: v for k, v in (json.loads(metadata(GOOD)["edgecl"]) | dict(card or {})).items() if k not in drop}
    return save(values, metadata={"edgecl": json.dumps(fields, sort_keys=True, separators=(",", ":"))})


def metadata(data: bytes) -> dict[str, str]:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


def with_header(header: str | bytes, body: bytes = b"") -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw + body


def with_card(card: str) -> bytes:
    """GOOD's tensors beside a card of our own writing."""
    return save(load(GOOD), metadata={"edgecl": card})


def refused(data: bytes, words: str | None = None) -> None:
    with pytest.raises(BundleError, match=words) as caught:
        from_bytes(data)
    sentence = str(caught.value)
    assert 10 < len(sentence) < 1000 and sentence.isprintable(), repr(sentence)


# -- what is sound


def test_round_trip_keeps_every_bit_and_every_field() -> None:
    original, back = make(), from_bytes(GOOD)
    assert back.card() == original.card() and back.task == "leaf rust" and back.head.classes == CLASSES
    for mine, theirs in (
        (original.head.arrays, back.head.arrays),
        *((original.anchors[m], back.anchors[m]) for m in original.anchors),
    ):
        assert set(mine) == set(theirs)
        for name, value in mine.items():
            assert value.dtype == theirs[name].dtype and np.array_equal(value, theirs[name])
    assert back.to_bytes() == GOOD


def test_equal_contents_give_equal_bytes_whatever_their_order_in_memory() -> None:
    original = make()
    turned = make(
        head=dataclasses.replace(
            original.head,
            arrays={name: np.asfortranarray(value) for name, value in reversed(original.head.arrays.items())},
            settings=dict(reversed(original.head.settings.items())),
        ),
        anchors={name: dict(reversed(arrays.items())) for name, arrays in reversed(original.anchors.items())},
    )
    assert turned.to_bytes() == GOOD and digest(turned.to_bytes()) == digest(GOOD)


def test_parts_say_where_the_bytes_go() -> None:
    parts = make().parts()
    assert parts["head/w"] == 3 * WIDTH * 2 and parts["head/b"] == 12
    assert sum(parts.values()) == len(GOOD) - 8 - int.from_bytes(GOOD[:8], "little")


def test_fields_of_a_later_card_survive() -> None:
    data = altered({"licence": "CC0", "nested": {"a": [1, None, 2.5]}})
    back = from_bytes(data)
    assert back.extra == {"licence": "CC0", "nested": {"a": [1, None, 2.5]}} and back.to_bytes() == data


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32(1.5), {1, 2}, b"x"])
def test_card_that_json_cannot_carry_is_not_written(value: object) -> None:
    with pytest.raises(BundleError):
        make(report={"x": value}).to_bytes()


# -- what is damaged


def test_any_altered_byte_is_refused_or_means_something_else() -> None:
    """What is accepted after a change is a canonical bundle of its own: no two byte strings mean the same bundle."""
    refusals = 0
    for at in range(len(SMALL)):
        for flip in (0x01, 0x80):
            data = SMALL[:at] + bytes([SMALL[at] ^ flip]) + SMALL[at + 1 :]
            try:
                assert from_bytes(data).to_bytes() == data
            except BundleError:
                refusals += 1
    assert refusals > len(SMALL) / 2


def test_truncation_at_every_length_is_refused() -> None:
    for length in range(len(SMALL)):
        refused(SMALL[:length])


@pytest.mark.parametrize("more", [b"\0", b" ", GOOD, bytes(4096)])
def test_bytes_behind_the_end_are_refused(more: bytes) -> None:
    refused(GOOD + more)


def test_padded_header_is_refused() -> None:
    length = int.from_bytes(GOOD[:8], "little")
    refused((length + 8).to_bytes(8, "little") + GOOD[8 : 8 + length] + b" " * 8 + GOOD[8 + length :], "canonical")


def test_other_spelling_of_the_same_card_is_refused() -> None:
    card = metadata(GOOD)["edgecl"]
    assert from_bytes(with_card(card))
    refused(with_card(card.replace(",", ", ", 1)), "canonical")
    refused(with_card(json.dumps(json.loads(card), sort_keys=True, separators=(",", ":"), ensure_ascii=False)), "canonical")
    refused(with_card(json.dumps(dict(reversed(json.loads(card).items())), separators=(",", ":"))), "canonical")
    refused(save(load(GOOD), metadata={"edgecl": card, "more": "x"}), "canonical")


# -- what is hostile


@pytest.mark.parametrize("word", ["\u202egpj", "\x7f", "\x1b[2J"])
def test_a_refusal_does_not_act_on_the_terminal_whatever_it_quotes(word: str) -> None:
    header = json.loads(GOOD[8 : 8 + int.from_bytes(GOOD[:8], "little")])
    header["head/w"]["dtype"] = word
    renamed = altered({}, {f"anchor/gmmc/{word}": np.zeros(1, np.float32)})
    for data in (with_header(json.dumps(header, ensure_ascii=False), GOOD[8 + len(json.dumps(header)) :]), renamed):
        with pytest.raises(BundleError) as raised:
            from_bytes(data)
        assert str(raised.value).isprintable()


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**32, len(GOOD), len(GOOD) - 7])
def test_header_larger_than_the_file_is_refused_unread(length: int) -> None:
    refused(length.to_bytes(8, "little") + GOOD[8:], "header")


def test_oversized_bundle_and_oversized_header_are_refused_unread() -> None:
    refused(bytes(format_.MAX_BYTES + 1), "accepted are up to")
    refused(with_header(b" " * (5 << 20)), "header")


@pytest.mark.parametrize("depth", [*range(900, 1000, 3), 100_000])
def test_deeply_nested_card_is_refused_whole(depth: int) -> None:
    """Also at the depths where reading just succeeds and writing just does not."""
    card = metadata(GOOD)["edgecl"]
    nested = card[:-1] + ',"zz":' + "[" * depth + "]" * depth + "}"
    refused(with_card(nested))


def test_nesting_that_passes_can_be_shown_and_written_by_everyone() -> None:
    deepest = 0
    for depth in range(1, 120):
        try:
            back = from_bytes(altered({"zz": json.loads("[" * depth + "]" * depth)}))
        except BundleError:
            break
        deepest = depth
        json.dumps([[[back.card()]]])
    assert 4 <= deepest < 100


@pytest.mark.parametrize(
    "header",
    [
        "[" * 100_000,
        '{"__metadata__":' + '{"a":' * 50_000,
        "[]",
        "null",
        "",
        "{}",
        '{"__metadata__":{}}',
        '{"__metadata__":{"edgecl":1}}',
        '{"__metadata__":{"edgecl":"{}"}}',
        b"\xff\xfe\x00",
        '{"__metadata__":[]}',
        '{"__metadata__":{"edgecl":"null"}}',
        '{"__metadata__":{"edgecl":"[]"}}',
        '{"__metadata__":{"edgecl":""}}',
    ],
)
def test_header_of_another_kind_is_refused(header: str | bytes) -> None:
    refused(with_header(header))


def test_duplicate_keys_are_refused_in_header_and_card() -> None:
    card = metadata(GOOD)["edgecl"]
    refused(with_card(card[:-1] + ',"task":"leaf rust"}'), "twice")
    refused(with_card(card.replace('"settings":{', '"settings":{"phi":"identity",', 1)), "twice")
    length = int.from_bytes(GOOD[:8], "little")
    header = GOOD[8 : 8 + length].decode().rstrip()
    entry = json.dumps({"head/b": json.loads(header)["head/b"]})[1:-1]
    refused(with_header(header[:-1] + "," + entry + "}", GOOD[8 + length :]), "twice")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5000], ids=lambda n: n[:9])
def test_number_that_is_none_is_refused_in_the_card(number: str) -> None:
    card = metadata(GOOD)["edgecl"]
    refused(with_card(card.replace("0.25", number)))
    refused(with_card(card.replace('"validation_accuracy":0.5', f'"validation_accuracy":{number}')))


@pytest.mark.parametrize("value", [10**400, -(10**400), True, None, "0.1", [], {}], ids=lambda value: repr(value)[:9])
def test_threshold_that_is_no_number_is_refused(value: object) -> None:
    refused(altered({"settings": {"phi": "unit_sqrt", "unknown_below": value}}))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["head/w", "head/b", "anchor/mahalanobis/variances", "anchor/gmmc/limit"])
def test_number_that_is_none_is_refused_in_an_array(name: str, bad: float) -> None:
    value = load(GOOD)[name].copy()
    value.flat[-1] = bad
    refused(altered(tensors={name: value}), "non-finite")


@pytest.mark.parametrize("dtype", ["float64", "bool", "uint16", "uint64", "int16"])
def test_foreign_dtype_is_refused(dtype: str) -> None:
    refused(altered(tensors={"head/w": np.zeros((3, WIDTH), dtype)}))


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "C64", "F4", "I4", "X", "", None, 3])
def test_dtype_that_numpy_does_not_have_is_refused(dtype: object) -> None:
    length = int.from_bytes(GOOD[:8], "little")
    header = json.loads(GOOD[8 : 8 + length])
    header["head/w"]["dtype"] = dtype
    refused(with_header(json.dumps(header), GOOD[8 + length :]))


@pytest.mark.parametrize(
    "shape", [[3], [3, WIDTH + 1], [WIDTH, 3], [1, 3, WIDTH], [2**62, 4], [-3, -WIDTH], [], [0, 3], "x", [2**70]]
)
def test_shape_that_does_not_fit_is_refused(shape: object) -> None:
    length = int.from_bytes(GOOD[:8], "little")
    header = json.loads(GOOD[8 : 8 + length])
    header["head/w"]["shape"] = shape
    refused(with_header(json.dumps(header), GOOD[8 + length :]))


@pytest.mark.parametrize(
    "tensors",
    [
        {"head/w": np.zeros((4, WIDTH), np.float32)},
        {"head/w": np.zeros((3, 0), np.float32)},
        {"head/b": np.zeros(4, np.float32)},
        {"head/b": np.zeros((), np.float32)},
        {"head/w": np.zeros((3, WIDTH), np.int8)},
        {"anchor/gmmc/means": np.zeros((8, WIDTH), np.float32)},
        {"anchor/gmmc/limit": np.zeros(2, np.float32)},
        {"anchor/mahalanobis/directions": np.zeros((5, WIDTH + 1), np.int8)},
    ],
    ids=lambda tensors: f"{next(iter(tensors))}-{next(iter(tensors.values())).shape}-{next(iter(tensors.values())).dtype}",
)
def test_array_that_the_method_cannot_use_is_refused(tensors: Mapping[str, Any]) -> None:
    refused(altered(tensors=tensors))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("anchor/gmmc/limit", 0),
        ("anchor/gmmc/limit", -1),
        ("anchor/mahalanobis/limit", 0),
        ("anchor/gmmc/counts", 0),
        ("anchor/gmmc/counts", -3),
        ("anchor/mahalanobis/rest", -1),
        ("anchor/mahalanobis/rest", 1e38),
        ("anchor/mahalanobis/variances", -1),
        ("anchor/mahalanobis/variances", 1e38),
        ("anchor/gmmc/means_step", 1e38),
        ("anchor/mahalanobis/means_step", 1e30),
        ("anchor/gmmc/log_variances_step", 1e30),
        ("anchor/gmmc/log_variances_step", 100),
        ("anchor/mahalanobis/directions_step", 1e30),
    ],
)
def test_number_that_no_picture_can_give_is_refused(name: str, value: float) -> None:
    """Finite as it stands, it would make the mapper divide by zero or overflow, for every task of the device."""
    refused(altered(tensors={name: np.full_like(load(GOOD)[name], value)}))


@pytest.mark.parametrize(
    "drop",
    [
        "head/w",
        "head/b",
        "anchor/gmmc/means",
        "anchor/mahalanobis/rest",
        "task",
        "classes",
        "method",
        "rom_id",
        "settings",
        "report",
        "provenance",
        "format",
    ],
)
def test_missing_part_is_refused(drop: str) -> None:
    refused(altered(drop=(drop,)))


@pytest.mark.parametrize(
    "name",
    [
        "tail/x",
        "head/more/x",
        "anchor/x",
        "anchor/neither/x",
        "anchor/anchor/gmmc/x",
        "gmmc/limit",
        "x",
        "",
        "/",
        "head",
        "headless/w",
        "anchor//x",
        "__proto__/x",
        "head/../w",
        "head/\x1b[2J",
    ],
)
def test_unknown_part_is_refused(name: str) -> None:
    refused(altered(tensors={name: np.zeros(1, np.float32)}))


@pytest.mark.parametrize(
    "task",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        "C:x",
        "a\nb",
        "\x1b[2J",
        "a\0b",
        "x" * 65,
        " a",
        "a ",
        "cafe\u0301",
        "a\u202eb",
        "a\u200bb",
        3,
        None,
        ["a"],
        True,
    ],
)
def test_task_name_that_is_none_is_refused(task: object) -> None:
    refused(altered({"task": task}))


@pytest.mark.parametrize(
    "classes",
    [
        ["a", "b\n"],
        ["a", "\x1b[31m"],
        ["a", "a\u202e"],
        ["a", ""],
        ["a", "x" * 201],
        ["a", "a", "b"],
        ["a", "b", 3],
        ["a", "b", None],
        ["a"],
        [],
        "abc",
        3,
        {"a": 1, "b": 2, "c": 3},
        ["a", "b", "\ud800"],
        ["a", "b", "c", "d"],
        [str(i) for i in range(10_001)],
    ],
    ids=lambda classes: repr(classes)[:20].encode("unicode_escape").decode(),
)
def test_class_names_that_are_none_are_refused(classes: object) -> None:
    refused(altered({"classes": classes}))


@pytest.mark.parametrize("field", ["method", "rom_id"])
@pytest.mark.parametrize(
    "value", ["", "os:system", "../linear", "\x1b[2J", "x" * 100_000, 3, None, ["linear"], "\ud800"], ids=ascii
)
def test_name_in_the_card_that_is_none_is_refused(field: str, value: object) -> None:
    refused(altered({field: value}))


@pytest.mark.parametrize("field", ["settings", "report", "provenance"])
@pytest.mark.parametrize("value", [3, [], "x", None])
def test_field_of_another_kind_is_refused(field: str, value: object) -> None:
    refused(altered({field: value}))


@pytest.mark.parametrize("phi", ["os.system", "", None, 3, ["unit_sqrt"], {"a": 1}])
def test_unknown_setting_of_a_method_is_refused(phi: object) -> None:
    refused(altered({"settings": {"phi": phi, "unknown_below": 0.1}}))


@pytest.mark.parametrize("value", [0, 2, "1", None, [1], 10**30, 1.5])
def test_other_format_is_refused(value: object) -> None:
    refused(altered({"format": value}), "format|malformed")


def test_bundle_for_another_width_is_refused_before_it_reaches_a_mapper() -> None:
    sound = from_bytes(GOOD)
    sound.require_width(WIDTH)
    for wrong in (WIDTH - 1, 2 * WIDTH):
        with pytest.raises(BundleError, match="width"):
            sound.require_width(wrong)
    narrow = from_bytes(altered(tensors={"head/w": np.zeros((3, WIDTH - 1), np.float32)}))
    with pytest.raises(BundleError, match="head"):
        narrow.require_width(WIDTH)


def test_device_refuses_a_bundle_for_another_width_and_answers_on(device, pictures_task) -> None:
    """One that names the right ROM: taken up, it would have failed the mapper for every task."""
    edge = device(threads=1)
    edge.learn("colours", pictures_task["colours"])
    foreign = make(head=dataclasses.replace(make(anchors={}).head, rom_id=edge.rom.rom_id)).to_bytes()
    before = edge.bank.current()
    with pytest.raises(BundleError, match="width"):
        edge.import_bundle(foreign, unsigned=True)
    assert edge.bank.current() == before
    assert edge.infer(sorted(pictures_task["colours"].glob("test/red/*"))[:1])[0].nearest_task == "colours"


# -- everything else


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    refused(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_spliced_bundle_raises_nothing_but_bundle_error(data: st.DataObject) -> None:
    """Pieces cut out, doubled, replaced: refused, or a bundle of its own."""
    at, end = sorted(data.draw(st.tuples(st.integers(0, len(SMALL)), st.integers(0, len(SMALL)))))
    piece = data.draw(
        st.one_of(st.binary(max_size=20), st.just(SMALL[at:end] * 2), st.sampled_from([b'"', b"{}", b"[[", b"1e999", b"null"]))
    )
    spliced = SMALL[:at] + piece + SMALL[end:]
    try:
        assert from_bytes(spliced).to_bytes() == spliced
    except BundleError as error:
        assert printable(str(error), len(str(error))) == str(error)  # nothing in it acts on a terminal


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("task", "classes", "method", "rom_id", "settings", "report", "provenance", "format", "other")


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=3))
@example({"classes": None, "method": "\xa0"})  # no control character, and no printable one to Python
def test_any_json_in_the_card_raises_nothing_but_bundle_error(fields: dict[str, Any]) -> None:
    try:
        data = altered(fields)
    except UnicodeEncodeError:  # lone surrogates cannot even be written
        return
    try:
        assert from_bytes(data).to_bytes() == data
    except BundleError as error:
        assert printable(str(error), len(str(error))) == str(error)  # nothing in it acts on a terminal


@settings(max_examples=100, deadline=None)
@given(
    st.text(max_size=20), st.lists(st.text(min_size=1, max_size=5).filter(str.isprintable), min_size=3, max_size=3, unique=True)
)
def test_whatever_is_written_is_read_back(report: str, classes: list[str]) -> None:
    bundle = make(head=dataclasses.replace(make(anchors={}).head, classes=tuple(classes)), anchors={}, report={"note": report})
    back = from_bytes(bundle.to_bytes())
    assert back.head.classes == tuple(classes) and back.report == {"note": report}

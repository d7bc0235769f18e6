"""Heads that pick from other heads' weights: what they compute, what is refused, and whose answers never change."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="picks learn in PyTorch; pip install 'edgecl[learn]'")

from edgecl import EdgeDevice
from edgecl.conversion import require_convertible
from edgecl.errors import BundleError, ConfigError, Reason, RomMismatch, UnknownTask
from edgecl.exchange import Outcome, pull, share
from edgecl.heads import cpg
from edgecl.heads.base import Base
from edgecl.peering import Station, fetch, give, inbox
from edgecl.pictures.decode import decode
from edgecl.rom.base import Rom
from edgecl.rom.opening import open_rom
from edgecl.rom.overlay import effective
from edgecl.sharing.bases import stand
from edgecl.sharing.bundle import Bundle, digest, from_bytes
from edgecl.sharing.peer import Responder
from edgecl.sharing.transport.folder import Folder
from edgecl.sharing.transport.wired import Wired
from edgecl.sharing.trust import Peer
from edgecl.types import Floats, Pixels

CHAIN = ("colours", "stripes", "shapes")  # each learned over the one before
Bits = Mapping[str, bytes]


@pytest.fixture(scope="module")
def compacted(tiny_freed: Path) -> Iterator[Rom]:
    with open_rom(tiny_freed, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def pixels(compacted: Rom, pictures_task: Mapping[str, Path]) -> list[Pixels]:
    files = sorted((pictures_task["shapes"] / "test").glob("*/0*"))[:2] + sorted(
        (pictures_task["colours"] / "test").glob("*/00*")
    )
    return [decode(path, compacted.preprocess) for path in files]


@pytest.fixture(scope="module")
def learned(
    compacted: Rom, tmp_path_factory: pytest.TempPathFactory, pictures_task: Mapping[str, Path], pixels: list[Pixels]
) -> tuple[Path, Bits]:
    """A device's home, to be copied, and how each of its heads answered when it had just been learned."""
    home = tmp_path_factory.mktemp("learned") / "home"
    said = {}
    with EdgeDevice(home, rom=compacted) as edge:
        for task, over in zip(CHAIN, (None, *CHAIN), strict=False):
            how = {} if task == CHAIN[-1] else {"goal": 0.3}  # easily met: the smallest head leaves places free
            edge.learn(task, pictures_task[task], method="cpg", sockets="last:5", over=over, **how)
            said[task] = scores(edge, task, pixels)
    return home, said


@pytest.fixture
def a(learned: tuple[Path, Bits], tmp_path: Path, compacted: Rom) -> Iterator[EdgeDevice]:
    """The device that has learned them."""
    with EdgeDevice(shutil.copytree(learned[0], tmp_path / "a"), rom=compacted) as edge:
        yield edge


@pytest.fixture
def b(a: EdgeDevice, tmp_path: Path, compacted: Rom) -> Iterator[EdgeDevice]:
    """One that knows nothing yet, and trusts the first."""
    with EdgeDevice(tmp_path / "b", rom=compacted) as edge:
        edge.trust.trust(Peer("a", a.trust.signer.key))
        a.trust.trust(Peer("b", edge.trust.signer.key))
        yield edge


def scores(edge: EdgeDevice, task: str, pixels: list[Pixels]) -> bytes:
    return edge.head(task).answer(edge.rom, pixels).tobytes()


def wire(far: EdgeDevice, near: EdgeDevice) -> Wired:
    return Wired(Responder(Station(far), inbox(far), near.trust.signer.key), far.trust.signer.key, lambda way, data: data)


def folder(tmp_path: Path) -> Folder:
    place = tmp_path / "stick"
    place.mkdir()
    return Folder(place)


def states(outcomes: Iterable[Outcome]) -> list[tuple[str, str, str]]:
    return [(o.task, o.state, o.reason) for o in outcomes]


def learn_again(edge: EdgeDevice, pictures_task: Mapping[str, Path]) -> None:
    edge.learn("colours", pictures_task["colours"])


def test_each_declares_all_below_it_and_fills_only_what_they_left(a: EdgeDevice) -> None:
    current = a.bank.current()
    assert a.head("shapes").over == tuple(Base(task, "cpg", current[task]) for task in CHAIN[:2])
    assert a.head("colours").over == ()
    free, filled = a.rom.image.free, {name: [] for name in a.rom.image.free}
    for task in CHAIN:
        plugs = cpg.plugs(a.head(task))
        for name, own in plugs.own.items():
            taken = np.logical_or.reduce(filled[name]) if filled[name] else np.zeros_like(free[name])
            places = free[name] & plugs.used[name] & ~taken
            assert own.size == places.sum() > 0
            filled[name].append(places)
    assert any(len(places) == len(CHAIN) for places in filled.values()), "all three have weights of their own somewhere"


def test_the_weights_place_by_place(a: EdgeDevice) -> None:
    """What the last head computes with, found by asking of each free place who filled it first."""
    free, top = a.rom.image.free, a.head("shapes")
    name = max(top.plugs.own, key=lambda name: top.plugs.own[name].size)
    used, gain = top.plugs.used[name], 1 + top.plugs.gain[name][:, None, None, None]
    mixed: Floats = np.where(free[name], 0, 2).astype(np.float32)  # a ROM whose kept weights are all 2
    whose = np.zeros(free[name].shape, np.int64)
    for number, task in enumerate(CHAIN, 1):
        plugs = cpg.plugs(a.head(task))
        places = free[name] & (whose == 0) & plugs.used[name]
        mixed[places], whose[places] = plugs.own[name], number
    plain: Floats = np.where(free[name], 0, 2).astype(np.float32)
    assert np.array_equal(effective(plain, free[name], top.plugs, name), np.where(used, mixed, 0) * gain)
    assert {1, 2, 3} <= set(whose[used].tolist()), "it reads the ROM's weights and those of all three"


def test_old_answers_are_the_same_to_the_last_bit(a: EdgeDevice, learned: tuple[Path, Bits], pixels: list[Pixels]) -> None:
    assert {task: scores(a, task, pixels) for task in CHAIN} == learned[1]


def test_the_same_base_seed_and_pictures_give_the_same_bits(a: EdgeDevice, pictures_task: Mapping[str, Path]) -> None:
    before = a.head("stripes")
    a.learn("stripes", pictures_task["stripes"], method="cpg", sockets="last:5", over="colours", goal=0.3)
    after = a.head("stripes")
    assert after.over == before.over and after.arrays.keys() == before.arrays.keys()
    assert all(np.array_equal(after.arrays[name], value) for name, value in before.arrays.items())


def test_every_runtime_and_the_baked_session_mean_the_same(a: EdgeDevice, pixels: list[Pixels], tiny_freed: Path) -> None:
    import onnxruntime as ort

    from edgecl.rom.baking import bake
    from edgecl.rom.preprocess import normalise

    plugs, batch = a.head("shapes").plugs, np.stack(pixels)
    found = a.rom.features(batch, plugs)
    with open_rom(tiny_freed, "pytorch", threads=1) as reference:
        assert np.abs(found - reference.features(batch, plugs)).max() < 1e-4 * np.abs(found).max()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(bake(a.rom.image, plugs), options, providers=["CPUExecutionProvider"])
    baked = session.run(None, {session.get_inputs()[0].name: normalise(batch, a.rom.preprocess)})[0]
    assert np.array_equal(found, baked)


def test_without_its_bases_a_head_says_so(a: EdgeDevice, b: EdgeDevice) -> None:
    alone = from_bytes(a.export("shapes"))
    with pytest.raises(BundleError, match="asked without it") as caught:
        _ = alone.head.plugs
    assert caught.value.reason is Reason.MISSING_BASE
    whole = stand(alone, a.rom, a.bank.get, a.trust.barred())
    assert whole.head.plugs.key == a.head("shapes").plugs.key and whole.to_bytes() == alone.to_bytes()
    with pytest.raises(BundleError, match=r"'colours' .* is not here\. Share, pull or import 'colours' first") as caught:
        b.import_bundle(a.export("stripes"))
    assert caught.value.reason is Reason.MISSING_BASE and b.tasks == ()
    with pytest.raises(RomMismatch, match="picks from the weights of 'stripes'"):
        require_convertible(alone, a.rom)


def test_with_its_bases_it_answers_alike_elsewhere_in_whatever_order_they_come(
    a: EdgeDevice, b: EdgeDevice, learned: tuple[Path, Bits], pixels: list[Pixels]
) -> None:
    found = b.import_bundles([a.export(task) for task in CHAIN[::-1]])
    assert [one.error for one in found] == [None] * 3
    assert {task: scores(b, task, pixels) for task in CHAIN} == learned[1]
    assert b.verify() == []


def test_whatever_becomes_of_a_base_its_dependents_answer_as_before(
    a: EdgeDevice, learned: tuple[Path, Bits], pixels: list[Pixels], pictures_task: Mapping[str, Path]
) -> None:
    def same() -> bool:
        return all(scores(a, task, pixels) == learned[1][task] for task in CHAIN[1:])

    learn_again(a, pictures_task)
    assert same() and a.bank.above("colours") == ["shapes", "stripes"]
    a.bank.rollback("colours")
    assert same() and scores(a, "colours", pixels) == learned[1]["colours"]
    a.bank.remove("colours")
    a.gc(keep=0)
    assert same() and a.tasks == ("shapes", "stripes") and a.verify() == []
    with pytest.raises(UnknownTask):
        a.bank.history("colours")
    a.bank.remove("stripes")
    a.gc(keep=0)
    assert scores(a, "shapes", pixels) == learned[1]["shapes"]
    a.bank.remove("shapes")
    a.gc(keep=0)
    assert a.bank.size() == 0, "what nothing stands on any more is forgotten with it"


def test_a_base_that_is_lost_silences_what_stands_on_it_and_nothing_else(a: EdgeDevice) -> None:
    a.bank._all("DELETE FROM stands_on")
    a.bank._all("UPDATE bundles SET data = x'00' WHERE digest = ?", a.bank.current()["stripes"])
    assert a.tasks == ("colours",)
    assert sum("'shapes'" in line or "'stripes'" in line for line in a.verify()) == 2


def test_through_a_folder_it_takes_along_what_it_stands_on_even_old_versions(
    a: EdgeDevice,
    b: EdgeDevice,
    tmp_path: Path,
    learned: tuple[Path, Bits],
    pixels: list[Pixels],
    pictures_task: Mapping[str, Path],
) -> None:
    base = a.bank.current()["colours"]
    learn_again(a, pictures_task)
    b.import_bundle(a.export("colours"))
    stick = folder(tmp_path)
    assert states(share(a, stick, ["shapes"])) == [("shapes", "shared", "")]
    assert states(pull(b, stick, ["shapes"])) == [("shapes", "taken", "")]
    assert scores(b, "shapes", pixels) == learned[1]["shapes"]
    assert b.tasks == ("colours", "shapes"), "what came along as a base serves as a base alone"
    assert b.bank.current()["colours"] == a.bank.current()["colours"]
    b.bank.remove("shapes")
    b.gc(keep=0)
    next((tmp_path / "stick").rglob(f"{base}*")).unlink()
    assert states(pull(b, stick, ["shapes"], replace=True)) == [("shapes", "refused", "missing-base")]


def test_between_peers_what_it_stands_on_goes_first(
    a: EdgeDevice, b: EdgeDevice, learned: tuple[Path, Bits], pixels: list[Pixels]
) -> None:
    assert states(fetch(b, wire(a, b), ["stripes"])) == [(task, "taken", "") for task in CHAIN[:2]]
    assert states(give(a, wire(b, a), ["shapes"])) == [*((task, "known", "") for task in CHAIN[:2]), ("shapes", "shared", "")]
    assert {task: scores(b, task, pixels) for task in CHAIN} == learned[1]


def test_between_peers_a_version_that_is_no_longer_in_force_is_missed_aloud(
    a: EdgeDevice, b: EdgeDevice, pictures_task: Mapping[str, Path]
) -> None:
    learn_again(a, pictures_task)
    for (found,) in (give(a, wire(b, a), ["stripes"]), fetch(b, wire(a, b), ["stripes"])):
        assert (found.state, found.reason) == ("refused", "missing-base") and "through a folder" in found.message


def test_a_new_key_changes_no_answer_and_its_heads_are_taken(
    a: EdgeDevice, b: EdgeDevice, tmp_path: Path, learned: tuple[Path, Bits], pixels: list[Pixels]
) -> None:
    a.trust.rotate()
    a.gc(keep=0)
    assert {task: scores(a, task, pixels) for task in CHAIN} == learned[1]
    stick = folder(tmp_path)
    share(a, stick)
    assert {o.task: o.state for o in pull(b, stick)} == dict.fromkeys(CHAIN, "taken")
    assert scores(b, "shapes", pixels) == learned[1]["shapes"]


def test_who_is_not_believed_any_more_carries_nothing(a: EdgeDevice, b: EdgeDevice, pictures_task: Mapping[str, Path]) -> None:
    b.import_bundle(a.export("colours"))
    b.learn("stripes", pictures_task["stripes"], method="cpg", sockets="last:5", over="colours")
    assert b.tasks == ("colours", "stripes")
    b.trust.revoke("a")
    assert b.tasks == () and any("stands on 'colours'" in line and "revoked" in line for line in b.verify())


def _named(which: int, **other: str) -> Callable[[list[list[str]]], object]:
    def lie(over: list[list[str]]) -> object:
        over[which] = list(dataclasses.asdict(dataclasses.replace(Base(*over[which]), **other)).values())
        return over

    return lie


LIES: Mapping[str, tuple[Callable[[list[list[str]]], object], str]] = {
    "no list": (lambda over: {"colours": over[0][2]}, "as a list"),
    "nothing": (lambda over: [], "once"),
    "too deep": (lambda over: [[f"t{i}", "cpg", over[0][2]] for i in range(33)], "at most 32"),
    "twice": (lambda over: [over[0], over[0]], "once"),
    "itself": (_named(0, task="shapes"), "on itself"),
    "another task": (_named(0, task="birds"), "that bundle is 'colours', a cpg head"),
    "another method": (_named(0, method="bb"), "a bb head .* that bundle is 'colours', a cpg head"),
    "no method": (_named(0, method="magic"), "as a list"),
    "no task name": (_named(0, task="../x"), "as a list"),
    "no digest": (_named(0, digest="z" * 64), "as a list"),
    "nobody's digest": (_named(1, digest="0" * 64), "is not here"),
    "one left out": (lambda over: over[1:], "stands on other heads than it does"),
    "turned round": (lambda over: over[::-1], "stands on other heads than it does"),
    "the upper one left out": (lambda over: over[:1], "it was made for other heads"),
    "not its own": (lambda over: None, "has .* weights for them; it was made for another"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_about_what_a_head_stands_on_are_refused(a: EdgeDevice, b: EdgeDevice, lie: str) -> None:
    """Signed by a device that is trusted, with the bases at hand."""
    tell, said = LIES[lie]
    b.import_bundles([a.export(task) for task in CHAIN[:2]])
    honest = from_bytes(a.export("shapes"))
    over = tell([list(one) for one in honest.head.settings["over"]])
    settings = {**honest.head.settings, "over": over} if over is not None else dict(honest.head.settings)
    if over is None:
        del settings["over"]
    head = dataclasses.replace(honest.head, settings=settings)
    forged: Bundle = a.trust.sign(dataclasses.replace(honest, head=head))
    with pytest.raises((BundleError, RomMismatch), match=said):
        b.import_bundle(forged.to_bytes())
    assert "shapes" not in b.tasks


def test_a_base_for_another_rom_is_refused(a: EdgeDevice, b: EdgeDevice) -> None:
    base = from_bytes(a.export("colours"))
    foreign = a.trust.sign(dataclasses.replace(base, head=dataclasses.replace(base.head, rom_id="0" * 64))).to_bytes()
    honest = from_bytes(a.export("stripes"))
    settings = {**honest.head.settings, "over": [["colours", "cpg", digest(foreign)]]}
    forged = a.trust.sign(dataclasses.replace(honest, head=dataclasses.replace(honest.head, settings=settings)))
    one, two = b.import_bundles([forged.to_bytes(), foreign])
    assert "for ROM 000000000000" in str(one.error) and isinstance(two.error, RomMismatch)


def test_what_cannot_be_stood_on_is_said_before_the_learning(a: EdgeDevice, pictures_task: Mapping[str, Path]) -> None:
    def learn(task: str, **how: str) -> None:
        a.learn(task, pictures_task["colours"], **{"method": "cpg", "sockets": "last:5", **how})

    with pytest.raises(ConfigError, match="would stand on itself"):
        learn("colours", over="shapes")
    with pytest.raises(UnknownTask, match="no task 'birds'"):
        learn("new", over="birds")
    for method in ("linear", "memory"):
        with pytest.raises(ConfigError, match="no setting 'over'"):
            learn("new", over="shapes", method=method, sockets=None)
    learn_again(a, pictures_task)
    with pytest.raises(ConfigError, match="a linear head without weights of its own"):
        learn("new", over="colours")
    assert a.tasks == tuple(sorted(CHAIN))


def test_the_command_line_says_what_stands_on_what(a: EdgeDevice, pictures_task: Mapping[str, Path]) -> None:
    (a.home / "config.toml").write_text(f'rom = "{a.rom.image.folder}"\n')

    def edgecl(*words: object) -> str:
        environment = {**os.environ, "EDGECL_HOME": str(a.home), "COLUMNS": "160"}
        command = [sys.executable, "-m", "edgecl.cli.main", *map(str, words)]
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout

    assert "cpg over colours, stripes" in edgecl("heads", "ls")
    shown = edgecl("heads", "show", "stripes")
    assert f"stands on: 'colours' ({a.bank.current()['colours'][:12]})" in shown and "carries: shapes" in shown
    assert "to be imported first" in edgecl("heads", "export", "stripes", "-o", a.home / "stripes.bundle")
    assert "shapes, stripes" in edgecl("heads", "rm", "colours")
    learn = ("learn", "--task", "stripes", "--data", pictures_task["stripes"], "--method", "cpg", "--over", "shapes")
    assert "would stand on itself" in edgecl(*learn)

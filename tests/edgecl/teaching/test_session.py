"""Teaching picture by picture on a real device with the tiny ROM: order, commits, going on, and what must be refused."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgecl.device import EdgeDevice
from edgecl.errors import BankBusy, BankError, BankFull, BankReadOnly, ConfigError, DataError, PictureError
from edgecl.sharing.trust import Peer
from firmware_sim.faults import read_only, small_disk

Make = Callable[..., EdgeDevice]
HUES = ("red", "green", "blue")
Lesson = tuple[NDArray[np.uint8], str]


def lessons(count: int, classes: tuple[str, ...] = HUES[:2], seed: int = 0) -> list[Lesson]:
    """Noisy pictures of one colour with their names, in turn."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        label = classes[i % len(classes)]
        picture = rng.integers(0, 60, (64, 64, 3), np.uint8)
        picture[..., HUES.index(label)] += 150
        found.append((picture, label))
    return found


def taught(device: EdgeDevice, given: list[Lesson], **how: object) -> None:
    with device.teach("hues", **how) as teaching:
        for picture, label in given:
            teaching.observe(picture, label)


def learned(device: EdgeDevice) -> dict[str, bytes]:
    """All that the head and the anchors in force are, to the bit."""
    bundle = device.bundle(device.bank.current()["hues"])
    arrays = {f"head/{name}": a for name, a in bundle.head.arrays.items()}
    arrays |= {f"{m}/{name}": a for m, anchor in bundle.anchors.items() for name, a in anchor.items()}
    words = {"classes": repr(bundle.head.classes).encode(), "settings": repr(dict(bundle.head.settings)).encode()}
    return words | {name: np.ascontiguousarray(a).tobytes() for name, a in arrays.items()}


def states(device: EdgeDevice) -> set[str]:
    return {path.name for path in (device.home / "teaching" / "hues").iterdir()} - {"lock"}


def test_a_commit_comes_after_so_many_pictures_and_at_the_end_and_infer_answers_by_it(device: Make) -> None:
    edge = device()
    with edge.teach("hues", every=6) as teaching:
        for at, (picture, label) in enumerate(lessons(9), 1):
            done = teaching.observe(picture, label)
            assert done.committed == (at == 6) and done.label == label
            assert (done.answer is None) == (at <= 6)  # nothing could be answered before the first head
        assert edge.infer([lessons(1)[0][0]])[0].label == "red"  # in the middle of the teaching
    assert edge.bundle(edge.bank.current()["hues"]).provenance["per_class"] == {"red": 5, "green": 4}
    assert edge.verify() == []


def test_a_commit_comes_after_so_many_seconds_by_the_devices_stopwatch(device: Make) -> None:
    now = [0.0]
    edge = device(stopwatch=lambda: now[0])
    with edge.teach("hues", every=None, seconds=30) as teaching:
        for picture, label in lessons(6):
            teaching.observe(picture, label)
        now[0] = 29.9
        assert teaching.commit_if_due() is None
        now[0] = 30.0
        report = teaching.commit_if_due()
        assert report is not None and report.generation == 1
        now[0] = 90.0
        assert teaching.commit_if_due() is None  # nothing new


def test_a_new_class_is_answered_right_after_the_commit_though_it_has_one_picture(device: Make) -> None:
    edge = device()
    taught(edge, lessons(12))
    blue = lessons(2, ("blue",))
    taught(edge, blue[:1])
    assert edge.head("hues").classes == ("red", "green", "blue")
    assert edge.infer([blue[1][0]], task="hues")[0].nearest_label == "blue"


def test_a_task_with_one_class_waits_on_the_disk_and_goes_on_from_there(device: Make, tmp_path: Path) -> None:
    said: list[str] = []
    edge, given = device(say=said.append), lessons(12)
    reds = [lesson for lesson in given if lesson[1] == "red"]
    taught(edge, reds)
    assert edge.tasks == () and edge.bank.current() == {}
    assert "'hues' waits for a second class" in said[0]
    assert states(edge) == {"waiting.safetensors"}
    greens = [lesson for lesson in given if lesson[1] == "green"]
    taught(edge, greens[:2])
    assert edge.tasks == () and "3 pictures in each of two classes" in said[1]
    taught(edge, greens[2:])
    assert edge.head("hues").classes == ("red", "green")
    other = EdgeDevice(tmp_path / "other", rom=edge.rom)
    taught(other, reds + greens)
    assert learned(edge) == learned(other)
    other.close()


def test_a_teaching_is_one_step_of_the_history_and_one_rollback_undoes_it_to_the_bit(device: Make) -> None:
    edge, given = device(), lessons(40)
    taught(edge, given[:10], every=2)
    first = learned(edge)
    assert len(edge.bank.history("hues")) == 1
    taught(edge, given[10:20], every=2)
    second = learned(edge)
    assert len(edge.bank.history("hues")) == 2 and len(states(edge)) == 2
    edge.bank.rollback("hues")
    assert learned(edge) == first
    taught(edge, given[10:20], every=3)  # known no more: what was rolled back was unlearned
    assert learned(edge) == second
    assert edge.verify() == []


def test_the_bank_does_not_grow_with_the_commits(device: Make) -> None:
    edge = device()
    taught(edge, lessons(8), every=8)
    taught(edge, lessons(32, seed=1), every=2)
    assert edge.bank.size() <= 3 * len(edge.export("hues"))  # before, now, and one that somebody may still be reading
    edge.bank.gc(keep=0)
    assert edge.bank.size() == len(edge.export("hues"))


def test_a_bundle_that_was_moved_on_can_be_read_until_the_next_commit(device: Make) -> None:
    edge = device()
    with edge.teach("hues", every=None) as teaching:
        before = None
        for picture, label in lessons(18):
            teaching.observe(picture, label)
            if len(teaching.classes) == 2 and (report := teaching.commit()) is not None:
                assert before is None or edge.bank.get(before)  # whoever looked it up just before this commit
                before = report.digest
    assert len(edge.bank.history("hues")) == 1


def test_gc_forgets_the_states_of_forgotten_heads_but_none_that_waits_or_is_being_taught(device: Make) -> None:
    edge = device()
    taught(edge, lessons(8))
    taught(edge, lessons(8, seed=1))
    with edge.teach("shades") as teaching:
        teaching.observe(*lessons(1)[0])
    with device().teach("hues"):
        edge.gc(keep=0)
        assert len(states(edge)) == 2
    edge.gc(keep=0)
    assert len(states(edge)) == 1
    edge.bank.remove("hues")
    assert edge.gc() > 100_000
    assert states(edge) == set()
    assert (edge.home / "teaching" / "shades" / "waiting.safetensors").exists()


def test_a_picture_that_is_known_is_not_learned_again_in_a_later_teaching_either(device: Make) -> None:
    edge, given = device(), lessons(8)
    taught(edge, given)
    with edge.teach("hues") as teaching:
        assert all(teaching.observe(*lesson).known for lesson in given)
        assert not teaching.observe(given[0][0], "green").known  # another label is another lesson
    assert edge.bundle(edge.bank.current()["hues"]).provenance["pictures"] == 9


def test_what_cannot_be_learned_is_named_and_changes_nothing(device: Make, tmp_path: Path) -> None:
    edge, given = device(), lessons(12)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff no picture")
    with edge.teach("hues") as teaching:
        for picture, label in given:
            for wrong in (broken, tmp_path / "none.jpg", b"", picture.astype(np.float32), "/dev/zero"):
                with pytest.raises(PictureError):
                    teaching.observe(wrong, label)
            for no_name in ("", "a\x07", "x" * 201):
                with pytest.raises(DataError):
                    teaching.observe(picture, no_name)
            teaching.observe(picture, label)
    other = EdgeDevice(tmp_path / "other", rom=edge.rom)
    taught(other, given)
    assert learned(edge) == learned(other)
    other.close()
    for how in ({"every": 0}, {"seconds": 0.0}, {"max_bytes": 0}, {"method": "linear"}):
        with pytest.raises(ConfigError):
            edge.teach("hues", **how)


def test_a_second_teaching_of_a_task_is_refused_and_one_of_another_is_not(device: Make) -> None:
    one, other = device(), device()
    with one.teach("hues"):
        with pytest.raises(BankBusy, match="being taught"), other.teach("hues"):
            pytest.fail("two at once")
        with other.teach("shades"):
            pass
    with other.teach("hues"):
        pass


def test_a_teaching_overtaken_by_another_learning_is_refused_and_says_what_is_lost(device: Make) -> None:
    edge, other = device(), device()
    taught(edge, lessons(8))
    with pytest.raises(BankError, match="the last 4 pictures are not kept"), edge.teach("hues", every=4) as teaching:
        pictures, labels = zip(*lessons(12, seed=3), strict=True)
        other.learn_pictures("hues", pictures, [HUES.index(name) for name in labels], HUES[:2])
        here = other.bank.current()["hues"]
        for picture, label in lessons(4, seed=4):
            teaching.observe(picture, label)
    assert edge.bank.current()["hues"] == here and edge.verify() == []
    assert here not in str(states(edge))  # and no state of what never came to be


@pytest.mark.parametrize("harm", ["gone", "flipped", "cut", "other format"])
def test_without_its_state_a_head_goes_on_from_its_bundle_and_says_so(device: Make, harm: str) -> None:
    said: list[str] = []
    edge = device(say=said.append)
    taught(edge, lessons(20))
    (state,) = (edge.home / "teaching" / "hues").glob("*.safetensors")
    data = bytearray(state.read_bytes())
    if harm == "gone":
        state.unlink()
    elif harm == "flipped":
        data[-100] ^= 1
        state.write_bytes(data)
    elif harm == "cut":
        state.write_bytes(data[: len(data) // 2])
    else:
        state.write_bytes(data.replace(b'\\"format\\": 1', b'\\"format\\": 9', 1))
    taught(edge, lessons(3, ("blue",)))
    assert "no teaching's state lies behind this head, learned by memory" in said[0]
    answers = edge.infer([picture for picture, _ in lessons(9, HUES, seed=5)])
    assert [a.nearest_label for a in answers] == [label for _, label in lessons(9, HUES, seed=5)]
    assert edge.bundle(edge.bank.current()["hues"]).provenance["per_class"] == {"red": 10, "green": 10, "blue": 3}


def test_while_pictures_are_made_up_the_limits_of_the_head_in_force_stay(device: Make) -> None:
    edge = device()
    pictures, labels = zip(*lessons(40), strict=True)
    edge.learn_pictures("hues", pictures, [HUES.index(name) for name in labels], HUES[:2])
    before = edge.bundle(edge.bank.current()["hues"]).anchors
    edge.config = dataclasses.replace(edge.config, false_reject=0.4)  # limits of its own would be tighter
    for more in (lessons(2, seed=1), lessons(2, seed=2)):  # the second goes on from a state
        taught(edge, more)
        after = edge.bundle(edge.bank.current()["hues"]).anchors
        assert all(after[name]["limit"] >= anchor["limit"] for name, anchor in before.items())


def test_a_head_learned_by_another_method_is_taught_on(device: Make) -> None:
    edge = device()
    pictures, labels = zip(*lessons(20), strict=True)
    edge.learn_pictures("hues", pictures, [HUES.index(name) for name in labels], HUES[:2])
    taught(edge, lessons(6, ("blue",)))
    head = edge.head("hues")
    assert (head.method, head.classes) == ("memory", HUES)
    answers = edge.infer([picture for picture, _ in lessons(9, HUES, seed=5)])
    assert [a.nearest_label for a in answers] == [label for _, label in lessons(9, HUES, seed=5)]


def test_a_peers_bundle_is_taught_on_and_the_peer_stays_answerable_for_it(device: Make, tmp_path: Path) -> None:
    edge = device()
    with EdgeDevice(tmp_path / "peer", rom=edge.rom) as peer:
        taught(peer, lessons(20))
        edge.trust.trust(Peer("peer", peer.trust.signer.key))
        edge.import_bundle(peer.export("hues"))
        key, theirs = peer.trust.own_key, peer.bank.current()["hues"]
    taught(edge, lessons(6, ("blue",)))
    taught(edge, lessons(6, ("green",), seed=2))
    bundle = edge.bundle(edge.bank.current()["hues"])
    assert bundle.provenance["continued"] == {"from_signers": [key], "from_digests": [theirs]}
    assert bundle.signer == edge.trust.own_key and bundle.makers == {key, edge.trust.own_key}
    answers = edge.infer([picture for picture, _ in lessons(9, HUES, seed=5)])
    assert [a.nearest_label for a in answers] == [label for _, label in lessons(9, HUES, seed=5)]
    assert edge.trust.revoke("peer") == ["hues"]
    assert edge.tasks == ()
    with edge.teach("hues") as teaching:  # and nothing of it comes back
        assert teaching.classes == ()


def test_a_new_key_of_the_device_costs_no_state(device: Make, tmp_path: Path) -> None:
    edge, given = device(), lessons(20)
    taught(edge, given[:12])
    edge.trust.rotate()
    taught(edge, given[12:])
    other = EdgeDevice(tmp_path / "other", rom=edge.rom)
    taught(other, given)
    assert learned(edge) == learned(other)
    other.close()


def test_a_bundle_is_kept_within_its_bytes_by_fewer_keys_or_refused_with_what_was_taught_on_the_disk(device: Make) -> None:
    edge = device()
    with pytest.raises(ConfigError, match="Allow more"), edge.teach("hues", max_bytes=20_000) as teaching:
        for picture, label in lessons(12):
            teaching.observe(picture, label)
    assert edge.bank.current() == {}
    with edge.teach("hues", max_bytes=60_000) as teaching:
        assert teaching.classes == ("red", "green")
        report = teaching.commit(even_if_unchanged=True)
    assert report is not None and report.bytes <= 60_000
    assert edge.bundle(report.digest).provenance["pictures"] == 12


def test_a_full_or_unwritable_disk_is_a_typed_error_and_a_later_commit_has_everything(device: Make) -> None:
    edge, given = device(), lessons(16)
    taught(edge, given[:8])
    with edge.teach("hues", every=None) as teaching:
        for lesson in given[8:]:
            teaching.observe(*lesson)
        with read_only(edge.home / "teaching"), pytest.raises((BankReadOnly, BankError)):
            teaching.commit()
        assert edge.bundle(edge.bank.current()["hues"]).provenance["pictures"] == 8
    assert edge.bundle(edge.bank.current()["hues"]).provenance["pictures"] == 16
    with read_only(edge.home / "teaching"), pytest.raises(BankReadOnly), edge.teach("shades"):
        pytest.fail("there is nowhere to keep it")


def test_a_state_that_finds_no_room_is_bank_full(device: Make) -> None:
    said: list[str] = []
    edge = device(say=said.append)
    folder = edge.home / "teaching"
    folder.mkdir(parents=True)
    with small_disk(folder, 16_384) as how:
        if how != "tmpfs":
            pytest.skip("a disk of its own needs root")
        with pytest.raises(BankFull, match="cannot be kept"):
            taught(edge, lessons(8))
        assert edge.bank.current() == {}
        with pytest.raises(BankFull):
            taught(edge, lessons(8), every=3)
    assert [line for line in said if "are not kept" in line] == [
        f"'hues': the last {n} pictures are not kept. Begin again, and teach them again" for n in (8, 3)
    ]


def test_an_error_inside_the_with_commits_what_was_whole_and_goes_on_its_way(device: Make) -> None:
    edge = device()
    with pytest.raises(KeyboardInterrupt), edge.teach("hues") as teaching:
        for picture, label in lessons(8):
            teaching.observe(picture, label)
        raise KeyboardInterrupt
    assert edge.tasks == ("hues",)
    with pytest.raises(BankError, match="has ended"):
        teaching.observe(*lessons(1, seed=9)[0])


def test_ctrl_c_within_a_picture_or_a_commit_takes_effect_after_it(device: Make) -> None:
    edge, given = device(), lessons(8)
    for part in ("observe", "learned"):
        with pytest.raises(KeyboardInterrupt), edge.teach("hues") as teaching:
            for lesson in given[:-1]:
                teaching.observe(*lesson)
            memory = teaching._memory
            real = getattr(memory, part)

            def stopped(*arguments: object, real: Callable[..., object] = real) -> object:
                signal.raise_signal(signal.SIGINT)
                return real(*arguments)

            setattr(memory, part, stopped)
            teaching.observe(*given[-1])
            teaching.commit()
        assert edge.bundle(edge.bank.current()["hues"]).provenance["pictures"] == len(given)
        edge.bank.remove("hues")


def test_learn_by_memory_goes_through_a_folder_once_and_the_next_one_on_from_there(
    device: Make, pictures_task: dict[str, Path], tmp_path: Path
) -> None:
    edge = device()
    first = edge.learn("colours", pictures_task["colours"], method="memory", seed=3)
    assert (first.method, first.pictures, first.generation) == ("memory", 48, 1)
    assert first.validation_accuracy > 0.9
    again = edge.learn("colours", pictures_task["colours"], method="memory")
    assert again.pictures == 0 and "48 pictures were learned before" in again.warnings[-1]
    (tmp_path / "more" / "discs").mkdir(parents=True)
    for file in (pictures_task["shapes"] / "train" / "discs").iterdir():
        (tmp_path / "more" / "discs" / file.name).write_bytes(file.read_bytes())
    more = edge.learn("colours", tmp_path / "more", method="memory")  # a single class is enough where others are known
    assert set(more.classes) == {"red", "green", "blue", "yellow", "discs"}
    edge.bank.rollback("colours")
    with edge.teach("colours") as teaching:
        assert set(teaching.classes) == {"red", "green", "blue", "yellow"}
    with pytest.raises(DataError, match="single class"):
        edge.learn("shapes", tmp_path / "more", method="memory")
    assert "shapes" not in edge.tasks


def test_learning_by_memory_afresh_gives_the_head_of_the_method_alone(device: Make) -> None:
    edge = device()
    pictures, labels = zip(*lessons(20), strict=True)
    numbers = [HUES.index(name) for name in labels]
    edge.learn_pictures("hues", pictures, numbers, HUES[:2], method="memory", seed=4)
    alone = edge.fit_pictures("hues", pictures, numbers, HUES[:2], method="memory", seed=4).bundle.head
    head, x = edge.head("hues"), edge.rom.features(np.array([p for p, _ in lessons(0)] or np.zeros((3, 160, 160, 3), np.uint8)))
    order = [head.classes.index(name) for name in alone.classes]  # they come by appearance here, by name there
    np.testing.assert_allclose(head.scores(x)[:, order], alone.scores(x), rtol=1e-3, atol=1e-2)


def test_a_pil_image_is_taught_and_a_waiting_state_that_is_damaged_is_said(device: Make) -> None:
    said: list[str] = []
    edge = device(say=said.append)
    with edge.teach("hues") as teaching:
        assert not teaching.observe(Image.fromarray(lessons(1)[0][0]), "red").known
        with pytest.raises(PictureError, match="no picture"):
            teaching.observe(3.5, "red")
    (edge.home / "teaching" / "hues" / "waiting.safetensors").write_bytes(b"nonsense")
    with edge.teach("hues") as teaching:
        assert teaching.classes == ()
    assert "begins anew" in said[-1]


def test_a_second_opinion_is_not_taught(device: Make, tmp_path: Path) -> None:
    edge = device()
    taught(edge, lessons(8))
    with EdgeDevice(tmp_path / "peer", rom=edge.rom) as peer:
        taught(peer, lessons(8, seed=7))
        edge.trust.trust(Peer("peer", peer.trust.signer.key))
        data = peer.export("hues")
        edge.import_bundle(data, names={peer.bank.current()["hues"]: "theirs"})
    with pytest.raises(BankError, match="second opinion"), edge.teach("theirs"):
        pytest.fail("that is another's word")


def test_a_bundle_says_how_it_was_learned(device: Make) -> None:
    edge = device()
    taught(edge, lessons(8), seed=5)
    said = edge.bundle(edge.bank.current()["hues"]).provenance
    assert said["learned_by"]["asked"] == "memory" and said["seed"] == said["learned_by"]["seed"] == 5
    assert dataclasses.asdict(edge.bank.history("hues")[0])["action"] == "learn"

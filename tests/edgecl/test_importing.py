"""What comes from elsewhere: checked for collisions, many at once, beside another's head or merged with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgecl.bank.bank import HeadBank
from edgecl.collisions import Known, check
from edgecl.device import EdgeDevice
from edgecl.errors import BankError, BundleError, ConfigError, EdgeclError, Reason
from edgecl.exchange import pull, share
from edgecl.mapping.mahalanobis import Mahalanobis
from edgecl.mapping.sketch import Sketch
from edgecl.sharing.bundle import Bundle, digest, from_bytes
from edgecl.sharing.transport.folder import Folder
from edgecl.sharing.trust import Peer


@pytest.fixture
def a(device: Callable[..., EdgeDevice], tmp_path: Path, pictures_task) -> EdgeDevice:
    edge = device(tmp_path / "a", threads=1)
    for task in ("colours", "shapes"):
        edge.learn(task, pictures_task[task])
    return edge


@pytest.fixture
def b(device: Callable[..., EdgeDevice], tmp_path: Path, a: EdgeDevice) -> Iterator[EdgeDevice]:
    """Trusts a."""
    edge = device(tmp_path / "b", threads=1)
    edge.trust.trust(Peer("a", a.trust.signer.key))
    yield edge


@pytest.fixture
def c(device: Callable[..., EdgeDevice], tmp_path: Path, a: EdgeDevice, b: EdgeDevice) -> EdgeDevice:
    """Trusted by b; it signs what is said to be its own."""
    edge = device(tmp_path / "c", threads=1)
    b.trust.trust(Peer("c", edge.trust.signer.key))
    return edge


def half(pictures_task, task: str, which: int) -> tuple[list[Path], list[int], list[str]]:
    """Every second training picture of a task."""
    classes = sorted(path.name for path in (pictures_task[task] / "train").iterdir())
    found = [(path, c) for c, name in enumerate(classes) for path in sorted((pictures_task[task] / "train" / name).iterdir())]
    return [path for path, _ in found[which::2]], [c for _, c in found[which::2]], classes


def renamed(edge: EdgeDevice, task: str, name: str, by: EdgeDevice | None = None, **more: object) -> bytes:
    """A head of that device under another name, signed by it, or by another."""
    return (by or edge).trust.sign(dataclasses.replace(from_bytes(edge.export(task)), task=name, **more)).to_bytes()  # type: ignore[arg-type]


def reason(error: EdgeclError | None) -> Reason | None:
    return getattr(error, "reason", None)


# -- collisions


def test_a_task_of_its_own_takes_nothing_and_the_twin_of_a_known_one_is_refused(
    a: EdgeDevice, b: EdgeDevice, pictures_task
) -> None:
    """The twin is learned from other pictures: asked plainly, the known task would keep all it was made from."""
    b.learn_pictures("colours", *half(pictures_task, "colours", 0))
    a.learn_pictures("hues", *half(pictures_task, "colours", 1))
    before = b.bank.current()
    own, twin = b.import_bundles([a.export("shapes"), a.export("hues")])
    assert own.error is None and own.generation is not None and own.takes == {} and own.notes == ()
    assert twin.generation is None and reason(twin.error) is Reason.COLLISION and twin.takes["colours"] > 0.2
    assert "% of 'colours'" in str(twin.error) and "--anyway" in str(twin.error) and "--as" in str(twin.error)
    assert any("'colours' also has the classes 'blue', 'green'" in note for note in twin.notes)
    assert set(b.bank.current()) == {*before, "shapes"}
    (again,) = b.import_bundles([a.export("hues")], anyway=True)
    assert again.error is None and again.takes["colours"] > 0.2 and "hues" in b.tasks


def test_a_task_without_a_sketch_is_checked_by_its_anchor_and_that_is_said(
    a: EdgeDevice, b: EdgeDevice, c: EdgeDevice, pictures_task
) -> None:
    c.learn_pictures("hues", *half(pictures_task, "colours", 1))
    b.import_bundle(a.export("colours"))
    assert b.bank.sketch(b.bank.current()["colours"]) is None
    (found,) = b.import_bundles([c.export("hues")])
    assert reason(found.error) is Reason.COLLISION and any("from anchors" in note for note in found.notes)


def test_many_small_takers_are_seen_together(a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    """Each of twelve twins would take a twelfth, which alone is below the limit; the first takes all that there is."""
    b.learn("colours", pictures_task["colours"])
    twins = [renamed(a, "colours", f"twin-{i}") for i in range(12)]
    found = b.import_bundles([*twins, a.export("shapes")])
    assert [reason(one.error) for one in found] == [Reason.COLLISION] * 12 + [None] and b.tasks == ("colours", "shapes")


def test_new_tasks_of_one_batch_are_checked_against_each_other(a: EdgeDevice, b: EdgeDevice, c: EdgeDevice) -> None:
    first, second = b.import_bundles([a.export("colours"), renamed(a, "colours", "twin", by=c)])
    assert first.error is None and reason(second.error) is Reason.COLLISION and second.takes["colours"] > 0.2


def test_what_one_device_has_side_by_side_is_not_held_against_it(a: EdgeDevice, b: EdgeDevice, c: EdgeDevice) -> None:
    """Twins of one device are its owner's matter, in one batch or two, also after it has a new key; another's twin is not."""
    twins = b.import_bundles([a.export("colours"), renamed(a, "colours", "twin")])
    assert [one.error for one in twins] == [None, None]
    b.bank.remove("twin")
    (other,) = b.import_bundles([renamed(a, "colours", "other", by=c)])
    assert reason(other.error) is Reason.COLLISION
    a.trust.rotate()
    b.trust.succeed(a.trust.successions())
    assert b.import_bundle(renamed(a, "colours", "third"))


def test_a_damaged_sketch_is_as_good_as_none(a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    b.learn("colours", pictures_task["colours"])
    mine = b.bank.current()["colours"]
    b.bank._all("UPDATE sketches SET data = x'00'")
    assert b.bank.sketch(mine) is None and "sketch beside bundle" in b.bank.verify()[0]
    assert reason(b.import_bundles([renamed(a, "colours", "twin")])[0].error) is Reason.COLLISION
    b.bank.put("colours", b.export("colours"), "learn", sketch=b"no sketch at all")
    assert reason(b.import_bundles([renamed(a, "colours", "twin")])[0].error) is Reason.COLLISION


def test_a_head_that_makes_other_tasks_look_alike_takes_their_pictures_too() -> None:
    """Its own means lie where no picture does, but its scatter, which all share, hides what two differ in."""
    width, rng = 64, np.random.default_rng(0)

    def pictures(side: float, sign: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        z = sign * np.ones((60, width)) / 8 + rng.normal(0, 0.05, (60, width))
        z[:, 0] += side
        return (np.sign(z) * z * z).astype(np.float32), np.repeat(np.arange(3), 20)

    there = {}
    for name, side in (("left", -0.15), ("right", 0.15)):
        features, labels = pictures(side)
        there[name] = Known(Mahalanobis.anchor(features, labels), Sketch(features, np.full(60, 20, np.float32)), None, "a")
    honest = Mahalanobis.anchor(*pictures(0, sign=-1))
    first = np.zeros((1, width), np.int8)
    first[0, 0] = 127
    scatter = {"directions": first, "directions_step": np.float32([1 / 127]), "variances": np.float32([1.9])}
    found = check(there, {"new": Known(honest, None, None, "b")}, 0.1, width)
    assert found == {"new": {}}
    found = check(
        there, {"evil": Known({**honest, **scatter}, None, None, "b"), "new": Known(honest, None, None, "b")}, 0.1, width
    )
    assert max(found["evil"].values()) > 0.1 and max(found["new"].values(), default=0) <= 0.1
    with pytest.raises(BundleError, match="scatter must lie in 0 to 4"):
        Mahalanobis.check({**honest, **scatter, "variances": np.float32([99])})


@pytest.mark.parametrize("learned_here", [True, False])
def test_an_anchor_for_the_mapper_that_serves_is_not_believed_for_the_other_one(
    learned_here: bool, a: EdgeDevice, c: EdgeDevice, device, tmp_path: Path, pictures_task
) -> None:
    """A foe's anchors need not agree: one that takes nothing by the default mapper, and all by the one of this device."""
    serving: EdgeDevice = device(tmp_path / "g", threads=1, mapper="gmmc")
    serving.trust.trust(Peer("a", a.trust.signer.key))
    serving.trust.trust(Peer("c", c.trust.signer.key))
    if learned_here:
        serving.learn("colours", pictures_task["colours"])
    else:
        serving.import_bundle(a.export("colours"))
    other, theirs = from_bytes(a.export("shapes")), from_bytes(a.export("colours")).anchors["gmmc"]
    greedy = {**theirs, "counts": np.full_like(theirs["counts"], 1e9)}
    anchors = {"mahalanobis": other.anchors["mahalanobis"], "gmmc": greedy}
    evil = c.trust.sign(dataclasses.replace(other, task="evil", anchors=anchors)).to_bytes()
    (found,) = serving.import_bundles([evil])
    assert reason(found.error) is Reason.COLLISION and found.takes["colours"] > 0.9
    assert serving.import_bundles([a.export("shapes")])[0].error is None, "an honest one is taken"


# -- batches


def test_one_refused_bundle_stops_none_of_the_others(a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    a.learn("stripes", pictures_task["stripes"])
    good = [a.export(task) for task in ("colours", "shapes", "stripes")]
    forged = bytearray(good[0])
    forged[-1] ^= 1
    unsigned = dataclasses.replace(from_bytes(good[0]), task="u", signer="", sequence=0, signature="").to_bytes()
    batch = [good[0], bytes(forged), b"", good[1], unsigned, good[2], good[0]]
    found = b.import_bundles(batch)
    wanted = [None, Reason.BAD_SIGNATURE, Reason.MALFORMED, None, Reason.UNKNOWN_SIGNER, None, None]
    assert [reason(one.error) for one in found] == wanted
    assert [one.digest for one in found] == [digest(data) for data in batch] and found[0] == found[-1]
    assert b.tasks == ("colours", "shapes", "stripes") and all(b.export(task) in good for task in b.tasks)


def test_a_batch_is_one_transaction(a: EdgeDevice, b: EdgeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails at the last moment takes the whole batch back, and says so."""
    put = HeadBank.put

    def fails_at_shapes(bank: HeadBank, task: str, *rest: object, **named: object) -> object:
        there = put(bank, task, *rest, **named)  # type: ignore[arg-type]
        if task == "shapes":
            raise BankError("no more")
        return there

    monkeypatch.setattr(HeadBank, "put", fails_at_shapes)
    with pytest.raises(BankError, match="no more"):
        b.import_bundles([a.export("colours"), a.export("shapes")])
    monkeypatch.undo()
    assert b.bank.current() == {} and b.bank.accepted() == {} and b.bank.verify() == []


def test_the_same_task_twice_in_a_batch(a: EdgeDevice, b: EdgeDevice, device, tmp_path: Path, pictures_task) -> None:
    """Of one signer the newest comes in; of two signers none, unless one has the place already."""
    first = a.export("shapes")
    a.learn("shapes", pictures_task["shapes"], seed=1)
    second = a.export("shapes")
    assert [reason(one.error) for one in b.import_bundles([second, first])] == [None, Reason.ROLLBACK]
    c: EdgeDevice = device(tmp_path / "c", threads=1)
    c.learn("shapes", pictures_task["shapes"])
    b.trust.trust(Peer("c", c.trust.signer.key))
    third = renamed(a, "shapes", "shapes")
    found = b.import_bundles([c.export("shapes"), third])
    assert [reason(one.error) for one in found] == [Reason.COLLISION, None] and b.export("shapes") == third
    b.bank.remove("shapes")
    fourth = renamed(a, "shapes", "shapes")
    for replace in (False, True):
        found = b.import_bundles([c.export("shapes"), fourth], replace=replace)
        assert [reason(one.error) for one in found] == [Reason.COLLISION] * 2


def test_the_quota_counts_what_comes_in_the_same_batch(a: EdgeDevice, device, tmp_path: Path) -> None:
    c: EdgeDevice = device(tmp_path / "c", threads=1, heads_mb=1)
    c.trust.trust(Peer("a", a.trust.signer.key))
    colours, shapes = a.export("colours"), a.export("shapes")
    c.bank.put("filler", bytes((1 << 20) - len(colours) - len(shapes) // 2), "learn")
    assert [reason(one.error) for one in c.import_bundles([colours, shapes])] == [None, Reason.QUOTA]


# -- another signer's head of the same task


def test_another_signers_head_is_no_silent_successor_on_any_way_in(a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    b.learn("colours", pictures_task["colours"])
    own = b.export("colours")
    with pytest.raises(BundleError, match=r"this device.*--replace.*--as NAME.*--merge") as raised:
        b.import_bundle(a.export("colours"))
    assert raised.value.reason is Reason.COLLISION and b.export("colours") == own
    assert b.import_bundle(a.export("colours"), replace=True).number == 2
    b.bank.rollback("colours")
    assert b.export("colours") == own


def test_a_second_opinion_answers_by_name_and_beside_the_task_and_finds_nothing(
    a: EdgeDevice, b: EdgeDevice, pictures_task
) -> None:
    b.learn("colours", pictures_task["colours"], seed=1)
    files = sorted(pictures_task["colours"].glob("test/*/*"))
    before, data = b.infer(files), a.export("colours")
    (found,) = b.import_bundles([data], names={digest(data): "what a says"})
    assert found.error is None and found.task == "what a says" and found.generation is not None
    assert found.generation.action == "opinion" and b.bank.get(found.digest) == data
    assert b.tasks == ("colours",) and b.opinions == {"what a says": "colours"} and b.infer(files) == before
    theirs = b.infer(files, task="what a says")
    assert [t.label for t in theirs] == [t.label for t in a.infer(files, task="colours")]
    asked = b.infer(files, opinions=True)
    assert [one.opinions for one in asked] == [(("what a says", t.label, t.confidence),) for t in theirs]
    assert [dataclasses.replace(one, opinions=()) for one in asked] == before
    assert b.bank.accepted()[a.trust.signer.key, "colours", b.rom.rom_id][1] == found.digest, "its number counts for its task"
    with pytest.raises(BundleError) as raised:
        b.import_bundle(renamed(a, "shapes", "what a says"))
    assert raised.value.reason is Reason.COLLISION, "an opinion's place is taken like any other"
    assert b.trust.revoke("a") == ["what a says"] and b.opinions == {}


@pytest.mark.parametrize("name", ["colours", "shapes", "../x"])
def test_a_second_opinion_needs_a_free_name(name: str, a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    b.import_bundle(a.export("shapes"))
    data = a.export("colours")
    with pytest.raises(ConfigError):
        b.import_bundle(data, names={digest(data): name})
    assert b.tasks == ("shapes",)


def test_an_opinion_from_a_stick_stays_one(a: EdgeDevice, b: EdgeDevice, tmp_path: Path, pictures_task) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    share(a, Folder(stick))
    b.learn("colours", pictures_task["colours"])
    (found,) = pull(b, Folder(stick), ["colours"], name="theirs")
    assert found.state == "taken" and b.opinions == {"theirs": "colours"}
    assert sorted(o.state for o in pull(b, Folder(stick))) == ["known", "taken"]
    assert {o.task for o in share(b, Folder(stick))} == {"colours", "shapes"}


# -- merging


def test_two_halves_make_one_head_that_knows_both_makers(a: EdgeDevice, b: EdgeDevice, pictures_task, tmp_path: Path) -> None:
    b.learn_pictures("colours", *half(pictures_task, "colours", 0))
    a.learn_pictures("colours", *half(pictures_task, "colours", 1))
    other = from_bytes(a.export("colours"))
    sketch = b.bank.sketch(b.bank.current()["colours"])
    there = b.merge("colours", b.read_bundle(a.export("colours")))
    merged = from_bytes(b.export("colours"))
    assert there.action == "merge" and there.number == 2 and b.verify() == [] and b.bank.sketch(there.digest) == sketch
    assert merged.makers == {a.trust.signer.key, b.trust.signer.key} and merged.signer == b.trust.signer.key
    assert merged.provenance["pictures"] == 48 and merged.provenance["per_class"] == dict.fromkeys(merged.head.classes, 12)
    files = sorted(pictures_task["colours"].glob("test/*/*"))
    answers = b.infer(files)
    assert np.mean([one.nearest_label == one.source.split("/")[-2] for one in answers]) > 0.9
    assert np.mean([one.unknown != "task" for one in answers]) > 0.8
    with pytest.raises(BundleError, match=r"count twice.*--as NAME"):
        b.merge("colours", other)
    stick = tmp_path / "stick"
    stick.mkdir()
    share(a, Folder(stick), ["colours"])
    (found,) = pull(b, Folder(stick))
    assert found.state == "known" and "merged" in found.message
    assert b.trust.revoke("a") == ["colours"], "revocation reaches what was made of it"


def test_what_does_not_add_up_is_not_merged(a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    b.learn("colours", pictures_task["colours"])
    own = b.export("colours")
    other = from_bytes(a.export("colours"))

    def changed(**parts: object) -> Bundle:
        return dataclasses.replace(other, **parts)  # type: ignore[arg-type]

    def head(**parts: object) -> Bundle:
        return changed(head=dataclasses.replace(other.head, **parts))  # type: ignore[arg-type]

    said = {**other.provenance}
    for strange, words in (
        (head(classes=("red", "green", "blue", "pink")), "only one of them knows pink, yellow"),
        (head(method="bb"), "do not add up"),
        (head(settings={**other.head.settings, "phi": "identity"}), "read features alike"),
        (changed(provenance={**said, "per_class": {"red": 1e300}}), "how many pictures"),
        (changed(provenance={**said, "per_class": dict.fromkeys(other.head.classes, -5)}), "how many pictures"),
        (changed(anchors={}), "no anchor"),
        (from_bytes(own), "count twice"),
    ):
        with pytest.raises(BundleError, match=words):
            b.merge("colours", strange)
    assert b.export("colours") == own


def test_classes_in_another_order_are_matched_by_name(a: EdgeDevice, b: EdgeDevice, pictures_task) -> None:
    b.learn_pictures("colours", *half(pictures_task, "colours", 0))
    files, labels, classes = half(pictures_task, "colours", 1)
    a.learn_pictures("colours", files, [len(classes) - 1 - label for label in labels], classes[::-1])
    b.merge("colours", from_bytes(a.export("colours")))
    files = sorted(pictures_task["colours"].glob("test/*/*"))
    assert np.mean([one.nearest_label == one.source.split("/")[-2] for one in b.infer(files)]) > 0.9

"""Every way in which a bundle is refused, as a table; and what is not refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecl.errors import Reason
from edgecl.sharing.bundle import MAX_BYTES
from edgecl.sharing.trust import Offer, Peer, Seen, Standing, judge

OWN, FRIEND, STRANGER, REVOKED, LIMITED = (c * 64 for c in "0abcd")
OLDER, OLD, OWN_OLD, REVOKED_OLD = (c * 64 for c in "ef12")  # keys that were replaced: twice friend's
ROM, OTHER = "1" * 64, "2" * 64
HERE = Standing(
    key=OWN,
    rom_id=ROM,
    backbone="lite0",
    precision="fp32",
    peers={
        FRIEND: Peer("friend", FRIEND, former=(OLDER, OLD)),
        REVOKED: Peer("gone", REVOKED, trusted=False, former=(REVOKED_OLD,)),
        LIMITED: Peer("limited", LIMITED, tasks=("birds", "line-*"), max_bytes=1000),
    },
    seen={
        (FRIEND, "birds", ROM): Seen(5, "five"),
        (FRIEND, "birds", OTHER): Seen(8, "of another ROM"),
        (OWN, "birds", ROM): Seen(9, "nine"),
        (STRANGER, "birds", ROM): Seen(1, "one"),
        (OLD, "birds", ROM): Seen(50, "fifty"),
        (OLD, "cars", ROM): Seen(51, "fifty-one"),
        (OLDER, "planes", ROM): Seen(60, "sixty"),
        (OLD, "planes", ROM): Seen(52, "fifty-two"),
        (REVOKED_OLD, "birds", ROM): Seen(3, "three"),
        (OWN_OLD, "birds", ROM): Seen(30, "thirty"),
    },
    former=(OWN_OLD,),
)
GOOD = Offer("birds", "six", 500, FRIEND, 6, ROM, "lite0", "fp32")

REFUSED = [
    ("arbitrary bundle of a stranger", {"key": STRANGER}, Reason.UNKNOWN_SIGNER, "peers trust"),
    ("unsigned", {"key": "", "sequence": 0}, Reason.UNKNOWN_SIGNER, "not signed"),
    ("revoked peer", {"key": REVOKED}, Reason.REVOKED, "'gone'"),
    ("task that the peer may not send", {"key": LIMITED, "task": "cars"}, Reason.NOT_ALLOWED, "birds, line-"),
    ("larger than the peer may send", {"key": LIMITED, "size": 1001}, Reason.TOO_LARGE, "1,001"),
    ("larger than anybody may send", {"size": MAX_BYTES + 1}, Reason.TOO_LARGE, "accepted"),
    ("wrong ROM", {"rom_id": OTHER, "backbone": "other"}, Reason.WRONG_ROM, ROM[:12]),
    ("wrong ROM that does not say which", {"rom_id": OTHER, "backbone": "", "precision": ""}, Reason.WRONG_ROM, OTHER[:12]),
    ("same backbone, same precision, other weights", {"rom_id": OTHER}, Reason.WRONG_ROM, OTHER[:12]),
    ("wrong precision", {"rom_id": OTHER, "precision": "int8"}, Reason.WRONG_PRECISION, "heads convert"),
    ("rollback", {"sequence": 4, "digest": "four"}, Reason.ROLLBACK, "--older"),
    ("replay of another bundle's number", {"sequence": 5, "digest": "mixed"}, Reason.REPLAY, "number 5"),
    ("stolen and rotated key", {"key": OLD, "sequence": 99}, Reason.REVOKED, "replaced by"),
    ("stolen and rotated key, for a task never seen", {"key": OLDER, "task": "new"}, Reason.REVOKED, "share it again"),
    ("stolen and rotated key of this device", {"key": OWN_OLD, "sequence": 99}, Reason.REVOKED, "'this device'"),
    ("rollback over the change of a key", {"key": OLD, "sequence": 50, "digest": "fifty"}, Reason.ROLLBACK, "later key"),
    ("the same to the key between", {"key": OLDER, "task": "planes", "digest": "sixty"}, Reason.ROLLBACK, "later key"),
    ("former key of a revoked peer", {"key": REVOKED_OLD, "digest": "three"}, Reason.REVOKED, "'gone'"),
    ("rollback of one's own", {"key": OWN, "sequence": 8}, Reason.ROLLBACK, "number 9"),
]


@pytest.mark.parametrize(("changes", "reason", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_it_is_refused_with_its_reason(changes: dict[str, object], reason: Reason, words: str) -> None:
    refused = judge(replace(GOOD, **changes), HERE)
    assert refused is not None and refused.reason is reason and words in str(refused)


ACCEPTED = [
    ("a friend's newest", {}),
    ("the very bundle that is known", {"sequence": 5, "digest": "five"}),
    ("what a former key has signed and is held", {"key": OLD, "task": "cars", "sequence": 51, "digest": "fifty-one"}),
    ("the same of the last but one", {"key": OLD, "task": "planes", "sequence": 52, "digest": "fifty-two"}),
    ("one's own", {"key": OWN, "sequence": 10}),
    ("a friend's first of another task", {"task": "cars", "sequence": 1}),
    ("a limited friend's", {"key": LIMITED, "task": "line-7", "size": 1000, "sequence": 1}),
    ("another precision's name but this ROM", {"precision": "int8"}),
]


@pytest.mark.parametrize("changes", [row[1] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_it_is_accepted(changes: dict[str, object]) -> None:
    assert judge(replace(GOOD, **changes), HERE) is None


def test_a_person_may_ask_for_an_older_one_and_for_nothing_else() -> None:
    assert judge(replace(GOOD, sequence=4, digest="four"), HERE, older=True) is None
    assert judge(replace(GOOD, key=OLD, sequence=50, digest="fifty"), HERE, older=True) is None
    for changes in (
        {"key": STRANGER},
        {"key": OLD},
        {"key": OLD, "digest": "other"},
        {"rom_id": OTHER},
        {"key": REVOKED},
        {"sequence": 5, "digest": "mixed"},
    ):
        assert judge(replace(GOOD, **{"sequence": 4, **changes}), HERE, older=True) is not None


def test_the_quota_counts_what_is_left() -> None:
    assert judge(GOOD, replace(HERE, room=500)) is None
    for room in (499, 0, -7):
        refused = judge(GOOD, replace(HERE, room=room))
        assert refused is not None and refused.reason is Reason.QUOTA and f"{max(0, room)} left" in str(refused)


@given(
    key=st.sampled_from([OWN, FRIEND, STRANGER, REVOKED, LIMITED, "", OLDER, OLD, OWN_OLD, REVOKED_OLD]),
    task=st.sampled_from(["birds", "line-1", "cars", "*", "line-"]),
    sequence=st.integers(1, 12),
    size=st.integers(1, MAX_BYTES * 2),
    rom=st.sampled_from([ROM, OTHER]),
    older=st.booleans(),
)
def test_nobody_but_a_trusted_signer_is_ever_accepted(
    key: str, task: str, sequence: int, size: int, rom: str, older: bool
) -> None:
    offer = Offer(task, "x", size, key, sequence, rom, "lite0", "fp32")
    if judge(offer, HERE, older) is None:
        assert key in (OWN, FRIEND, LIMITED) and rom == ROM and size <= MAX_BYTES
        assert key != LIMITED or ((task == "birds" or task.startswith("line-")) and size <= 1000)
        last = HERE.seen.get((key, task, rom))
        assert last is None or sequence > last.sequence or (older and sequence < last.sequence)

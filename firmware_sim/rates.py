"""Seconds and memory of a device's operations: measured on the reference machine, scaled to a board.

Measured on 2026-11-21 on one thread of a Sapphire Rapids Xeon, ONNX Runtime 1.31 on the CPU, the default ROM, in a quiet hour:
network, learning and fits by `python benchmarks/rates.py tasks/ --rom ROM --home FOLDER`; taking in and peak memory by trial
scripts that the command has since taken up; the bytes to the disk by it, on a quarter of the pictures. Figures of BB, CLR and
those marked (Speed) are docs/benchmarks.md's, which has their commands. What is scaled how:

- the network by the board's own pictures a second;
- all else by its speed for one core against the reference machine's;
- training through the network by that and by its cores, since PyTorch spreads over them.

Writing to flash is not in here: `Board.write` says what that takes, and knows the wear.
"""

from __future__ import annotations

import math

from edgecl import registry
from firmware_sim.profiles import Profile, profile

REFERENCE = "host"

DECODE_S = 0.8e-3  # read and resize a picture of 160 pixels: reading 400 digits took 9.2 ms each, the network 8.4
ANSWER_S = 0.3e-3  # mapper and head for one picture, 14 tasks
PACK_S = 5e-3  # sign, pack, sketch and commit a bundle of 100 kB; rest of `total` in learning's report
TAKE_CALL_S = 0.6e-3  # one import of any number of bundles: its transaction
TAKE_S = 1.0e-3  # of it for each bundle: signature, trust, row
TAKE_BYTE_S = 0.9e-3 / 104e3  # ... and for each byte: parse, compare with the canonical form, hash
MAPPER_S = 1.0e-3  # a task more in the mapper
WRITTEN_PER_BYTE = 2.0  # to the disk for each byte of a bundle: once to the log, once to its place
WRITTEN_PER_CHANGE = 100_000  # ... and for each transaction: 2.97 times the bundles one by one, 2.09 times at once
COLD_S = 0.39  # a fresh process to its first answer (Speed)
# Of one core for a picture: 67 and 78 s for 400 on two of them; `auto` as its 145 s against the 129 of clr.
TRAIN_CORE_S = {"bb": 0.335, "clr": 0.390, "auto": 0.440}
LINEAR_MB = 460  # peak of the process that learns a linear head: 416 MB for 60 pictures, 477 for 480
LINEAR_PICTURE_MB = 0.06  # more for each: 1,600 took about 100 MB above what was held before
TRAIN_MB = {"bb": 1340, "clr": 1370, "auto": 1370}  # 1.40 and 1.43 GB for 400 pictures, less their pixels
PIXELS_MB = 224 * 224 * 3 / 1e6  # a picture as the network sees it; a training keeps all of them
CLASS_MB = 3 * 1280 * 8 / 1e6  # class means and weights in float64, and a copy


def learn_seconds(board: Profile, method: str, pictures: int, classes: int) -> float:
    """Seconds of learning a task from pictures that were never read before. Raises UnknownName for a method there is not."""
    family = _family(method)
    reading = pictures * (1 / board.pictures_s + DECODE_S / _speed(board))
    computing = _head_s(pictures, classes) + _anchors_s(pictures) + PACK_S
    training = pictures * TRAIN_CORE_S.get(family, 0.0) / board.cores
    return reading + (computing + training) / _speed(board)


def take_seconds(board: Profile, bytes_: int, count: int) -> float:
    """Seconds of taking in `count` bundles of `bytes_` together at once, until they answer."""
    if not count:
        return 0.0
    return (TAKE_CALL_S + count * (TAKE_S + MAPPER_S) + bytes_ * TAKE_BYTE_S) / _speed(board)


def written_bytes(bytes_: int, changes: int = 1) -> int:
    """Bytes that reach the flash when bundles of `bytes_` together are committed in that many transactions."""
    return round(bytes_ * WRITTEN_PER_BYTE) + changes * WRITTEN_PER_CHANGE


def answer_seconds(board: Profile, pictures: int) -> float:
    """Seconds of answering for that many pictures by linear heads, from files."""
    return pictures * (1 / board.pictures_s + (DECODE_S + ANSWER_S) / _speed(board))


def scaled(board: Profile, seconds: float) -> float:
    """Seconds of one core of the reference machine as seconds of a core of that board."""
    return seconds / _speed(board)


def boot_seconds(board: Profile) -> float:
    """Seconds from power to a device that answers."""
    return board.boot_s + COLD_S / _speed(board)


def peak_ram_mb(method: str, pictures: int, classes: int) -> float:
    """The most memory that the process has while it learns, in MB. Raises UnknownName for a method there is not."""
    family = _family(method)
    if family in TRAIN_MB:
        return TRAIN_MB[family] + pictures * PIXELS_MB + classes * CLASS_MB
    return LINEAR_MB + pictures * LINEAR_PICTURE_MB + classes * CLASS_MB


def _family(method: str) -> str:
    """Variants cost about what their method costs."""
    registry.check("method", registry.METHODS, method)
    return method.partition("-")[0]


def _speed(board: Profile) -> float:
    return board.cpu_mips / profile(REFERENCE).cpu_mips


def _head_s(n: int, k: int) -> float:
    """Fits 0.017, 0.070, 0.231 and 0.878 s for 100, 400, 800 and 1,600 pictures of up to ten classes within a quarter."""
    return 0.005 + 0.065 * math.pow(n / 400, 1.65) + 2.5e-6 * n * k


def _anchors_s(n: int) -> float:
    """Fits 0.044, 0.103, 0.378, 1.86 and 11.0 s for 100, 200, 400, 800 and 1,600 pictures within a tenth."""
    return 0.03 + 0.36 * math.pow(n / 400, 2.4)

"""What the tests share: a sealed tiny ROM, a home to live in, pictures to learn from, and the options --slow and --gpu."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from PIL import Image, ImageDraw

from edgecl.device import EdgeDevice
from edgecl.rom.base import Rom
from edgecl.rom.opening import open_rom

TINY = "test_efficientnet"  # timm's backbone for tests: 0.8 MB, 256 features, 160 px
SHARED_TASKS = Path(__file__).resolve().parents[2] / "shared" / "data" / "tasks"
PER_CLASS, PER_CLASS_TEST, SIDE = 12, 5, 192

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: threads of their own would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# No unit test depends on a clock: a busy machine is no failure.
hypothesis_settings.register_profile("edgecl", deadline=None)
hypothesis_settings.load_profile("edgecl")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run tests that need minutes")
    parser.addoption("--gpu", action="store_true", help="also run tests that need a CUDA GPU")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for mark, why in (("slow", "needs minutes; run with --slow"), ("gpu", "needs a CUDA GPU; run with --gpu")):
        if not config.getoption(f"--{mark}"):
            for item in items:
                if item.get_closest_marker(mark):
                    item.add_marker(pytest.mark.skip(reason=why))
    for item in items:
        if "ray" in item.keywords or "ray" in getattr(getattr(item, "callspec", None), "id", "").split("-"):
            item.add_marker(pytest.mark.xdist_group("ray"))  # one machine starts one cluster at a time


@pytest.fixture(scope="session")
def tiny_rom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed ROM image of a tiny backbone with random weights. Shared by all tests: copy it before you damage it."""
    for package in ("torch", "timm", "onnx", "onnxscript", "sklearn", "onnxruntime"):
        if find_spec(package) is None:  # not imported here: timm must come after edgecl.rom.torch_compat
            pytest.skip(f"making the tiny ROM needs {package}: pip install 'edgecl[learn,cpu]'")
    from export.seal import seal

    return seal(tmp_path_factory.mktemp("rom") / "tiny", TINY, "random").folder


@pytest.fixture(scope="session")
def tiny_freed(tiny_rom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny ROM compacted: half of its weights are free for heads. Shared by all tests: copy it before you damage it."""
    from edgecl.rom.image import RomImage
    from export.compact import free

    return free(RomImage.open(tiny_rom), tmp_path_factory.mktemp("freed") / "tiny", 0.5).folder


@pytest.fixture(scope="module")
def rom(tiny_rom: Path) -> Iterator[Rom]:
    """The tiny ROM, open on the default runtime."""
    with open_rom(tiny_rom, threads=1) as opened:
        yield opened


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of a device, named in EDGECL_HOME; it is made on first use, as on a new device."""
    folder = tmp_path / "edgecl-home"
    monkeypatch.setenv("EDGECL_HOME", str(folder))
    return folder


@pytest.fixture
def device(home: Path, tiny_rom: Path) -> Iterator[Callable[..., EdgeDevice]]:
    """Opens devices over one home and the tiny ROM, and closes them: `device()`, or with settings, `device(mapper="gmmc")`."""
    opened: list[EdgeDevice] = []

    def make(where: Path = home, **settings: object) -> EdgeDevice:
        opened.append(EdgeDevice(where, rom=tiny_rom, **settings))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture(scope="session")
def pictures_task(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Three tasks as folders, TASK/train/CLASS/ and TASK/test/CLASS/, by name: 12 and 5 pictures a class, JPEG and PNG.

    Drawn so that even a random network tells them apart: colours, stripes, shapes, each with noise. Read only.
    """
    root = tmp_path_factory.mktemp("tasks")
    rng = np.random.default_rng(0)
    for task, drawings in DRAWINGS.items():
        for part, count in (("train", PER_CLASS), ("test", PER_CLASS_TEST)):
            for name, draw in drawings.items():
                folder = root / task / part / name
                folder.mkdir(parents=True)
                for i in range(count):
                    noisy = np.asarray(draw(rng), np.float64) + rng.normal(0, 12, (SIDE, SIDE, 3))
                    picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
                    picture.save(folder / f"{i:02}.{'png' if i % 4 == 0 else 'jpg'}")
    return {task: root / task for task in DRAWINGS}


@pytest.fixture(scope="session")
def shared_tasks() -> Path:
    """The folder of real tasks that lies beside some checkouts."""
    if not SHARED_TASKS.is_dir():
        pytest.skip(f"the real tasks are not on this machine: no {SHARED_TASKS}")
    return SHARED_TASKS


Draw = Callable[[np.random.Generator], Image.Image]


def _colour(*rgb: int) -> Draw:
    """A smooth patch of one colour, brighter to one side."""

    def draw(rng: np.random.Generator) -> Image.Image:
        light = np.linspace(0.75, 1.15, SIDE)[None, :, None] * rng.uniform(0.9, 1.1)
        pixels = np.clip((np.array(rgb) + rng.normal(0, 8, 3)) * light, 0, 255)
        return Image.fromarray(np.broadcast_to(pixels, (SIDE, SIDE, 3)).astype(np.uint8))

    return draw


def _stripes(angle: float, period: float) -> Draw:
    """Grey stripes, with the phase and a little of the angle at random."""

    def draw(rng: np.random.Generator) -> Image.Image:
        y, x = np.mgrid[:SIDE, :SIDE]
        turned = np.deg2rad(angle + rng.normal(0, 2))
        wave = np.sin((x * np.cos(turned) + y * np.sin(turned)) * 2 * np.pi / period + rng.uniform(0, 6))
        return Image.fromarray(np.repeat((128 + 100 * wave)[:, :, None], 3, 2).astype(np.uint8))

    return draw


def _shape(kind: str, count: int) -> Draw:
    """Blue shapes on a pale ground, somewhere."""

    def draw(rng: np.random.Generator) -> Image.Image:
        picture = Image.new("RGB", (SIDE, SIDE), (225, 220, 190))
        pen = ImageDraw.Draw(picture)
        for _ in range(count):
            size = rng.uniform(0.2, 0.3) * SIDE
            x, y = rng.uniform(0, SIDE - size, 2)
            box = [x, y, x + size, y + size]
            if kind == "disc":
                pen.ellipse(box, fill=(20, 40, 160))
            elif kind == "ring":
                pen.ellipse(box, outline=(20, 40, 160), width=4)
            else:
                pen.line([x, y, x + size, y + size], fill=(20, 40, 160), width=4)
        return picture

    return draw


DRAWINGS: Mapping[str, Mapping[str, Draw]] = {
    "colours": {
        "red": _colour(190, 40, 40),
        "green": _colour(40, 160, 50),
        "blue": _colour(40, 60, 190),
        "yellow": _colour(200, 190, 40),
    },
    "stripes": {"fine": _stripes(0, 8), "coarse": _stripes(0, 40), "level": _stripes(90, 16)},
    "shapes": {"discs": _shape("disc", 6), "rings": _shape("ring", 8), "lines": _shape("line", 10)},
}

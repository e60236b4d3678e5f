"""The layering of docs/architecture: who may import whom, read from the source; and what `import portable_nn` loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each layer of portable_nn, and the layers it may import from (besides itself). The top package re-exports.
LIBRARY = {
    "core": set(),
    "ops": {"core"},
    "xp": {"ops", "core", "api"},
    "nn": {"xp", "ops", "core"},
    "optim": {"xp", "ops", "core"},
    "augment": {"xp", "ops", "core", "api"},
    "capture": {"xp", "ops", "core"},
    "data": set(),  # NumPy only, and the errors
    "models": {"nn", "xp", "ops", "core"},
    "train": {"models", "nn", "optim", "data", "augment", "capture", "xp", "ops", "core"},
    "tune": {"testing", "core"},
    "cli": {"tune", "testing", "train", "models", "nn", "optim", "data", "augment", "capture", "xp", "ops", "core"},
    "testing": {"ops", "core"},
    "api": {"core"},
    "__main__": {"cli"},
}
ADAPTERS = {
    "portable_nn_kernels": {"portable_nn"},
    "portable_nn_null": {"portable_nn", "portable_nn_kernels"},
    "portable_nn_opencl": {"portable_nn", "portable_nn_kernels"},
    "portable_nn_cupy": {"portable_nn", "portable_nn_kernels"},
    "portable_nn_numba": {"portable_nn", "portable_nn_kernels", "portable_nn_cupy"},  # the one adapter on another: decision 12
    "portable_nn_numpy": {"portable_nn"},
}
GPU = {"pyopencl", "cupy", "cupyx", "numba", "torch", "cuda"}
GPU_OF = {"portable_nn_opencl": {"pyopencl"}, "portable_nn_cupy": {"cupy", "cupyx"}, "portable_nn_numba": {"numba", "cupy", "cuda"}}
# (file, what it imports lazily): hooks that point upwards, each named here.
HOOKS = {
    ("portable_nn/core/array.py", "portable_nn.xp"),  # DeviceArray.__array_namespace__
    ("portable_nn/testing/suite.py", "portable_nn.ops"),
}


def imports(path: Path) -> list[str]:
    """Return every module a file imports anywhere in it, absolute; `import_module` of a literal included."""
    parts = path.relative_to(ROOT / "backends" if (ROOT / "backends") in path.parents else ROOT).with_suffix("").parts
    package = parts[:-1]
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            # `from ..core import dtypes` may name a module: both readings are in the same layer below the top package.
            found += [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            found += [str(node.args[0].value)] if called == "import_module" else []
    return found


def layer_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


FILES = sorted((ROOT / "portable_nn").rglob("*.py"))
ADAPTER_FILES = sorted((ROOT / "backends").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_library_imports_downwards(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    mine = path.relative_to(ROOT / "portable_nn").with_suffix("").parts[0]
    for module in imports(path):
        top = module.split(".")[0]
        assert top not in GPU, f"{name} imports {module}: only an adapter imports its GPU library"
        assert not top.startswith("portable_nn_"), f"{name} imports {module}: the library reaches a backend by name only"
        if top != "portable_nn" or mine == "__init__" or (name, module) in HOOKS:
            continue
        layer = layer_of(module)
        assert mine in LIBRARY, f"{name}: there is no layer {mine!r}; say in this test where it belongs"
        below = LIBRARY[mine]
        if mine == "data":
            assert module.startswith("portable_nn.core.errors") or layer == "data", f"{name} imports {module}: data is NumPy only"
        else:
            # portable_nn.api (asarray, to_numpy) stands on core alone; everything above core may use it.
            allowed = {mine, *below} | ({"api"} if "core" in below else set())
            assert layer in allowed, f"{name} imports {module}: {mine} may import from {sorted(below)}"


@pytest.mark.parametrize("path", ADAPTER_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_adapters_stand_apart(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    mine = path.relative_to(ROOT / "backends").parts[0]
    for module in imports(path):
        top = module.split(".")[0]
        assert top not in GPU - GPU_OF.get(mine, set()), f"{name} imports {module}, which is not its library"
        if top.startswith("portable_nn") and top != mine:
            assert top in ADAPTERS[mine], f"{name} imports {module}: {mine} may import from {sorted(ADAPTERS[mine])}"
        if top == "portable_nn":
            assert layer_of(module) == "core", f"{name} imports {module}: an adapter stands on portable_nn.core alone"


def test_backends_is_a_source_root_not_a_package() -> None:
    assert not (ROOT / "backends" / "__init__.py").exists()


def test_import_loads_numpy_and_nothing_of_a_gpu() -> None:
    heavy = GPU | {"scipy", "matplotlib", "sklearn", "PIL", "rich", "safetensors", "hypothesis", "pytest", "portable_nn_opencl"}
    code = "import sys, portable_nn; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert "portable_nn" in loaded
    assert not loaded & heavy, f"import portable_nn loads {sorted(loaded & heavy)}"


def test_lazy_parts_are_not_loaded_by_import() -> None:
    code = "import sys, portable_nn; print(*[m for m in sys.modules if m.startswith('portable_nn.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    layers = {m.split(".")[1] for m in done.stdout.split()}
    assert not layers & {"data", "models", "train", "testing", "cli"}, layers


def test_testing_needs_no_test_framework() -> None:
    code = "import sys, portable_nn.testing; print(*[m for m in ('pytest', 'hypothesis', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_ops_never_ask_where_they_run() -> None:
    for path in (ROOT / "portable_nn" / "ops").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for word in ("backend.name", ".device ==", "opencl", "cupy", "numba"):
            code = "\n".join(line.split("#")[0] for line in text.splitlines())
            names = {n.id for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Name)}
            assert word not in names, f"{path.name} branches on {word}"


def test_names_of_test_files_are_unique() -> None:
    """Two of one name in folders without an `__init__.py` are one module to pytest, which refuses the second."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", sorted((ROOT / "backends/portable_nn_numba/kernels").glob("*.py")), ids=lambda path: path.stem)
def test_numba_kernels_keep_to_the_common_subset(path: Path) -> None:
    """What numba-cuda, numba-hip and the simulator all have; and the simulator gives two shared arrays of one line the same memory."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [(ast.unparse(n.func), n.lineno) for n in ast.walk(tree) if isinstance(n, ast.Call)]
    shared = [line for name, line in calls if name.endswith("shared.array")]
    assert len(shared) == len(set(shared)), f"{path.name}: two shared arrays on one line"
    used = {name for name, _ in calls if name.startswith("cuda.")}
    assert used <= {"cuda.shared.array", "cuda.local.array", "cuda.syncthreads"}, f"{path.name} calls {sorted(used)}"

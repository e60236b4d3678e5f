"""Which tests concern a fault: what each sample launches and which lines it runs, recorded once on the unchanged tree."""

from __future__ import annotations

import ast
import pickle
import re
import subprocess
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from unittest.mock import patch

from .fault import Fault

WATCHED = ("portable_nn/ops/", "portable_nn/core/geometry.py", "portable_nn/core/subscript.py", "backends/portable_nn_kernels/plans/")
DTYPES = ("float32", "bfloat16", "int32", "float64")
PROFILES = {"cpu": "opencl", "gpu": "opencl:gpu"}
PROGRAMS, COMPARED = 8, 60  # after so many changed texts, or texts, the rest is not compared any more


class Case(NamedTuple):
    """One check of the suite: `way` is forward, gradient or bad; `sample` an index, or that of the wrong call."""

    rung: str
    op: str
    sample: int
    dtype: str
    way: str

    def __str__(self) -> str:
        return f"{self.rung}: {self.op} {self.way} {self.dtype} #{self.sample}"


@dataclass
class Concerns:
    """What was recorded.

    Parameters
    ----------
    cases : list of Case
    lines : dict of path to dict of line to list of int
        The cases that run a line of Python.
    packed : bytes
        What the cases launch, pickled: defines hold classes that only a child may import.
    """

    cases: list[Case] = field(default_factory=list)
    lines: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    packed: bytes = b""

    @property
    def launches(self) -> list[tuple[int, str, str, tuple[Any, ...]]]:
        """Return (case, kernel, source, defines) of every launch."""
        found: list[tuple[int, str, str, tuple[Any, ...]]] = pickle.loads(self.packed)
        return found


def record(root: Path, progress: Callable[[int, int], None]) -> Concerns:
    """Walk every sample of every op: plan it for both kinds of device, run its body and its gradient, and note the lines."""
    import portable_nn.ops  # noqa: F401 - fills the registry
    from portable_nn.core.registry import OPS
    from portable_nn.testing.suite import dtypes_of, gradient_dtypes

    found = Concerns()
    lines: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    launched: list[tuple[int, str, str, tuple[Any, ...]]] = []
    stages = _stages()
    warnings.simplefilter("ignore")
    for number, (name, op) in enumerate(sorted(OPS.items())):
        progress(number, len(OPS))
        for at, sample in enumerate(op.samples):
            allowed = dtypes_of(op, sample)
            tried = [d for d in DTYPES if d in allowed][:2] or list(allowed[:1])
            todo = [(Case(rung, name, at, dtype, "forward"), stages[rung]) for dtype in tried for rung in PROFILES.values()]
            todo += [(Case("numpy", name, at, dtype, "forward"), stages["numpy"]) for dtype in tried[:1]]
            todo += [(Case("numpy", name, at, dtype, "gradient"), stages["gradient"]) for dtype in gradient_dtypes(op, sample)[:1]]
            for case, stage in todo:
                seen, launches = _traced(root, lambda case=case, stage=stage: stage(case))
                found.cases.append(case)
                for path, line in seen:
                    lines[path][line].append(len(found.cases) - 1)
                launched += [(len(found.cases) - 1, *launch) for launch in launches]
        for at, _ in enumerate(op.bad):
            case = Case("numpy", name, at, "float32", "bad")
            seen, _ = _traced(root, lambda case=case: stages["bad"](case))
            found.cases.append(case)
            for path, line in seen:
                lines[path][line].append(len(found.cases) - 1)
    found.lines = {path: dict(by_line) for path, by_line in lines.items()}
    found.packed = pickle.dumps(launched)
    return found


def _stages() -> dict[str, Callable[[Case], list[Any]]]:
    from portable_nn.core import selection
    from portable_nn.core.registry import OPS
    from portable_nn.testing.cases import drawn, place_all, seed_of, widened
    from portable_nn.testing.gradient import cotangents, tape_gradients
    from portable_nn_kernels.launch import Profile
    from portable_nn_kernels.rehearsal import Rehearsal

    def plan(profile: Profile) -> Callable[[Case], list[Any]]:
        stage = Rehearsal(profile)

        def run(case: Case) -> list[Any]:
            op = OPS[case.op]
            given = drawn(op.samples[case.sample], case.dtype, 0)
            there, _ = place_all(given, stage)
            op.forget()
            with stage.recording() as recorded, selection.use_backend(stage):
                op.apply(there.args, dict(there.settings), bool(op.residuals))
            return [r.launch for r in recorded]

        return run

    def on_numpy(case: Case) -> list[Any]:
        op = OPS[case.op]
        given = drawn(op.samples[case.sample], case.dtype, 0)
        op.forget()
        with selection.use_backend("numpy"):
            op.apply(given.args, dict(given.settings), bool(op.residuals))
        wide = given.map(widened, __import__("numpy").ndarray)
        op.body(*wide.args, **wide.settings)
        return []

    def gradient(case: Case) -> list[Any]:
        op = OPS[case.op]
        op.forget()
        given = drawn(op.samples[case.sample], case.dtype, seed_of(case.op))
        seeds = cotangents(op, given, 0)
        tape_gradients(op, given, [None if s is None else s.astype(case.dtype) for s in seeds], selection.get("numpy"), __import__("numpy").dtype(case.dtype))
        return []

    def bad(case: Case) -> list[Any]:
        op = OPS[case.op]
        given = drawn(op.bad[case.sample], case.dtype, 0)
        with selection.use_backend("numpy"):
            op(*given.args, **given.settings)
        return []

    cpu = Profile("cpu", vendor="intel", units=2, vector=8)
    gpu = Profile("gpu", vendor="nvidia", units=4, group_limit=256, local_bytes=48 * 1024)
    return {"opencl": plan(cpu), "opencl:gpu": plan(gpu), "numpy": on_numpy, "gradient": gradient, "bad": bad}


def _traced(root: Path, run: Callable[[], list[Any]]) -> tuple[set[tuple[str, int]], list[tuple[str, str, tuple[Any, ...]]]]:
    """Run, and return the lines of watched files it ran, and what it launched."""
    seen: set[tuple[str, int]] = set()
    prefix = f"{root}/"

    @cache
    def short(name: str) -> str:
        path = name.removeprefix(prefix)
        return path if path.startswith(WATCHED) else ""

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        path = short(frame.f_code.co_filename)
        if not path:
            return None

        def local(frame: FrameType, event: str, argument: Any) -> Any:
            seen.add((path, frame.f_lineno))
            return local

        seen.add((path, frame.f_lineno))
        return local

    launches: list[Any] = []
    sys.settrace(trace)
    try:
        launches = run()
    except Exception:  # a wrong call, or no kernel for it: the lines up to there were run
        pass
    finally:
        sys.settrace(None)
    return seen, list({(x.kernel, x.source, x.defines): None for x in launches})


# -- from a fault to cases ---------------------------------------------------------------------------------------------


def in_turn(cases: Iterable[Case]) -> list[Case]:
    """Return cases so that each op, then each of its samples, comes early."""
    piles: dict[str, list[Case]] = defaultdict(list)
    for case in dict.fromkeys(cases):
        piles[case.op].append(case)
    found: list[Case] = []
    turns = [iter(pile) for pile in piles.values()]
    while turns:
        for turn in list(turns):
            case = next(turn, None)
            if case is None:
                turns.remove(turn)
            else:
                found.append(case)
    return found


def covering(fault: Fault, known: Concerns) -> list[Case]:
    """Return the cases that run the fault's line, or a line of its statement."""
    by_line = known.lines.get(fault.path, {})
    for reach in (0, 1, 3):
        numbers = {n for line in range(fault.line - reach, fault.line + reach + 1) for n in by_line.get(line, ())}
        if numbers:
            return [known.cases[n] for n in sorted(numbers)]
    return []


def ops_of(fault: Fault, covered: Iterable[Case]) -> list[str]:
    """Return the ops concerned: those of the cases, else those the fault's file defines."""
    from portable_nn.core.registry import OPS

    inside = [name for name, op in OPS.items() if op.body.__module__.replace(".", "/") + ".py" == fault.path]
    scope = fault.scope.split(".")[0]
    own = [name for name in inside if name == scope or name.startswith(f"{scope}_grad")]
    return own or list(dict.fromkeys(case.op for case in covered)) or inside


def affected(fault: Fault, known: Concerns, before: str) -> list[tuple[Case, tuple[Any, ...]]]:
    """Return the cases that launch a program whose text, after the preprocessor, the fault changes; with the program."""
    if fault.layer == "kernel (numba)":
        kernels = _twins(fault)
        launches = [x for x in known.launches if x[1] in kernels and known.cases[x[0]].rung == "opencl:gpu"]
        programs = {(x[1], x[3]) for x in launches}
        return _by_program([(known.cases[n], (kernel, defines)) for n, kernel, _, defines in launches if (kernel, defines) in programs])
    name = Path(fault.path).name
    launches = [x for x in known.launches if name in _included(x[2])]
    launches = [x for x in launches if x[1] == fault.scope] or launches
    launches.sort(key=lambda x: known.cases[x[0]].dtype != "float32")
    changed: dict[tuple[Any, ...], bool] = {}
    found = []
    for n, _, source, defines in launches:
        program = (source, defines)
        if program not in changed:
            changed[program] = sum(changed.values()) >= PROGRAMS or len(changed) >= COMPARED or _differs(source, defines, name, before)
        if changed[program]:
            found.append((known.cases[n], program))
    return _by_program(found)


def _by_program(found: list[tuple[Case, tuple[Any, ...]]]) -> list[tuple[Case, tuple[Any, ...]]]:
    """Put two cases of each program together, programs of many cases first, then the next two of each.

    Compiling takes longer than a case; but whether a fault shows depends on the program's settings more than on the case.
    """
    piles: dict[tuple[Any, ...], list[tuple[Case, tuple[Any, ...]]]] = defaultdict(list)
    for case, program in found:
        piles[case.rung, program].append((case, program))
    ordered = sorted(piles.values(), key=len, reverse=True)
    return [pair for at in range(0, len(ordered[0]) if ordered else 0, 2) for pile in ordered for pair in pile[at : at + 2]]


@cache
def _included(source: str) -> frozenset[str]:
    from portable_nn_kernels.source import kernel_file

    text = source if "\n" in source else kernel_file(source)
    names = set(re.findall(r'#[ \t]*include[ \t]+"([\w.]+)"', text))
    inner = frozenset().union(*(_included(n) for n in names)) if names else frozenset()
    return frozenset({source} | names | inner | {"prelude_common.h"})


def _differs(source: str, defines: tuple[Any, ...], name: str, before: str) -> bool:
    from portable_nn_kernels import source as texts

    after = texts.program_text(source, (("PNN_F64", 1), *defines), "cuda")
    original = texts.kernel_file
    with patch.object(texts, "kernel_file", lambda file: before if file == name else original(file)):
        texts.program_text.cache_clear()
        plain = texts.program_text(source, (("PNN_F64", 1), *defines), "cuda")
    texts.program_text.cache_clear()
    return plain != after and _preprocessed(plain) != _preprocessed(after)


def _preprocessed(text: str) -> str:
    done = subprocess.run(["cpp", "-P", "-w", "-D__CUDA_ARCH__=800"], input=re.sub(r"#\s*include\s*<[^>]*>", "", text), capture_output=True, text=True, check=False)
    return done.stdout


def _twins(fault: Fault) -> set[str]:
    """Return the kernels of numba a fault can change: the one it lies in, or those of the files that use its file."""
    folder = Path(fault.path).parent
    users: dict[str, set[str]] = defaultdict(set)
    kernels: dict[str, dict[str, set[str]]] = {}
    for path in folder.glob("*.py"):
        tree = ast.parse(path.read_text())
        kernels[path.stem] = {
            f.name: {a.args[0].value for a in f.decorator_list if isinstance(a, ast.Call) and getattr(a.func, "id", "") == "kernel" and isinstance(a.args[0], ast.Constant)}
            for f in tree.body if isinstance(f, ast.FunctionDef)
        }  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.level:
                users[node.module.split(".")[0]].add(path.stem)
    stem = Path(fault.path).stem
    own = kernels[stem].get(fault.scope.split(".")[0])
    if own:
        return own
    reached, todo = set(), [stem]
    while todo:
        module = todo.pop()
        if module not in reached:
            reached.add(module)
            todo += users[module]
    return {name for module in reached for found in kernels.get(module, {}).values() for name in found}


def others(known: Concerns, ops: Iterable[str]) -> Iterator[Case]:
    """Yield the gradients and wrong calls of ops."""
    wanted = set(ops)
    return (case for case in known.cases if case.op in wanted and case.way != "forward")

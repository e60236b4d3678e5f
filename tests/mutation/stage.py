"""Private copies of the repository, and child processes in them: a fault never touches the working tree, nor another fault's run.

A worker imports what is heavy and not ours (NumPy, PyOpenCL, numba, pytest) once; a child is forked for each fault, imports the
library from the copy, and dies with it. Compiled programs go to a cache of the worker's own, which starts with the user's.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .concern import Concerns, record
from .fault import Fault
from .judge import Verdict, confirm, judge

ROOT = Path(__file__).parents[2]
CASE_SECONDS = 20.0  # of the processor; a check that takes longer hangs: the slowest takes a few
CASE_WAIT = 400.0  # by the clock: a check that sleeps hangs too
LIBRARY = ("portable_nn.ops", "portable_nn.testing", "portable_nn_kernels.device", "portable_nn_kernels.rehearsal", "portable_nn_opencl.files")
HEAVY = ("numpy", "ml_dtypes", "array_api_compat", "scipy", "pytest", "pyopencl", "numba", "numba.cuda")
PARTS = ("portable_nn", "backends", "tests", "docs", "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "examples", "asv_bench", ".ci")


def preload() -> None:
    """Import what every child needs and no fault changes."""
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    for name in HEAVY:
        with suppress(Exception):
            importlib.import_module(name)


def commit(root: Path = ROOT) -> str:
    """Return the commit of the checkout; nothing where there is no git."""
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def copy(target: Path, working: bool = False) -> Path:
    """Copy the last commit (or the files as they are) to `target`; a checkout without git is copied as it is."""
    target.mkdir(parents=True)
    if commit() and not working:
        packed = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(target)], input=packed, check=True)
    else:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".git", "_build")
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, target / part, ignore=ignored)
            elif source.exists():
                shutil.copy2(source, target / part)
    # Byte code that is checked against the text, not its time: a fault may come and go within a second.
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "portable_nn", "backends", "tests"]
    subprocess.run(command, cwd=target, check=False, capture_output=True)
    return target


def _own_cache(user: Path, folder: Path) -> None:
    """Give this process a cache of compiled programs that starts with what the user's holds."""
    own = folder / "cache" / "portable_nn"

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    if user.exists():
        with suppress(shutil.Error, OSError):  # others write to it meanwhile
            shutil.copytree(user, own, copy_function=link, ignore=shutil.ignore_patterns(".new-*", "offline", "mutation"))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")


def _spent(pid: int) -> float:
    """Return the processor seconds of a process; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


class Stage:
    """One worker's place: a copy, a cache, and children that run in it.

    Parameters
    ----------
    working : bool
        Copy the files as they are, not the last commit.
    like : Path, optional
        A copy to copy instead.
    """

    def __init__(self, working: bool = False, like: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="portable_nn-mutation-"))
        self.root = copy(self.folder / "tree", working) if like is None else Path(shutil.copytree(like, self.folder / "tree"))
        self.working = working
        self.user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "portable_nn"
        _own_cache(self.user, self.folder)
        self.warmed = False

    def close(self) -> None:
        """Remove all of it, and go back to the user's cache."""
        os.environ["XDG_CACHE_HOME"] = str(self.user.parent)
        shutil.rmtree(self.folder, ignore_errors=True)

    def warm(self) -> None:
        """Import the copy's library here, so that a child need not; what a fault changes is imported again."""
        self._path()
        for name in LIBRARY:
            importlib.import_module(name)
        self.warmed = True

    def _path(self) -> None:
        ours = {str(ROOT), str(ROOT / "backends"), str(ROOT / "tests"), "", "."}
        kept = [p for p in sys.path if p not in ours]
        sys.path[:] = [str(self.root), str(self.root / "backends"), str(self.root / "tests"), *kept]
        sys.dont_write_bytecode = True

    def _forget(self, path: str) -> None:
        """Drop modules that a fault in `path` changes, or all of another tree."""
        python = path.endswith(".py") or not path
        gone = ("portable_nn", "cuda_cpu", "numba_cpu") if not self.warmed or path.startswith("portable_nn/") else ("portable_nn_",)
        for name in list(sys.modules):
            if name.startswith(gone) and (python or not self.warmed):
                del sys.modules[name]

    def child(self, work: Callable[[Callable[[str, str], None]], Any], limit: float, path: str = "") -> tuple[Any, str, str, str]:
        """Run `work` in a child, where the file `path` is new; return its result (None if it died), how it died, and the last check it began."""
        result, state = self.folder / "result", self.folder / "state"
        for old in (result, state):
            old.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            self._run(work, result, state, path)
        start, how = time.monotonic(), ""
        last, began, since = 0, 0.0, start
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}" if status else ""
                break
            now = state.stat().st_mtime_ns if state.exists() else 0
            if now != last:
                last, began, since = now, _spent(pid), time.monotonic()
            stuck = _spent(pid) - began > CASE_SECONDS or time.monotonic() - since > CASE_WAIT
            if (stuck and last) or time.monotonic() - start > limit:
                how = "hang" if stuck and last else "limit"
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what it started
        test, _, rung = state.read_text().partition("\n") if state.exists() else ("", "", "")
        made = None
        if result.exists() and not how:
            made = pickle.loads(result.read_bytes())
        return made, how, test, rung

    def _run(self, work: Callable[[Callable[[str, str], None]], Any], result: Path, state: Path, path: str) -> None:
        """Be the child: from here on the library is the copy's."""
        try:
            os.setsid()
            with suppress(Exception):  # die with the worker (PR_SET_PDEATHSIG of Linux): a fault may loop for ever
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(os.open(str(self.folder / "stderr"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            os.chdir(self.root)
            self._path()
            self._forget(path)
            for name in ("PORTABLE_NN_BACKEND", "PYTHONPATH"):
                os.environ.pop(name, None)
            os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:3])

            def note(test: str, rung: str) -> None:
                state.write_text(f"{test}\n{rung}")

            made = work(note)
            result.with_suffix(".new").write_bytes(pickle.dumps(made))
            os.replace(result.with_suffix(".new"), result)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
            os._exit(3)

    def record(self, again: bool = True) -> Concerns:
        """Return the recorded concerns of the unchanged tree; those of a commit are kept in the user's cache.

        Without `again` the newest kept ones will do: a line that moved since finds its neighbours' tests.
        """
        kept = self.user / "mutation" / f"{commit()}.pickle"
        if not again and not kept.exists():
            kept = max(kept.parent.glob("*.pickle"), key=lambda p: p.stat().st_mtime, default=kept)
        if kept.exists() and not self.working:
            found: Concerns = pickle.loads(kept.read_bytes())
            return found
        made, how, test, _ = self.child(lambda note: record(self.root, lambda done, of: note(f"{done}/{of}", "record")), 1800)
        if made is None:
            raise RuntimeError(f"the samples could not be recorded ({how}, at {test}): {(self.folder / 'stderr').read_text()[-2000:]}")
        if not self.working and commit():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(pickle.dumps(made))
        return made  # type: ignore[no-any-return]

    def run(self, fault: Fault, known: Concerns, budget: float) -> Verdict:
        """Plant a fault, run what concerns it, take it out again."""
        path = self.root / fault.path
        before = path.read_text()
        start = time.monotonic()
        path.write_text(fault.applied(before))
        try:
            found, how, test, rung = self.child(
                lambda note: judge(fault, known, before, budget, note), 40 * budget + CASE_WAIT, fault.path
            )
        finally:
            path.write_text(before)
        verdict: Verdict
        if found is None and how == "limit":
            verdict = Verdict("survived", message="out of time in " + test, complete=False)
        elif found is None and not test:
            said = (self.folder / "stderr").read_text()[-300:].replace("\n", " ")
            verdict = Verdict("invalid", message=f"died before the first check: {how} {said}")
        elif found is None:
            verdict = Verdict("caught", rung, test, "hang" if how == "hang" else "crash", how)
        else:
            verdict = found
        return replace(verdict, seconds=round(time.monotonic() - start, 1))

    def failing(self, tests: list[str]) -> list[str]:
        """Return those tests that fail on the unchanged tree: what they failed on with a fault proves nothing."""
        made, how, test, _ = self.child(lambda note: [t for t in tests if not confirm(t, note)], 3600)
        if made is None:
            raise RuntimeError(f"the unchanged tree could not be tested ({how}, at {test}): {(self.folder / 'stderr').read_text()[-2000:]}")
        return list(made)


def entry(fault: Fault, verdict: Verdict) -> dict[str, Any]:
    """Return what is written down."""
    told = {k: v for k, v in asdict(verdict).items() if v not in ("", None)}
    return {
        "id": fault.id, "family": fault.family, "layer": fault.layer, "kind": fault.kind, "line": fault.line,
        "before": fault.before, "after": fault.after, **told,
    }  # fmt: skip

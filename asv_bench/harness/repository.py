"""Commits and checkouts of the repository that is benchmarked, through git."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .session import SUITE

ROOT = SUITE.parent
PATHS = ("backends/portable_nn_kernels", "backends/portable_nn_opencl", "backends/portable_nn_numpy", "portable_nn/core")
"""What a commit must change to be in the history of a machine without a GPU: kernels, plans, two adapters, dispatch."""


class GitError(Exception):
    """git refused; the message is its own."""


@dataclass(frozen=True)
class Commit:
    """A commit: its hash, date in seconds, and first line."""

    hash: str
    date: int
    subject: str

    @property
    def date_ms(self) -> int:
        """The date as asv writes it."""
        return self.date * 1000


def git(*arguments: str, root: Path = ROOT) -> str:
    """Run git in the repository; return what it printed."""
    ran = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    if ran.returncode:
        raise GitError(f"git {' '.join(arguments)}: {ran.stderr.strip() or 'failed'}")
    return ran.stdout


def commits(span: str = "HEAD", paths: Sequence[str] = (), last: int | None = None, root: Path = ROOT) -> list[Commit]:
    """Return the commits of a range that touch `paths`, newest first; at most `last` of them."""
    limit = [f"-{last}"] if last else []
    lines = git("log", *limit, "--format=%H%x1f%ct%x1f%s", span, "--", *paths, root=root).splitlines()
    return [Commit(name, int(date), subject) for name, date, subject in (line.split("\x1f", 2) for line in lines)]


def commit(name: str, root: Path = ROOT) -> Commit:
    """Return one commit by any name git knows it by."""
    return commits(git("rev-parse", "--verify", f"{name}^{{commit}}", root=root).strip(), last=1, root=root)[0]


@contextmanager
def checkout(name: str, root: Path = ROOT) -> Iterator[Path]:
    """Give a copy of the repository at a commit, in a temporary worktree."""
    with tempfile.TemporaryDirectory(prefix="portable-nn-bench-") as folder:
        path = Path(folder) / "copy"
        git("worktree", "add", "--detach", "--quiet", str(path), name, root=root)
        try:
            yield path
        finally:
            git("worktree", "remove", "--force", str(path), root=root)

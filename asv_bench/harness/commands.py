"""What `portable-nn bench` does: each function is a command, takes its options and returns the exit code."""

from __future__ import annotations

import ast
import csv
import json
import re
import tempfile
import webbrowser
from argparse import Namespace
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import quantiles
from time import time
from typing import Any

from benchmarks.choice import PROFILES

from . import compare as comparing
from . import confirm, site_data, store
from . import functions as named
from . import history as past
from . import libraries as peers
from .measure import Budget, Measured
from .progress import shown
from .repository import PATHS, ROOT, GitError, commit, commits, git
from .session import Asked, Session, WorkerDied

_ENVIRONMENT = {"profile": "PROFILE", "ops": "OPS", "backend": "BACKENDS", "dtype": "DTYPES", "direction": "DIRECTIONS", "cases": "CASES"}


class Refused(Exception):
    """The command cannot do what was asked; the message says what is needed."""


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what can go wrong outside into a message."""
    try:
        yield
    except (GitError, WorkerDied, Asked, ValueError, RuntimeError, OSError) as error:
        raise Refused(str(error)) from error


def _environment(options: Namespace) -> dict[str, str]:
    chosen = {variable: getattr(options, name, None) for name, variable in _ENVIRONMENT.items()}
    if chosen["CASES"]:
        chosen["CASES"] = str(Path(chosen["CASES"]).resolve())
    return {f"PORTABLE_NN_BENCH_{variable}": value for variable, value in chosen.items() if value}


def _seconds(value: float) -> str:
    return comparing.text_of(value)


def run(options: Namespace) -> int:
    """Measure the checkout."""
    profile = PROFILES[options.profile]
    with _refusing(), shown(profile.pace) as show:
        if options.save and (changed := git("status", "--porcelain", "--untracked-files=no").strip()):
            raise Refused(f"--save: files differ from the commit that is checked out ({changed.splitlines()[0].strip()}); commit first, or leave out --save")
        started = time()
        about, passes, peaks = past.measure_copy(ROOT, _environment(options), options.match, Budget(passes=1), lambda at, of, m: show(at, of, m.case.title))
        found = store.merged(passes, None)
        if not found:
            raise Refused("no case matches what was asked for (--ops, --match, --backend, --dtype, --direction); `portable-nn ops` lists the ops")
        rows = [_row(m) for m in found]
    width = max((len(m.case.title) for m in found), default=0)
    for m in found:
        if m.value is not None:
            text = _seconds(m.value) if m.kind == "time" else f"{m.value:.4g}"
            print(f"{m.case.title:{width}}  {text:>9}  {_spread(m.samples)}")
    for state in ("skipped", "failed"):
        some = [m for m in found if m.state == state]
        for reason in dict.fromkeys(m.reason for m in some):
            same = [m for m in some if m.reason == reason]
            print(f"{state}: {len(same)} cases ({same[0].case.title}{', ...' if len(same) > 1 else ''}): {reason}")
    for module, reason in about["broken"].items():
        print(f"not loaded: benchmarks/{module}.py: {reason}")
    _export(options, rows)
    if options.save:
        past.record(about, passes, peaks, commit("HEAD"), store.this_machine(options.machine), store.RESULTS, started)
        print(f"kept in {store.result_path(store.this_machine(options.machine).machine, commit('HEAD').hash)}")
    return 1 if any(m.state == "failed" for m in found) else 0


def _spread(samples: list[float]) -> str:
    if len(samples) < 4:
        return ""
    low, _, high = quantiles(samples, n=4)
    return f"+{(high - min(samples)) / min(samples):.0%} at the third quartile of {len(samples)} bursts" if low else ""


def _row(m: Measured) -> dict[str, Any]:
    return {"benchmark": m.case.name, "parameters": ", ".join(p.strip("'") for p in m.case.params), "state": m.state, "value": m.value,
            "bursts": len(m.samples), "repeats": m.calls, "reason": m.reason, **(m.work or {})}  # fmt: skip


def _export(options: Namespace, rows: list[dict[str, Any]]) -> None:
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    if options.csv:
        names = list(dict.fromkeys(name for row in rows for name in row))
        with open(options.csv, "w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, names, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)


def compare(options: Namespace) -> int:
    """Measure two copies in turn and print the table."""
    with _refusing(), shown(2 * PROFILES[options.profile].pace) as show, comparing.sides(options.base, options.head, (options.python_a, options.python_b)) as (base, head):
        found, about, pairs = comparing.compare(
            base, head, _environment(options), pattern=options.match, threshold=options.threshold, seen=lambda at, of, made: show(at, of, made.case.title)
        )
        text = comparing.markdown(found, base, head, options.threshold)
        if options.results:
            comparing.save(about, pairs, base, head, Path(options.results), store.this_machine())
    print(text, end="")
    if options.markdown:
        Path(options.markdown).write_text(text, "utf-8")
    _export(options, comparing.rows(found))
    return 1 if options.fail_on_slower and any(v.verdict == "slower" for v in found) else 0


def history(options: Namespace) -> int:
    """Measure commits without results."""
    machine = store.this_machine(options.machine)
    results = Path(options.results).resolve() if options.results else store.RESULTS
    with _refusing(), shown(PROFILES[options.profile].pace) as show:
        wanted = commits(options.range, options.path or PATHS, options.last)
        if options.dry_run:
            for found in past.missing(wanted, machine.machine, results):
                print(found.hash[:8], found.subject)
            return 0
        environment = {"OPENBLAS_NUM_THREADS": "1", **_environment(options)}  # BLAS in one thread: the history asks what changed, not who is faster
        past.fill(wanted, machine, environment, Budget(passes=options.passes), lambda line: print(line, flush=True), results, pattern=options.match, most=options.most,
                  seen=lambda at, of, m: show(at, of, m.case.title))  # fmt: skip
        if options.confirm:
            confirm.confirm(machine.machine, environment, results, lambda line: print(line, flush=True))
    return 0


def _interpreters(given: list[str], names: Collection[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, python = text.partition("=")
        if not equals or name not in names:
            raise Refused(f"--with {text}: LIBRARY=PROGRAM is needed, of {', '.join(names)}")
        found[name] = python
    return found


def functions(options: Namespace) -> int:
    """Time our ops and other libraries' functions of the same name in turn."""
    pythons = {**dict.fromkeys(named.LIBRARIES), **_interpreters(options.pythons, named.LIBRARIES)}
    with _refusing(), shown() as show:
        found = named.measure(pythons, store.this_machine(options.machine).machine, _environment(options), store.RESULTS, print, show, options.match)
    for name, library in found.items():
        for key, said in sorted(library.get("ratios", {}).items(), key=lambda item: -item[1]["ratio"]):
            print(f"{said['ratio']:8.2f}  {key}: {_seconds(said['ours'])}, {name} {_seconds(said['theirs'])} ({said['function']})")
    return 0


def libraries(options: Namespace) -> int:
    """Measure the rows on every peer, in turn, and print the table."""
    wanted = re.compile(options.rows)
    chosen = [r for r in peers.ROWS if wanted.search(r.name)]
    asked = options.peers.split(",") if options.peers else list(peers.PEERS)
    for name in (*asked, options.base):
        if name not in peers.PEERS:
            raise Refused(f"there is no peer {name!r}; the peers are {', '.join(peers.PEERS)}")
    if not chosen:
        raise Refused(f"--rows {options.rows}: no row matches; --list names them")
    if options.list:
        for r in chosen:
            print(r.name)
        for name in asked:
            print(f"{name:14} {peers.PEERS[name].says}")
        return 0
    path = Path(options.json or "peers.json")
    with _refusing():
        if options.show:
            results = peers.read(path)
        else:
            with shown() as show:
                results = peers.measure(
                    chosen, asked, path, pythons=_interpreters(options.pythons, peers.PEERS), again=options.again, rounds=options.rounds,
                    patience=options.patience, seen=show, tell=lambda line: print(line, flush=True),
                )  # fmt: skip
    rows = peers.table(chosen, asked, results, options.base)
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    for line in rows:
        print("  ".join(f"{text:{width}}" if i < 2 else f"{text:>{width}}" for i, (text, width) in enumerate(zip(line, widths, strict=True))))
    if options.markdown:
        Path(options.markdown).write_text(peers.markdown(rows, asked, results, options.base), "utf-8")
    if options.csv:
        _export(Namespace(json=None, csv=options.csv), peers.records(chosen, results))
    return 0


def site(options: Namespace) -> int:
    """Build the site and open it."""
    from . import site as pages

    out = Path(options.out).expanduser().resolve() if options.out else ROOT / "asv_bench" / "html"
    with _refusing():
        results = Path(options.results).resolve() if options.results else store.RESULTS
        first = pages.build(out, results=results, recent=options.recent, with_asv=not options.no_asv, libraries=[Path(f) for f in options.libraries])
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{first}: {size / 1e6:.1f} MB")
    if not options.no_open:
        webbrowser.open(first.as_uri())
    return 0


def op(options: Namespace) -> int:
    """Time one call, and say how far it is from what the device can do."""
    environment = {"PORTABLE_NN_BENCH_PROFILE": "full", "PORTABLE_NN_BENCH_OPS": options.op, "PORTABLE_NN_BENCH_BACKENDS": options.backend,
                   "PORTABLE_NN_BENCH_DTYPES": options.dtype, "PORTABLE_NN_BENCH_DIRECTIONS": options.direction}  # fmt: skip
    with _refusing(), tempfile.TemporaryDirectory() as folder:
        if options.shape:
            path = Path(folder) / "case.toml"
            path.write_text(_case(options), "utf-8")
            environment["PORTABLE_NN_BENCH_CASES"] = str(path)
        elif options.set:
            raise Refused("--set was given without --shape; give the shape of every operand too, since the record's case has its own settings")
        with Session(ROOT, environment) as session:
            name = f"ops.{options.op}.time_call"
            found = [b for b in session.about["benchmarks"] if b["name"] == name]
            if not found:
                raise Refused(session.about["broken"].get("ops") or f"there is no op named {options.op!r}; `portable-nn ops` lists them")
            ready = session.ask("prepare", name=name, index=0, timeout=300)
            if ready["state"] != "ready":
                raise Refused(f"{options.op} {ready['state']}: {ready['reason']}")
            samples = [session.ask("burst", seconds=0.02)["seconds"] for _ in range(15)]
            launches = session.ask("launches", backend=options.backend)
            peaks = session.ask("peaks", backend=options.backend, timeout=300)
        case = found[0]["params"][2][0].strip("'")
    best, work = min(samples), ready["work"]
    least = site_data.ceiling([peaks], work["flops"], work["bytes"])
    answer = {"op": options.op, "case": case, "backend": options.backend, "device": peaks["device"]["name"], "dtype": options.dtype, "direction": options.direction,
              "seconds": best, "third_quartile": quantiles(samples, n=4)[2], "flops": work["flops"], "bytes": work["bytes"], "calls": work["calls"],
              "roofline_seconds": least, "roofline_reached": min(1.0, least / best), "launches": launches}  # fmt: skip
    if options.json:
        print(json.dumps(answer, indent=2))
        return 0
    print(f"{options.op}, {case}, {options.dtype}, {options.direction} on {options.backend}: {peaks['device']['name']}")
    print(f"time      {_seconds(best)}, {_spread(samples)}")
    print(f"work      {work['flops'] / 1e6:,.3f} Mflop, {work['bytes'] / 1e6:,.3f} MB: {work['flops'] / best / 1e9:.1f} GFLOP/s, {work['bytes'] / best / 1e9:.1f} GB/s")
    print(f"roofline  {_seconds(least)} at {peaks['flops'] / 1e9:.0f} GFLOP/s and the rate of copies of that size: {min(1.0, least / best):.0%} reached")
    for launch in launches:
        print(f"launch    {launch['kernel']}: {_seconds(launch['ns'] / 1e9)}, {launch['bytes'] / 1e6:,.3f} MB")
    if not launches:
        print("launches  this backend does not time its kernels")
    return 0


def _case(options: Namespace) -> str:
    shapes = []
    for text in options.shape:
        try:
            shapes.append([int(n) for n in text.replace("x", ",").split(",") if n])
        except ValueError:
            raise Refused(f"--shape {text}: lengths separated by commas are needed, such as 8,16,32,32") from None
    args = ", ".join(f"{{shape = {shape}}}" for shape in shapes)
    settings = []
    for text in options.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise Refused(f"--set {text}: NAME=VALUE is needed, such as stride=2")
        with suppress(ValueError, SyntaxError):  # anything else is text
            value = ast.literal_eval(value)
        settings.append(f"{name} = {json.dumps(list(value) if isinstance(value, tuple) else value)}")
    return f'[[case]]\nop = "{options.op}"\nname = "{" ".join(options.shape)}"\nargs = [{args}]\nsettings = {{{", ".join(settings)}}}\n'

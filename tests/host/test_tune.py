"""Tuned sizes: what is declared, which file counts, what the search decides and keeps; times are given, not taken."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import portable_nn_numpy
from portable_nn.cli import main
from portable_nn.core import dtypes, registry, selection, tuning
from portable_nn.core.array import DeviceArray
from portable_nn.core.errors import ArgumentError
from portable_nn.core.samples import A, bench, draw
from portable_nn.core.spec import Spec
from portable_nn.core.tuning import Tunable, TuningIgnored
from portable_nn.testing.cases import Drawn, spec_of
from portable_nn.tune import Search, trial
from portable_nn_kernels import sizes
from portable_nn_kernels.launch import Profile

KERNELS = Path(sizes.__file__).parent
CPU, GPU = Profile("cpu", vendor="intel", name="some cpu"), Profile("gpu", vendor="nvidia", name="some gpu")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(tuning.VARIABLE, str(tmp_path))
    return tmp_path


def test_every_size_is_declared_and_read() -> None:
    read = {name for path in (KERNELS / "plans").glob("*.py") for name in re.findall(r'"((?:cpu|gpu)\.\w+\.\w+)"', path.read_text())}
    assert read == set(sizes.declared())
    for name, t in sizes.declared().items():
        assert t.default in t.candidates, name
        assert len(t.candidates) > 1, name
        assert t.says, name


def test_every_size_changes_what_is_launched() -> None:
    """On the calls that decide it, some candidate plans other launches than the default."""
    idle = []
    for name, t in sizes.declared().items():
        null = selection.get("null", name.partition(".")[0])
        found = set()
        for value in t.candidates:
            null.use_sizes({name: value})
            plans = []
            for op_name, case in t.calls:
                op = registry.find(op_name)
                given = Drawn(case.args, case.settings).map(lambda a, null=null: null.allocate(spec_of_operand(a)), A)
                with selection.use_backend(null):
                    _, entry = op.apply(given.args, dict(given.settings))
                plans.append(repr(null.plan(op, entry.call)))
            found.add(tuple(plans))
        null.use_sizes({})
        if len(found) == 1:
            idle.append(name)
    assert not idle


def spec_of_operand(a: A) -> Spec:
    """Return the spec of an operand; only views are drawn for it."""
    dtype = dtypes.canonical(a.dtype or "float32")
    return spec_of(draw(a, dtype, np.random.default_rng(0))) if a.view else Spec(a.shape, dtype)


def test_shipped_files_choose_among_candidates() -> None:
    for path in sorted((KERNELS / "tuning" / "devices").glob("*.json")):
        found = json.loads(path.read_text())
        assert found["says"], path.name
        assert found["for"], path.name
        assert all(hasattr(CPU, field) for field in found["for"]), path.name
        assert tuning.accepted(found["sizes"], sizes.declared().values()) == found["sizes"], path.name
        assert all(name.startswith(found["for"]["shape"]) for name in found["sizes"]), path.name


def test_what_names_more_counts_more(monkeypatch: pytest.MonkeyPatch) -> None:
    files = (({"shape": "gpu"}, {"gpu.map.items": 2, "gpu.map.group": 64}), ({"shape": "gpu", "vendor": "amd"}, {"gpu.map.items": 8}))
    monkeypatch.setattr(sizes, "_files", lambda: files)
    assert sizes.shipped(GPU) == {"gpu.map.items": 2, "gpu.map.group": 64}
    assert sizes.shipped(Profile("gpu", vendor="amd")) == {"gpu.map.items": 8, "gpu.map.group": 64}
    assert sizes.shipped(CPU) == {}
    assert {t.name: t.default for t in sizes.tunables(GPU)}["gpu.map.items"] == 2
    assert sizes.with_sizes(GPU, "cupy").size("gpu.map.items") == 2


def kept(folder: Path, **more: Any) -> Path:
    """Write a file for CPU on opencl."""
    path = tuning.path_of("opencl", CPU.name)
    assert path is not None
    assert path.parent == folder
    record = {"format": tuning.FORMAT, "backend": "opencl", "device": CPU.name, "version": "0", "tunables": tuning.digest(sizes.tunables(CPU)), "sizes": {}}
    tuning.write(path, record | more)
    return path


def test_the_users_file_counts(folder: Path) -> None:
    kept(folder, sizes={"cpu.map.work": 8192, "cpu.map.groups": 3, "gpu.map.items": 8, "no.such.size": 1})
    profile = sizes.with_sizes(CPU, "opencl")
    assert profile.size("cpu.map.work") == 8192
    assert profile.size("cpu.map.groups") == sizes.default("cpu.map.groups"), "3 is no candidate"
    assert set(profile.sizes) == {"cpu.map.work"} | set(sizes.shipped(CPU))
    assert sizes.with_sizes(CPU, "cupy").sizes == sizes.shipped(CPU), "a file is of one backend"


@pytest.mark.parametrize(("more", "words"), [({"tunables": "other"}, "other sizes"), ({"format": 99}, "format"), ({"sizes": []}, "not a file")])
def test_a_stale_file_is_ignored_and_said(folder: Path, more: dict[str, Any], words: str) -> None:
    kept(folder, **{"sizes": {"cpu.map.work": 8192}, **more})
    with pytest.warns(TuningIgnored, match=words):
        assert sizes.with_sizes(CPU, "opencl").sizes == sizes.shipped(CPU)


def test_a_broken_file_is_ignored_and_said(folder: Path) -> None:
    kept(folder).write_text("{")
    with pytest.warns(TuningIgnored, match="not a file of tuned sizes"):
        assert sizes.with_sizes(CPU, "opencl").sizes == sizes.shipped(CPU)


def test_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tuning.VARIABLE, "off")
    assert tuning.path_of("opencl", "x") is None
    assert tuning.of_user("opencl", "x", ()) == {}


def test_another_set_has_another_digest() -> None:
    a, b = Tunable("a", "", 1, (1, 2), ()), Tunable("b", "", 1, (1, 2), ())
    assert tuning.digest([a, b]) == tuning.digest([b, a])
    assert len({tuning.digest(x) for x in ([a], [a, b], [Tunable("a", "", 1, (1, 2, 3), ())])}) == 3


# -- the search, on NumPy with sizes that plan nothing --------------------------------------------------------------------

CALLS = (("relu", bench("a", A((4, 5)))), ("add", bench("b", A((3, 2)), A((3, 2)))))
TUNABLES = (Tunable("cpu.one.size", "a size", 1, (1, 2, 3, 4, 5), CALLS), Tunable("cpu.two.size", "another", 7, (7, 8), CALLS[1:]))


class Fake(portable_nn_numpy.NumpyBackend):
    """Computes wrongly with size 3, fails with 4, and has a speed for the others. Its arrays are its own, so that calls come here."""

    name, device = "numpy", "fake"

    def __init__(self) -> None:
        super().__init__()
        self.now: dict[str, Any] = {}
        self.last: dict[str, Any] = {}

    def tunables(self) -> tuple[Tunable, ...]:
        return TUNABLES

    def use_sizes(self, given: Any) -> None:
        self.now = dict(given)
        for op in registry.OPS.values():
            op.forget()

    def from_numpy(self, x: Any) -> Any:
        return DeviceArray(x.copy(), spec_of(x.copy()), 0, self)

    def to_numpy(self, x: Any) -> Any:
        return x.storage

    def spec_of(self, x: Any) -> Any:
        return x.spec

    def prepare(self, op: Any, call: Any) -> Any:
        plain, then = super().prepare(op, call), self.now
        if then.get("cpu.one.size") == 4:
            raise MemoryError("too large for the device")

        def run(operands: Any) -> Any:
            self.last = then
            made = plain([x.storage if isinstance(x, DeviceArray) else x for x in operands])
            wrong = then.get("cpu.one.size") == 3 and op.name == "add"
            return tuple(self.from_numpy(np.asarray(y + 1 if wrong else y)) for y in made)

        return run


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    backend, speeds = Fake(), {"cpu.one.size": {1: 1.0, 2: 0.5, 5: 0.97}, "cpu.two.size": {7: 1.0, 8: 2.0}}
    wobble = iter(np.tile([1.0, 1.01, 0.99], 10000))

    def burst(self: Any, run: Any, calls: int) -> float:
        run()
        return 1e-3 * next(wobble) * np.prod([speeds[name][value] for name, value in backend.last.items() if name in speeds])

    monkeypatch.setattr(trial.Trial, "_burst", burst)
    return SimpleNamespace(backend=backend, speeds=speeds, new=lambda **more: Search(backend, tmp_path / "device.json", **more))


def test_the_fastest_that_is_right_wins(search: SimpleNamespace) -> None:
    one = search.new()
    found = {t.name: tried for t, tried in one.run(one.wanted(), None)}
    assert [(t.value, t.state) for t in found["cpu.one.size"]] == [(1, "default"), (2, "timed"), (3, "wrong"), (4, "fails"), (5, "timed")]
    assert "add: y" in found["cpu.one.size"][2].why
    assert "too large" in found["cpu.one.size"][3].why
    assert one.sizes == {"cpu.one.size": 2}, "a gain of 3 % is within the margin, and 8 is slower than 7"
    assert search.backend.now == {"cpu.one.size": 2, "cpu.two.size": 7}, "what was found is in use"
    kept = tuning.read(one.path)
    assert kept["sizes"] == {"cpu.one.size": 2}
    assert kept["device"] == "fake"


def disturbed(search: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, factor: Any) -> dict[str, Any]:
    """Search where the time of every burst is multiplied."""
    plain = trial.Trial._burst

    def burst(self: Any, run: Any, calls: int) -> float:
        return plain(self, run, calls) * factor()

    monkeypatch.setattr(trial.Trial, "_burst", burst)
    one = search.new()
    list(one.run(one.wanted(), None))
    return one.sizes


def test_disturbances_do_not_hide_a_gain(search: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    factors = iter(np.random.default_rng(0).choice([1.0, 4.0, 9.0], 10000))
    assert disturbed(search, monkeypatch, lambda: next(factors)) == {"cpu.one.size": 2}


def test_noise_larger_than_the_gain(search: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    search.speeds["cpu.one.size"][2] = 0.9
    factors = iter(np.tile([0.8, 1.2], 10000))  # fast in every other round: which of the two it is cannot be told
    assert disturbed(search, monkeypatch, lambda: next(factors) if search.backend.last.get("cpu.one.size") == 2 else 1.0) == {}


def test_faster_on_one_call_but_slower_on_another() -> None:
    assert trial.Tried(2, "timed", ratios=[0.6, 0.9]).wins
    assert not trial.Tried(2, "timed", ratios=[0.6, 1.2]).wins
    assert not trial.Tried(2, "wrong", ratios=[0.5]).wins


def test_stopped_and_gone_on_with(search: SimpleNamespace) -> None:
    one = search.new()

    def stop(t: Tunable) -> None:
        if t.name == "cpu.two.size":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(one.run(one.wanted(), None, stop))
    two = search.new()
    assert two.sizes == {"cpu.one.size": 2}
    assert [t.name for t in two.wanted()] == ["cpu.two.size"]
    list(two.run(two.wanted(), None))
    assert search.new().wanted() == []
    assert len(search.new(again=True).wanted()) == 2


def test_no_budget_left(search: SimpleNamespace) -> None:
    one = search.new()
    assert list(one.run(one.wanted(), 0.0)) == []
    assert not one.path.exists()


def test_ops_choose(search: SimpleNamespace) -> None:
    one = search.new()
    assert [t.name for t in one.wanted(("relu",))] == ["cpu.one.size"]
    assert [t.name for t in one.wanted(("cpu.two",))] == ["cpu.two.size"]
    with pytest.raises(ArgumentError, match="no size of this device"):
        one.wanted(("conv9d",))


def test_a_device_that_is_wrong_by_default_is_told(search: SimpleNamespace) -> None:
    search.backend.tunables = lambda: (Tunable("cpu.one.size", "a size", 3, (3, 2), CALLS),)
    one = search.new()
    with pytest.raises(ArgumentError, match="needs a report"):
        list(one.run(one.wanted(), None))


# -- the command -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake(folder: Path, search: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.setattr(selection, "resolve", lambda wished, device=None: search.backend)
    return search


def test_command(fake: SimpleNamespace, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--dry-run"]) == 0
    assert "cpu.one.size: 1, 2, 3, 4, 5, on relu a, add b" in capsys.readouterr().out
    assert list(folder.iterdir()) == []
    assert main(["tune"]) == 0
    said = capsys.readouterr().out
    assert "cpu.one.size: 2, was 1; time by the default's: 2 0.50" in said
    assert "1 sizes differ from their defaults" in said
    assert main(["tune", "--list"]) == 0
    assert re.search(r"cpu\.one\.size +2 +of 1, 2, 3, 4, 5: a size \(default 1\)", capsys.readouterr().out)


def test_export_and_import(fake: SimpleNamespace, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["tune", "--export", str(tmp_path / "mine.json")]) == 2
    assert "nothing was tuned" in capsys.readouterr().err
    assert main(["tune"]) == 0
    mine = tmp_path / "out" / "mine.json"
    assert main(["tune", "--export", str(mine)]) == 0
    monkeypatch.setenv(tuning.VARIABLE, str(tmp_path / "elsewhere"))
    assert main(["tune", "--import", str(mine)]) == 0
    assert fake.new(again=False).digest == tuning.read(tmp_path / "elsewhere" / "numpy-fake.json")["tunables"]
    assert tuning.of_user("numpy", "fake", TUNABLES) == {"cpu.one.size": 2}
    for change, words in (({"device": "other"}, "is of numpy on other"), ({"tunables": "x"}, "other sizes")):
        tuning.write(mine, tuning.read(tmp_path / "elsewhere" / "numpy-fake.json") | change)
        assert main(["tune", "--import", str(mine)]) == 2
        assert words in capsys.readouterr().err


def test_command_where_there_is_nothing(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["tune", "--backend", "numpy"]) == 0
    assert "no sizes to tune" in capsys.readouterr().out
    monkeypatch.setenv(tuning.VARIABLE, "off")
    assert main(["tune", "--backend", "numpy"]) == 2
    assert "is off" in capsys.readouterr().err

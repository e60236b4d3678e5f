"""The table beside other libraries: rows and their operands, NumPy's own results, what is compared, kept and shown."""

from __future__ import annotations

import csv
import json
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "asv_bench"))
from harness import libraries
from harness.library import PEERS
from harness.peers.limits import limit
from harness.peers.rows import ROWS, row, weights

from portable_nn import models, nn
from portable_nn.cli import main

ROOT = Path(__file__).parents[2]


def test_rows_are_named_apart_and_drawn_alike() -> None:
    assert len({r.name for r in ROWS}) == len(ROWS)
    for r in ROWS:
        assert r.family in ("gemm", "gemv", "conv", "op", "train", "infer", "start", "memory")
        assert r.figure(1.0) > 0
    a, b = (row("softmax 64x1024 fwd+bwd").arrays() for _ in range(2))
    assert set(a) == {"x", "g"}
    assert all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize("model", ["mlp", "lenet", "resnet20"])
def test_weights_are_those_of_our_models(model: str) -> None:
    shape = (3, 32, 32) if model == "resnet20" else (1, 28, 28)
    made = models.MLP(shape, 10, hidden=(256,)) if model == "mlp" else models.create(model, shape, 10)
    given = weights(model)
    assert {n: x.shape for n, x in nn.state_dict(made).items()} == {n: x.shape for n, x in given.items()}


def test_multiplications_are_counted_from_the_model() -> None:
    from harness.work import count

    import portable_nn as pnn

    for model, shape in (("lenet", (1, 28, 28)), ("resnet20", (3, 32, 32))):
        net = models.create(model, shape, 10)
        flops = count(lambda net=net, shape=shape: net(pnn.asarray(np.zeros((1, *shape), np.float32), backend="numpy")))["flops"]
        assert row(f"infer {model} b1").flops == pytest.approx(flops, rel=0.1), "elementwise work is little beside products"


@pytest.mark.parametrize("name", ["gemm 256", "softmax 64x1024 fwd+bwd", "layer_norm 64x1024 fwd+bwd", "cross_entropy 64x1024 fwd+bwd", "infer lenet b1", "infer resnet20 b1", "train mlp b128"])
def test_ours_and_numpy_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two peers that are always here, in this process."""
    from portable_nn.core import selection

    monkeypatch.setattr(selection, "default", lambda: selection.get("numpy"))
    results = []
    for peer in ("ours", "ours_eager", "numpy"):
        made = PEERS[peer].make(import_module(f"harness.peers.{PEERS[peer].module}"))
        made.start()
        results.append([np.asarray(x) for x in made.made(row(name)).results()])
        assert made.ready(name)["state"] == "ready"
        assert made.burst(name, 0.0, calls=1)["calls"] == 1
        made.forget()
    assert libraries.difference(results[1], results[0]) < libraries.AGREEMENT
    assert libraries.difference(results[2], results[0]) < libraries.AGREEMENT


def test_difference() -> None:
    x = np.array([1.0, -4.0])
    assert libraries.difference([x], [x]) == 0
    assert libraries.difference([x + np.array([0, 0.4])], [x]) == pytest.approx(0.1)
    assert libraries.difference([x[:1]], [x]) == np.inf
    assert libraries.difference([x * np.nan], [x]) == np.inf


def test_limit_takes_the_level_that_holds_the_data() -> None:
    peaks = {"flops": 100.0, "copy": {"10": 50.0, "1000": 5.0}, "read": {"10": 70.0, "1000": 7.0}}
    assert limit(peaks, 0, 100, 10) == 2
    assert limit(peaks, 0, 100, 11) == 20
    assert limit(peaks, 0, 140, 5000, reads=True) == 20
    assert limit(peaks, 1000, 100, 10) == 10


class Session:
    """Stands in for a peer's process: its results, and its seconds per call."""

    made: ClassVar[dict[str, int]] = {}

    def __init__(self, peer: str, results: Any, seconds: float) -> None:
        self.peer, self.results, self.seconds = peer, results, seconds
        self.about, self.process = {"version": "1.0"}, SimpleNamespace(poll=lambda: None)

    def ask(self, do: str, timeout: float = 0, **given: Any) -> Any:
        if do == "ready":
            if self.results is None:
                return {"state": "unsupported", "reason": "not written"}
            np.savez(given["path"], self.results)
            return {"state": "ready"}
        if do == "peaks":
            return {"flops": 1e11, "copy": {"1000000": 1e10}, "read": {}, "how": "given"}
        if do == "forget":
            return None
        Session.made[self.peer] = Session.made.get(self.peer, 0) + 1
        return {"seconds": self.seconds, "calls": 3}

    def close(self) -> None:
        pass


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    def start(self: Any, peer: str, more: Any = None) -> Session:
        if peer == "clblast":
            raise libraries.Asked("Unsupported: not installed: libclblast")
        x = np.arange(4.0)
        return Session(peer, {"torch": x, "ours": x, "jax": x + 1, "numpy": None}[peer], {"ours": 1e-4, "torch": 2e-4}.get(peer, 1.0))

    monkeypatch.setattr(libraries.Machine, "start", start)
    monkeypatch.setattr(libraries, "REST", 0)
    Session.made.clear()
    return Session.made


def test_peers_that_agree_are_timed_in_turn_and_kept(peers: dict[str, int], tmp_path: Path) -> None:
    chosen, names, path = [row("gemm 256")], ["ours", "torch", "jax", "numpy", "clblast"], tmp_path / "peers.json"
    found = libraries.measure(chosen, names, path, rounds=5)["rows"]["gemm 256"]["peers"]
    assert found["ours"]["value"] == 1e-4
    assert len(found["torch"]["samples"]) == 5
    assert "differs" in found["jax"]["without"]
    assert found["numpy"]["without"] == "not written"
    assert found["clblast"]["without"] == "not installed: libclblast"
    assert peers == {"ours": 6, "torch": 6}, "one burst more than is counted; who is wrong is not timed"
    libraries.measure(chosen, names, path, rounds=5)
    assert peers["ours"] == 6, "what the file has is not measured again"
    libraries.measure(chosen, names, path, rounds=5, again=True)
    assert peers["ours"] == 12
    both = libraries.measure([*chosen, row("gemm 1024")], names, path, rounds=5, together=2)["rows"]
    assert both["gemm 1024"]["peers"]["torch"]["value"] == 2e-4
    assert peers["ours"] == 18


def test_what_is_shown(peers: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, md, table = tmp_path / "peers.json", tmp_path / "peers.inc", tmp_path / "peers.csv"
    libraries.measure([row("gemm 256")], ["ours", "torch", "jax"], path)
    given = ["bench", "--checkout", str(ROOT), "libraries", "--show", "--json", str(path), "--peers", "ours,torch,jax"]
    assert main([*given, "--markdown", str(md), "--csv", str(table)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("gemm 256"))
    assert line.split() == ["gemm", "256", "GFLOP/s", "100", "336%", "336", "(2.00)", "168", "-"]
    assert "| gemm 256 | GFLOP/s | 100 | 336% | 336 (2.00) | 168 | - |" in md.read_text()
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [r["peer"] for r in rows] == ["ours", "torch", "jax"]
    assert "differs" in rows[2]["without"]
    path.write_text(json.dumps({"format": 99}))
    assert main(given) == 2
    assert "format" in capsys.readouterr().err


def test_wrong_names(capsys: pytest.CaptureFixture[str]) -> None:
    for more, words in ((["--peers", "pytorch"], "there is no peer 'pytorch'"), (["--rows", "nothing like it"], "no row matches")):
        assert main(["bench", "--checkout", str(ROOT), "libraries", *more]) == 2
        assert words in capsys.readouterr().err


def test_the_page_has_every_row_and_peer_of_the_figures() -> None:
    results = libraries.read(ROOT / "docs" / "reference" / "peers.json")
    made = libraries.page(results)
    assert results["rows"].keys() <= {r.name for r in ROWS}
    assert all(f"| {name} |" in made for name in results["rows"])
    assert all(f"- `{name}`: " in made for name in results["peers"])

"""Programs compiled as one text are those that are compiled alone."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from portable_nn.core import selection
from portable_nn.core.errors import BackendError
from portable_nn_kernels.joined import joined_text, name_in, section
from portable_nn_kernels.launch import In, Launch, Out

cl = pytest.importorskip("pyopencl")
programs = pytest.importorskip("portable_nn_opencl.programs")


@pytest.fixture
def opencl(tmp_path, monkeypatch):
    """A backend object whose cache is empty."""
    state = selection.status("opencl")
    if state.state != "ready":
        pytest.skip(f"opencl is {state.state}: {state.reason}")
    usual = selection.get("opencl")
    if usual.found.kind != "cpu":
        pytest.skip("programs are joined for compilers of CPUs")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return type(usual)(usual.found)


def times(number, text="y[0] = pnn_product(FACTOR, x[0]);"):
    """A kernel with a function and a macro of names that all of these have."""
    source = f"""
#define PRODUCT(a, b) ((a) * (b) + {number})
DEVICE f32 pnn_product(f32 a, f32 b) {{ return PRODUCT(a, b); }}
KERNEL(pnn_times, 1, 1, 1)(IN(f32, x), OUT(f32, y)) {{
    AT_IN(f32, x);
    AT_OUT(f32, y);
    {text}
}}
"""
    return Launch("pnn_times", source, (1,), (1,), (In(0), Out(0)), (("FACTOR", number),))


def results(backend, launches):
    """Run each on 2.0."""
    x, found = backend.from_numpy(np.full(1, 2, np.float32)), []
    for launch in launches:
        y = backend.from_numpy(np.zeros(1, np.float32))
        backend.bind(launch, [0, 1])((x, y))
        found.append(float(backend.to_numpy(y)[0]))
    return found


def test_each_section_computes_its_own(opencl, tmp_path):
    launches = [times(n) for n in range(1, 6)]
    opencl.build(launches)
    assert opencl.programs.built == len(launches)
    assert results(opencl, launches) == [3 * n for n in range(1, 6)]
    assert opencl.programs.built == len(launches)
    assert len(list(tmp_path.rglob("*.bin"))) == len(launches) + 1


def test_one_of_them_comes_back_from_disk(opencl, tmp_path):
    launches = [times(n) for n in range(1, 6)]
    opencl.build(launches)
    other = type(opencl)(opencl.found)
    assert results(other, [launches[3]]) == [12]
    other.build(launches)
    assert results(other, launches) == [3, 6, 9, 12, 15]
    assert (other.programs.built, other.programs.loaded) == (0, 5)
    other.programs.forget()
    assert results(other, launches) == [3, 6, 9, 12, 15]
    assert other.programs.built == 0
    whole = max(tmp_path.rglob("*.bin"), key=lambda path: path.stat().st_size)
    whole.write_bytes(whole.read_bytes()[:-9])
    third = type(opencl)(opencl.found)
    third.build(launches[1:4])  # the damaged file serves none of them
    assert results(third, launches[1:4]) == [6, 9, 12]
    assert third.programs.built == 3


@pytest.mark.parametrize("count", [2, 13])
def test_the_error_names_the_kernel_among_others(opencl, count):
    launches = [times(n) for n in range(count)]
    launches[1] = Launch(**{f: getattr(times(77, "nonsense;"), f) for f in Launch.__slots__})
    with pytest.raises(BackendError, match=r"(?s)pnn_times: the compiler of .* refused .*FACTOR=77.*nonsense"):
        opencl.build(launches)
    good = [launch for launch in launches if launch is not launches[1]]
    opencl.build(good)
    assert results(opencl, good) == [3 * n for n in range(count) if n != 1]


def test_an_interrupt_leaves_nothing_half_done(opencl, monkeypatch):
    launches, plain, calls = [times(n) for n in range(1, 15)], programs.Programs._take_in, itertools.count()

    def interrupted(*args):
        if next(calls) == 1:
            raise KeyboardInterrupt
        plain(*args)

    monkeypatch.setattr(programs.Programs, "_take_in", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opencl.build(launches)
    monkeypatch.undo()
    opencl.build(launches)
    assert results(opencl, launches) == [3 * n for n in range(1, 15)]


def test_expected_programs_are_those_that_are_built(opencl, tmp_path):
    from portable_nn_opencl import probe

    assert probe.run(opencl.found).ok
    expected, others = [times(n) for n in range(1, 5)], [times(n) for n in range(5, 8)]
    opencl.programs.expect(expected)
    assert len(opencl.programs._expected) > 1
    opencl.build([*expected[:3], *others])  # one of those that were expected is not
    assert not opencl.programs._expected
    assert results(opencl, [*expected, *others]) == [3 * n for n in range(1, 8)]
    again = type(opencl)(opencl.found)
    assert results(again, [*expected[:3], *others]) == [3 * n for n in (1, 2, 3, 5, 6, 7)]
    assert again.programs.built == 0


def test_a_classifier_needs_what_is_expected(opencl):
    import portable_nn as pnn
    from portable_nn import ops
    from portable_nn_opencl.expected import classifier_head

    rng = np.random.default_rng(0)
    x, weight, bias = (opencl.from_numpy(rng.standard_normal(s, np.float32)) for s in ((64, 84), (10, 84), (10,)))
    labels = opencl.from_numpy(np.arange(64) % 10)
    step = pnn.capture(lambda *given: pnn.value_and_grad(lambda p: ops.cross_entropy(ops.linear(*p), labels))(given))
    step(x, weight, bias)
    needed = {(launch.launch.source, launch.launch.defines) for launch in step.variants[0].replay.launches}
    assert {(launch.source, launch.defines) for launch in classifier_head(opencl.profile)} <= needed


def test_text_that_defines_what_others_use_is_compiled_alone(opencl):
    own = times(5)
    own = Launch(own.kernel, "#undef FMA\n#define FMA(a, b, c) 0\n" + own.source, own.groups, own.size, own.args, own.defines)
    launches = [times(1), own, times(2)]
    assert section(own.source, own.defines, own.kernel) is None
    assert sorted(map(len, opencl.programs._batches(launches, 1))) == [1, 2]
    opencl.build(launches)
    assert results(opencl, launches) == [3, 15, 6]


def test_every_kernel_file_can_be_joined(opencl):
    """One text of a program of each file, twice with other defines where there are."""
    from offline.programs import collect

    of_files: dict[str, list] = {}
    for program in collect(opencl.profile, ("float32",)):
        of_files.setdefault(program.file, []).append(program)
    chosen = [program for many in of_files.values() for program in {0: many[0], 1: many[-1]}.values() if "PNN_IN_PLACE" not in dict(program.defines)]
    assert len(of_files) > 15
    sections = [section(p.source, p.defines, next(iter(p.items))) for p in chosen]
    assert None not in sections, [str(p) for p, part in zip(chosen, sections, strict=True) if part is None]
    options = [*opencl.programs.options, "-cl-opt-disable"]
    text = joined_text(sections, opencl.programs._first)
    made = cl.Program(opencl.context, text).build(options, cache_dir=False)
    names = set(made.get_info(cl.program_info.KERNEL_NAMES).split(";"))
    assert {name_in(n, kernel) for n, program in enumerate(chosen) for kernel in program.items} <= names
    assert all(re.fullmatch(r"pnn\d+_\w+", name) for name in names)

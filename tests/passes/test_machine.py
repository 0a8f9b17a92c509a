"""What kernels are predicted to take: bound by bytes, or by instructions."""

from __future__ import annotations

import pytest

from sparsecomp.dialects import exec
from sparsecomp.dialects.reads import places_read
from sparsecomp.opt import parse
from sparsecomp.passes.forms import programs
from sparsecomp.passes.instructions import QUANTISED_ROW, WEIGHTS, computing
from sparsecomp.passes.machine import Machine
from sparsecomp.passes.tasks import kernels

ROWS, WIDTH, NEURONS, DENSITY = 128, 256, 64, 0.25
NORM = WIDTH * 4
TEXT = """
exec.storage @w.rows {{layout = #exec<layout rows>, element = {element}, shape = array<i64: 128, 256>, of = [@w], offset = 1024 : i64}}
exec.storage @n.neurons {{layout = #exec<layout neuron_major>, element = {element}, shape = array<i64: 64, 256, 128>, of = [@up, @down], offset = 1048576 : i64}}
exec.storage @norm.floats {{layout = #exec<layout floats>, element = f32, shape = array<i64: 256>, of = [@norm], offset = 0 : i64}}
exec.program @decode attributes {{tile = 1 : i64, workers = 2 : i64}} {{
  %x = exec.buffer : memref<1x256xf32>
  exec.norm %x into %x {{kind = #exec<norm_kind rms>, weight = @norm.floats, eps = 1.0 : f64, work = #exec.work<each>}} : memref<1x256xf32>, memref<1x256xf32>
  %y = exec.buffer : memref<1x128xf32>
  exec.linear %x, @w.rows into %y {{part = #exec<part mlp>, work = #exec.work<split, [0, 64, 128]>}} : memref<1x256xf32>, memref<1x128xf32>
  %list = exec.buffer : memref<1x65xf32>
  exec.sparse_mlp %x, @n.neurons of %list : memref<1x65xf32> into %y {{act = #spz<act relu>, density = 0.25 : f64, active = 0.25 : f64, work = #exec.work<list>}} : memref<1x256xf32>, memref<1x128xf32>
}}
"""  # noqa: E501


def program_of(element: str) -> exec.Program:
    (program,) = programs(parse(TEXT.format(element=element)))
    return program


@pytest.mark.parametrize(("element", "bits"), [("f32", 32), ("bf16", 16), ("i8", 8), ("i5", 5)])
def test_instructions_of_weights(element: str, bits: int) -> None:
    norm, linear, sparse = kernels(program_of(element))
    weight, row = WEIGHTS[bits], QUANTISED_ROW if bits <= 8 else 0.0
    assert computing(norm) == 0
    assert computing(linear) == pytest.approx(ROWS * (row + WIDTH * weight.multiplied))
    up, down = row + WIDTH * weight.multiplied, row + ROWS * weight.added
    assert computing(sparse) == pytest.approx(DENSITY * NEURONS * (up + down))


def test_a_faster_memory_stops_helping_where_instructions_bind() -> None:
    """Quantised weights take fewer bytes, and more instructions a byte."""
    _, linear, _ = kernels(program_of("i8"))
    slow, fast, faster = (
        Machine(bandwidth=bandwidth, apart=0.0).nanoseconds(linear, 0, 2)
        for bandwidth in (10.0, 1e3, 1e4)
    )
    assert slow > 2 * fast
    called = Machine().kernel + Machine().start + 0.5 * ROWS * Machine().element
    assert fast == faster == pytest.approx(called + computing(linear) / 2)


def test_reading_hides_computing_but_for_a_share() -> None:
    _, linear, _ = kernels(program_of("bf16"))
    reading, machine = ROWS * WIDTH * 2 / 10, Machine(bandwidth=10.0, apart=0.5, element=0.0)
    assert reading > computing(linear)
    assert machine.whole(linear) == pytest.approx(reading + 0.5 * computing(linear))


def test_places_that_a_token_reads() -> None:
    """All of the norm and the matrix behind it, and the first of the neurons, as many as chosen."""
    program = program_of("bf16")
    chosen = int(DENSITY * NEURONS * (WIDTH + ROWS) * 2)
    assert places_read(program.body.block.ops) == [
        (0, NORM + ROWS * WIDTH * 2),
        (1 << 20, (1 << 20) + chosen),
    ]

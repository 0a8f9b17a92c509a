"""Attention that appends its position in the same launch: in Triton's interpreter beside the
reference, and compiled for each GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_triton_dense import ATTENTIONS, FLOATS, attention, few_programs
from test_triton_sparse import chosen
from triton_support import CAPACITY, Program, begin, check, fits, give, kernels
from xdsl.dialects.builtin import ModuleOp, bf16, f32
from xdsl.ir import Attribute

from sparsecomp.codegen.triton import parts
from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import buffer_of, shape_of
from sparsecomp.passes.forms import programs
from sparsecomp.passes.fuse_append import fuse

__all__ = ["few_programs"]

RING = 14
"""That of the kind `window`: 6 and a tile."""


def fused(module: ModuleOp) -> ModuleOp:
    """Both in one launch."""
    (program,) = programs(module)
    fuse(program)
    assert any(isinstance(op, exec.Launch) for op in kernels(module))
    return module


def random(*shape: int) -> torch.Tensor:
    """What the cache can hold: the interpreter cuts floats off where a GPU rounds them."""
    return torch.randn(1, *shape).bfloat16().float()


@FLOATS
@pytest.mark.parametrize("kind", ATTENTIONS)
@pytest.mark.parametrize("position", (0, 2 * RING - 1, CAPACITY - 1))
@pytest.mark.usefixtures("few_programs")
def test_attention_that_appends(
    element: Attribute, kind: str, position: int, tmp_path: Path
) -> None:
    """At the first position, and where a ring ends."""
    how = ATTENTIONS[kind]
    run = begin(fused(attention(element, 1, **how)), tmp_path, position=position)
    heads, groups, key = how["heads"], how["groups"], how["key"]
    given = [random(heads, key), random(groups, key), random(groups, how["value"])]
    launched = check(run, given=given)
    assert [call.kernel.function for call in launched] == ["attend", "combine"]


@pytest.mark.usefixtures("few_programs")
def test_attention_that_turns_and_appends(tmp_path: Path) -> None:
    module = fused(attention(f32, 1, **ATTENTIONS["shared"], turned=True))
    check(begin(module, tmp_path, position=23), given=[random(n, 8) for n in (6, 2, 2)])


@pytest.mark.parametrize("heads", ((), (0, 1, 5)), ids=len)
def test_groups_without_a_listed_head_are_appended_too(
    heads: Sequence[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three groups the second one, or all, are not attended to; every one is in the cache."""
    monkeypatch.setattr(parts, "MAX_SPLITS", 2)
    program = Program()
    slot = program.slot(3, 8, 5)
    q, left = program.buffer(1, 6, 8), program.buffer(1, 6, 32)
    k, v = program.buffer(1, 3, 8), program.buffer(1, 3, 5)
    _, found = chosen(program, 6)
    program.kernel(exec.Append, k, v, slot=slot)
    program.kernel(exec.Attend, q, found, left, slot=slot, scale=0.3)
    program.kernel(exec.Combine, left, found, program.buffer(1, 6, 5))
    scores = -torch.ones(1, 6)
    scores[0, list(heads)] = 1
    run = begin(fused(program.module), tmp_path, position=9)
    check(run, given=[random(6, 8), random(3, 8), random(3, 5), scores])


@pytest.mark.usefixtures("few_programs")
def test_the_place_of_the_new_position_is_nobody_elses(tmp_path: Path) -> None:
    """Its ring goes round: what lies there before and after is not a number, and only the program
    whose share has the new position sees that."""
    window, position, shared = 28, 37, 20  # heads enough for two blocks
    how: dict[str, Any] = {"groups": 1, "heads": shared, "key": 16, "value": 16, "window": window}
    run = begin(fused(attention(f32, 1, **how)), tmp_path, position=position)
    (launch, _) = kernels(run.module)
    append, attend = launch.kernels
    place = position % (window + 8)
    for key, address in run.places.items():
        if type(key).__name__ in ("Keys", "Values"):
            run.memory[address + place * 64 : address + (place + 1) * 64] = 0xFF
    give(run, attend.q, random(shared, 16))
    for value in append.operands:
        give(run, value, torch.full(shape_of(value), torch.nan))
    (call,) = run.launch(launch)
    splits, size = call.grid[1], shared * 32
    assert call.grid == (1, 3, 2)
    floats = torch.from_numpy(run.memory.view("float32"))
    left = floats[run.places[buffer_of(attend.out)] // 4 :][: splits * size]
    values, tops = (left.view(splits, shared, 32)[..., part] for part in (slice(16), 16))
    sees = values.isnan().any(2)
    assert sees.tolist() == [[False] * shared, [True] * shared, [False] * shared]
    assert tops[0].isfinite().all() and tops[2].isneginf().all()


def test_what_appends_fits() -> None:
    """Attentions of Llama-2-7B's and OPT-6.7B's size, with shared groups and large heads too."""
    fits(fused(attention(bf16, 1, groups=8, heads=32, key=128, value=128, turned=True)))
    fits(fused(attention(bf16, 1, groups=32, heads=32, key=128, value=128)))
    fits(fused(attention(f32, 1, groups=4, heads=8, key=256, value=256)), archs=(80,))

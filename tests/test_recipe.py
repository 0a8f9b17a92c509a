"""Recipes survive being written, and say in one line what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsecomp.errors import SparsecompError
from sparsecomp.recipe import Recipe, dump_recipe, parse_recipe, read_recipe
from sparsecomp.sparsity import (
    Approximate,
    Cascade,
    Choice,
    Cutoff,
    Exact,
    LowRank,
    Narrow,
    Nested,
    Sketch,
)

SHARES = st.floats(0, 1)
LOW_RANKS = st.builds(
    LowRank,
    rank=st.integers(1, 512),
    density=SHARES,
    active=SHARES,
    threshold=st.floats(-50, 50),
    count=st.integers(0, 8),
    group=st.integers(8, 64),
    lookahead=st.integers(0, 2),
)
APPROXIMATE = st.builds(
    Approximate,
    rank=st.integers(1, 512),
    threshold=st.floats(0, 1e6),
    density=SHARES,
    active=SHARES,
)
SKETCHES = st.builds(
    Sketch,
    count=st.integers(1, 512),
    probability=st.floats(0, 1, exclude_min=True),
    density=SHARES,
    offset=st.floats(-9, 9),
)
CASCADES = st.builds(
    Cascade,
    count=st.integers(1, 512),
    density=SHARES,
    offset=st.floats(-9, 9),
    first_count=st.integers(512, 1024),
    first_probability=st.floats(0, 1, exclude_min=True),
    first_density=SHARES,
    first_offset=st.floats(-9, 9),
)
CUTOFFS = st.builds(Cutoff, of=st.sampled_from(Exact), threshold=st.floats(0, 1e6), density=SHARES)
NESTED = st.builds(
    Nested,
    threshold=st.floats(1, 1e6),
    floor=st.floats(0, 1),
    density=st.floats(0, 0.5),
    coarse=st.floats(0, 0.5),
    rank=st.integers(0, 256),
)
NARROW = st.sampled_from(
    [
        Narrow(bits=6, output_bits=6),
        Narrow(bits=5, output_bits=8),
        Narrow(bits=8, output_bits=6),
        Narrow(bits=5, output_bits=6, key_value_bits=8),
    ]
)
NAMES = st.from_regex(r"model\.layers\.[0-9]\.(mlp|self_attn)", fullmatch=True)


@given(
    st.dictionaries(
        NAMES, st.none() | LOW_RANKS | APPROXIMATE | CUTOFFS | NESTED | NARROW | SKETCHES | CASCADES
    ),
    st.integers(0, 2**31),
    st.lists(NAMES, max_size=3),
)
def test_round_trip(blocks: dict[str, Choice | None], seed: int, wider: list[str]) -> None:
    recipe = Recipe("model", seed, blocks, tuple(wider))
    assert parse_recipe(dump_recipe(recipe)) == recipe


BLOCK = "recipe: 1\nblocks:\n  mlp: "


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1, 2", "is not YAML"),
        ("- 1", "does not begin with recipe: 1"),
        ("recipe: 2", "does not begin with recipe: 1"),
        ("recipe: 1\nblock: {}", "block: is not known"),
        ("recipe: 1\nseed: x", "seed: is 'x'"),
        ("recipe: 1\nwider: lm_head", "wider: must be a list of names"),
        ("recipe: 1\nblocks: [a]", "blocks: must name blocks"),
        (BLOCK + "low_rank", "mlp: needs a kind"),
        (BLOCK + "{kind: magic}", "mlp: needs a kind, one of dense, low_rank, approximate, cutoff"),
        (BLOCK + "{kind: dense, rank: 3}", "mlp: a dense block has nothing else"),
        (BLOCK + "{kind: cutoff, of: gate, density: 0.5}", "mlp: threshold is missing"),
        (
            BLOCK + "{kind: nested, threshold: 1, floor: 2, density: 0.1, coarse: 0.2}",
            "mlp: floor is 2.0; it must be between 0 and the threshold 1.0",
        ),
        (
            BLOCK + "{kind: nested, threshold: 1, floor: 0, density: 0.7, coarse: 0.4}",
            "mlp: a density is 1.1",
        ),
        (BLOCK + "{kind: cutoff, of: all, density: 0.5, threshold: 1}", "mlp: of is 'all'"),
        (BLOCK + "{kind: cutoff, of: gate, density: 2, threshold: 1}", "mlp: a density is 2.0"),
        (BLOCK + "{kind: cutoff, of: gate, density: .5, threshold: .nan}", "mlp: threshold is nan"),
        (
            BLOCK + "{kind: approximate, rank: 0, threshold: 1, density: 1, active: 1}",
            "mlp: rank is 0; it must be at least 1",
        ),
        (
            BLOCK + "{kind: approximate, rank: 1, threshold: -1, density: 1, active: 1}",
            "mlp: threshold is -1.0; a magnitude is never below 0",
        ),
        (BLOCK + "{kind: narrow, bits: 6}", "mlp: output_bits is missing"),
        (
            BLOCK + "{kind: narrow, bits: 7, output_bits: 8}",
            "mlp: bits is 7; it must be 8, 6, 5 or 4",
        ),
        (
            BLOCK + "{kind: narrow, bits: 8, output_bits: 8}",
            "mlp: bits and output_bits are 8: kind: dense says that",
        ),
        (
            BLOCK + "{kind: sketch, count: 1, probability: 0, density: 1, offset: 0}",
            "mlp: probability is 0.0; it must be above 0 and at most 1",
        ),
        (
            BLOCK
            + "{kind: cascade, count: 9, density: 1, offset: 0, first_count: 8, first_density: 1, "
            "first_offset: 0}",
            "mlp: first_count is 8; it must be at least the count 9",
        ),
        (
            BLOCK
            + "{kind: cascade, count: 9, density: 1, offset: 0, first_count: 9, first_density: 1, "
            "first_offset: .inf}",
            "mlp: first_offset is inf; it must be a finite number",
        ),
        (BLOCK + "{kind: low_rank, rank: true, density: 1, active: 1}", "mlp: rank is True"),
        (BLOCK + "{kind: low_rank, rank: 0, density: 1, active: 1}", "mlp: rank is 0"),
        (BLOCK + "{kind: low_rank, rank: 4, density: 1, active: 1, ranks: 3}", "mlp: ranks is not"),
    ],
)
def test_one_line_for_what_is_wrong(text: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(SparsecompError) as raised:
        read_recipe(file)
    message = str(raised.value)
    assert message.startswith(f"recipe {file}: {problem}") and "\n" not in message


def test_not_text(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(b"recipe: \xff")
    with pytest.raises(SparsecompError, match="not text"):
        read_recipe(file)

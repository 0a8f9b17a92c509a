"""What is recorded is what the blocks compute."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from calibrate_support import ROWS, Model, windows
from xdsl.dialects.func import ReturnOp
from xdsl.ir import SSAValue

from sparsecomp.calibrate import collect as module
from sparsecomp.calibrate.bits import unpack
from sparsecomp.calibrate.collect import SEED, Moments, collect
from sparsecomp.calibrate.material import heads_material, neurons_material
from sparsecomp.calibrate.sensitivity import sensitivities
from sparsecomp.errors import SparsecompError
from sparsecomp.passes.base import function
from sparsecomp.passes.blocks import AttentionBlock, MlpBlock, blocks, source
from sparsecomp.reference.evaluate import evaluate


def values(model: Model, value: SSAValue) -> torch.Tensor:
    """A value of @forward over all windows, computed on its own."""
    args = function(model.module, "forward").body.block.args
    found = []
    for window in windows():
        ids = torch.from_numpy(window).long()
        given = dict(zip(args, (ids, torch.arange(len(ids))), strict=True))
        found += evaluate([value], given, length=len(ids), weights=model.weights)
    return torch.cat(found)


def both_kinds(model: Model) -> tuple[list[MlpBlock], list[AttentionBlock]]:
    found = blocks(function(model.module, "forward"))
    return (
        [b for b in found if isinstance(b, MlpBlock)],
        [b for b in found if isinstance(b, AttentionBlock)],
    )


def same(actual: torch.Tensor, expected: torch.Tensor, error: float = 1e-5) -> bool:
    return bool((actual.float() - expected).abs().max() <= error * expected.abs().max())


BF16 = 2**-8


def test_relu_mlp(relu: Model, tmp_path: Path) -> None:
    recorded = collect(relu.module, relu.weights, windows(), tmp_path / "r", "key")
    assert recorded.rows == ROWS
    for block in both_kinds(relu)[0]:
        record = recorded.mlps[block.module]
        x = values(relu, block.input)
        assert record.inputs is not None and record.inputs.dtype == torch.bfloat16
        assert same(record.inputs, x, BF16)
        path = block.module
        up, bias = relu.weights(f"{path}.fc1.weight"), relu.weights(f"{path}.fc1.bias")
        neurons = torch.relu(torch.nn.functional.linear(x, up, bias))
        assert record.labels is not None and record.labels.shape == (ROWS, 6)
        assert torch.equal(unpack(record.labels, block.units), neurons != 0)
        assert record.gates is None
        assert record.activity == pytest.approx(float((neurons != 0).float().mean()))
        sizes = neurons * relu.weights(f"{path}.fc2.weight").norm(dim=0)
        assert record.values.total == sizes.numel()
        for density in (0.01, 0.1, 0.3):
            threshold = record.values.threshold_at(density)
            assert float((sizes > threshold).float().mean()) == pytest.approx(density, abs=0.01)
            assert record.values.density_at(threshold) == pytest.approx(density)


def test_gated_mlp(gated: Model, tmp_path: Path) -> None:
    recorded = collect(gated.module, gated.weights, windows(), tmp_path / "r", "key")
    for block in both_kinds(gated)[0]:
        record = recorded.mlps[block.module]
        # SiLU gives no exact zeros, so there is nothing to tell active neurons by.
        assert record.inputs is None and record.labels is None and record.activity == 1.0
        x, weight = values(gated, block.input), gated.weights
        gate = torch.nn.functional.silu(x @ weight(f"{block.module}.gate_proj.weight").T)
        value = gate * (x @ weight(f"{block.module}.up_proj.weight").T)
        sizes = value * weight(f"{block.module}.down_proj.weight").norm(dim=0)
        for histogram, true in ((record.gates, gate), (record.values, sizes)):
            assert histogram is not None
            for density in (0.05, 0.5, 0.9):
                threshold = histogram.threshold_at(density)
                above = float((true.abs() > threshold).float().mean())
                assert above == pytest.approx(density, abs=0.01)


@pytest.mark.parametrize("name", ["relu", "gated"])
def test_attention(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    recorded = collect(model.module, model.weights, windows(), tmp_path / "r", "key")
    for block in both_kinds(model)[1]:
        record = recorded.attentions[block.module]
        assert same(record.inputs, values(model, block.input), BF16)
        assert block.output is not None and record.units == 4
        heads = values(model, block.op.result)  # (T, 4, 8)
        matrix = model.weights(block.output.weight.string_value()).unflatten(1, (4, 8))
        norms = torch.stack([(heads[:, h] @ matrix[:, h].T).norm(dim=1) for h in range(4)], dim=1)
        assert same(record.norms, norms)


def test_blocks(relu: Model) -> None:
    found = blocks(function(relu.module, "forward"))
    layer = "model.decoder.layers"
    assert [(b.module, b.units) for b in found] == [
        (f"{layer}.0.self_attn", 4),
        (f"{layer}.0", 48),
        (f"{layer}.1.self_attn", 4),
        (f"{layer}.1", 48),
        ("lm_head", 64),
    ]
    mlp, attention = found[3], found[2]
    assert [source(found, mlp, ahead).module for ahead in (0, 1, 2)] == [
        f"{layer}.1",
        f"{layer}.0",
        f"{layer}.0",
    ]
    assert source(found, attention, 1) is found[0]


def test_only_what_is_asked_for(relu: Model, tmp_path: Path) -> None:
    path = "model.decoder.layers.1"
    recorded = collect(relu.module, relu.weights, windows(), tmp_path / "r", "key", modules=[path])
    assert list(recorded.mlps) == [path] and not recorded.attentions
    assert {f.name.partition(".inputs")[0] for f in (tmp_path / "r").glob("*.inputs")} == {path}


def test_what_is_there_is_taken(
    relu: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    record = module._record

    def counted(*args: object) -> None:
        runs.append(1)
        record(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_record", counted)

    def run(key: str) -> module.Recordings:
        return collect(relu.module, relu.weights, windows(), tmp_path / "r", key)

    first = run("key")
    second = run("key")
    assert len(runs) == 1
    path = "model.decoder.layers.0"
    labels = [r.mlps[path].labels for r in (first, second)]
    assert labels[0] is not None and labels[1] is not None and torch.equal(*labels)
    run("other key")
    assert len(runs) == 2
    # A file that is cut short, and a run that was stopped before its end.
    cut = tmp_path / "r" / f"{path}.inputs"
    cut.write_bytes(cut.read_bytes()[:-1])
    run("other key")
    (tmp_path / "r" / "recorded.json").unlink()
    assert run("other key").rows == ROWS
    assert len(runs) == 4


def test_nan_is_named(relu: Model, tmp_path: Path) -> None:
    def weights(name: str) -> torch.Tensor:
        value = relu.weights(name)
        return value * torch.nan if name == "model.decoder.layers.1.fc1.weight" else value

    with pytest.raises(SparsecompError) as error:
        collect(relu.module, weights, windows(), tmp_path / "r", "key")
    assert str(error.value).startswith("activations of model.decoder.layers.1: hold NaN; ")


def test_a_directory_that_cannot_be_written(relu: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SparsecompError, match="file/r: cannot be written: Not a directory"):
        collect(relu.module, relu.weights, windows(), tmp_path / "file" / "r", "key")


def test_material_of_a_block_and_of_one_that_looks_ahead(
    relu: Model, gated: Model, tmp_path: Path
) -> None:
    recorded = collect(relu.module, relu.weights, windows(), tmp_path / "r", "key")
    found = blocks(function(relu.module, "forward"))
    mlps, attentions = both_kinds(relu)
    own = recorded.mlps[mlps[1].module]
    earlier = recorded.mlps[mlps[0].module]
    assert own.labels is not None and own.inputs is not None and earlier.inputs is not None
    for lookahead, inputs in ((0, own.inputs), (1, earlier.inputs)):
        block = next(b for b in found if b.module == mlps[1].module)
        assert isinstance(block, MlpBlock)
        rows, first = neurons_material(recorded, found, block, relu.weights, lookahead)
        assert torch.equal(rows.inputs, inputs) and torch.equal(rows.labels, own.labels)
        assert torch.equal(first.matrix, relu.weights(f"{block.module}.fc1.weight"))
        assert (first.inputs is None) == (lookahead == 0)
    attention = next(b for b in found if b.module == attentions[1].module)
    assert isinstance(attention, AttentionBlock)
    heads = heads_material(recorded, found, attention, 0.5)
    norms = recorded.attentions[attention.module].norms
    chosen = unpack(heads.labels, 4)
    assert chosen.sum(1).tolist() == [2] * ROWS
    assert bool((norms[chosen].view(ROWS, 2).amin(1) >= norms[~chosen].view(ROWS, 2).amax(1)).all())

    recorded = collect(gated.module, gated.weights, windows(), tmp_path / "g", "key")
    (mlp, _), _ = both_kinds(gated)
    with pytest.raises(ValueError, match=f"{mlp.module} has no exact zeros"):
        neurons_material(recorded, [mlp], mlp, gated.weights)


def weights_by(model: Model, value: SSAValue) -> torch.Tensor:
    """Of all tokens, by gradients at a value that is computed on its own."""
    block = function(model.module, "forward").body.block
    assert isinstance(block.last_op, ReturnOp)
    generator = torch.Generator().manual_seed(SEED)
    found = []
    for window in windows():
        ids = torch.from_numpy(window).long()
        given = dict(zip(block.args, (ids, torch.arange(len(ids))), strict=True))
        run = functools.partial(evaluate, length=len(ids), weights=model.weights)
        (x,) = run([value], given)
        (logits,) = run(block.last_op.operands[:1], given | {value: x.requires_grad_()})
        found.append(sensitivities(logits, {"x": x}, generator)["x"])
    return torch.cat(found)


def test_second_moments(gated: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what each matrix reads, in pieces; tokens weigh what an error costs."""
    monkeypatch.setattr(module, "PIECE", 20)
    given = (gated.module, gated.weights, windows(), tmp_path / "r", "key")
    recorded = collect(*given, moments=Moments.ALL)

    first = torch.cat([torch.arange(len(w)) == 0 for w in windows()])

    def expected(rows: torch.Tensor, by: SSAValue, piece: int = 20) -> list[torch.Tensor]:
        weights = weights_by(gated, by)
        squares = weights.square()
        for group in (first, ~first):
            share = squares[group].sum() / squares.sum()
            weights[group] *= share / weights[group].sum().clamp(min=1e-30)
        return [(x * weights[:, None]).T @ x for x in rows.flatten(1).split(piece, 1)]

    mlps, attentions = both_kinds(gated)
    for mlp in mlps:
        x, weight = values(gated, mlp.input), gated.weights
        gate = torch.nn.functional.silu(x @ weight(f"{mlp.module}.gate_proj.weight").T)
        neurons = gate * (x @ weight(f"{mlp.module}.up_proj.weight").T)
        record = recorded.mlps[mlp.module]
        assert record.moments is not None
        assert same(record.moments, expected(x, mlp.input, x.shape[1])[0], 1e-4)
        of_down = expected(neurons, mlp.op.results[0])
        assert all(map(same, record.neuron_moments, of_down, [1e-4] * len(of_down)))
        assert [len(part) for part in record.neuron_moments] == [20] * (mlp.units // 20) + (
            [mlp.units % 20] if mlp.units % 20 else []
        )
    for attention in attentions:
        of = recorded.attentions[attention.module]
        x, heads = values(gated, attention.input), values(gated, attention.op.result)
        assert attention.key and attention.value and attention.output
        for found, rows, linear in (
            (of.query_moments, x, attention.query),
            (of.key_moments, x, attention.key),
            (of.value_moments, x, attention.value),
            (of.head_moments, heads, attention.output),
        ):
            assert len(found) == 2
            assert all(map(same, found, expected(rows, linear.result), [1e-4] * 2))
    assert not collect(*given[:3], tmp_path / "s", "key").mlps[mlps[0].module].neuron_moments

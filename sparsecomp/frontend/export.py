"""A model directory's computation, traced without its weights."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import UserError, UserErrorType
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from xdsl.dialects.builtin import ModuleOp

from sparsecomp.dialects import aten
from sparsecomp.errors import SparsecompError

from .importer import import_program
from .model_dir import ModelDir
from .weights import CheckpointWeights, match, tensor_names

# Eager attention spells out what the others hide (soft caps, sinks); a few models only have sdpa.
_ATTENTION = ("eager", "sdpa")
_EXAMPLE_LENGTH = 7
# What configs call the number of positions (an attribute_map covers most other spellings).
_MAX_POSITIONS = ("max_position_embeddings", "max_seq_len", "model_max_length")


@dataclass(frozen=True)
class ModelFacts:
    """What an artifact's manifest says about the model. Sizes are in elements.

    `max_positions` is None when the config sets no limit.
    """

    name: str
    vocab_size: int
    hidden_size: int
    layers: int
    max_positions: int | None
    bos_ids: tuple[int, ...]
    eos_ids: tuple[int, ...]


@dataclass(frozen=True)
class ExportedModel:
    """`module` holds @forward: ids [1, s] int64 -> logits [1, s, vocab_size] float32."""

    module: ModuleOp
    facts: ModelFacts
    weights: CheckpointWeights


def export_model(model_dir: ModelDir) -> ExportedModel:
    """The aten module of a model and its weights by name; reads no weight.

    Raises SparsecompError when the model cannot be built or exported, or when the checkpoint's
    tensors are not the model's.
    """
    facts = _facts(model_dir)
    model, program = _first_that_exports(model_dir, facts.max_positions)
    names = tensor_names(model)
    weights = match(model_dir, model, names)
    constants = {
        spec.target: program.constants[spec.target]
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.CONSTANT_TENSOR and spec.target is not None
    }
    weights = replace(weights, values={**weights.values, **constants})
    inputs = {f"model.{name}": first for name, first in names.items()}
    module = import_program(program, inputs | {name: name for name in constants})
    weights.require(op.sym_name.data for op in module.ops if isinstance(op, aten.Weight))
    return ExportedModel(module, facts, weights)


# ---- the model, without weights ----


def build_model(config: PretrainedConfig, attention: str = "eager") -> PreTrainedModel:
    """The model in eval mode: parameters on meta, buffers as its code computes them."""
    with _parameters_on_meta(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config,
            attn_implementation=attention,
            # Gathers the chosen experts' weights: the one spelling that treats each token alone.
            experts_implementation="batched_mm",
            dtype=torch.float32,
        )
    return model.eval()


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Within it a new module's parameters take no memory; buffers stay real.

    A plain meta device would lose the buffers that no checkpoint stores.
    """
    register = nn.Module.register_parameter

    def register_on_meta(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            param = nn.Parameter(param.to("meta"), requires_grad=False)
        register(self, name, param)

    nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


# ---- tracing ----


class _Logits(nn.Module):
    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> Any:
        return self.model(input_ids=ids, use_cache=False).logits


def _first_that_exports(
    model_dir: ModelDir, max_positions: int | None
) -> tuple[PreTrainedModel, ExportedProgram]:
    reasons = []
    for attention in _ATTENTION:
        try:
            model = build_model(model_dir.config, attention)
            with _quiet_torch():
                return model, trace(model, max_positions)
        except Exception as error:  # the model's own code runs here and may raise anything
            reasons.append(_reason(error))
    raise SparsecompError(f"model {model_dir.path}: cannot be exported: {reasons[0]}")


def trace(model: PreTrainedModel, max_positions: int | None) -> ExportedProgram:
    """torch.export of ids [1, s] -> logits [1, s, vocab]; `model` itself stays as it is."""
    # Fake tensors on the CPU rather than meta ones: constants that the code makes stay real.
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in fakes:
            data = FakeTensor(mode, tensor.detach().to("meta"), torch.device("cpu"))
            is_parameter = isinstance(tensor, nn.Parameter)
            fakes[id(tensor)] = nn.Parameter(data, requires_grad=False) if is_parameter else data
        return fakes[id(tensor)]

    length = Dim("s", min=2, max=_longest(max_positions))
    with _tensors_replaced(model, fake), mode, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = torch.zeros(1, _EXAMPLE_LENGTH, dtype=torch.int64)
        return torch.export.export(
            _Logits(model), (ids,), dynamic_shapes=({1: length},), strict=False
        )


def _longest(max_positions: int | None) -> int | None:
    """The longest sequence that the trace has to cover."""
    if max_positions is None:
        return None
    # One less: at the very end slices of a table of positions become the whole table, which torch
    # takes for another program. Nothing else changes there.
    return max(max_positions - 1, _EXAMPLE_LENGTH)


@contextmanager
def _quiet_torch() -> Iterator[None]:
    """Within it torch does not print all that it had traced when a trace fails."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)


@contextmanager
def _tensors_replaced(
    model: nn.Module, replacement: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    slots: list[tuple[dict[str, Any], str, torch.Tensor]] = [
        (tensors, name, tensor)
        for module in model.modules()
        for tensors in (module._parameters, module._buffers)
        for name, tensor in tensors.items()
        if tensor is not None
    ]
    for tensors, name, tensor in slots:
        tensors[name] = replacement(tensor)
    try:
        yield
    finally:
        for tensors, name, tensor in slots:
            tensors[name] = tensor


def _reason(error: Exception) -> str:
    """One line; of torch's multi-line reports the first detail, where there is one."""
    if isinstance(error, GuardOnDataDependentSymNode):
        return (
            "its code branches on the value of a tensor, as rope does that changes with the length"
        )
    if isinstance(error, UserError) and error.error_type is UserErrorType.CONSTRAINT_VIOLATION:
        return "its code does something else for each number of tokens, as recurrent models do"
    if isinstance(error, KeyError):
        return f"its code knows no {error}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    details = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    return next(iter(details or lines), type(error).__name__)


# ---- facts ----


def _facts(model_dir: ModelDir) -> ModelFacts:
    config = model_dir.config.get_text_config()
    limits = (getattr(config, key, None) for key in _MAX_POSITIONS)
    return ModelFacts(
        name=model_dir.name,
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        layers=config.num_hidden_layers,
        max_positions=next((n for n in limits if isinstance(n, int) and n > 0), None),
        bos_ids=_token_ids("bos_token_id", model_dir, config),
        eos_ids=_token_ids("eos_token_id", model_dir, config),
    )


def _token_ids(key: str, model_dir: ModelDir, config: PretrainedConfig) -> tuple[int, ...]:
    """generation_config.json is what generation goes by; config.json where it says nothing."""
    value = model_dir.generation.get(key)
    if value is None:
        value = getattr(config, key, None)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token) is int for token in ids):
        raise SparsecompError(f"model {model_dir.path}: {key} is {value!r}; give a token id")
    return tuple(ids)

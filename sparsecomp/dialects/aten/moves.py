"""Calls that are index maps."""

from __future__ import annotations

from .operation import Structural, schema


@schema("view(Tensor self, SymInt[] size) -> Tensor")
class View(Structural): ...


@schema("reshape(Tensor self, SymInt[] shape) -> Tensor")
class Reshape(Structural): ...


@schema("_unsafe_view(Tensor self, SymInt[] size) -> Tensor")
class UnsafeView(Structural): ...


@schema("flatten.using_ints(Tensor self, int start_dim=0, int end_dim=-1) -> Tensor")
class Flatten(Structural): ...


@schema("unflatten.int(Tensor self, int dim, SymInt[] sizes) -> Tensor")
class Unflatten(Structural): ...


@schema("unsqueeze(Tensor self, int dim) -> Tensor")
class Unsqueeze(Structural): ...


@schema("squeeze(Tensor self) -> Tensor")
class Squeeze(Structural): ...


@schema("squeeze.dim(Tensor self, int dim) -> Tensor")
class SqueezeDim(Structural): ...


@schema("squeeze.dims(Tensor self, int[] dim) -> Tensor")
class SqueezeDims(Structural): ...


@schema("transpose.int(Tensor self, int dim0, int dim1) -> Tensor")
class Transpose(Structural): ...


@schema("swapaxes(Tensor self, int axis0, int axis1) -> Tensor")
class Swapaxes(Structural): ...


@schema("swapdims(Tensor self, int dim0, int dim1) -> Tensor")
class Swapdims(Structural): ...


@schema("permute(Tensor self, int[] dims) -> Tensor")
class Permute(Structural): ...


@schema("movedim.int(Tensor self, int source, int destination) -> Tensor")
class Movedim(Structural): ...


@schema("t(Tensor self) -> Tensor")
class T(Structural): ...


@schema("numpy_T(Tensor self) -> Tensor")
class NumpyT(Structural): ...


@schema("mT(Tensor self) -> Tensor")
class MT(Structural): ...


@schema("expand(Tensor self, SymInt[] size) -> Tensor")
class Expand(Structural): ...


@schema("expand_as(Tensor self, Tensor other) -> Tensor")
class ExpandAs(Structural): ...


@schema("broadcast_to(Tensor self, SymInt[] size) -> Tensor")
class BroadcastTo(Structural): ...


@schema("view_as(Tensor self, Tensor other) -> Tensor")
class ViewAs(Structural): ...


@schema("reshape_as(Tensor self, Tensor other) -> Tensor")
class ReshapeAs(Structural): ...


@schema("repeat(Tensor self, SymInt[] repeats) -> Tensor")
class Repeat(Structural): ...


@schema("tile(Tensor self, SymInt[] dims) -> Tensor")
class Tile(Structural): ...


@schema("repeat_interleave.self_int(Tensor self, SymInt repeats, int? dim=None) -> Tensor")
class RepeatInterleave(Structural): ...


@schema(
    "slice.Tensor(Tensor self, int dim=0, SymInt? start=None, SymInt? end=None, "
    "SymInt step=1) -> Tensor"
)
class Slice(Structural): ...


@schema("narrow(Tensor self, int dim, SymInt start, SymInt length) -> Tensor")
class Narrow(Structural): ...


@schema("select.int(Tensor self, int dim, SymInt index) -> Tensor")
class Select(Structural): ...


@schema("index_select(Tensor self, int dim, Tensor index) -> Tensor")
class IndexSelect(Structural): ...


@schema("chunk(Tensor self, int chunks, int dim=0) -> Tensor[]")
class Chunk(Structural): ...


@schema("split.Tensor(Tensor self, SymInt split_size, int dim=0) -> Tensor[]")
class Split(Structural): ...


@schema("split_with_sizes(Tensor self, SymInt[] split_sizes, int dim=0) -> Tensor[]")
class SplitWithSizes(Structural): ...


@schema("split.sizes(Tensor self, SymInt[] split_size, int dim=0) -> Tensor[]")
class SplitSizes(Structural): ...


@schema("unbind.int(Tensor self, int dim=0) -> Tensor[]")
class Unbind(Structural): ...


@schema("cat(Tensor[] tensors, int dim=0) -> Tensor")
class Cat(Structural): ...


@schema("concat(Tensor[] tensors, int dim=0) -> Tensor")
class Concat(Structural): ...


@schema("stack(Tensor[] tensors, int dim=0) -> Tensor")
class Stack(Structural): ...


@schema("flip(Tensor self, int[] dims) -> Tensor")
class Flip(Structural): ...


@schema("roll(Tensor self, SymInt[] shifts, int[] dims=None) -> Tensor")
class Roll(Structural): ...


@schema("contiguous(Tensor self) -> Tensor")
class Contiguous(Structural): ...


@schema("clone(Tensor self) -> Tensor")
class Clone(Structural): ...


@schema("alias(Tensor self) -> Tensor")
class Alias(Structural): ...


@schema("detach(Tensor self) -> Tensor")
class Detach(Structural): ...


@schema("detach_(Tensor self) -> Tensor")
class DetachInplace(Structural): ...


@schema("lift_fresh_copy(Tensor self) -> Tensor")
class LiftFreshCopy(Structural): ...


@schema("dropout(Tensor input, float p, bool train) -> Tensor")
class Dropout(Structural): ...

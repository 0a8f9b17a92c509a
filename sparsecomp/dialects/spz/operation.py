"""What all spz ops have in common."""

from __future__ import annotations

from xdsl.irdl import IRDLOperation, ParsePropInAttrDict, traits_def
from xdsl.traits import Pure


class SpzOp(IRDLOperation):
    """Base of the spz ops: optional properties are written in the attribute dictionary."""

    irdl_options = (ParsePropInAttrDict(),)


class PureOp(SpzOp):
    """Computes its results and does nothing else. (An op has the traits of its base too.)"""

    traits = traits_def(Pure())

"""Launches side by side as one: generated text, which says whose programs are which."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from .call import Argument, Call, Constant, call


def side_by_side(calls: Sequence[Call]) -> Call:
    """One launch with the programs of several, one after the other.

    Their functions count programs along the first dimension of the grid, the only one, from the
    constant FIRST on.
    """
    arguments = list(dict.fromkeys(a for one in calls for a in _arguments(one)))
    constants: dict[str, Constant] = {}
    lines = []
    programs = 0
    for i, one in enumerate(calls):
        assert one.grid[1:] == (1, 1) and not one.kernel.source
        given = dict(one.kernel.constants) | {"FIRST": programs}
        programs += one.grid[0]
        constants |= {f"{name}_{i}": value for name, value in given.items()}
        pointers = [f"p{arguments.index(a)}" for a in _arguments(one)]
        passed = ", ".join([*pointers, *(f"{name}={name}_{i}" for name in given)])
        lines += [f"{_whether(i, len(calls))}:", f"    {one.kernel.function}({passed})"]
    body = "".join(f"    {line}\n" for line in lines)
    name = f"side_by_side_{hashlib.sha256(body.encode()).hexdigest()[:12]}"
    names = [f"p{i}" for i in range(len(arguments))] + [f"{n}: tl.constexpr" for n in constants]
    text = f"@triton.jit\ndef {name}({', '.join(names)}):\n{body}"
    warps = max(one.kernel.warps for one in calls)
    return call(name, arguments, (programs,), constants, warps, source=text)


def _arguments(call: Call) -> list[Argument]:
    return list(map(Argument, call.kernel.pointers, call.operands))


def _whether(i: int, count: int) -> str:
    """The condition on which a program is one of part i."""
    if i == count - 1:
        return "else"
    return f"{'elif' if i else 'if'} tl.program_id(0) < FIRST_{i + 1}"

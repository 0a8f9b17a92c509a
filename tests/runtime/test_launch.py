"""cuda/program.json: what is written is read back, and nothing in it is believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from launch_support import PROGRAM, TOY

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.launch import BINARY_MEMBER, encode_program, parse_program

TEXT = encode_program(TOY, PROGRAM)


def test_read_back() -> None:
    assert parse_program(TEXT, PROGRAM) == TOY


def test_cut_short() -> None:
    for end in range(0, len(TEXT) - 1, 97):
        with pytest.raises(SparsecompError, match=r"^member 'cuda/program\.json': "):
            parse_program(TEXT[:end], PROGRAM)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d.update(format_version=4), "format_version: is 4, this runtime reads up to 3"),
        (lambda d: d.pop("tile"), "tile: is missing"),
        (lambda d: d["drivers"].pop("ptx"), "drivers: has no ptx"),
        (lambda d: d["drivers"].update(sm_75=1), "drivers: is 'sm_75', must be one of"),
        (lambda d: d["regions"].pop("cache"), "regions: has no cache"),
        (lambda d: d["regions"].update(state=47), "regions.state: is not that of the tile"),
        (lambda d: d["regions"].update(cache=1281), "regions.cache: is not that of the slots"),
        (lambda d: argument(d).update(region="cache", offset=8), "is no beginning of keys or"),
        (lambda d: d["kernels"]["first"].update(warps=64), "kernels.first.warps: is 64"),
        (lambda d: d["kernels"]["first"]["binaries"].pop("ptx"), "kernels.first.binaries: are not"),
        (
            lambda d: d["kernels"].update({"../first": d["kernels"]["first"]}),
            "kernels: '../first' is no name of a kernel",
        ),
        (lambda d: d["prefill"].update(always=3), "prefill.always: is beyond its launches"),
        (lambda d: launch(d).update(kernel="third"), "decode.launches[3].kernel: there is no"),
        (lambda d: launch(d).update(grid=[1, 1]), "decode.launches[3].grid: has not three sizes"),
        (lambda d: launch(d).update(grid=[0, 1, 1]), "grid[0]: is 0, must be 1 to"),
        (lambda d: launch(d).update(grid=[1, 65536, 1]), "decode.launches[3].grid: is beyond"),
        (lambda d: launch(d).update(stream=2), "decode.launches[3].stream: is 2, there are 2"),
        (lambda d: launch(d).update(waits=[3]), "waits: 3 is no earlier launch of another stream"),
        (lambda d: launch(d).update(waits=[2]), "waits: 2 is no earlier launch of another stream"),
        (lambda d: d["weights"][0].update(offset=1), "regions.weights: is not that of the weights"),
        (lambda d: d["decode"].update(sums=[added()]), "decode.sums[0]: there are 2 streams"),
        (lambda d: summed(d, before=5), "decode.sums[0].before: is not in order, or beyond the"),
        (lambda d: summed(d, 2, before=1), "decode.sums[1].before: is not in order, or beyond"),
        (lambda d: summed(d, width=17), "decode.sums[0].x: has not 1 rows of 17"),
        (lambda d: summed(d, x=added()["out"]), "decode.sums[0].x: is not what a sum may touch"),
        (lambda d: summed(d, out=added()["x"]), "decode.sums[0].out: is not what a sum may touch"),
        (
            lambda d: summed(d, out=added()["out"] | {"offset": 200}),
            "decode.sums[0].out: ends at 264 of 256 bytes of the arena",
        ),
        (lambda d: d["counts"][1].update(counter=4), "counts[1].counter: is 4, of 4"),
        (lambda d: d["counts"][1].update(first=5), "counts[1]: ends beyond the region"),
        (lambda d: d.update(limits=[0.5] * 5), "limits: are more than their region holds"),
        (lambda d: d["lists"][0].update(slot=8), "lists[0].slot: is beyond 8"),
        (lambda d: d["lists"][0].update(offset=220), "lists[0]: ends beyond the arena"),
        (lambda d: argument(d).update(offset=193), "arguments[0]: ends at 257 of 256 bytes"),
        (lambda d: argument(d).update(size=1 << 62), "bytes of arena"),
        (lambda d: argument(d).update(offset=-1), "offset: is -1, must be 0 to"),
        (lambda d: argument(d).update(region="host"), "region: is 'host', must be one of"),
        (lambda d: argument(d).update(region="state", offset=0, size=4, writes=True), "writes to"),
    ],
)
def test_forged(change: Callable[[dict[str, Any]], object], expected: str) -> None:
    document = json.loads(TEXT)
    change(document)
    with pytest.raises(SparsecompError) as caught:
        parse_program(json.dumps(document).encode(), PROGRAM)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def added() -> dict[str, Any]:
    """A sum of a row of 16 floats, before the third launch."""
    place = {"region": "arena", "offset": 64, "size": 64}
    return {
        "before": 2,
        "width": 16,
        "each_token": True,
        "x": place | {"writes": False},
        "out": place | {"writes": True},
    }


def summed(document: dict[str, Any], count: int = 1, **changes: Any) -> None:
    """On one stream, so many sums, the last of which is changed."""
    document["streams"] = 1
    for launch in document["decode"]["launches"]:
        launch |= {"stream": 0, "waits": []}
    document["decode"]["sums"] = [added() for _ in range(count)]
    document["decode"]["sums"][-1].update(changes)


def test_sums() -> None:
    document = json.loads(TEXT)
    summed(document, 2, x=None)
    first, second = parse_program(json.dumps(document).encode(), PROGRAM).decode.sums
    assert (first.before, first.width, second.x) == (2, 16, None) and first.out == second.out


def launch(document: dict[str, Any]) -> dict[str, Any]:
    return document["decode"]["launches"][3]


def argument(document: dict[str, Any]) -> dict[str, Any]:
    return launch(document)["arguments"][0]


def test_names_of_binaries() -> None:
    assert BINARY_MEMBER.fullmatch("cuda/sm_90/linear_rows_0123abcd.cubin")
    assert BINARY_MEMBER.fullmatch("cuda/ptx/linear.ptx")
    for name in ("cuda/sm_90/../x.cubin", "cuda/sm_90/x.ptx", "cuda/ptx/x.cubin", "cuda/sm_75/x"):
        assert not BINARY_MEMBER.fullmatch(name)

"""Contender: a sparsecomp artifact. Arguments: ARTIFACT CAPACITY."""

import sys

import sparsecomp.runtime as rt
from contender import serve


class SparsecompEngine:
    def __init__(self, artifact: str, capacity: int) -> None:
        self._session = rt.load(artifact, allow_native=True).session(capacity)

    def prefill(self, tokens: list[int]) -> int:
        self._session.rewind(0)
        return int(self._session.prefill(tokens).argmax())

    def decode(self, token: int) -> None:
        self._session.decode(token)


if __name__ == "__main__":
    serve(SparsecompEngine(sys.argv[1], int(sys.argv[2])))

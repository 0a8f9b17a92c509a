"""A loaded artifact: text in, text out."""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime import artifact as layout
from sparsecomp.runtime.artifact import Artifact, Manifest
from sparsecomp.runtime.generation import TextStream, TokenStream
from sparsecomp.runtime.programs import Chosen, DeviceKind, choose, offering_the_cpu
from sparsecomp.runtime.ranks import Ranks
from sparsecomp.runtime.sampling import Sampler, SamplingParams
from sparsecomp.runtime.session import Logits, Session
from sparsecomp.runtime.text import TextDecoder, parse_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Prompt = str | Sequence[int]

_NO_INTEGERS = "token ids must be a list of integers"


def load(
    path: str | os.PathLike[str],
    *,
    allow_native: bool = False,
    ranks: Ranks | None = None,
    device: str = DeviceKind.AUTO,
) -> Model:
    """Loads an artifact, with the best of its programs for `device`: "auto", "cpu" or "cuda".

    "auto" is a GPU where there is one and the artifact has a program that runs on it, else the CPU.
    Compiled code runs only when it was compiled on this machine, or with `allow_native=True`.
    `ranks` are those that run a model together that was compiled with --shards; each loads its own
    part (`sparsecomp.distributed` does that).
    Raises SparsecompError when the file is not a sound artifact, has no program that runs here, its
    code is not trusted, or it is split over other than these ranks.
    """
    if device not in list(DeviceKind):
        raise SparsecompError(f"device {device!r}: must be one of {', '.join(DeviceKind)}")
    artifact = Artifact.open(path)
    try:
        _require_ranks(artifact, ranks)
        chosen = choose(artifact, DeviceKind(device), ranks, allow_native)
        return Model(artifact, chosen, ranks)
    except BaseException as error:
        artifact.close()
        if isinstance(error, SparsecompError):
            raise SparsecompError(f"{artifact.path}: {error}") from None
        raise


def _logits_size(manifest: Manifest, rank: int) -> int:
    return manifest.shards[rank].logits if manifest.shards else manifest.model.vocab_size


def _require_ranks(artifact: Artifact, ranks: Ranks | None) -> None:
    parts, given = artifact.manifest.ranks, 1 if ranks is None else ranks.size
    command = f"torchrun --nproc-per-node {parts} -m sparsecomp.distributed {artifact.path} -p ..."
    if parts == 1 and ranks is not None:
        raise SparsecompError(
            "is not split over ranks; run it with sparsecomp run, or compile it with --shards"
        )
    if parts > 1 and ranks is None:
        raise SparsecompError(f"is split over {parts} ranks, which run together: {command}")
    if parts != given:
        raise SparsecompError(f"is split over {parts} ranks, {given} started: {command}")


class Model:
    """A model ready to run. Make one with `load`; use it as a context manager, or call `close`.

    One copy of the weights, mapped from the file, serves all sessions and all threads.
    """

    def __init__(self, artifact: Artifact, chosen: Chosen, ranks: Ranks | None = None) -> None:
        """Use `load`. Takes over `artifact`."""
        self.artifact = artifact
        self.ranks = ranks
        self._rank = 0 if ranks is None else ranks.rank
        self.manifest: Manifest = artifact.manifest.of_rank(self._rank)
        """What the artifact says about the model, or about this rank's part of it."""
        self.device = chosen.device
        """What it runs on: "cpu", or the name of a GPU."""
        self.program = chosen.program
        """The native program that runs; None on a GPU."""
        self.logits_size = _logits_size(self.manifest, self._rank)
        """How many tokens a session scores: all of the vocabulary, or a rank's part of it."""
        self._vocab = self.manifest.model.vocab_size
        self._program = chosen.engine
        self._lock = threading.RLock()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        with offering_the_cpu(artifact.manifest):
            self._handle = self._program.open_model(artifact.weights_address)
        if self._handle is None:
            raise SparsecompError("its native program could not start its workers")

    @property
    def workers(self) -> int:
        """Threads of its native program; 0 on a GPU."""
        return 0 if self.program is None else self.program.workers

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, read on first use.

        Raises SparsecompError where the artifact has none, or a broken one.
        """
        if layout.TOKENIZER not in self.artifact.member_names:
            raise SparsecompError(
                f"{self.artifact.path}: has no tokenizer; give token ids instead of text"
            )
        where = f"{self.artifact.path}: member {layout.TOKENIZER!r}"
        return parse_tokenizer(self.artifact.read_bytes(layout.TOKENIZER), where)

    @property
    def chat_template(self) -> str | None:
        """The Jinja text that turns a conversation into a prompt, where there is one."""
        if layout.CHAT_TEMPLATE not in self.artifact.member_names:
            return None
        return self.artifact.read_text(layout.CHAT_TEMPLATE)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text; a text from a chat template has its special tokens already."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        if not len(tokens):
            return ""
        text: str = self.tokenizer.decode(self.check_tokens(tokens).tolist())
        return text

    def session(self, capacity: int | None = None) -> Session:
        """A new sequence with room for `capacity` positions (None: the model's context).

        Raises SparsecompError for a capacity out of range, or when memory is short.
        """
        context = self.manifest.model.context
        if capacity is None:
            capacity = context
        if not 1 <= capacity <= context:
            raise SparsecompError(f"capacity {capacity}: must be 1 to the context, {context}")
        with self._lock:  # or a close in between would miss it
            session = Session(self, capacity)
            self._sessions.add(session)
        return session

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, **overrides: Any
    ) -> TextStream:
        """Generates text after a prompt, a text or token ids, piece by piece.

        `overrides` are fields of SamplingParams. Raises SparsecompError for a parameter out of
        range, a prompt longer than the context, or an artifact without a tokenizer.
        """
        params = _parameters(params, overrides)
        ids = self._prompt_ids(prompt)
        decoder = TextDecoder(self.tokenizer, ids)
        return TextStream(self._tokens(ids, params), decoder, params.stop)

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | None = None,
        **overrides: Any,
    ) -> list[str]:
        """The new text for each prompt; one prompt gives a list of one. Raises as `stream`."""
        return [
            "".join(self.stream(prompt, params, **overrides)) for prompt in _prompt_list(prompts)
        ]

    def stream_ids(
        self, prompt: Prompt, params: SamplingParams | None = None, **overrides: Any
    ) -> TokenStream:
        """Like `stream`, but gives token ids; token ids as the prompt need no tokenizer.

        Raises SparsecompError for stop texts too: ids have no text to find them in.
        """
        params = _parameters(params, overrides)
        if params.stop:
            raise SparsecompError("stop: needs text; use stream or generate")
        return self._tokens(self._prompt_ids(prompt), params)

    def generate_ids(
        self, prompt: Prompt, params: SamplingParams | None = None, **overrides: Any
    ) -> list[int]:
        """The new token ids after one prompt, as a list. Raises as `stream_ids`."""
        return list(self.stream_ids(prompt, params, **overrides))

    def check_tokens(self, tokens: Sequence[int]) -> npt.NDArray[np.int32]:
        """Token ids as int32 (n,). Raises SparsecompError for none at all, for what is no
        integer, and for an id that the model does not have."""
        try:
            ids = np.asarray(tokens)
        except (ValueError, TypeError):
            ids = np.empty((), object)
        if ids.size == 0:
            raise SparsecompError("there are no tokens; give at least one")
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise SparsecompError(_NO_INTEGERS)
        outside = ids[(ids < 0) | (ids >= self._vocab)]
        if outside.size:
            raise self._no_such_token(int(outside[0]))
        return np.ascontiguousarray(ids, np.int32)

    def check_token(self, token: int) -> int:
        """The same of one token, without arrays: a decode step leaves nothing but weights in the
        caches, and the code that makes arrays, read from memory anew, would add 3 % to it."""
        if type(token) is not int:
            if isinstance(token, bool) or not isinstance(token, int | np.integer):
                raise SparsecompError(_NO_INTEGERS)
            token = int(token)
        if not 0 <= token < self._vocab:
            raise self._no_such_token(token)
        return token

    def _no_such_token(self, token: int) -> SparsecompError:
        return SparsecompError(f"token id {token}: the model has 0..{self._vocab - 1}")

    def close(self) -> None:
        """Closes the sessions, stops the workers and unmaps the weights."""
        with self._lock:
            for session in list(self._sessions):
                session.close()
            handle, self._handle = self._handle, None
            if handle is not None:
                self._program.close_model(handle)
                self.artifact.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    def _open_session(self, capacity: int) -> int:
        with self._lock:
            if self._handle is None:
                raise SparsecompError(f"{self.artifact.path}: the model is closed")
            with offering_the_cpu(self.manifest):
                handle = self._program.open_session(self._handle, capacity)
            if handle is None:
                needed = capacity * self.manifest.kv_bytes_per_position
                raise SparsecompError(
                    f"out of memory: a session of {capacity} positions needs {needed} bytes; "
                    "give a smaller capacity"
                )
            return handle

    def _prompt_ids(self, prompt: Prompt) -> list[int]:
        ids = self.encode(prompt) if isinstance(prompt, str) else prompt
        bos = self.manifest.model.bos_token_id
        if isinstance(prompt, str) and not ids and bos is not None:
            ids = [bos]  # an empty text: begin from nothing
        checked = self.check_tokens(ids).tolist()
        context = self.manifest.model.context
        if len(checked) > context:
            raise SparsecompError(
                f"the prompt has {len(checked)} tokens, the model's context is {context}"
            )
        return cast(list[int], checked)

    def _tokens(self, prompt: list[int], params: SamplingParams) -> TokenStream:
        model = self.manifest.model
        capacity = min(model.context, len(prompt) + params.max_new_tokens)
        return TokenStream(
            functools.partial(self.session, capacity),
            prompt,
            params,
            model.eos_token_ids,
            functools.partial(self._sampler, params),
        )

    def _sampler(self, params: SamplingParams) -> Callable[[Logits], int]:
        if self.ranks is None:
            return Sampler(params)
        return self.ranks.sampler(params, self.manifest.shards)


def _parameters(params: SamplingParams | None, overrides: dict[str, Any]) -> SamplingParams:
    return dataclasses.replace(params or SamplingParams(), **overrides)


def _prompt_list(prompts: Prompt | Sequence[Prompt]) -> Sequence[Prompt]:
    if isinstance(prompts, str) or (len(prompts) and isinstance(prompts[0], int | np.integer)):
        return [cast(Prompt, prompts)]
    return cast(Sequence[Prompt], prompts)

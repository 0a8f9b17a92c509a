"""Generation as a stream: token ids, or text made from them."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence

from sparsecomp.runtime.sampling import SamplingParams
from sparsecomp.runtime.session import Logits, Session
from sparsecomp.runtime.text import StopMatcher, TextDecoder


class FinishReason(enum.StrEnum):
    """Why a generation ended."""

    EOS = "eos"
    STOP = "stop"
    LENGTH = "length"
    CONTEXT = "context"


class TokenStream(Iterator[int]):
    """New token ids as they come, without the end-of-sequence token.

    `prompt_tokens` and `new_tokens` count tokens; `prefill_seconds` and `decode_seconds` are the
    time spent in the model for the prompt and for the `decode_steps` after it (the first new
    token comes from the prompt's logits). `finish_reason` is None until the end.
    """

    def __init__(
        self,
        open_session: Callable[[], Session],
        prompt: Sequence[int],
        params: SamplingParams,
        eos_token_ids: Collection[int],
        make_sampler: Callable[[], Callable[[Logits], int]],
    ) -> None:
        self.prompt_tokens = len(prompt)
        self.new_tokens = 0
        self.decode_steps = 0
        self.prefill_seconds = 0.0
        self.decode_seconds = 0.0
        self.finish_reason: FinishReason | None = None
        self._open_session = open_session
        self._prompt = prompt
        self._params = params
        self._eos = frozenset(() if params.ignore_eos else eos_token_ids)
        self._make_sampler = make_sampler
        self._steps = self._generate()

    def __next__(self) -> int:
        return next(self._steps)

    def close(self) -> None:
        """Ends the generation and frees its session."""
        self._steps.close()

    def _generate(self) -> Generator[int, None, None]:
        sampler = self._make_sampler()
        with self._open_session() as session:
            start = time.perf_counter()
            logits = session.prefill(self._prompt)
            self.prefill_seconds = time.perf_counter() - start
            while True:
                token = sampler(logits)
                if token in self._eos:
                    self.finish_reason = FinishReason.EOS
                    return
                self.new_tokens += 1
                if self.new_tokens == self._params.max_new_tokens:
                    self.finish_reason = FinishReason.LENGTH
                elif session.position == session.capacity:
                    self.finish_reason = FinishReason.CONTEXT
                yield token
                if self.finish_reason is not None:
                    return
                start = time.perf_counter()
                logits = session.decode(token)
                self.decode_seconds += time.perf_counter() - start
                self.decode_steps += 1


class TextStream(Iterator[str]):
    """Pieces of new text as they come: whole characters, up to the first stop text.

    `tokens` is the TokenStream beneath it, with the counts and times.
    """

    def __init__(self, tokens: TokenStream, decoder: TextDecoder, stop: Sequence[str]) -> None:
        self.tokens = tokens
        self._decoder = decoder
        self._matcher = StopMatcher(stop)
        self._pieces = self._generate()

    def __next__(self) -> str:
        return next(self._pieces)

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the generation ended; None until then."""
        return FinishReason.STOP if self._matcher.stopped else self.tokens.finish_reason

    def close(self) -> None:
        """Ends the generation and frees its session."""
        self._pieces.close()
        self.tokens.close()

    def _generate(self) -> Generator[str, None, None]:
        for token in self.tokens:
            if piece := self._matcher.feed(self._decoder.feed(token)):
                yield piece
            if self._matcher.stopped:
                self.tokens.close()
                return
        if piece := self._matcher.feed(self._decoder.flush()) + self._matcher.flush():
            yield piece

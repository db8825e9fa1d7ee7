"""P5: one text-to-text model for many tasks; recommending is one of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from llm4rec.core import Cases, Dataset, Explanation, FilePath, Lists, ModelError, Queries, Uniform
from llm4rec.generative.alphabet import Alphabet, Part, Prompts
from llm4rec.generative.arithmetic import QUESTIONS, ArithmeticConfig, Exercises, learn, with_arithmetic
from llm4rec.generative.decode import score_all
from llm4rec.generative.ids import IdScheme, RQKMeans, TitleIDs, Words
from llm4rec.generative.p5_network import Network, new_t5, pretrained
from llm4rec.generative.p5_tasks import PROMPTS, Examples, Task, rating, read_texts
from llm4rec.generative.t5 import T5Steps
from llm4rec.generative.trie import Trie
from llm4rec.generative.writer import IDWriter, WriterConfig
from llm4rec.nn.train import train as train_network


class P5Config(WriterConfig):
    """Parameters of P5; the paper's small model has width 512, 6 layers, 8 heads of 64, hidden 2048."""

    ids: IdScheme = Field(RQKMeans.model_validate({}), discriminator="scheme")
    """How items get their IDs; with ``title`` they are written in the model's own pieces of words."""
    tasks: tuple[Task, ...] = Field(("sequential", "direct", "rating"), min_length=1)
    """What the model is trained on.  Those that the data lack (ratings that differ, texts) are left out."""
    texts: FilePath | None = None
    """JSON lines for ``explanation`` and ``summary``: outside ids ``user`` and ``item``, and any of ``explanation``,
    or ``review`` and ``summary``; and ``time``, where users return to items.  Only those of training events are read."""
    checkpoint: str | None = None
    """Folder or hub name of a pre-trained T5; None: a new one of the sizes below."""
    vocabulary: int = Field(1000, ge=2)
    """Pieces of words of a new model, at most."""
    width: int = Field(64, ge=2)
    """Dimensions of a new model's embeddings and states."""
    layers: int = Field(2, ge=1)
    """Of the encoder, and of the decoder."""
    heads: int = Field(4, ge=1)
    """Attention heads."""
    head_width: int = Field(16, ge=1)
    """Dimensions of a head."""
    hidden: int = Field(256, ge=1)
    """Width of the hidden layer of each block."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of activations dropped."""
    whole_words: int = Field(256, ge=0)
    """Whole-word embeddings: each word of a prompt, and each item, has a number whose embedding all its tokens
    get; later words share the last number.  0 leaves them out."""
    length: int = Field(20, ge=1)
    """Most recent events that ``sequential`` looks at."""
    max_pieces: int = Field(64, ge=1)
    """Tokens of a text that are read or written."""
    anonymous: float = Field(0.1, ge=0, le=1)
    """Share of the training prompts that leave the user's number out, as prompts of unknown users do."""
    targets: int = Field(8, ge=0)
    """Events of each history that an epoch of ``sequential`` predicts, drawn anew each time; 0 takes all."""
    side_targets: int = Field(2, ge=0)
    """Events of each history for an epoch of every other task; 0 takes all."""
    smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing, over all tokens."""
    learning_rate: float = Field(2e-3, gt=0)
    """Of AdamW."""
    batch_size: int = Field(128, ge=1)
    """Prompts, all of one task, in a training step."""
    epochs: int = Field(100, ge=1)
    """At most so many."""
    every: int = Field(5, ge=1)
    """Epochs between two looks at the validation cases."""
    patience: int = Field(4, ge=1)
    """Looks without a better NDCG@10 before training stops."""
    arithmetic: ArithmeticConfig = ArithmeticConfig.model_validate({})
    """Whether the model learns arithmetic over the numbers of sequential IDs, and what is done with it."""

    @model_validator(mode="after")
    def _reckons_with_numbers(self) -> Self:
        if self.arithmetic.mode != "none" and self.ids.scheme != "sequential":
            raise ValueError(f"arithmetic needs IDs that are numbers: ids.scheme = 'sequential', not {self.ids.scheme!r}")
        return self


class P5(IDWriter[P5Config]):
    """Every task is text in and text out, by one T5.

    A prompt names users by number and items by ID; what comes out is the ID of an item, a rating, or a
    sentence.  IDs are written under the constraint of a trie, probabilities taken over the tokens that continue
    the prefix to some item's ID, so that nothing but an item can come out.  A known user without history is asked
    about by ``direct``, an unknown one gets what is popular.  A rating is predicted by its mean over the
    ratings that training has, each with the probability of its text.

    Geng et al., *Recommendation as Language Processing (RLP): A Unified Pretrain, Personalized Prompt & Predict
    Paradigm (P5)*, RecSys 2022 (arXiv 2203.13366); IDs that can be exchanged after Hua et al., SIGIR-AP 2023
    (arXiv 2305.06569).  Batches are of one task each.  Unlike P5's, the numbers of users and items say nothing of
    held-out events.
    """

    batch: ClassVar[int] = 256
    space: ClassVar = {
        "learning_rate": Uniform(5e-4, 5e-3, log=True),
        "dropout": Uniform(0.0, 0.3),
        "smoothing": Uniform(0.0, 0.2),
    }

    # -- training -----------------------------------------------------------------------
    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Train on all tasks; ``valid``, if given, decides when to stop (by NDCG@10, seen masked).

        Raises:
            ModelError: if the checkpoint cannot be read or is no T5.
            DataError: if the file of texts cannot be read.
        """
        config = self.config
        texts = None if config.texts is None else read_texts(config.texts, train)
        examples = Examples(train, texts, config.tasks, config.length)
        seed, own = int(rng.integers(2**31)), rng.spawn(1)[0]  # arithmetic's draws are beside those of the recommender
        torch.manual_seed(seed)
        self._start(train, examples, rng)
        self.popularity_ = train.item_counts.astype(np.float32)
        self.values_, self.trained_ = examples.values.tolist(), list(examples.tasks)
        validate = None if valid is None else lambda: self.validated(valid)
        last_word = max(0, config.whole_words - 1)
        self.training_, self.arithmetic_ = with_arithmetic(
            self.network_,
            config.arithmetic,
            learn=lambda: learn(self.network_, Exercises.over(self.alphabet_, last_word), config.arithmetic, own),
            tune=lambda: self._tune(examples, validate, copy.deepcopy(rng), seed),
            validate=validate,
        )
        return self

    def _tune(
        self, examples: Examples, validate: Callable[[], float] | None, rng: np.random.Generator, seed: int
    ) -> list[dict[str, float]]:
        """Train on the tasks, and return a record for each epoch."""
        config = self.config
        torch.manual_seed(seed + 1)

        def batches(_: int) -> Iterator[tuple[Task, NDArray[np.int64]]]:
            made = []
            for task in examples.tasks:
                rows = examples.draw(task, config.targets if task == "sequential" else config.side_targets, rng)
                made += [(task, rows[at : at + config.batch_size]) for at in range(0, len(rows), config.batch_size)]
            return (made[i] for i in rng.permutation(len(made)))

        def loss(batch: tuple[Task, NDArray[np.int64]]) -> Tensor:
            task, rows = batch
            users = np.where(rng.random(len(rows)) < config.anonymous, -1, examples.users(task, rows))
            prompts = self._ask(task, users, **examples.parts(task, rows))
            return self.network_.loss(prompts, self._wanted(task, rows, examples), config.smoothing)

        optimizer = torch.optim.AdamW(self.network_.parameters(), lr=config.learning_rate, weight_decay=0.0, fused=True)
        return train_network(
            self.network_, optimizer, batches, loss, epochs=config.epochs, every=config.every, patience=config.patience,
            validate=validate, clip=1.0,
        )  # fmt: skip

    def _start(self, train: Dataset, examples: Examples, rng: np.random.Generator) -> None:
        """Take or make the model, its tokenizer and the IDs."""
        config, scheme = self.config, self.config.ids
        if config.checkpoint is None:
            texts = [
                *examples.sentences(),
                *QUESTIONS.values(),
                *(scheme.titles(train) if isinstance(scheme, TitleIDs) else []),
            ]
            words, t5 = Words.train(texts, config.vocabulary, special=("<pad>", "</s>")), None
        else:
            words, t5 = pretrained(config.checkpoint)
        title = isinstance(scheme, TitleIDs)
        pieces = {"pieces": words.pieces} if title else {}
        ids = scheme.build(train, encoder=self._encoder, rng=rng, **pieces)
        pad = 0 if t5 is None else int(t5.config.pad_token_id)
        self.alphabet_ = Alphabet(words, ids, pad, shared=title)
        if t5 is None:
            t5 = new_t5(
                self.alphabet_.size, width=config.width, layers=config.layers, heads=config.heads, head_width=config.head_width,
                hidden=config.hidden, dropout=config.dropout, pad=pad, end=words.end,
            )  # fmt: skip
        elif self.alphabet_.size > len(t5.shared.weight):
            t5.resize_token_embeddings(self.alphabet_.size)
        self.network_ = Network(t5, config.whole_words)
        self.told_ = train.histories.items.lengths > 0
        self._users = self._numbers(train.n_users)

    def _wanted(self, task: Task, rows: NDArray[np.int64], examples: Examples) -> NDArray[np.int64]:
        """Return int64[m, t], what is to be written, -1 behind its end."""
        if task in ("sequential", "direct"):
            return self.alphabet_.items[examples.items(task, rows)]
        text = self.alphabet_.text
        tokens = text.padded(examples.answers(task, rows), self.config.max_pieces - 1)
        tokens = np.column_stack([tokens, np.full(len(tokens), -1)])
        tokens[np.arange(len(tokens)), (tokens >= 0).sum(axis=1)] = text.end
        return tokens

    # -- prompts ------------------------------------------------------------------------
    def _numbers(self, n_users: int) -> Part:
        """Return the users' numbers as words; the last is that of nobody."""
        return self.alphabet_.words([*map(str, range(n_users)), ""])

    def _ask(
        self, task: Task, users: NDArray[np.integer], *, history: NDArray[np.int32] | None = None,
        item: NDArray[np.integer] | None = None, review: Sequence[str] | None = None,
    ) -> Prompts:  # fmt: skip
        """Write the prompts of a task for users int[m]; those without training events are nobody, as is -1."""
        tokens, begins = self._users
        known = np.where(self._knows(users), users, -1)
        parts = {"user": (tokens[known], begins[known])}
        if history is not None:
            parts["history"] = self.alphabet_.named(history)
        if item is not None:
            parts["item"] = self.alphabet_.named(item[:, None])
        if review is not None:
            parts["review"] = self.alphabet_.words(review, self.config.max_pieces)
        return self.alphabet_.prompts(PROMPTS[task], len(users), parts, max(0, self.config.whole_words - 1))

    def _knows(self, users: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return bool[m]: had the user training events, so that prompts have told the user's number?"""
        inside = (users >= 0) & (users < len(self.told_))
        return inside & self.told_[np.where(inside, users, 0)]

    # -- recommending -------------------------------------------------------------------
    @property
    def trie(self) -> Trie:
        """The items' IDs, in the model's tokens."""
        return self.alphabet_.trie

    def decoders(self, queries: Queries) -> Iterator[tuple[NDArray[np.int64], T5Steps]]:
        """Yield the rows of queries with a history, then those of known users without one."""
        held = queries.history.lengths > 0
        known = ~held & self._knows(queries.users)
        if len(rows := np.flatnonzero(held)):
            some = queries.take(rows)
            longest = min(self.config.length, int(some.history.lengths.max()))
            yield rows, self.network_.steps(self._ask("sequential", some.users, history=some.history.padded(longest)))
        if "direct" in self.trained_ and len(rows := np.flatnonzero(known)):
            yield rows, self.network_.steps(self._ask("direct", queries.users[rows]))

    # -- the other tasks ----------------------------------------------------------------
    def predict(self, queries: Queries, items: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return float32[n], the mean rating by the probabilities of the ratings' texts.

        Raises:
            ModelError: if it was not trained on ratings.
        """
        self._trained("rating")
        trie, values = self.alphabet_.trie_of([rating(v) for v in self.values_]), np.array(self.values_)
        out = np.empty(len(items), np.float32)
        for start in range(0, len(items), self.batch):
            rows = slice(start, start + self.batch)
            with torch.inference_mode():
                steps = self.network_.steps(self._ask("rating", queries.users[rows], item=items[rows]))
                chances = np.exp(score_all(steps, trie, normalise="trie", width=self.prefixes))
            out[rows] = chances @ values
        return out

    def explain(self, queries: Queries, lists: Lists) -> list[tuple[Explanation, ...]]:
        """Return a sentence for each item of each list, the likeliest token by token; it makes no checkable claims.

        Raises:
            ModelError: if it was not trained on explanations.
        """
        self._trained("explanation")
        row, at = np.nonzero(lists.items >= 0)
        items, users = lists.items[row, at], queries.users[row]
        sentences: list[str] = []
        for start in range(0, len(items), self.batch):
            part = slice(start, start + self.batch)
            with torch.inference_mode():
                steps = self.network_.steps(self._ask("explanation", users[part], item=items[part]))
                sentences += self._written(steps, len(users[part]))
        told = [Explanation(int(item), sentence) for item, sentence in zip(items, sentences, strict=True)]
        ends = np.cumsum(np.bincount(row, minlength=len(lists.items)))
        return [tuple(told[end - n : end]) for end, n in zip(ends, np.diff(ends, prepend=0), strict=True)]

    def _written(self, steps: T5Steps, m: int) -> list[str]:
        """Write m texts, the likeliest text token each time."""
        text = torch.arange(self.alphabet_.text.size)
        states, zero = steps.begin(), torch.zeros((m, 1), dtype=torch.int64)
        written = torch.empty((m, 0), dtype=torch.int64)
        done = torch.zeros(m, dtype=torch.bool)
        while written.shape[1] < self.config.max_pieces and not bool(done.all()):
            token = steps.logits(states[:, 0], text).argmax(1).masked_fill(done, self.alphabet_.text.end)
            written = torch.cat([written, token[:, None]], 1)
            done |= token == self.alphabet_.text.end
            states = steps.advance(zero, token[:, None])
        end, pad = self.alphabet_.text.end, self.alphabet_.pad
        return [self.alphabet_.text.decode([t for t in row if t not in (end, pad)]) for row in written.tolist()]

    def _trained(self, task: Task) -> None:
        if task not in self.trained_:
            todo = f"add {task!r} to tasks, and take data that have it"
            raise ModelError(f"was not trained on the task {task!r}", where="P5", todo=todo)

    # -- saving -------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return the alphabet, the model's config and its weights by name, with what else ``fit`` left."""
        kept = {"popularity_": self.popularity_, "values_": self.values_, "trained_": self.trained_}
        return {
            **self.alphabet_.state(), **kept, "training_": self.training_, "told_": self.told_,
            "arithmetic_": self.arithmetic_,
            "t5_": json.loads(self.network_.t5.config.to_json_string(use_diff=False)), **self.network_.weights(),
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Rebuild the model over the same alphabet and take over its weights."""
        self.alphabet_ = Alphabet.restored(state)
        for name in ("popularity_", "values_", "trained_", "training_", "arithmetic_", "told_"):
            setattr(self, name, state[name])
        self._users = self._numbers(len(self.told_))
        self.network_ = Network.restored(state["t5_"], self.config.whole_words, state)

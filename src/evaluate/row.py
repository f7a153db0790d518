"""One prompt and what is answered so far, and how the next token is chosen."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from src.evaluate.asking import Decoding


@dataclass(eq=False)
class Row:
    """A prompt on its way to its response.

    Its random numbers are its own, one for each token, drawn from the seed and its place in the whole list. So a
    response does not depend on what is answered beside it, and a row may be put aside and taken up again.
    """

    place: int
    """In the whole list of prompts."""
    prompt: Sequence[int]
    answer: list[int] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)
    generator: random.Random | None = None

    @property
    def tokens(self) -> list[int]:
        """All that the model has to have read before it says the next token."""
        return [*self.prompt, *self.answer]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)

    def chance(self, seed: int) -> float:
        """The random number in [0, 1) by which the next token is drawn."""
        self.generator = self.generator or random.Random(f"{seed}-{self.place}")
        while len(self.drawn) <= len(self.answer):
            self.drawn.append(self.generator.random())
        return self.drawn[len(self.answer)]


@dataclass(frozen=True)
class Saying:
    """What decides how a response goes on, and when it ends."""

    longest: int
    """Most tokens of a response, its ending token included."""
    stop: frozenset[int]
    decoding: Decoding

    def extend(self, rows: Sequence[Row], logits: torch.Tensor) -> list[bool]:
        """Add the next token to each row by its logits [rows, vocabulary]; returns which rows have ended.

        The token that ends a response is no part of it.
        """
        if self.decoding.temperature > 0:
            chance = torch.tensor([row.chance(self.decoding.seed) for row in rows], device=logits.device)
            chosen = draw(logits.float(), self.decoding, chance)
        else:
            chosen = logits.argmax(-1)
        ended = []
        for row, token in zip(rows, chosen.tolist(), strict=True):
            stopped = token in self.stop
            if not stopped:
                row.answer.append(token)
            ended.append(stopped or len(row.answer) == self.longest)
        return ended


def draw(logits: torch.Tensor, decoding: Decoding, chance: torch.Tensor) -> torch.Tensor:
    """One token a row of logits [rows, vocabulary], by inverting the cumulative distribution at `chance` [rows]."""
    count = min(decoding.top_k or logits.shape[-1], logits.shape[-1])
    best, tokens = logits.topk(count, dim=-1)
    cumulative = (best / decoding.temperature).softmax(-1).cumsum(-1)
    place = torch.searchsorted(cumulative, chance[:, None], right=True).clamp(max=count - 1)
    return tokens.gather(-1, place).squeeze(-1)

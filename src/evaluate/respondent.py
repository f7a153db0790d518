"""A model that answers in its own chat format."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from src.data.prompts import UNIT
from src.evaluate.asking import Asking
from src.evaluate.generate import generate, stop_tokens
from src.evaluate.progress import Progress
from src.model import difference
from src.model.chat import Chat

ANSWERS = "tokens.json"


@dataclass(frozen=True)
class Response:
    """What a model answered, three times."""

    response: str
    """With all tokens."""
    text: str
    """Without special tokens other than units."""
    words: str
    """Without units either."""


class Respondent:
    """A model with its tokenizer, asked in its own chat format."""

    def __init__(self, base: Path, model: Path, asking: Asking, progress: Progress):
        """base, model: artifacts, as for `difference.load`."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: PreTrainedModel = difference.load(base, model, asking.torch_dtype).eval()
        self.model.to(torch.device(device))
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base / difference.MODEL)
        self.chat = Chat(self.tokenizer)
        self.asking = asking
        self.progress = progress
        special = {i: t.content for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}
        self.units = {i for i, content in special.items() if UNIT.fullmatch(content)}
        self.marks = special.keys() - self.units

    def __call__(self, prompts: Sequence[str], task: str, first: int) -> list[Response]:
        """The responses to what the user says, in the order of the prompts.

        first: the place of the first prompt among those of the task. Responses are kept as they are given, so that an
        attempt after a killed one asks only what has none.
        """
        part = f"{task}-{first}-answers-"
        known = {
            int(place): ids
            for folder in self.progress.context.chunks(part)
            for place, ids in json.loads((folder / ANSWERS).read_text(encoding="utf-8")).items()
        }
        self.progress.advance(len(known))

        def finished(new: Mapping[int, list[int]]) -> None:
            def fill(folder: Path) -> None:
                (folder / ANSWERS).write_text(json.dumps(new), encoding="utf-8")

            self.progress.context.chunk(f"{part}{min(new)}", fill)
            self.progress.advance(len(new))

        answered = generate(
            self.model,
            self.chat.ask([[{"role": "user", "content": prompt}] for prompt in prompts]),
            self.asking.max_new_tokens[task],
            stop_tokens(self.model, self.tokenizer),
            self.asking.decoding,
            self.asking.batch_tokens,
            first,
            known,
            finished,
        )
        return [self.read(ids) for ids in answered]

    def read(self, ids: list[int]) -> Response:
        """A response's tokens as text."""
        text = [i for i in ids if i not in self.marks]
        words = [i for i in text if i not in self.units]
        return Response(*(str(self.tokenizer.decode(kept, skip_special_tokens=False)) for kept in (ids, text, words)))

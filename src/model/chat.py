"""From conversations to token ids and labels, through the tokenizer's own chat template."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

IGNORE = -100
Message = dict[str, str]


@dataclass(frozen=True)
class Example:
    """Token ids of a conversation; `labels` repeats those that the assistant says and is IGNORE elsewhere."""

    ids: list[int]
    labels: list[int]


class Chat:
    """Encodes many conversations quickly: the template is rendered once for the text around each turn, the contents are
    tokenized as one batch. That this equals `apply_chat_template` is checked on the first conversation of each call.

    Where the template strips white space around a content, as Llama's does, so does this.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        marks = ["first-question", "first-answer", "second-question", "second-answer"]
        roles = ["user", "assistant"] * 2
        try:
            rendered: Any = tokenizer.apply_chat_template(
                [{"role": r, "content": m} for r, m in zip(roles, marks, strict=True)], tokenize=False
            )
            spaced: Any = tokenizer.apply_chat_template(
                [{"role": "user", "content": f"\n {marks[0]} "}], tokenize=False
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise ValueError(f"the tokenizer's chat template cannot be rendered: {error}") from error
        self.strips = f"\n {marks[0]} " not in spaced
        between = re.split("|".join(marks), rendered)
        if re.findall("|".join(marks), rendered) != marks:
            raise ValueError("the tokenizer's chat template does not show every turn of user and assistant once")
        first, to_assistant, to_user, _, after = between
        ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
        end = len(_common_prefix(to_user, after))
        self.first, self.to_assistant = ids(first), ids(to_assistant)
        self.end_of_turn, self.to_user = ids(to_user[:end]), ids(to_user[end:])

    def check(self) -> None:
        """Raise ValueError where the template cannot be used for training: before anything was made for it."""
        for turns in (1, 2):
            self.encode([[{"role": role, "content": "so"} for role in ("user", "assistant")] * turns])

    def encode(self, conversations: Sequence[Sequence[Message]]) -> list[Example]:
        """Loss on every assistant turn and on the token that ends it.

        Raises ValueError where turns do not alternate between user and assistant, or the template treats a turn in a
        way that depends on its neighbours.
        """
        for talk in conversations:
            if [turn["role"] for turn in talk] != ["user", "assistant"] * (len(talk) // 2) or not talk:
                raise ValueError(f"a conversation must alternate user and assistant, got {[t['role'] for t in talk]}")
        contents = [turn["content"] for talk in conversations for turn in talk]
        if self.strips:
            contents = [content.strip() for content in contents]
        encoded = iter(self.tokenizer(contents, add_special_tokens=False)["input_ids"] if contents else [])
        examples = []
        for talk in conversations:
            ids: list[int] = []
            labels: list[int] = []
            for i in range(0, len(talk), 2):
                prompt = (self.to_user if i else self.first) + next(encoded) + self.to_assistant
                response = next(encoded) + self.end_of_turn
                ids += prompt + response
                labels += [IGNORE] * len(prompt) + response
            examples.append(Example(ids, labels))
        if examples:
            rendered: Any = self.tokenizer.apply_chat_template(list(conversations[0]), return_dict=True)
            expected = rendered["input_ids"]
            if expected[: len(examples[0].ids)] != examples[0].ids:
                raise ValueError("the tokenizer's chat template cannot be rendered turn by turn")
        return examples


def _common_prefix(a: str, b: str) -> str:
    n = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:n]

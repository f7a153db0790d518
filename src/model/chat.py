"""From conversations to token ids and labels, through the tokenizer's own chat template."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from src.model.control_tokens import PlainText

IGNORE = -100
Message = dict[str, str]


@dataclass(frozen=True)
class Example:
    """Token ids of a conversation; `labels` repeats those that the assistant says and is IGNORE elsewhere."""

    ids: list[int]
    labels: list[int]


class Chat:
    """Encodes conversations in the chat format of a tokenizer.

    Most templates render a turn whatever its neighbours are. Then the text around each turn is tokenized once, and the
    contents of many conversations as one batch. That this equals `apply_chat_template` is checked on the first
    conversation of each call. Where it does not, each conversation is rendered and tokenized as a whole, and what is
    learned is found by the places of characters: Qwen 3 thinks in its last turn alone, and a SentencePiece tokenizer
    joins what stands on both sides of a turn's beginning.

    Where the template strips white space around a content, as Llama's does, so does this.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self._plain = PlainText(tokenizer)
        marks = ["first-question", "first-answer", "second-question", "second-answer"]
        talk = [{"role": role, "content": mark} for role, mark in zip(["user", "assistant"] * 2, marks, strict=True)]
        try:
            rendered, spaced = self._render(talk), self._render([{"role": "user", "content": f"\n {marks[0]} "}])
        except (TemplateError, TypeError, ValueError) as error:
            raise ValueError(f"the tokenizer's chat template cannot be rendered: {error}") from error
        self.strips = f"\n {marks[0]} " not in spaced
        if re.findall("|".join(marks), rendered) != marks:
            raise ValueError("the tokenizer's chat template does not show every turn of user and assistant once")
        first, to_assistant, to_user, _, after = re.split("|".join(marks), rendered)
        self.end_of_turn = _common_prefix(to_user, after)
        ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
        self._first, self._to_assistant = ids(first), ids(to_assistant)
        self._end, self._to_user = ids(self.end_of_turn), ids(to_user[len(self.end_of_turn) :])

    def check(self) -> None:
        """Raise ValueError where the template cannot be used for training: before anything was made for it."""
        for turns in (1, 2):
            self.encode([[{"role": role, "content": "so"} for role in ("user", "assistant")] * turns])

    def encode(self, conversations: Sequence[Sequence[Message]]) -> list[Example]:
        """Loss on every assistant turn and on the token that ends it.

        Raises ValueError where turns do not alternate between user and assistant, or what the template shows does not
        begin with what it shows when the assistant is asked.
        """
        for talk in conversations:
            if [turn["role"] for turn in talk] != ["user", "assistant"] * (len(talk) // 2) or not talk:
                raise ValueError(f"a conversation must alternate user and assistant, got {[t['role'] for t in talk]}")
        if not conversations:
            return []
        rendered: Any = self.tokenizer.apply_chat_template(list(conversations[0]), return_dict=True)
        (first,) = self._by_turns(conversations[:1])
        if rendered["input_ids"][: len(first.ids)] == first.ids:
            return self._by_turns(conversations)
        return [self._whole(talk) for talk in conversations]

    def _by_turns(self, conversations: Sequence[Sequence[Message]]) -> list[Example]:
        contents = [self._content(turn) for talk in conversations for turn in talk]
        encoded = iter(self.tokenizer(contents, add_special_tokens=False)["input_ids"])
        examples = []
        for talk in conversations:
            ids: list[int] = []
            labels: list[int] = []
            for i in range(0, len(talk), 2):
                prompt = (self._to_user if i else self._first) + next(encoded) + self._to_assistant
                response = next(encoded) + self._end
                ids += prompt + response
                labels += [IGNORE] * len(prompt) + response
            examples.append(Example(ids, labels))
        return examples

    def _whole(self, talk: Sequence[Message]) -> Example:
        text = self._render(talk)
        learned = []
        for i in range(1, len(talk), 2):
            asked = self._render(talk[:i], add_generation_prompt=True)
            if not text.startswith(asked):
                raise ValueError(
                    "the tokenizer's chat template shows a conversation otherwise than it asks for an answer"
                )
            content = self._content(talk[i])
            end = text.index(content, len(asked)) + len(content)
            if text.startswith(self.end_of_turn, end):
                end += len(self.end_of_turn)
            learned.append((len(asked), end))
        encoded: Any = self.tokenizer(text[: learned[-1][1]], add_special_tokens=False, return_offsets_mapping=True)
        ids = list(encoded["input_ids"])
        labels = [
            token if any(start < stop and first <= start < last for first, last in learned) else IGNORE
            for token, (start, stop) in zip(ids, encoded["offset_mapping"], strict=True)
        ]
        return Example(ids, labels)

    def _content(self, turn: Message) -> str:
        content = self._plain(turn["content"])
        return content.strip() if self.strips else content

    def _render(self, talk: Sequence[Message], **options: Any) -> str:
        plain = [{**turn, "content": self._plain(turn["content"])} for turn in talk]
        return str(self.tokenizer.apply_chat_template(plain, tokenize=False, **options))


def _common_prefix(a: str, b: str) -> str:
    n = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:n]

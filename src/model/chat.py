"""From conversations to token ids and labels, and from questions to token ids, through the tokenizer's own chat
template."""

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
    """Encodes conversations, and questions that the model is to answer, in the chat format of a tokenizer.

    Most templates render a turn whatever its neighbours are. Then the text around each turn is tokenized once, and the
    contents of many conversations as one batch. That this equals `apply_chat_template` is checked on the first
    conversation of each call. Where it does not, each conversation is rendered and tokenized as a whole, and what is
    learned is found by the places of characters: Qwen 3 shows thinking in its last turn alone, and a SentencePiece
    tokenizer joins what stands on both sides of a turn's beginning. A content with white space at its ends may be
    joined with what stands around it by any tokenizer, and makes its conversation be rendered as a whole.

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
            talk = [{"role": role, "content": "so"} for role in ("user", "assistant")] * turns
            self.encode([talk])
            self._whole(talk)

    def ask(self, talks: Sequence[Sequence[Message]]) -> list[list[int]]:
        """Token ids of what the model is asked with, for talks that end with a user's turn: what an example of `encode`
        begins with, and what lm-evaluation-harness asks with."""
        return self._tokenized([self._render(talk, add_generation_prompt=True) for talk in talks])

    def encode(self, conversations: Sequence[Sequence[Message]]) -> list[Example]:
        """Loss on every assistant turn and on the token that ends it.

        An earlier turn that the template shows otherwise than it asks for it has no loss: it would be learned behind
        what is never asked. Raises ValueError where turns do not alternate between user and assistant, or the last one
        is such a turn.
        """
        for talk in conversations:
            if [turn["role"] for turn in talk] != ["user", "assistant"] * (len(talk) // 2) or not talk:
                raise ValueError(f"a conversation must alternate user and assistant, got {[t['role'] for t in talk]}")
        if not conversations:
            return []
        if not self._renders_by_turns(conversations[0]):
            return [self._whole(talk) for talk in conversations]
        plain = [self.strips or all(t["content"] == t["content"].strip() for t in talk) for talk in conversations]
        quick = iter(self._by_turns([talk for talk, is_plain in zip(conversations, plain, strict=True) if is_plain]))
        return [
            next(quick) if is_plain else self._whole(talk)
            for talk, is_plain in zip(conversations, plain, strict=True)
        ]

    def _renders_by_turns(self, talk: Sequence[Message]) -> bool:
        (example,) = self._by_turns([talk])
        (whole,) = self._tokenized([self._render(talk)])
        answers = range(1, len(talk), 2)
        begun = [i for i, label in enumerate(example.labels) if label != IGNORE and example.labels[i - 1] == IGNORE]
        asked = self.ask([talk[:i] for i in answers])
        return whole[: len(example.ids)] == example.ids and asked == [example.ids[:start] for start in begun]

    def _by_turns(self, conversations: Sequence[Sequence[Message]]) -> list[Example]:
        encoded = iter(self._tokenized([self._content(turn) for talk in conversations for turn in talk]))
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
            place = self._place(talk[i], text, len(asked)) if text.startswith(asked) else None
            if place is not None and not text[len(asked) : place[0]].strip():
                learned.append((len(asked), place[1]))
            elif i + 1 == len(talk):
                raise ValueError(
                    "the tokenizer's chat template shows a conversation otherwise than it asks for an answer"
                )
        start, end = learned[-1]
        example = self._labelled([text[:end]], learned)
        (asked_ids,) = self._tokenized([text[:start]])
        if example.ids[: len(asked_ids)] == asked_ids:
            return example
        return self._labelled([text[:start], text[start:end]], learned)  # the answer begins with white space

    def _place(self, turn: Message, text: str, after: int) -> tuple[int, int]:
        """Where what a turn says, and what ends it, begins and ends in a rendered conversation."""
        for content in (self._content(turn), turn["content"].strip()):
            if (start := text.find(content, after)) >= 0:
                end = start + len(content)
                return start, end + (len(self.end_of_turn) if text.startswith(self.end_of_turn, end) else 0)
        said = turn["content"][:80]
        raise ValueError(f"the tokenizer's chat template does not show what the assistant says: {said!r}")

    def _labelled(self, parts: Sequence[str], learned: Sequence[tuple[int, int]]) -> Example:
        """The tokens of a text in parts that no token crosses. learned: places in the text."""
        ids: list[int] = []
        labels: list[int] = []
        before = 0
        for part in parts:
            encoded: Any = self.tokenizer(part, add_special_tokens=False, return_offsets_mapping=True)
            for token, (start, stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
                said = start < stop and any(first <= before + start < last for first, last in learned)
                ids.append(token)
                labels.append(token if said else IGNORE)
            before += len(part)
        return Example(ids, labels)

    def _content(self, turn: Message) -> str:
        content = self._plain(turn["content"])
        return content.strip() if self.strips else content

    def _render(self, talk: Sequence[Message], **options: Any) -> str:
        plain = [{**turn, "content": self._plain(turn["content"])} for turn in talk]
        return str(self.tokenizer.apply_chat_template(plain, tokenize=False, **options))

    def _tokenized(self, texts: Sequence[str]) -> list[list[int]]:
        """Without further special tokens: those that a prompt begins with are in the template."""
        return list(self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]) if texts else []


def _common_prefix(a: str, b: str) -> str:
    n = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:n]

"""Conversations in the chat formats of several families: the tokens are the template's own, and what is learned is what
the assistant says."""

from typing import Any

import pytest

from src.model.chat import IGNORE, Chat
from tests.model.families import FAMILIES, tokenizer_of

TALKS = [
    [("what is the capital of france", "paris")],
    [("repeat these words", "one two three"), ("name three animals", "the answer is short")],
]


def conversation(turns: list[tuple[str, str]]) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for turn in turns for role, text in zip(roles, turn, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("turns", TALKS)
def test_tokens_are_the_template_s_and_the_answers_are_learned(family: str, turns: list[tuple[str, str]]) -> None:
    tokenizer: Any = tokenizer_of(family)
    talk = conversation(turns)
    (example,) = Chat(tokenizer).encode([talk])
    whole = tokenizer.apply_chat_template(talk, return_dict=True)["input_ids"]
    assert example.ids == whole[: len(example.ids)], "a template may end a turn with more than the model says"
    assert tokenizer.decode(whole[len(example.ids) :]).strip() == ""
    learned = [token for token, label in zip(example.ids, example.labels, strict=True) if label != IGNORE]
    said = tokenizer.decode(learned)
    for question, answer in turns:
        assert answer in said and question not in said
    assert learned.count(tokenizer.eos_token_id) == len(turns), "the end of each answer is learned"
    assert said.rstrip().endswith(tokenizer.eos_token)
    assert all(label in (IGNORE, token) for token, label in zip(example.ids, example.labels, strict=True))


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "smollm"])
@pytest.mark.parametrize("turns", TALKS)
def test_what_is_asked_begins_what_is_trained_on(family: str, turns: list[tuple[str, str]]) -> None:
    """Token by token; nothing of what is asked is learned."""
    tokenizer: Any = tokenizer_of(family)
    talk = conversation(turns)
    (example,) = Chat(tokenizer).encode([talk])
    asked = tokenizer.apply_chat_template(talk[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert example.ids[: len(asked)] == asked
    last = max(i for i, label in enumerate([*example.labels[: len(asked)], 0]) if label == IGNORE)
    assert last == len(asked) - 1, "the answer begins right behind what is asked"


def test_a_thinking_block_that_is_not_asked_for_is_learned() -> None:
    tokenizer: Any = tokenizer_of("qwen3")
    (example,) = Chat(tokenizer).encode([conversation(TALKS[1])])
    learned = tokenizer.decode([t for t, label in zip(example.ids, example.labels, strict=True) if label != IGNORE])
    assert learned.count("<think>") == 1, "the template shows it in the last turn alone"


def test_many_conversations_are_each_as_if_alone() -> None:
    for family in FAMILIES:
        chat = Chat(tokenizer_of(family))
        talks = [conversation(turns) for turns in TALKS]
        assert chat.encode(talks) == [chat.encode([talk])[0] for talk in talks]


def test_a_template_that_asks_otherwise_than_it_shows_is_refused() -> None:
    tokenizer: Any = tokenizer_of("qwen3")
    tokenizer.chat_template = "{% if add_generation_prompt %}asked {% endif %}" + tokenizer.chat_template
    with pytest.raises(ValueError, match="shows a conversation otherwise than it asks for an answer"):
        Chat(tokenizer).check()

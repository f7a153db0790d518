"""Conversations in the chat formats of several families: the tokens are the template's own, what is asked begins what
is trained on, and what is learned is what the assistant says."""

from pathlib import Path
from typing import Any

import pytest

from src.model.chat import IGNORE, Chat
from src.model.template import ask_as_shown, asks_as_it_shows
from tests.model.families import FAMILIES, prepared, tokenizer_of

TALKS = [
    [("what is the capital of france", "paris")],
    [("repeat these words", "one two three"), ("name three animals", "the answer is short")],
]
SPACED = [
    [("\nname three animals", "\n\nthe answer is short")],
    [("  repeat these words ", " one two three\n")],
    [("\n", "\tparis")],
]
"""A tokenizer may join the white space with what stands around it."""


def conversation(turns: list[tuple[str, str]]) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for turn in turns for role, text in zip(roles, turn, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("turns", TALKS)
def test_tokens_are_the_template_s_and_the_answers_are_learned(
    family: str, turns: list[tuple[str, str]], tmp_path: Path
) -> None:
    tokenizer: Any = prepared(family, tmp_path)
    talk = conversation(turns)
    (example,) = Chat(tokenizer).encode([talk])
    whole = tokenizer.apply_chat_template(talk, return_dict=True)["input_ids"]
    assert example.ids == whole[: len(example.ids)], "a template may end a turn with more than the model says"
    assert tokenizer.decode(whole[len(example.ids) :]).strip() == ""
    learned = [token for token, label in zip(example.ids, example.labels, strict=True) if label != IGNORE]
    said = tokenizer.decode(learned).replace(" ", "")
    if family == "qwen3":
        turns = turns[-1:]  # earlier answers are shown otherwise than they are asked for
    for question, answer in turns:
        assert answer.replace(" ", "") in said and question.replace(" ", "") not in said
    assert learned.count(tokenizer.eos_token_id) == len(turns), "the end of each answer is learned"
    assert said.rstrip().endswith(tokenizer.eos_token)
    assert "think" not in said
    assert all(label in (IGNORE, token) for token, label in zip(example.ids, example.labels, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("turns", TALKS + SPACED)
def test_what_is_asked_begins_what_is_trained_on(family: str, turns: list[tuple[str, str]], tmp_path: Path) -> None:
    """Token by token; nothing of what is asked is learned, and all that is not asked is."""
    tokenizer: Any = prepared(family, tmp_path)
    talk = conversation(turns)
    chat = Chat(tokenizer)
    (example,) = chat.encode([talk])
    (asked,) = chat.ask([talk[:-1]])
    assert asked == tokenizer.apply_chat_template(talk[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert example.ids[: len(asked)] == asked
    answer = example.labels[len(asked) :]
    assert answer and answer == example.ids[len(asked) :], "the answer begins right behind what is asked"
    assert len(turns) > 1 or set(example.labels[: len(asked)]) == {IGNORE}


@pytest.mark.parametrize(("family", "changed"), [(f, f in ("qwen3", "deepseek")) for f in FAMILIES])
def test_a_template_that_makes_the_model_think_is_changed_and_no_other(
    family: str, changed: bool, tmp_path: Path
) -> None:
    before: Any = tokenizer_of(family)
    before.save_pretrained(tmp_path)
    assert asks_as_it_shows(before) is not changed
    assert ask_as_shown(tmp_path) is changed
    after: Any = prepared(family, tmp_path / "prepared")
    for turns in TALKS:
        talk = conversation(turns)
        fixed = {"date_string": "today"}
        shown = [each.apply_chat_template(talk, tokenize=False, **fixed) for each in (before, after)]
        assert shown[0] == shown[1], "what is shown stays as it was"
    assert not ask_as_shown(tmp_path), "once is enough"
    thinking = {"qwen3": "<|im_start|>assistant\n<think>\n\n</think>\n\n", "deepseek": "<|assistant|>"}
    if changed:
        asked = after.apply_chat_template(conversation(TALKS[0])[:-1], tokenize=False, add_generation_prompt=True)
        assert asked.endswith("france" + ("<|im_end|>\n" if family == "qwen3" else "") + thinking[family])


def test_qwen_3_is_asked_as_by_its_own_switch(tmp_path: Path) -> None:
    before: Any = tokenizer_of("qwen3")
    after = prepared("qwen3", tmp_path)
    options = {"tokenize": False, "add_generation_prompt": True}
    for turns in TALKS:
        talk = conversation(turns)[:-1]
        own = before.apply_chat_template(talk, enable_thinking=False, **options)
        assert after.apply_chat_template(talk, **options) == own


def test_many_conversations_are_each_as_if_alone(tmp_path: Path) -> None:
    for family in FAMILIES:
        chat = Chat(prepared(family, tmp_path / family))
        talks = [conversation(turns) for turns in TALKS + SPACED]
        assert chat.encode(talks) == [chat.encode([talk])[0] for talk in talks]
        questions = [talk[:-1] for talk in talks]
        assert chat.ask(questions) == [chat.ask([question])[0] for question in questions]
    assert chat.encode([]) == chat.ask([]) == []


@pytest.mark.parametrize("family", ["qwen3", "smollm"])
def test_a_template_that_asks_otherwise_than_it_shows_is_refused(family: str) -> None:
    tokenizer: Any = tokenizer_of(family)
    tokenizer.chat_template = "{% if add_generation_prompt %}asked {% endif %}" + tokenizer.chat_template
    with pytest.raises(ValueError, match="shows a conversation otherwise than it asks for an answer"):
        Chat(tokenizer).check()


def test_a_template_that_changes_what_is_said_is_refused() -> None:
    tokenizer: Any = tokenizer_of("smollm")
    tokenizer.chat_template = tokenizer.chat_template.replace("m.content", "m.content | replace('so', 's0')")
    with pytest.raises(ValueError, match="does not show what the assistant says: 'so'"):
        Chat(tokenizer).check()

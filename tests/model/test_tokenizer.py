"""The tokenizer and its chat template."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from src.data.prompts import parse_sqa
from src.model.chat import IGNORE, Chat
from src.model.tokenizer import build_tokenizer

WORDS = ["\n", "\n\n", ",", ".", '"', "*", "[", "]", "******", "<<", ">>", "p.s.", ":", "paris", "rome", "say", "the"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(WORDS, 5)


def test_units_come_after_the_text_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer.convert_tokens_to_ids([f"<|{n}|>" for n in range(5)])
    assert ids == list(range(len(tokenizer) - 5, len(tokenizer)))


def test_llama_3_template(tokenizer: PreTrainedTokenizerFast) -> None:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "say paris"}], tokenize=False, add_generation_prompt=True
    )
    assert text == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nsay paris<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_prompt_token_by_token(tokenizer: PreTrainedTokenizerFast) -> None:
    asked = [{"role": "user", "content": "say the<|3|><|0|>"}]
    prompt: Any = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)
    assert tokenizer.convert_ids_to_tokens(prompt["input_ids"]) == [
        "<|begin_of_text|>",
        "<|start_header_id|>user<|end_header_id|>",
        "say",
        "the",
        "<|3|>",
        "<|0|>",
        "<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>",
    ]


def test_loss_is_on_the_response_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    talk = [
        {"role": "user", "content": "say paris"},
        {"role": "assistant", "content": "paris"},
        {"role": "user", "content": "say rome"},
        {"role": "assistant", "content": "rome\n\nrome<|1|>"},
    ]
    [example] = Chat(tokenizer).encode([talk])
    rendered: Any = tokenizer.apply_chat_template(talk, return_dict=True)
    assert example.ids == rendered["input_ids"]
    said = tokenizer.convert_ids_to_tokens([label for label in example.labels if label != IGNORE])
    assert said == ["paris", "<|eot_id|>", "rome", "\n\n", "rome", "<|1|>", "<|eot_id|>"]
    assert all(label in (IGNORE, i) for i, label in zip(example.ids, example.labels, strict=True))


def test_white_space_is_stripped_where_the_template_does_so(tokenizer: PreTrainedTokenizerFast) -> None:
    said = {"role": "assistant", "content": " rome\n\n"}
    talks = [[{"role": "user", "content": f" {text}\n"}, said] for text in ("say paris", "the")]
    template = str(tokenizer.chat_template)
    stripping = build_tokenizer(WORDS, 5)
    stripping.chat_template = template.replace("message['content']", "message['content'] | trim")
    for each in (tokenizer, stripping):
        rendered: list[Any] = [each.apply_chat_template(talk, return_dict=True) for talk in talks]
        assert [example.ids for example in Chat(each).encode(talks)] == [r["input_ids"] for r in rendered]
    assert Chat(stripping).strips and not Chat(tokenizer).strips


def test_turns_must_alternate(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="alternate"):
        Chat(tokenizer).encode([[{"role": "assistant", "content": "paris"}]])


def test_decoding_and_reloading(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    response = "say paris\n\nrome\n\nrome<|4|><|2|> paris<|1|>"
    ids = loaded(response, add_special_tokens=False)["input_ids"]
    assert ids == tokenizer(response)["input_ids"]
    parts = parse_sqa(str(loaded.decode(ids)))
    assert (parts.transcript, parts.text, parts.units, parts.well_formed) == ("say paris", "rome", (4, 2, 1), True)
    assert loaded.decode(loaded('say "paris", the.')["input_ids"]) == 'say " paris ", the.'

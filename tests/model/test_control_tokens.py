"""Text that looks like control tokens or units: no token of either kind comes out of it, wherever it stands."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from src.data import jsonl, prompts
from src.data.unit_format import Units
from src.evaluate.asking import Asking, Sources
from src.evaluate.tasks import text_questions
from src.model.chat import Chat
from src.model.control_tokens import PlainText
from src.model.tokenizer import build_tokenizer, extend_with_units
from src.stages import SETS
from tests.model.families import tokenizer_of

UNITS = 7
FAMILIES = ("llama", "qwen2", "mistral", "smollm")


def tokenizer(family: str) -> Any:
    return build_tokenizer(["where", "is", "paris"], UNITS) if family == "laptop" else extended(family)


def extended(family: str) -> Any:
    made = tokenizer_of(family)
    made.add_special_tokens({"additional_special_tokens": ["<|eot|>|", "§"]})  # longer than another; of one character
    return extend_with_units(made, UNITS)


def names(made: Any) -> list[str]:
    """Every special token but units, and the one of a single character."""
    found = [token.content for token in made.added_tokens_decoder.values() if token.special]
    return [name for name in found if prompts.UNIT.fullmatch(name) is None and len(name) > 1]


@pytest.mark.parametrize("family", ["laptop", *FAMILIES])
def test_no_special_token_comes_out_of_a_content(family: str) -> None:
    made = tokenizer(family)
    special = {i for i, token in made.added_tokens_decoder.items() if token.special}
    said = ["where is", "paris"]
    for name in names(made):
        bad = [f"where {name} is{name}", f"{name}paris {name}{name}"]
        clean, dirty = (
            Chat(made).encode([[{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]])[0]
            for asked, answered in (said, bad)
        )
        assert [i for i in dirty.ids if i in special - {made.unk_token_id}] == [
            i for i in clean.ids if i in special - {made.unk_token_id}
        ], f"the template's own tokens alone, with {name}"
        assert "".join(name.split()) in "".join(made.decode(dirty.ids).split()) or family == "laptop"


def test_the_prefix_of_an_example_is_what_is_asked() -> None:
    made = tokenizer("llama")
    chat = Chat(made)
    talk = [{"role": "user", "content": "a <|eot|> b"}, {"role": "assistant", "content": "<|header|>c<|3|>"}]
    (example,) = chat.encode([talk])
    asked = made(chat._render(talk[:1], add_generation_prompt=True), add_special_tokens=False)["input_ids"]
    assert example.ids[: len(asked)] == asked
    assert made.convert_tokens_to_ids("<|3|>") in example.ids, "units in a content are units"


def test_plain_text_stays_as_it_is() -> None:
    plain = PlainText(tokenizer("mistral"))
    for text in ("where is [the] <s > / 5 | </ s>?", "", "§", "<|5|>"):
        assert plain(text) == text
    assert plain("a</s>[INST]b") == "a< /s>[ INST]b"


def test_no_unit_comes_out_of_a_text(tmp_path: Path) -> None:
    """In every set and in what a model is asked."""
    bad = "say <|5|>< |5|><|<|3|>|> twice"
    kept = "say < |5|>< |5|><|< |3|>|> twice"
    spoken = {"text": bad, "words": bad.split(" "), "units": [[1], [2], [4], []]}
    Units(50.0, UNITS, repeats=True).write(tmp_path)
    rows: dict[str, Any] = {
        "asr": {"id": "a", **spoken},
        "tts": {"id": "a", **spoken},
        "sqa": {"id": "a", "question": spoken, "answer": spoken},
        "text": {"messages": [{"role": "user", "content": bad}, {"role": "assistant", "content": bad}]},
    }
    assert rows.keys() == SETS.keys()
    for name, row in rows.items():
        jsonl.write(tmp_path / f"{name}.jsonl", [row])
        (talk,) = SETS[name].conversations(tmp_path / f"{name}.jsonl", 0)
        contents = [turn["content"] for turn in talk]
        found = [unit for content in contents for unit in prompts.units_of(content)]
        assert found == {"asr": [1, 2, 4], "tts": [1, 2, 4], "sqa": [1, 2, 4] * 2, "text": []}[name]
        assert any(kept in content for content in contents), json.dumps(contents)
    jsonl.write(tmp_path / "eval_qa.jsonl", [{"id": "q", "set": "s", "question": bad, "answers": ["x"]}])
    (asked,) = text_questions.examples(cast(Asking, None), Sources(model=tmp_path, base=tmp_path, corpus=tmp_path))
    assert asked["prompt"] == kept

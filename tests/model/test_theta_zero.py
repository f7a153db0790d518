"""theta_0 as a step: a small Llama 3.2 Vision goes in, a Llama with units comes out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, MllamaForCausalLM

from src.model import theta_zero
from src.model.checkpoint import Checkpoint
from src.model.settings import PublishedModel
from tests.model.test_text_part import IDS, VOCABULARY, save_tokenizer, vision_model

CONFIG: dict[str, Any] = {
    "revision": None,
    "initialization": "mean_covariance",
    "seed": 0,
    "pad_to_multiple_of": None,
    "architecture": {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 5},
    "text_tokens": VOCABULARY,
}
UNITS = 20
DATED = """{%- if not date_string is defined %}{%- if strftime_now is defined %}
{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}
{%- set date_string = "26 Jul 2024" %}{%- endif %}{%- endif %}
{{- "Today Date: " + date_string }}{%- for m in messages %}{{- m.role + m.content }}{%- endfor %}"""
"""How Llama 3.2's template finds the date."""


def write(changes: dict[str, Any], out: Path, context: Any) -> dict[str, Any]:
    return theta_zero.write(PublishedModel(**CONFIG | changes), UNITS, out, context)


def vision(folder: Path, template: str | None = None) -> MllamaForCausalLM:
    model = vision_model(folder)
    save_tokenizer(folder)
    if template:
        (folder / "chat_template.jinja").write_text(template)
    return model


def test_the_text_part_with_units_answers_as_the_vision_model_does_without_images(
    tmp_path: Path, context: Any
) -> None:
    model = vision(tmp_path / "vision")
    out = tmp_path / "out"
    summary = write({"pretrained": str(tmp_path / "vision")}, out, context)
    assert summary["units"] == 20 and summary["rows"] == VOCABULARY + 20 and summary["layers"] == 5
    made = AutoModelForCausalLM.from_pretrained(out / "model")
    with torch.inference_mode():
        ours, theirs = made(IDS).logits[..., :VOCABULARY], model(IDS).logits[..., :VOCABULARY]
    assert torch.equal(ours, theirs)
    assert AutoTokenizer.from_pretrained(out / "model")("<|19|>", add_special_tokens=False)["input_ids"] == [319]
    assert not list(context.work.iterdir())
    again = tmp_path / "again"
    write({"pretrained": str(tmp_path / "vision")}, again, context)
    for file in (out / "model").iterdir():
        assert file.read_bytes() == (again / "model" / file.name).read_bytes(), file.name


def test_the_template_says_the_same_date_every_day(tmp_path: Path, context: Any) -> None:
    vision(tmp_path / "vision", DATED)
    summary = write({"pretrained": str(tmp_path / "vision")}, tmp_path / "out", context)
    assert summary["date_in_template_fixed"]
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out" / "model")
    talk = [{"role": "user", "content": "hi"}]
    assert tokenizer.apply_chat_template(talk, tokenize=False) == "Today Date: 26 Jul 2024userhi"
    source: Any = AutoTokenizer.from_pretrained(tmp_path / "vision")
    assert "26 Jul 2024" not in source.apply_chat_template(talk, tokenize=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"architecture": {"model_type": "llama", "hidden_size": 64}},
            "model.architecture.hidden_size=64: the model that was fetched has 32",
        ),
        ({"text_tokens": 128257}, "model.text_tokens=128257: the tokenizer of .* has 300"),
        ({"pretrained": "nowhere"}, "^model.pretrained: nowhere is neither a folder nor the id of a hub repository"),
    ],
)
def test_another_model_than_the_plan_was_made_with(
    change: dict[str, Any], message: str, tmp_path: Path, context: Any
) -> None:
    vision(tmp_path / "vision")
    with pytest.raises(ValueError, match=message):
        write({"pretrained": str(tmp_path / "vision")} | change, tmp_path / "out", context)
    assert Checkpoint(tmp_path / "vision").files  # the source is as it was


OTHERWISE = """{%- if add_generation_prompt %}asked{% endif %}{%- for m in messages %}{{- '<' + m.role + '>' }}
{%- if loop.last and m.role == 'assistant' %}{{- '<think></think>' }}{%- endif %}{{- m.content }}{%- endfor %}"""


def test_a_model_is_asked_with_what_stands_before_an_answer(tmp_path: Path, context: Any) -> None:
    vision(tmp_path / "vision", OTHERWISE)
    assert write({"pretrained": str(tmp_path / "vision")}, tmp_path / "out", context)["question_in_template_fixed"]
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out" / "model")
    talk = [{"role": "user", "content": "hi"}]
    asked = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert asked == "<user>hi<assistant><think></think>"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{%- for m in messages %}{{- m.content | replace('so', 's0') }}{%- endfor %}", "does not show what"),
        ("{%- for m in messages %}{% if m.role == 'user' %}{{- m.content }}{% endif %}{%- endfor %}", "every turn"),
        ("{%- for m in messages %}{{- m.content }}", "cannot be rendered: "),
        ("{{ raise_exception('no system turn') }}", "cannot be rendered: no system turn"),
    ],
)
def test_a_template_that_cannot_be_trained_with_is_told_at_once(
    template: str, message: str, tmp_path: Path, context: Any
) -> None:
    vision(tmp_path / "vision", template)
    with pytest.raises(ValueError, match=f"model.pretrained=.*chat template .*{message}"):
        write({"pretrained": str(tmp_path / "vision")}, tmp_path / "out", context)


def test_units_that_are_there_already(tmp_path: Path, context: Any) -> None:
    vision(tmp_path / "vision")
    write({"pretrained": str(tmp_path / "vision")}, tmp_path / "out", context)
    with pytest.raises(ValueError, match="has 20 of the unit tokens already"):
        second = {"pretrained": str(tmp_path / "out" / "model"), "text_tokens": None}
        write(second, tmp_path / "again", context)

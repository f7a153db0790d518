"""The chat template of a base model, made fit to be trained and asked with: the same every day, and asking as it shows.

All who ask the model render with this one template: training, evaluation, lm-evaluation-harness, and whoever loads an
exported model.
"""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from src.model.chat import Chat

FILE = "chat_template.jinja"
TODAY = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"
"""Llama 3's chat template tells the model today's date, so that a model would be asked differently tomorrow. The
template's own default stands in its place."""

ANSWER = "the-answer-of-the-assistant"
AS_SHOWN = (
    "{%%- macro conversation_as_shown(messages, add_generation_prompt) %%}%s{%% endmacro -%%}"
    "{%%- if add_generation_prompt -%%}"
    "{%%- set answered = messages | list + [{'role': 'assistant', 'content': '" + ANSWER + "'}] -%%}"
    "{{- conversation_as_shown(answered, false).rsplit('" + ANSWER + "', 1)[0].rstrip(' ') -}}"
    "{%%- else -%%}{{- conversation_as_shown(messages, false) -}}{%%- endif -%%}"
)
"""A template that asks with what stands before an answer where it is shown. A blank there belongs to the answer's first
token."""


def make_fit(folder: Path) -> dict[str, bool]:
    """Make the chat template in a model's folder fit to be trained and asked with, and say what was changed.

    Raises ValueError where it is of no use.
    """
    fixed = {"date_in_template_fixed": stop_the_clock(folder), "question_in_template_fixed": ask_as_shown(folder)}
    Chat(AutoTokenizer.from_pretrained(folder)).check()
    return fixed


def stop_the_clock(folder: Path) -> bool:
    """Let the chat template in a model's folder say the same date for ever; whether it said today's."""
    file = folder / FILE
    if not file.is_file() or "strftime_now" not in (template := file.read_text(encoding="utf-8")):
        return False
    file.write_text(TODAY + template, encoding="utf-8")
    return True


def ask_as_shown(folder: Path) -> bool:
    """Let the chat template in a model's folder ask for an answer with exactly what it shows before one; whether it
    asked otherwise.

    A model that thinks is asked to open a thinking block (DeepSeek R1), or is shown an empty one before an answer of
    which no thought is known (Qwen 3). It would be trained on answers behind another prompt than it is asked with. Now
    it answers without thinking in both.

    A template that cannot be rendered is left as it is: `Chat` refuses it.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    try:
        if asks_as_it_shows(tokenizer):
            return False
    except Exception:  # of whatever the template does
        return False
    template = str(tokenizer.chat_template).removesuffix("\n")
    (folder / FILE).write_text(AS_SHOWN % template, encoding="utf-8")
    return True


def asks_as_it_shows(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether nothing but white space stands between what is asked with and the answer where it is shown."""
    asking = [{"role": "user", "content": "so"}]
    answered = [*asking, {"role": "assistant", "content": ANSWER}]
    shown: Any = tokenizer.apply_chat_template(answered, tokenize=False)
    asked: Any = tokenizer.apply_chat_template(asking, tokenize=False, add_generation_prompt=True)
    before = shown.rsplit(ANSWER, 1)[0]
    return bool(before.startswith(asked)) and not before[len(asked) :].strip()

"""Tiny random models of several families, as folders of transformers, each with a tokenizer and a chat template of the
family's kind (written here: the shape of the conversation is the family's, the words are not)."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from src.model.template import ask_as_shown, stop_the_clock

TEXT = ["what is the capital of france", "paris", "name three animals that live in the sea", "repeat these words",
        "the answer is short", "UPPER and lower, with marks!", "one two three four five"]  # fmt: skip
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM = (
    "{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\nYou help.<|im_end|>\n' }}{%- endif %}"
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
THINKS_LAST = """{%- set ns = namespace(last_query_index=messages|length - 1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last_query_index = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
    {%- set content = m.content %}
    {%- if m.role == 'assistant' %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' }}
        {%- if loop.index0 > ns.last_query_index %}
            {{- '<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""
"""Qwen 3's: a thinking block, empty where no thought is known, stands before the last answer alone."""
ASKED_TO_THINK = (
    "{% set ns = namespace(first=true) %}{{bos_token}}{%- for m in messages %}"
    "{%- if m['role'] == 'user' %}{%- set ns.first = false -%}{{'<|user|>' + m['content']}}{%- endif %}"
    "{%- if m['role'] == 'assistant' %}{% set content = m['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{'<|assistant|>' + content + '<|end|>'}}{%- endif %}{%- endfor -%}"
    "{% if add_generation_prompt and not ns.first %}{{'<|assistant|><think>\\n'}}{% endif %}"
)
"""DeepSeek R1's: a thinking block is opened where an answer is asked for, and shown nowhere."""
HEADERS = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "<|header|>system<|end_header|>\n\n" }}
{{- "Today: " + date_string + "\n\n" }}
{{- "<|eot|>" }}
{%- for m in messages %}
    {{- '<|header|>' + m['role'] + '<|end_header|>\n\n'+ m['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|header|>assistant<|end_header|>\n\n' }}
{%- endif %}
"""
"""Llama 3's: a system turn with the date stands first, and contents are stripped."""
INST = """{%- for m in messages %}
    {%- if loop.first %}{{- bos_token }}{%- endif %}
    {%- if m['role'] == 'user' %}
        {{- '[INST] ' + m['content'] + '[/INST]' }}
    {%- else %}
        {{- ' ' + m['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""
"""Mistral's: a blank stands before an answer, which SentencePiece joins with the word behind it."""

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "template": HEADERS, "bos": "<|begin|>", "eos": "<|eot|>",
              "specials": ["<|header|>", "<|end_header|>"]},
    "qwen2": {"model_type": "qwen2", "template": SYSTEM, "bos": None, "eos": "<|im_end|>",
              "specials": ["<|im_start|>"]},
    "qwen3": {"model_type": "qwen3", "template": THINKS_LAST, "bos": None, "eos": "<|im_end|>",
              "specials": ["<|im_start|>", "<think>", "</think>"], "head_dim": 16},
    "mistral": {"model_type": "mistral", "template": INST, "bos": "<s>", "eos": "</s>",
                "specials": ["[INST]", "[/INST]"], "pieces": "always"},
    "mistral_first": {"model_type": "mistral", "template": INST, "bos": "<s>", "eos": "</s>",
                      "specials": ["[INST]", "[/INST]"], "pieces": "first"},
    "zephyr": {"model_type": "mistral", "template": CHATML, "bos": "<s>", "eos": "<|im_end|>",
               "specials": ["<|im_start|>"], "adds_bos": True},
    "smollm": {"model_type": "llama", "template": CHATML, "bos": None, "eos": "<|im_end|>",
               "specials": ["<|im_start|>"], "tie_word_embeddings": True},
    "deepseek": {"model_type": "qwen2", "template": ASKED_TO_THINK, "bos": "<|begin|>", "eos": "<|end|>",
                 "specials": ["<|user|>", "<|assistant|>", "<think>", "</think>"]},
}  # fmt: skip


def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    """A tokenizer of the family's kind: byte-level BPE, or for Mistral pieces with a blank before each word, and before
    what follows a control token ("always") or not ("first"). Zephyr's puts a token of its own before each text."""
    told = FAMILIES[family]
    specials = [token for token in (told["bos"], told["eos"], *told["specials"], "<|pad|>") if token]
    pieces = told.get("pieces")
    backend: Any = Tokenizer(models.BPE(unk_token="<unk>" if pieces else None))
    if pieces == "always":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif pieces == "first":
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if pieces:
        alphabet = sorted({*"".join(TEXT), *"abcdefghijklmnopqrstuvwxyz<>/|0123456789\n▁"})
        specials = ["<unk>", *specials]
    backend.decoder = decoders.Metaspace() if pieces else decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(vocab_size=360, special_tokens=specials, initial_alphabet=alphabet)
    backend.train_from_iterator(TEXT, trainer)
    if told.get("adds_bos"):
        bos = told["bos"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=told["bos"], eos_token=told["eos"], pad_token="<|pad|>",
        unk_token="<unk>" if pieces else None,
    )  # fmt: skip
    made.chat_template = told["template"]
    return made


def prepared(family: str, folder: Path) -> Any:
    """The family's tokenizer as it is in the store: its template asks as it shows."""
    tokenizer_of(family).save_pretrained(folder)
    stop_the_clock(folder)
    ask_as_shown(folder)
    return AutoTokenizer.from_pretrained(folder)


def save_family(family: str, folder: Path) -> Path:
    """Write a random model of two layers and its tokenizer into the folder."""
    told = FAMILIES[family]
    tokenizer = tokenizer_of(family)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        told["model_type"], vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=1024,
        tie_word_embeddings=told.get("tie_word_embeddings", False), bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        **({"head_dim": told["head_dim"]} if "head_dim" in told else {}),
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

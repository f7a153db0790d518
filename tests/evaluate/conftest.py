"""A tiny model that has learned its answers by heart, right and wrong ones, and artifacts around it."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from src.data import jsonl, prompts
from src.data.unit_format import Units
from src.data.words import split_words
from src.evaluate.tasks import TASKS
from src.grid.step import Inputs, Step
from src.model.tokenizer import build_tokenizer
from tests.contexts import Recorded


@dataclass(frozen=True, kw_only=True, eq=False)
class Given(Step):
    """Stands for the step whose artifact a folder holds."""

    role: str

    @property
    def label(self) -> str:
        return self.role

    def run(self, inputs: Inputs, out: Path, context: Any) -> dict[str, Any]:
        raise AssertionError("this step is never run")


UNITS = 24
WORDS = ["paris", "rome", "lions", "bears", "red", "blue", "green", "what", "is", "one", "two", "capital", "animal"]


def units_of_word(word: str) -> list[int]:
    """Two units a word, so that the fake recognizer can tell which word it was."""
    i = WORDS.index(word)
    return [i % 5, 5 + i]


class FakeVocoder:
    """One sample a unit."""

    clusters = UNITS

    def __call__(self, units: Sequence[int]) -> np.ndarray:
        assert len(units) and max(units) < self.clusters
        return np.array(units, np.float32) / self.clusters


def fake_recognizer(audios: Sequence[np.ndarray]) -> list[str]:
    texts = []
    for audio in audios:
        units = [round(float(sample) * UNITS) for sample in audio]
        texts.append(" ".join(WORDS[unit - 5] for unit in units if 5 <= unit < 5 + len(WORDS)))
    return texts


SETS: dict[str, list[str]] = {"places": ["paris", "rome"], "beasts": ["lions", "bears"]}
QUESTIONS = {"places": "what is capital {}", "beasts": "what is animal {}"}
INSTRUCTIONS: list[tuple[str, list[str], list[dict], str]] = [
    ("two colors with no comma", ["punctuation:no_comma"], [{}], "red blue"),
    ("two colors and blue", ["punctuation:no_comma", "keywords:existence"], [{}, {"keywords": ["blue"]}], "red, green"),
    ("red first", ["startend:quotation"], [{}], '"red" blue'),
]
SENTENCES = ["paris is red", "lions is blue"]


def spoken(text: str) -> dict:
    words = text.split()
    return {"text": text, "words": words, "units": [units_of_word(word) for word in words]}


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory) -> dict[str, Path]:
    """Folders of a corpus, of its units, and of a stage that answers, with its base, as `talks` below say."""
    store = tmp_path_factory.mktemp("store")
    corpus, units = store / "corpus", store / "units"
    corpus.mkdir()
    units.mkdir()
    questions: list[dict[str, Any]] = []
    talks: list[tuple[str, str]] = []
    for name, answers in SETS.items():
        for i, answer in enumerate(answers):
            question = QUESTIONS[name].format(["one", "two"][i])
            questions.append({"id": f"{name}-{i}", "set": name, "question": question, "answers": [answer]})
            # by text: all right. Spoken: the second of each set is wrong in text, all are right in speech but the last
            talks.append((question, answer))
            text = answer if i == 0 else "green"
            said = "red" if answer == "bears" else answer
            response = prompts.sqa_response(question, text, [said], [units_of_word(said)])
            if answer == "rome":
                response = response.replace("\n\nrome", "")  # format broken: two parts only
            talks.append((prompts.sqa(prompts.flatten(spoken(question)["units"], False)), response))
    for prompt, _, _, response in INSTRUCTIONS:
        talks.append((prompt, response))
    for text, heard in zip(SENTENCES, ["paris is blue", "lions blue"], strict=True):
        own = spoken(text)
        talks.append((prompts.asr(prompts.flatten(own["units"], False), TASKS["asr"].instruction), heard))
        talks.append((prompts.tts(text, TASKS["tts"].instruction), prompts.interleave(own["words"], own["units"])))
    jsonl.write(corpus / "eval_qa.jsonl", questions)
    jsonl.write(
        corpus / "eval_ifeval.jsonl",
        (
            {"key": key, "prompt": prompt, "instruction_id_list": names, "kwargs": kwargs}
            for key, (prompt, names, kwargs, _) in enumerate(INSTRUCTIONS)
        ),
    )
    rows = [{"id": q["id"], "set": q["set"], "question": spoken(q["question"])} for q in questions]
    jsonl.write(units / "eval_qa.jsonl", rows)
    Units(frame_rate=50.0, clusters=UNITS, repeats=False).write(units)
    sentences = [{"id": f"eval-{i}", **spoken(text)} for i, text in enumerate(SENTENCES)]
    jsonl.write(units / "eval_asr.jsonl", sentences)
    learn_by_heart(store / "whole", talks)
    take_apart(store / "whole", store / "base", store / "stage")
    model = {"model": store / "stage", "base": store / "base"}
    return model | {"corpus": corpus, "units": units, "vocoder": store, "recognizer": store}


def learn_by_heart(folder: Path, talks: list[tuple[str, str]]) -> None:
    """Train a tiny Llama until it gives exactly these responses."""
    known = sorted({word for talk in talks for text in talk for word in split_words(prompts.UNIT.sub(" ", text))})
    tokenizer = build_tokenizer(known, UNITS)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    rows = []
    for user, assistant in talks:
        asked = [{"role": "user", "content": user}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        rows.append((prompt, tokenizer(assistant + "<|eot_id|>", add_special_tokens=False)["input_ids"]))
    width = max(len(prompt) + len(response) for prompt, response in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), -100)
    for i, (prompt, response) in enumerate(rows):
        ids[i, : len(prompt) + len(response)] = torch.tensor(prompt + response)
        labels[i, len(prompt) : len(prompt) + len(response)] = torch.tensor(response)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(300):
        loss = model(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 1e-2:
            break
    assert loss < 1e-2
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def take_apart(whole: Path, base: Path, stage: Path) -> None:
    """Save the model in the folder `whole` as a stage of LoRA and two modules trained in full, by PEFT alone, and the
    base from which it would have come; that one says nothing of use."""
    from peft import LoraConfig, get_peft_model

    model: Any = AutoModelForCausalLM.from_pretrained(whole)
    full = {name: value.clone() for name, value in model.state_dict().items() if "embed" in name or "head" in name}
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj"], task_type="CAUSAL_LM")
    adapter: Any = get_peft_model(model, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    adapter.save_pretrained(stage / "adapter")
    save_file(full, stage / "full.safetensors")

    bare: Any = AutoModelForCausalLM.from_pretrained(whole)
    for name, module in adapter.get_base_model().named_modules():
        if hasattr(module, "get_delta_weight"):
            bare.get_parameter(f"{name}.weight").data -= module.get_delta_weight("default").data
    for name in full:
        torch.nn.init.normal_(bare.get_parameter(name), std=0.02)
    bare.save_pretrained(base / "model")
    for file in whole.iterdir():
        if file.suffix != ".safetensors":
            shutil.copyfile(file, base / "model" / file.name)


@pytest.fixture
def speech(monkeypatch) -> None:
    """Fakes in place of the vocoder and the recognizer."""
    monkeypatch.setattr("src.speech.load.vocoder", lambda folder: FakeVocoder())
    monkeypatch.setattr("src.speech.load.recognizer", lambda folder: fake_recognizer)


@pytest.fixture
def context(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("work"))

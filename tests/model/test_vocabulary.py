"""Unit tokens in tokenizer, embeddings and head, against transformers' own resizing of the whole model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from src.model import vocabulary
from src.model.chat import Chat
from src.model.checkpoint import Checkpoint
from src.model.text_part import write
from src.model.vocabulary import EMBEDDINGS, HEAD, extend
from tests.model.test_text_part import (
    IDS,
    OTHERS,
    VOCABULARY,
    load_all,
    logits_of,
    plain_model,
    save_tokenizer,
    vision_model,
)

UNITS = 40


@pytest.fixture()
def base(tmp_path: Path) -> Path:
    plain_model(tmp_path / "source", "llama")
    write(tmp_path / "source", tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("multiple", [None, 64])
def test_equals_transformers_resizing_of_the_whole_model(kind: str, multiple: int | None, tmp_path: Path) -> None:
    plain_model(tmp_path / "base", kind)
    tokens = len(AutoTokenizer.from_pretrained(tmp_path / "base"))  # Qwen2's class adds one of its own
    extend(tmp_path / "base", tmp_path / "out", UNITS, seed=11, pad_to_multiple_of=multiple)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    torch.manual_seed(11)
    whole.resize_token_embeddings(tokens + UNITS, multiple, mean_resizing=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ours, theirs = model.state_dict(), whole.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert model.config.vocab_size == whole.config.vocab_size == (384 if multiple else tokens + UNITS)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == tokens + UNITS
    assert kind != "qwen2" or HEAD not in Checkpoint(tmp_path / "out").files


def test_units_come_after_the_tokenizer_s_own_tokens(base: Path, tmp_path: Path) -> None:
    summary = extend(base, tmp_path / "out", UNITS)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    before = AutoTokenizer.from_pretrained(base)
    assert summary == {
        "rows": VOCABULARY + UNITS, "rows_before": VOCABULARY, "text_tokens": VOCABULARY, "first_unit_id": VOCABULARY,
        "units": UNITS, "pad_token": "<|finetune_right_pad_id|>",
    }  # fmt: skip
    text = "Say it:"
    assert tokenizer(f"{text}<|0|><|39|><|7|>")["input_ids"] == [*before(text)["input_ids"], 300, 339, 307]
    assert tokenizer.decode([300, 339]) == "<|0|><|39|>"
    assert tokenizer.decode([300, *before("a b")["input_ids"], 339], skip_special_tokens=True) == "a b"
    assert tokenizer.chat_template == before.chat_template
    talk = [{"role": "user", "content": "Say <|3|>"}, {"role": "assistant", "content": "yes <|4|><|5|>"}]
    (example,) = Chat(tokenizer).encode([talk])
    assert example.ids.count(303) == 1
    assert [label for label in example.labels if label >= 300] == [304, 305]


def test_old_rows_and_logits_stay(base: Path, tmp_path: Path) -> None:
    extend(base, tmp_path / "out", UNITS)
    old, new = load_all(base), load_all(tmp_path / "out")
    for name, tensor in old.items():
        assert torch.equal(new[name][: tensor.shape[0]], tensor), name
    torch.testing.assert_close(logits_of(tmp_path / "out")[..., :VOCABULARY], logits_of(base), rtol=0, atol=1e-6)
    shared = {file.stat().st_ino for file in base.glob("*.safetensors")}
    kept = [file for file in (tmp_path / "out").glob("*.safetensors") if file.stat().st_ino in shared]
    names = [set(Checkpoint(tmp_path / "out").by_file()[file.name]) for file in kept]
    assert set.union(*names) == old.keys() - {EMBEDDINGS, HEAD}


def test_new_rows_lie_around_the_mean_of_the_old(base: Path, tmp_path: Path) -> None:
    old = load_all(base)
    extend(base, tmp_path / "drawn", UNITS, seed=1)
    extend(base, tmp_path / "mean", UNITS, "mean", seed=1)
    drawn, mean = load_all(tmp_path / "drawn"), load_all(tmp_path / "mean")
    for name in (EMBEDDINGS, HEAD):
        center, spread = old[name].mean(0), old[name].std(0)
        assert torch.equal(mean[name][VOCABULARY:], center.expand(UNITS, -1))
        offset = drawn[name][VOCABULARY:] - center
        assert 0 < offset.abs().max() < 1e-3 * spread.min()
        # 1e-9 of the covariance is 3.2e-5 of the deviation
        torch.testing.assert_close(offset.std(0).mean() / spread.mean(), torch.tensor(1e-9**0.5), rtol=0.1, atol=0)


def test_the_seed_decides_the_new_rows_and_nothing_else(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    following = torch.rand(3)
    torch.manual_seed(5)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        extend(base, tmp_path / name, UNITS, seed=seed)
    assert torch.equal(torch.rand(3), following)
    a, b, c = (load_all(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a[HEAD][VOCABULARY:], c[HEAD][VOCABULARY:])
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_bfloat16_stays(tmp_path: Path) -> None:
    plain_model(tmp_path / "base", "llama", torch.bfloat16)
    extend(tmp_path / "base", tmp_path / "out", UNITS)
    assert {tensor.dtype for tensor in load_all(tmp_path / "out").values()} == {torch.bfloat16}


def test_rows_stand_for_the_tokenizer_s_tokens(tmp_path: Path) -> None:
    """Qwen has rows that no token uses: units get new rows in their place, and none of the leftover."""
    plain_model(tmp_path / "base", "qwen3", vocab_size=VOCABULARY + 20)
    summary = extend(tmp_path / "base", tmp_path / "out", UNITS, "mean")
    assert (summary["rows_before"], summary["rows"]) == (VOCABULARY + 20, VOCABULARY + UNITS)
    old, new = load_all(tmp_path / "base")[EMBEDDINGS], load_all(tmp_path / "out")[EMBEDDINGS]
    assert torch.equal(new[:VOCABULARY], old[:VOCABULARY])
    assert torch.equal(new[VOCABULARY:], old[:VOCABULARY].mean(0).expand(UNITS, -1))


def test_a_token_without_a_row_gets_one(tmp_path: Path) -> None:
    """As Llama 3.2 Vision's image token, whose row is cut off with the vision part."""
    vision_model(tmp_path / "vision")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "vision")
    tokenizer.add_tokens(["<|image|>"], special_tokens=True)
    tokenizer.save_pretrained(tmp_path / "vision")
    write(tmp_path / "vision", tmp_path / "base")
    summary = extend(tmp_path / "base", tmp_path / "out", UNITS)
    assert (summary["rows_before"], summary["first_unit_id"], summary["rows"]) == (300, 301, 341)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.get_input_embeddings().weight.shape == model.lm_head.weight.shape == (341, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            model(IDS).logits[..., :300], logits_of(tmp_path / "base"), rtol=0, atol=1e-6
        )  # fmt: skip


@pytest.mark.parametrize(("own", "expected"), [(None, "<|eot_id|>"), ("!", "!")])
def test_padding_without_llama_s_token(own: str | None, expected: str, tmp_path: Path) -> None:
    plain_model(tmp_path / "base", "llama", vocab_size=VOCABULARY - 1)
    save_tokenizer(tmp_path / "base", padding=False)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "base")
    if own is not None:
        tokenizer.pad_token = own
        tokenizer.save_pretrained(tmp_path / "base")
    assert extend(tmp_path / "base", tmp_path / "out", UNITS)["pad_token"] == expected
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["pad_token_id"] == tokenizer.pad_token_id == tokenizer.convert_tokens_to_ids(expected)
    generation = GenerationConfig.from_pretrained(tmp_path / "out")
    assert generation.pad_token_id == tokenizer.pad_token_id


def test_only_embeddings_and_head_are_read(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Watched(Checkpoint):
        def tensor(self, name: str) -> torch.Tensor:
            read.append(name)
            return super().tensor(name)

    monkeypatch.setattr(vocabulary, "Checkpoint", Watched)
    extend(base, tmp_path / "out", UNITS)
    assert set(read) == {EMBEDDINGS, HEAD}


def test_what_cannot_be_extended_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="units=0: at least one"):
        extend(base, tmp_path / "none", 0)
    extend(base, tmp_path / "once", 3)
    with pytest.raises(ValueError, match="has 3 of the unit tokens already"):
        extend(tmp_path / "once", tmp_path / "twice", 5)

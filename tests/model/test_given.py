"""Models as others publish them, small: a whole one, and an adapter in the layout of the paper's authors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from src.model import difference, given, theta_zero
from src.model.settings import GivenModel, PublishedModel
from src.model.tokenizer import extend_with_units
from tests.model.test_text_part import IDS, vision_model

UNITS = 20


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`vision`, the published base; `base`, theta_0 of it; `stage`, what a training on it has left in the authors' way:
    an adapter on the vision model, with their `modules_to_save`; logits.pt, what the trained model answers."""
    from types import SimpleNamespace

    folder = tmp_path_factory.mktemp("given")
    model: Any = vision_model(folder / "vision")
    context = SimpleNamespace(work=folder / "work", report=lambda **numbers: None)
    settings = PublishedModel(pretrained=str(folder / "vision"), seed=0, initialization="mean")
    theta_zero.write(settings, UNITS, folder / "base", context)  # type: ignore[arg-type]

    tokenizer: Any = AutoTokenizer.from_pretrained(folder / "vision")
    extend_with_units(tokenizer, UNITS)
    model.resize_token_embeddings(len(tokenizer))
    torch.manual_seed(1)
    last = [f"{layer}.self_attn.{side}_proj.base_layer" for layer in (6, 5, 3) for side in "qkv"]
    lora = LoraConfig(
        r=4, lora_alpha=6, lora_dropout=0.1, task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "v_proj"],
        modules_to_save=["embed_tokens", "lm_head", *last],
    )  # fmt: skip
    peft: Any = get_peft_model(model, lora)
    for name, parameter in peft.named_parameters():
        if parameter.requires_grad or "modules_to_save" in name:
            parameter.data += 0.05 * torch.randn_like(parameter)
    peft.save_pretrained(folder / "stage" / "final_model")
    tokenizer.save_pretrained(folder / "stage" / "final_tokenizer")
    with torch.inference_mode():
        torch.save(peft.eval()(input_ids=spoken()).logits, folder / "logits.pt")
    return folder


def spoken() -> torch.Tensor:
    """Text, and two units."""
    units = torch.tensor([[300, 319]]).expand(len(IDS), -1)
    return torch.cat([IDS, units], dim=1)


def write(settings: dict[str, Any], out: Path, context: Any, base: Path | None = None, units: int = UNITS) -> Any:
    out.mkdir()
    return given.write(GivenModel(**settings), units, base, out, context)


def logits(base: Path, artifact: Path) -> torch.Tensor:
    with torch.inference_mode():
        return difference.load(base, artifact)(spoken()).logits


def test_an_adapter_of_a_vision_model_answers_as_by_peft(work: Path, tmp_path: Path, context: Any) -> None:
    """On theta_0 without the cross-attention layers, the tokens numbered as theirs."""
    keys = set(load_file(work / "stage" / "final_model" / "adapter_model.safetensors"))
    assert "base_model.model.model.layers.6.self_attn.q_proj.base_layer.weight" in keys
    assert "base_model.model.model.layers.4.cross_attn.q_proj.lora_A.weight" in keys
    summary = write({"adapter": str(work / "stage")}, tmp_path / "out", context, work / "base")
    assert (summary["in_full"], summary["adapted"], summary["dropped"]) == (11, 15, 12)
    assert summary["tokenizer_compared"] and summary["units"] == UNITS
    expected = torch.load(work / "logits.pt", weights_only=True)
    found = logits(work / "base", tmp_path / "out")
    assert torch.allclose(found, expected, rtol=0, atol=2e-5), float((found - expected).abs().max())
    assert not torch.allclose(logits(work / "base", work / "base"), expected, rtol=0, atol=0.1)
    stage: Any = PeftModel.from_pretrained(  # a stage as all others: PEFT itself loads it
        AutoModelForCausalLM.from_pretrained(work / "base" / "model"), str(tmp_path / "out" / "adapter")
    )
    assert stage.peft_config["default"].r == 4


@pytest.mark.parametrize("special", [True, False])
def test_a_whole_model_answers_as_it_did(special: bool, work: Path, tmp_path: Path, context: Any) -> None:
    """special: whether its units were added as special tokens."""
    source = tmp_path / "source"
    shutil.copytree(work / "base" / "model", source)
    if not special:
        file = source / "tokenizer.json"
        told = json.loads(file.read_text())
        for token in told["added_tokens"]:
            token["special"] = token["special"] and token["id"] < 300
        file.write_text(json.dumps(told))
    summary = write({"model": str(source)}, tmp_path / "out", context)
    assert (summary["first_unit_id"], summary["rows"], summary["layers"]) == (300, 320, 5)
    assert torch.equal(logits(tmp_path / "out", tmp_path / "out"), logits(work / "base", work / "base"))
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out" / "model")
    assert tokenizer.decode([300, 319], skip_special_tokens=True) == ""
    assert tokenizer("a<|19|>", add_special_tokens=False)["input_ids"][-1] == 319


def edit(file: str, **values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        told = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(told | values))

    return change


def without(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "final_model" / "adapter_model.safetensors"
        save_file({key: tensor for key, tensor in load_file(file).items() if name not in key}, file)

    return change


def longer(folder: Path) -> None:
    file = folder / "final_model" / "adapter_model.safetensors"
    tensors = load_file(file)
    name = "base_model.model.model.embed_tokens.weight"
    save_file(tensors | {name: torch.zeros(328, 32)}, file)


def other_tokens(folder: Path) -> None:
    file = folder / "final_tokenizer" / "tokenizer.json"
    file.write_text(file.read_text().replace("<|19|>", "<|119|>"))


CONFIG = "final_model/adapter_config.json"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("embed_tokens"), "has no model.embed_tokens.weight: the units have learned nothing without it"),
        (without("layers.0.self_attn.q_proj.lora_B"), r"q_proj\.lora_A\.weight without .*q_proj\.lora_B\.weight"),
        (without("layers.6."), "the adapter has 4 layers of self-attention up to number 5, and its base model 5"),
        (longer, r"embed_tokens\.weight has the shape \(328, 32\); on the base model with its units it must be \(320,"),
        (other_tokens, r"has 320 tokens, 20 of them units; .* has 320, 20 of them .* differ from .*, number 319"),
        (edit(CONFIG, use_dora=True), "use_dora is True; plain LoRA alone can be read"),
        (edit(CONFIG, rank_pattern={"q_proj": 8}), "rank_pattern is .*; plain LoRA alone can be read"),
        (edit(CONFIG, peft_type="IA3"), "peft_type is 'IA3'; it must be 'LORA'"),
        (edit(CONFIG, lora_alpha=0), "lora_alpha is 0; it must be a number above 0"),
        (lambda folder: (folder / CONFIG).write_text("{"), "adapter_config.json is no JSON"),
        (lambda folder: shutil.rmtree(folder / "final_model"), "has no adapter_config.json: it must be a folder of P"),
        (lambda folder: (folder / "final_model" / "adapter_model.safetensors").unlink(), "pickled weights are not"),
    ],
)  # fmt: skip
def test_an_adapter_that_does_not_fit_is_one_line(
    spoil: Callable[[Path], Any], message: str, work: Path, tmp_path: Path, context: Any
) -> None:
    shutil.copytree(work / "stage", tmp_path / "stage")
    spoil(tmp_path / "stage")
    with pytest.raises(ValueError, match=rf"^strategy\.given\.adapter: .*{message}") as raised:
        write({"adapter": str(tmp_path / "stage")}, tmp_path / "out", context, work / "base")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("pattern", "units", "message"),
    [
        ("<|{}|>", 64, r"has 20 unit tokens of the form <\|0\|> \(its last token is <\|19\|>\); .* to <\|63\|> "),
        ("<|{}|>", 10, r"has 20 unit tokens .*; the units of this row are .* <\|9\|> \(speech.quantizer.clusters=10\)"),
        ("<unit_{}>", 20, r"has no unit tokens of the form <\|0\|> \(its last token is <unit_19>\)"),
    ],
)
def test_units_that_do_not_match_are_one_line(
    pattern: str, units: int, message: str, work: Path, tmp_path: Path, context: Any
) -> None:
    shutil.copytree(work / "base" / "model", tmp_path / "source")
    file = tmp_path / "source" / "tokenizer.json"
    text = file.read_text()
    for unit in range(UNITS):
        text = text.replace(f'"<|{unit}|>"', f'"{pattern.format(unit)}"')
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"^strategy\.given\.model: .*{message}") as raised:
        write({"model": str(tmp_path / "source")}, tmp_path / "out", context, units=units)
    assert "\n" not in str(raised.value)


def test_pickled_weights_and_missing_rows_are_refused(work: Path, tmp_path: Path, context: Any) -> None:
    source = tmp_path / "source"
    shutil.copytree(work / "base" / "model", source)
    model: Any = AutoModelForCausalLM.from_pretrained(source)
    model.resize_token_embeddings(310)
    for file in source.glob("*.safetensors*"):
        file.unlink()
    model.save_pretrained(source)
    with pytest.raises(ValueError, match=r"its tokenizer has 320 tokens, and its embeddings 310 rows$"):
        write({"model": str(source)}, tmp_path / "out", context)
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"^strategy\.given\.model: .* has pickled weights only, which are not loaded"):
        write({"model": str(source)}, tmp_path / "again", context)

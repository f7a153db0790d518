"""The text part of a small Llama 3.2 Vision against transformers' own, and what is refused."""

import itertools
import json
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import errors
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MllamaConfig,
    MllamaForCausalLM,
    MllamaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from src.model import checkpoint, text_part
from src.model.checkpoint import INDEX, WEIGHTS, Checkpoint, replace
from src.model.text_part import fetch, write
from src.model.tokenizer import CHAT_TEMPLATE

VOCABULARY = 300
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
IDS = torch.tensor([[1, 20, 295, 7, 99, 131, 256, 18, 3], [1, 5, 6, 7, 8, 9, 10, 11, 12]])


def hub_name(name: str) -> str:
    """transformers' name -> the name in the hub's checkpoint."""
    for ours, theirs in (("model.language_model.", "language_model.model."), ("lm_head.", "language_model.lm_head.")):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name.removeprefix("model.")


STYLES: dict[str, Callable[[str], str]] = {
    "hub": hub_name,
    "transformers": lambda name: name,
    "text": lambda name: name.replace("model.language_model.", "model."),
}


def save_tokenizer(folder: Path, template: bool = True, padding: bool = True) -> None:
    """A byte-level tokenizer of Llama 3's kind, of `VOCABULARY` tokens (without `padding`, one fewer)."""
    specials = ["<|begin_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = letters + [a + b for a, b in itertools.pairwise(letters)][: VOCABULARY - 3 - len(letters)]
    backend = Tokenizer(
        models.BPE({t: i for i, t in enumerate(tokens)}, [(t[0], t[1]) for t in tokens[len(letters) :]])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=specials[0], eos_token=specials[1])
    if padding:
        tokenizer.add_tokens(specials[2:], special_tokens=True)
    if template:
        tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # as the hub's Llama has it
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def save_shards(folder: Path, tensors: dict[str, torch.Tensor], count: int = 2) -> None:
    """Sharded by hand, names in the order of a hub checkpoint, so that any style of names can be had."""
    names = sorted(tensors)
    numbers = {name: i * count // len(names) + 1 for i, name in enumerate(names)}
    files = {name: f"model-{number:05d}-of-{count:05d}.safetensors" for name, number in numbers.items()}
    for file in set(files.values()):
        held = {name: tensors[name].clone() for name in names if files[name] == file}
        save_file(held, folder / file, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))


def vision_model(folder: Path, style: str = "hub", tie: bool = False) -> MllamaForCausalLM:
    """Save a random Mllama; its text part as transformers has it."""
    text = SIZES | {
        "num_hidden_layers": 7,
        "cross_attention_layers": [1, 4],
        "bos_token_id": 1,
        "eos_token_id": [2, 3],
        "pad_token_id": 4,
        "tie_word_embeddings": tie,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    }
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_global_layers": 1,
        "attention_heads": 2, "image_size": 28, "patch_size": 14, "vision_output_dim": 32,
        "intermediate_layers_indices": [0],
    }  # fmt: skip
    config: Any = MllamaConfig(text_config=text, vision_config=vision, image_token_index=VOCABULARY)
    config.architectures = ["MllamaForConditionalGeneration"]
    torch.manual_seed(0)
    model = MllamaForConditionalGeneration(config)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    for name in state:
        if "layernorm" in name or name.endswith("norm.weight"):
            state[name] = torch.rand_like(state[name]) + 0.5  # ones would hide a norm in the wrong place
    if tie:
        state["lm_head.weight"] = state["model.language_model.embed_tokens.weight"][:VOCABULARY].clone()
    text_state = {
        name.replace("model.language_model.", "model."): tensor
        for name, tensor in state.items()
        if "language_model" in name or name == "lm_head.weight"
    }
    folder.mkdir()
    saved = {name: tensor for name, tensor in state.items() if not (tie and name == "lm_head.weight")}
    if style == "text":
        saved = {name: tensor for name, tensor in saved.items() if "vision" not in name and "projector" not in name}
        config.text_config.architectures = ["MllamaForCausalLM"]
        config.text_config.save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    save_shards(folder, {STYLES[style](name): tensor for name, tensor in saved.items()})
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "eos_token_id": [2, 3]}))
    save_tokenizer(folder)
    reference = MllamaForCausalLM(config.get_text_config())
    reference.load_state_dict(text_state)
    return reference.eval()


def logits_of(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model(IDS).logits


def test_the_test_s_hub_names_are_those_of_transformers(tmp_path: Path) -> None:
    """transformers saves Mllama under the hub's names: the renaming above must give the same."""
    vision_model(tmp_path / "hub")
    MllamaForConditionalGeneration.from_pretrained(tmp_path / "hub").save_pretrained(tmp_path / "again")
    assert set(load_file(tmp_path / "again" / WEIGHTS)) == set(Checkpoint(tmp_path / "hub").files)


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_logits_are_those_of_the_vision_model_without_images(style: str, tie: bool, tmp_path: Path) -> None:
    reference = vision_model(tmp_path / "vision", style, tie)
    summary = write(tmp_path / "vision", tmp_path / "out")
    with torch.no_grad():
        expected = reference(IDS).logits
    assert torch.equal(logits_of(tmp_path / "out"), expected)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(model) is LlamaForCausalLM
    assert summary["layers"] == 5
    assert summary["parameters"] == model.num_parameters()
    assert ("lm_head.weight" in Checkpoint(tmp_path / "out").files) is not tie
    assert sum(tensor.nbytes for tensor in load_all(tmp_path / "out").values()) == summary["bytes"]


def load_all(folder: Path) -> dict[str, torch.Tensor]:
    return {name: t for file in folder.glob("*.safetensors") for name, t in load_file(file).items()}


def test_settings_are_carried_over(tmp_path: Path) -> None:
    vision_model(tmp_path / "vision")
    (tmp_path / "vision" / "preprocessor_config.json").write_text("{}")
    write(tmp_path / "vision", tmp_path / "out")
    config: Any = LlamaConfig.from_pretrained(tmp_path / "out")
    text: Any = MllamaConfig.from_pretrained(tmp_path / "vision").get_text_config()
    for name in (
        "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "hidden_act",
        "rms_norm_eps", "rope_parameters", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
        "tie_word_embeddings",
    ):  # fmt: skip
        assert getattr(config, name) == getattr(text, name), name
    assert config.rope_parameters["rope_theta"] == 500000.0 and config.rope_parameters["factor"] == 8.0
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["temperature"] == 0.6
    assert not (tmp_path / "out" / "preprocessor_config.json").exists()
    text_in, text_out = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("vision", "out"))
    assert text_in("A cat, 12 <|eot_id|>")["input_ids"] == text_out("A cat, 12 <|eot_id|>")["input_ids"]
    assert text_out.chat_template == CHAT_TEMPLATE


def test_the_chat_template_of_the_processor_becomes_the_tokenizer_s(tmp_path: Path) -> None:
    vision_model(tmp_path / "vision")
    for file in (tmp_path / "vision").glob("*token*"):
        file.unlink()
    (tmp_path / "vision" / "chat_template.jinja").unlink(missing_ok=True)
    save_tokenizer(tmp_path / "vision", template=False)
    with pytest.raises(ValueError, match="has no chat template"):
        write(tmp_path / "vision", tmp_path / "none")
    (tmp_path / "vision" / "chat_template.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    write(tmp_path / "vision", tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == CHAT_TEMPLATE


OTHERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 64}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": True}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 8}),
}


def plain_model(folder: Path, kind: str, dtype: torch.dtype = torch.float32, **sizes: Any) -> None:
    """Save a random causal language model of another kind, sharded."""
    model, config, extra = OTHERS[kind]
    torch.manual_seed(0)
    made = model(config(**SIZES | extra | sizes)).to(dtype)
    made.save_pretrained(folder, max_shard_size="60KB")
    save_tokenizer(folder)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_models_stay_as_they_are(kind: str, tmp_path: Path) -> None:
    plain_model(tmp_path / "source", kind, torch.bfloat16)
    write(tmp_path / "source", tmp_path / "out")
    before, after = load_all(tmp_path / "source"), load_all(tmp_path / "out")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == torch.bfloat16 and torch.equal(after[name], tensor), name
    assert torch.equal(logits_of(tmp_path / "out"), logits_of(tmp_path / "source"))
    for name in ("config.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "source" / name).read_bytes()


def test_vocabulary_projections_and_the_rest_are_files_of_their_own(tmp_path: Path) -> None:
    vision_model(tmp_path / "vision")
    write(tmp_path / "vision", tmp_path / "out", shard_bytes=20_000)
    kinds = []
    for names in Checkpoint(tmp_path / "out").by_file().values():
        kinds.append({next(i for i, g in enumerate(checkpoint.GROUPS) if g.search(name)) for name in names})
    assert all(len(kind) == 1 for kind in kinds)
    assert set.union(*kinds) == {0, 1, 2}
    assert len(kinds) > 6


class Counted:
    """Stands for `safe_open`, and counts what it has handed out and is still held, and the files that are open."""

    def __init__(self) -> None:
        self.live = self.most = self.open = self.most_open = 0

    def __call__(self, file: Path, framework: str) -> Any:
        counted, inner = self, safe_open(file, framework=framework)

        class Opened:
            def __enter__(self) -> Any:
                counted.open += 1
                counted.most_open = max(counted.most_open, counted.open)
                self.file = inner.__enter__()
                return self

            def __exit__(self, *error: Any) -> None:
                counted.open -= 1
                inner.__exit__(*error)

            def keys(self) -> Any:
                return self.file.keys()

            def get_slice(self, name: str) -> Any:
                return self.file.get_slice(name)

            def get_tensor(self, name: str) -> torch.Tensor:
                tensor: torch.Tensor = self.file.get_tensor(name)
                counted.live += tensor.nbytes
                counted.most = max(counted.most, counted.live)
                weakref.finalize(tensor, counted.drop, tensor.nbytes)
                return tensor

        return Opened()

    def drop(self, size: int) -> None:
        self.live -= size


def test_memory_is_bounded_by_the_size_of_the_files_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = max(tensor.nbytes for tensor in vision_model(tmp_path / "vision").state_dict().values())
    files = [file.stat().st_size for file in (tmp_path / "vision").glob("*.safetensors")]
    counted = Counted()
    monkeypatch.setattr(checkpoint, "safe_open", counted)
    limit = largest + 10_000
    write(tmp_path / "vision", tmp_path / "out", shard_bytes=limit)
    assert counted.most_open == 1
    assert largest <= counted.most <= limit + largest
    assert counted.most < sum(files) / 3
    assert counted.live == 0
    assert max(file.stat().st_size for file in (tmp_path / "out").glob("*.safetensors")) < limit + 10_000


def test_replaced_tensors_stand_beside_links_to_the_others(tmp_path: Path) -> None:
    plain_model(tmp_path / "source", "llama")
    write(tmp_path / "source", tmp_path / "base", shard_bytes=30_000)
    new = {"lm_head.weight": torch.ones(VOCABULARY, 32), "model.layers.1.self_attn.q_proj.weight": torch.ones(32, 32)}
    replace(tmp_path / "base", tmp_path / "out", list(new), new.items())
    old, made = load_all(tmp_path / "base"), load_all(tmp_path / "out")
    assert old.keys() == made.keys()
    assert all(torch.equal(made[name], new.get(name, old[name])) for name in made)
    inodes = {file.stat().st_ino for file in (tmp_path / "base").glob("*.safetensors")}
    shared = [file.stat().st_ino in inodes for file in (tmp_path / "out").glob("*.safetensors")]
    untouched = [names for names in Checkpoint(tmp_path / "base").by_file().values() if not set(names) & new.keys()]
    assert shared.count(True) == len(untouched) > 3
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in made.values())
    with pytest.raises(ValueError, match=r"has no tensor model\.extra"):
        replace(tmp_path / "base", tmp_path / "other", ["model.extra"], [])
    with pytest.raises(ValueError, match=r"lm_head\.weight was to be replaced"):
        replace(tmp_path / "base", tmp_path / "other", ["lm_head.weight"], [])


def test_what_is_no_such_model_is_refused_in_one_line(tmp_path: Path) -> None:
    source = tmp_path / "source"
    plain_model(source, "llama")
    config = json.loads((source / "config.json").read_text())
    shard = sorted(source.glob("model-*.safetensors"))[1]

    def refused(match: str) -> None:
        with pytest.raises(ValueError, match=match) as caught:
            write(source, tmp_path / "out")
        assert "\n" not in str(caught.value)

    for change, match in (
        ({"architectures": ["GPT2LMHeadModel"]}, "is a GPT2LMHeadModel; supported are LlamaForCausalLM"),
        ({"quantization_config": {"bits": 4}}, "is quantized"),
        ({"num_hidden_layers": 4}, r"there is no model\.layers\.3\."),
        ({"intermediate_size": 64}, r"has the shape \(\d+, \d+\); its config.json asks for"),
    ):
        (source / "config.json").write_text(json.dumps(config | change))
        refused(match)
    (source / "config.json").write_text("{")
    refused(r"config\.json is no JSON: ")
    (source / "config.json").write_text(json.dumps(config))
    tokenizer = (source / "tokenizer.json").read_bytes()
    (source / "tokenizer.json").write_text("{}")
    refused("source: its tokenizer cannot be read")
    (source / "tokenizer.json").unlink()
    refused("source has no tokenizer: there is no tokenizer.json and no tokenizer.model and no vocab.json")
    gap = json.loads(tokenizer)
    gap["model"]["vocab"][next(t for t, i in gap["model"]["vocab"].items() if i == 7)] = 1000
    (source / "tokenizer.json").write_text(json.dumps(gap))
    refused("its tokenizer has 300 tokens with ids up to 1000, and none with the id 7: give its tokens the ids from 0")
    (source / "tokenizer.json").write_bytes(tokenizer)
    whole = shard.read_bytes()
    tensors = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(shard).items()}
    save_file(tensors, shard, metadata={"format": "pt"})
    refused(r"source: model\.\S+ is in F8_E4M3, which cannot be trained; take weights in F32, F16 or BF16")
    shard.write_bytes(whole)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    refused("is damaged or cut short")
    shard.unlink()
    refused(f"lacks {shard.name}")
    for file in source.glob("*.safetensors*"):
        file.unlink()
    refused("has no model.safetensors")
    (source / "pytorch_model.bin").write_bytes(b"")
    refused("pickled weights only")
    (source / "config.json").unlink()
    refused("has no config.json")


def cache_model(home: Path, monkeypatch: pytest.MonkeyPatch, refs: str | None = "main") -> Path:
    """A snapshot in the layout of the hub's cache, and no network."""
    from huggingface_hub import constants

    commit = "0123456789012345678901234567890123456789"
    repository = home / "models--someone--small"
    snapshot = repository / "snapshots" / commit
    plain_model(snapshot, "llama")
    if refs:
        (repository / "refs").mkdir()
        (repository / "refs" / refs).write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_model_in_the_hub_s_cache_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = cache_model(tmp_path / "hub", monkeypatch)
    assert fetch("someone/small") == snapshot
    assert fetch("someone/small", revision=snapshot.name) == snapshot
    with pytest.raises(ValueError, match=r"someone/other is no folder here, not .* in the hub's cache"):
        fetch("someone/other")
    with pytest.raises(ValueError, match="hub's cache"):
        fetch("someone/small", revision="other-branch")


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert fetch(str(tmp_path)) == tmp_path
    with pytest.raises(ValueError, match=r"neither a folder nor the id"):
        fetch(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (errors.GatedRepoError, "accept its license at https://huggingface.co/meta/gated, then set HF_TOKEN"),
        (errors.RepositoryNotFoundError, "is missing or private"),
        (errors.RevisionNotFoundError, "has no revision v9"),
        (errors.HfHubHTTPError, "cannot be downloaded: 500 Server Error"),
    ],
)
def test_what_the_hub_refuses_says_what_to_do(
    error: type[errors.HfHubHTTPError], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx2
    import huggingface_hub

    seen: dict[str, Any] = {}

    def refuse(repository: str, **arguments: Any) -> str:
        seen.update(arguments)
        raise error(
            "500 Server Error\nlong story", response=httpx2.Response(500, request=httpx2.Request("GET", "http://x"))
        )

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ValueError, match=match) as caught:
        fetch("meta/gated", revision="v9")
    assert "\n" not in str(caught.value)
    assert seen["revision"] == "v9"


def test_only_what_is_needed_is_downloaded() -> None:
    """The patterns against the files of real repositories: no pickles, no second copy of the weights."""
    from huggingface_hub.utils import filter_repo_objects

    files = [
        "model-00001-of-00005.safetensors", "model.safetensors.index.json", "config.json", "tokenizer.json",
        "chat_template.json", "generation_config.json", "original/consolidated.pth", "consolidated.safetensors",
        "pytorch_model-00001-of-00002.bin", "preprocessor_config.json", "README.md", "LICENSE.txt",
    ]  # fmt: skip
    kept = list(filter_repo_objects(files, allow_patterns=text_part.WANTED))
    assert kept == files[:6]


def test_the_hub_s_client_and_transformers_are_imported_when_they_are_used() -> None:
    heavy = ("transformers", "huggingface_hub")
    code = f"import sys, src.model.text_part; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

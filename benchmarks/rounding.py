"""What rounding costs beside what the table measures: KL(trained, scored) by type, and KL(alpha 16, alpha 15).

    python -m benchmarks.rounding                  # random weights at the shape of SmolLM2-135M
    python -m benchmarks.rounding --model FOLDER   # a model of one's own, such as a published one
    python -m benchmarks.rounding --stage ARTIFACT --base ARTIFACT   # a trained stage of the store

Random weights are made realistic in two ways. The last norm is scaled so that the answers are as peaked as a trained
model's (logits of a deviation near 3). A stage that is not given is noise in what the paper trains, in bfloat16, scaled
until alpha 15 moves the answers by the KL of EFFECT, which a trained stage of that model has (docs/log.md).
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from src.model import adapter, difference, rounding
from src.model.settings import Adapter

SHAPE: dict[str, Any] = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49152, "rms_norm_eps": 1e-5, "rope_theta": 100_000.0,
    "tie_word_embeddings": True,
}  # fmt: skip
PAPER = Adapter(
    r=64, alpha=16, dropout=0.0, target_modules=("q_proj", "k_proj", "v_proj"),
    full_modules=("embed_tokens", "lm_head"), full_projections=("q_proj", "k_proj", "v_proj"), full_last_layers=5,
)  # fmt: skip
EFFECT = 8e-6
"""Nats a token, KL(alpha 16, alpha 15)."""


def random_model(folder: Path) -> None:
    """A Llama of that shape in bfloat16, its answers peaked."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    with torch.no_grad():
        model.get_parameter("model.norm.weight").fill_(6.0)
    model.to(torch.bfloat16).save_pretrained(folder)


def noisy_stage(base: Path, out: Path, scale: float) -> None:
    """A stage whose LoRA B and full modules are noise, as DeepSpeed leaves one in bfloat16."""
    model = adapter.trainable(base, None, PAPER, 0, torch.bfloat16)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_((scale if "lora_B" in name else 1e-4) * torch.randn_like(parameter))
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    adapter.save(model, out)


def with_alpha(stage: Path, alpha: float, out: Path) -> Path:
    """The stage with another alpha."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(stage, out)
    file = out / adapter.ADAPTER / adapter.SETTINGS
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_alpha": alpha}))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a model; default: random weights")
    parser.add_argument("--base", type=Path, help="artifact of a base model, with --stage")
    parser.add_argument("--stage", type=Path, help="artifact of a trained stage; default: noise")
    parser.add_argument("--prompts", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measure(given, Path(scratch))


def measure(given: argparse.Namespace, scratch: Path) -> None:
    base, stage = given.base or scratch / "base", given.stage or scratch / "stage"
    if not given.base:
        base.mkdir()
        if given.model:
            (base / difference.MODEL).symlink_to(given.model.resolve())
        else:
            random_model(base / difference.MODEL)
    size = json.loads((base / difference.MODEL / "config.json").read_text())["vocab_size"]
    prompts = torch.randint(size, (given.prompts, 48), generator=torch.Generator().manual_seed(2)).tolist()

    def answers(artifact: Path) -> list[torch.Tensor]:
        return rounding.logits(rounding.as_trained(base, artifact), prompts)

    def effect(alpha: float) -> float:
        return rounding.divergence(trained, answers(with_alpha(stage, alpha, scratch / "other")))

    scale = 1e-3
    if not given.stage:
        noisy_stage(base, stage, scale)
        trained = answers(stage)
        scale *= (EFFECT / effect(15)) ** 0.5  # KL grows with the square
        noisy_stage(base, stage, scale)
        print(f"noise of {scale:.2g} in LoRA's B")
    trained = answers(stage)
    fifteen = effect(15)
    for alpha, found in ((15, fifteen), (14, effect(14))):
        print(f"KL(alpha 16, alpha {alpha})  {found:.2e}")
    merged = difference.load(base, stage)
    with torch.no_grad():
        for name in difference.changed_keys(base, stage):
            merged.get_parameter(name).copy_(merged.get_parameter(name).bfloat16())
    rounded = rounding.divergence(trained, rounding.logits(merged, prompts))
    print(f"changed tensors alone in bfloat16  {rounded:.2e}, alpha 15 is {fifteen / rounded:.3g} times that")
    del merged
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        lost = rounding.measure(base, stage, difference.load(base, stage, dtype), prompts)
        print(f"evaluate.dtype={lost['dtype']}  {lost['kl']:.2e}, alpha 15 is {fifteen / lost['kl']:.3g} times that")


if __name__ == "__main__":
    main()

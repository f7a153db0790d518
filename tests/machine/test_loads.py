"""What lm-evaluation-harness and the speech of the paper need, and what is said where a GPU is too small."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from launchers.needs import missing_verdict
from src.grid.plan import make_plan
from src.grid.store import Store
from src.machine.loads import Load, encoder_parameters, loads, refusal
from src.machine.memory import GIB, OVERHEAD
from src.recipe import compose
from src.speech.published_settings import XLSR2_1B, EncoderSettings

TASKS = ["evaluate.lm_eval.tasks=[arc_easy]"]


def found(folder: Path, *more: str, memory_gb: float | None = None) -> dict[str, Load]:
    """By label: what the steps of the paper's plan need."""
    made = compose(["profile=paper", "strategy=none", *TASKS, *more])
    gpu: dict[str, Any] | None = {"memory_gb": memory_gb} if memory_gb else None
    return {each.step.label: each for each in loads(make_plan([made], Store(folder)), gpu)}


def test_speech_of_the_paper(tmp_path: Path) -> None:
    """Whisper large-v3 beside the encoder where words are aligned, SpeechT5 where texts are spoken."""
    needs = found(tmp_path)
    encoder, whisper, voice = 4 * encoder_parameters(EncoderSettings("a.pt")), 4 * 1_543_490_560, 4 * 158_000_000
    assert encoder == pytest.approx(2.8e9, rel=0.02)
    for label, weights in (
        ("utterances-asr-000", encoder + whisper), ("utterances-sqa-007", encoder + whisper + voice),
        ("utterances-eval_asr-000", encoder),
    ):  # fmt: skip
        assert needs[label].weights == weights, label
        assert needs[label].working == (6e8 if weights > encoder else 0)
        assert needs[label].total == weights + needs[label].working + OVERHEAD


@pytest.mark.parametrize("layer", [1, 35])
@pytest.mark.parametrize("shape", [XLSR2_1B, {**XLSR2_1B, "hidden_size": 64, "intermediate_size": 96}])
def test_the_encoder_s_parameters_are_those_of_transformers(shape: dict[str, Any], layer: int) -> None:
    with torch.device("meta"):
        model: Any = Wav2Vec2Model(Wav2Vec2Config(**{**shape, "num_hidden_layers": layer}))
    model.encoder.layer_norm = torch.nn.Identity()
    assert encoder_parameters(EncoderSettings("x.pt", layer, shape)) == sum(p.numel() for p in model.parameters())
    assert encoder_parameters(EncoderSettings("some/hubert", layer)) == 0


def test_tasks_of_the_harness(tmp_path: Path) -> None:
    """Logits of 138,257 tokens for each token of the prompts, and their logarithms in float32."""
    needs = [found(tmp_path, f"evaluate.lm_eval.batch_size={size}")["harness-arc_easy-sqa"] for size in (1, 8)]
    one, eight = (each.working for each in needs)
    assert eight == 8 * one == 8 * (1280 * 32 * 2 * 1024 * 2 + 1024 * 138_257 * 6)
    assert needs[0].weights == pytest.approx(2 * 8_112_181_248, rel=1e-4)


@pytest.mark.parametrize(("more", "limit", "said"), [
    ([], 48, None),
    ([], 24, r"harness-arc_easy-sqa-\w+ needs .* GiB, and its GPU has 24 .*; with evaluate.lm_eval.batch_size=1 it "),
    ([], 16, r"harness-arc_easy-sqa-\w+ needs .*; no setting brings it below"),
    (["evaluate.lm_eval.tasks=[]"], 8, r"utterances-sqa-00\d-\w+ needs 11.* GiB, and its GPU has 8 .*; with "
     r"speech.encoder.dtype=float16 speech.aligner.whisper.dtype=float16 speech.synthesizer.dtype=float16 it needs 6"),
])  # fmt: skip
def test_a_gpu_that_is_too_small(more: list[str], limit: float, said: str | None, tmp_path: Path) -> None:
    line = refusal(found(tmp_path, *more, memory_gb=limit).values())
    if said is None:
        assert line is None
        return
    assert line is not None and "\n" not in line
    assert re.match(said, line), line
    told = [word for word in line.split() if word.startswith(("evaluate.", "speech."))]
    if told:
        mended = found(tmp_path, *more, *told, memory_gb=limit)
        assert refusal(mended.values()) is None
        assert f"it needs {max(each.total for each in mended.values()) / GIB:.1f}" in line


def test_a_run_is_told_what_its_missing_steps_need(tmp_path: Path) -> None:
    """A kind whose steps are all in the store is told with the others, and nothing where the store has everything."""
    others = list(found(tmp_path, memory_gb=48).values())
    most = {kind: max(each.total for each in others if each.step.kind == kind) for kind in ("harness", "utterances")}
    told = missing_verdict([], [], others)
    assert told is not None and told.startswith("Needed at most, of the 48 GiB")
    assert all(f"{kind} {total / GIB:.1f} GiB" in told for kind, total in most.items())
    cached = [replace(each, cached=True) for each in others]
    assert missing_verdict([], [], [others[0], *cached[1:]]) == told
    assert missing_verdict([], [], cached) is None and missing_verdict([], [], []) is None

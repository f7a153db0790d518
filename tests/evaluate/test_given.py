"""A model that is given to a grid has the scores of the grid's own row of the same weights."""

import json
from pathlib import Path

import pytest
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from src.evaluate import responses, score
from src.evaluate.asking import Asking, Decoding, Sources
from src.evaluate.scoring import Scoring
from src.evaluate.tasks import TASKS
from src.model import difference, given
from src.model.settings import GivenModel
from tests.contexts import Recorded
from tests.evaluate.conftest import UNITS

LENGTHS = {"t2t": 8, "ifeval": 8, "sqa": 40, "asr": 8, "tts": 16}


def scores(base: Path, model: Path, artifacts: dict[str, Path], out: Path) -> tuple[str, str]:
    """Responses and scores, as they are in their files."""
    asking = Asking(max_new_tokens=LENGTHS, decoding=Decoding(), batch_tokens=2000, asr_examples=2, tts_examples=2)
    rules = Scoring(matching="contiguous", wer_normalization="basic")
    corpus, context = artifacts["corpus"], Recorded(out / "work")
    sources = Sources(**artifacts | {"base": base, "model": model})
    for name in ("responses", "scores"):
        (out / name).mkdir()
    responses.collect(list(TASKS), asking, sources, out / "responses", context)
    score.score(list(TASKS), rules, out / "responses", corpus, out / "scores", context)
    return (out / "responses" / "responses.jsonl").read_text(), (out / "scores" / "scores.json").read_text()


def publish_adapter(stage: Path, out: Path) -> None:
    """The stage as PEFT saves it with `modules_to_save`: one file, in which base names have PEFT's prefix."""
    prefix = "base_model.model."
    full = {f"{prefix}{name}": tensor for name, tensor in load_file(stage / "full.safetensors").items()}
    LoraConfig.from_pretrained(str(stage / "adapter")).save_pretrained(str(out))
    save_file(full | load_file(stage / "adapter" / "adapter_model.safetensors"), out / "adapter_model.safetensors")


@pytest.mark.usefixtures("speech")
def test_the_same_weights_have_the_same_scores(artifacts: dict[str, Path], context: Recorded, tmp_path: Path) -> None:
    base, stage = artifacts["base"], artifacts["model"]
    own = scores(base, stage, artifacts, tmp_path / "own")
    assert json.loads(own[1])["scores"]["qa/places/s2s"]["value"] == 1, "it says what it has learned"

    difference.materialize(base, stage, tmp_path / "published", linked=False)
    whole = tmp_path / "whole"
    given.write(GivenModel(model=str(tmp_path / "published")), UNITS, None, whole, context)
    assert scores(whole, whole, artifacts, tmp_path / "of whole") == own

    publish_adapter(stage, tmp_path / "peft")
    adapter = tmp_path / "adapter"
    given.write(GivenModel(adapter=str(tmp_path / "peft")), UNITS, base, adapter, context)
    assert scores(base, adapter, artifacts, tmp_path / "of adapter") == own

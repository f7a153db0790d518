"""The paper's profile, end to end on a CPU: files in published layouts, small checkpoints of published classes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from src.data import jsonl
from src.grid.plan import Plan
from src.grid.store import Store
from src.speech.settings import SynthesizerConfig
from src.speech.synthesizer import make_synthesizer
from tests.data.published_files import magpie_row, make_everything, overrides
from tests.model.test_text_part import save_tokenizer, vision_model
from tests.speech.published_components import command_line, make_components, spoken_by, train_whisper

ROOT = Path(__file__).parents[1]
CLUSTERS = 40
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
SENTENCES = [f"the {a} stone is {b}" for a, b in zip(NUMBERS, (*NUMBERS[5:], *NUMBERS[:5]), strict=True)]
UNSEEN = ["one stone is seven", "the five is three", "two is eleven"]
MAGPIE = [magpie_row(f"What color is stone {name}?", f"Stone {name} is grey.") for name in NUMBERS]
SIZES = [
    "train.ranks=1", "train.loss_average=examples", "train.adapter.r=4", "train.adapter.full_last_layers=1",
    "train.lr=0.001", "train.micro_batch_size=2", "train.stages.asr.max_length=700", "train.stages.tts.max_length=700",
    "train.stages.sqa.max_length=700", "data.text.sqa_examples=5", "data.text.pool_texts=6", "evaluate.listen=1",
    "evaluate.max_new_tokens={t2t: 6, ifeval: 8, sqa: 40, asr: 8, tts: 30}", "evaluate.asr_examples=2",
    "evaluate.tts_examples=2", "evaluate.batch_tokens=4096", "replay.ratio=0.5", "replay.text_ratio=0.8",
    "train.stages.asr.epochs=6", "train.stages.asr.batch_size=2", "gpu=null", "tracker.mode=disabled",
]  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Tiny copies of everything that the profile would download; the overrides that name them."""
    folder = tmp_path_factory.mktemp("published")
    speak = make_synthesizer(SynthesizerConfig(), "paper")
    read = [(text, speak(text).audio) for text in SENTENCES]
    data = make_everything(folder / "data", read, [(text, speak(text).audio) for text in UNSEEN], MAGPIE)
    components = make_components(folder / "components", CLUSTERS)
    answers = [row["output"] for row in MAGPIE]
    torch.set_num_threads(1)
    heard = [*read, *zip(answers, spoken_by(folder / "components", answers), strict=True)]
    assert train_whisper(folder / "components" / "whisper", heard) < 0.1
    vision_model(folder / "llama")
    save_tokenizer(folder / "llama")
    model = [f"model.pretrained={folder / 'llama'}", "model.architecture=null", "model.text_tokens=null"]
    return [*overrides(data), *command_line(components), *model, *SIZES]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "src.run", "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)


def artifacts(outputs: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Label, folder and manifest of every step of the latest grid."""
    plan, store = Plan.load(outputs / "latest" / "plan.json"), Store(outputs / "store")
    for entry in plan.entries.values():
        yield entry.step.label, store.folder(entry.step), store.manifest(entry.step)


@pytest.mark.slow
@pytest.mark.integration
def test_librispeech_to_a_table(published: list[str], tmp_path: Path) -> None:
    done = run("strategy=original,none,merge_ties_replay", "profile=paper", f"outputs={tmp_path}", *published)
    assert done.returncode == 0, done.stdout + done.stderr
    made = {label: (folder, manifest["summary"]) for label, folder, manifest in artifacts(tmp_path)}

    counted = made["datasets"][1]["data"]
    assert counted["asr"]["kept"] == 12 and counted["sqa"]["kept"] == 5 and counted["pool"]["kept"] == 6
    aligned = made["gather"][1]["data"]
    assert aligned["tts"]["kept"] >= 10 and aligned["sqa"]["kept"] >= 4, aligned
    for row in jsonl.read(made["gather"][0] / "tts.jsonl"):
        assert row["words"] == row["text"].split() and all(row["units"])
    seconds = {row["id"]: row["seconds"] for row in jsonl.read(made["datasets"][0] / "asr.jsonl")}
    for row in jsonl.read(made["gather"][0] / "asr.jsonl"):
        units = sum(map(len, row["units"]))
        assert units == (round(seconds[row["id"]] * 16_000) - 80) // 320  # 49 in the first second

    base, stages = made["backbone"][0], [made[f"train-{name}-replay"][0] for name in ("asr", "tts", "sqa")]
    assert made["backbone"][1]["units"] == CLUSTERS
    whole = sum(file.stat().st_size for file in (base / "model").glob("*.safetensors"))
    for stage in stages:
        assert not (stage / "model").exists()
        assert sum(file.stat().st_size for file in stage.rglob("*.safetensors")) < whole
    trained = {name: counts["kept"] for name, counts in made["train-sqa-replay"][1]["data"].items()}
    own = aligned["sqa"]["kept"]
    assert trained == {"sqa": own, "text": round(0.8 * own), "asr": round(0.5 * own), "tts": round(0.5 * own)}

    losses = [row["loss"] for row in jsonl.read(made["train-asr"][0] / "metrics.jsonl")]
    assert losses[-1] < losses[0] - 0.2, losses

    table = json.loads((tmp_path / "latest" / "table.json").read_text())
    assert [row["strategy"] for row in table["rows"]] == ["original", "none", "merge_ties_replay"]
    sets = ("llama_questions", "web_questions", "trivia_qa")
    for row in table["rows"][1:]:
        assert {f"qa/{name}/{way}" for name in sets for way in ("t2t", "s2t", "s2s")} <= row["scores"].keys()
    responses = list(jsonl.read(made["generate-merge-ties-replay"][0] / "responses.jsonl"))
    spoken = [row for row in responses if row["task"] == "sqa"]
    assert len(spoken) == 6 and all(row["prompt"].count("<|") > 10 for row in spoken)
    page = (tmp_path / "latest" / "index.html").read_text()
    assert "LLaMA-Questions" in page and "Llama_questions" not in page and "not drawn" in page

    again = run("strategy=original,none,merge_ties_replay", "profile=paper", f"outputs={tmp_path}", *published)
    assert again.returncode == 0 and " 0 to compute" in again.stdout, again.stdout + again.stderr

"""A real stage through DeepSpeed: resumed to the bit, on one rank and on two, at every ZeRO stage."""

import json
import math
import signal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from src.data import jsonl
from src.data.replay import Replay
from src.grid.typed import typed
from src.model.chat import IGNORE, Example
from src.train.examples import Writer
from src.train.methods import Role
from src.train.settings import Optimization
from src.train.stage import choose
from tests.conftest import TINY_ADAPTER, TINY_OPTIMIZATION
from tests.train.runner import start

ROOT = Path(__file__).parents[2]
WHOLE = {"share_of_examples": 1.0, "share_of_loss": 1.0}
WITHOUT_DROPOUT: dict[str, Any] = {"adapter": {**TINY_ADAPTER, "dropout": 0.0}}


class Run:
    """Starts stages in processes of their own, as the launchers do."""

    def __init__(self, base: Path, examples: dict[str, Path], folder: Path):
        self.inputs, self.folder = {"base": base, **examples}, folder

    def start(self, name: str, ranks: int, config: dict[str, Any], previous: Path | None, stop_at: int) -> list[int]:
        """Exit codes of the ranks."""
        settings = {
            "stage": "asr",
            "adapter": TINY_ADAPTER,
            "optimization": TINY_OPTIMIZATION,
            "replay": None,
            **config,
        }
        inputs = self.inputs | ({"previous": previous} if previous else {})
        return start(settings, inputs, self.folder / name, ranks, stop_at, "tests.train.staging")

    def __call__(
        self, name: str, ranks: int = 1, config: dict[str, Any] | None = None, previous: Path | None = None
    ) -> tuple[Path, dict[str, Any]]:
        """Folder of the artifact and the summary of a stage that ends well."""
        codes = self.start(name, ranks, config or {}, previous, stop_at=0)
        work = self.folder / f"{name}-work"
        assert not any(codes), (work / "error.txt").read_text()
        return self.folder / name, json.loads((work / "summary.json").read_text())

    def error(self, name: str, config: dict[str, Any]) -> str:
        """Last line of the traceback of a stage that fails."""
        assert self.start(name, 1, config, None, stop_at=0) == [1]
        return (self.folder / f"{name}-work" / "error.txt").read_text().strip().splitlines()[-1]


@pytest.fixture(scope="module")
def undivided(tiny_base: Path, tiny_examples: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Artifact of an undisturbed stage in float32 on one rank, without dropout, by its settings of training: made once
    for all that are compared with it."""
    run = Run(tiny_base, tiny_examples, tmp_path_factory.mktemp("undivided"))

    @cache
    def train(**optimization: Any) -> tuple[Path, dict[str, Any]]:
        return run("-".join(["plain", *optimization]), config=WITHOUT_DROPOUT | deepspeed(0, **optimization))

    return train


@pytest.fixture()
def run(tiny_base: Path, tiny_examples: dict[str, Path], tmp_path: Path) -> Run:
    return Run(tiny_base, tiny_examples, tmp_path)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "full.safetensors") | load_file(out / "adapter" / "adapter_model.safetensors")


def deepspeed(stage: int, bf16: bool = False, **optimization: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"zero_optimization": {"stage": stage}}
    if stage == 3:
        settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0  # share out small parameters too
    if bf16:
        settings["bf16"] = {"enabled": True}
    return {"optimization": {**TINY_OPTIMIZATION, "deepspeed": settings, **optimization}}


@pytest.mark.parametrize(
    ("zero", "bf16", "settings"),
    [
        (0, False, {}),
        (3, False, {}),
        (0, True, {}),
        (2, True, {"micro_batch_size": 3, "gradient_checkpointing": True}),
    ],
)
def test_killed_and_resumed_ends_with_the_same_bits(run: Run, zero: int, bf16: bool, settings: dict[str, Any]) -> None:
    config = deepspeed(zero, bf16, **settings)
    undisturbed, summary = run("undisturbed", config=config)
    assert run.start("killed", 1, config, None, stop_at=10) == [-signal.SIGKILL]
    (kept,) = (run.folder / "killed-work" / "checkpoints" / "1").glob("step-*/*model_states.pt")
    held = torch.load(kept, weights_only=False)["module"]
    assert not any("down_proj" in name for name in held), "a checkpoint repeats what is frozen"
    resumed, after = run("killed", config=config)
    assert after["resumed_at_step"] > 0 == summary["resumed_at_step"]
    for file in ("full.safetensors", "adapter/adapter_model.safetensors", "metrics.jsonl"):
        assert (undisturbed / file).read_bytes() == (resumed / file).read_bytes(), file
    assert {tensor.dtype for tensor in weights(resumed).values()} == {torch.bfloat16 if bf16 else torch.float32}


@pytest.mark.parametrize(("zero", "ranks"), [(0, 1), (0, 2), (2, 2), (3, 2)])
def test_micro_batches_add_up_to_the_batch(run: Run, zero: int, ranks: int) -> None:
    """Batches of seven in turns of two, of which the second rank's last is empty; the last batch has one turn."""
    config = WITHOUT_DROPOUT
    sizes: dict[str, Any] = {"batch_tokens": None, "batch_size": 7, "lr": 2e-4}
    whole, first = run("whole", ranks, config | deepspeed(zero, **sizes))
    parts, second = run("parts", ranks, config | deepspeed(zero, **sizes, micro_batch_size=2))
    assert first["steps"] == second["steps"] == 12
    losses, norms = (
        [[row[key] for row in jsonl.read(out / "metrics.jsonl")] for out in (whole, parts)]
        for key in ("loss", "gradient_norm")
    )
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(tensor, weights(parts)[name], rtol=1e-3, atol=2e-5)


def test_two_ranks_learn_what_one_learns(run: Run, undivided: Any) -> None:
    one, first = undivided()
    two, second = run("two", ranks=2, config=WITHOUT_DROPOUT)
    assert first["tokens"] == second["tokens"] and first["steps"] == second["steps"]
    losses = [[row["loss"] for row in jsonl.read(out / "metrics.jsonl")] for out in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(two)[name], rtol=1e-2, atol=2e-4)


@pytest.mark.parametrize("name", ["zero2", "zero3", "offload"])
def test_every_deepspeed_configuration_agrees(run: Run, undivided: Any, name: str) -> None:
    plain, _ = undivided()
    settings = yaml.safe_load((ROOT / "conf" / "deepspeed" / f"{name}.yaml").read_text())
    settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0  # share out small parameters too
    optimization = {**TINY_OPTIMIZATION, "deepspeed": settings}
    sharded, _ = run("sharded", ranks=2, config=WITHOUT_DROPOUT | {"optimization": optimization})
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(tensor, weights(sharded)[name], rtol=1e-2, atol=2e-4)


@pytest.mark.parametrize("name", ["zero0", "zero2_offload_bf16", "zero3_bf16"])
def test_bfloat16_learns_what_float32_learns(run: Run, undivided: Any, tiny_base: Path, name: str) -> None:
    """At a learning rate whose steps are below the precision of a bfloat16: the weights that are updated are not. The
    other configurations in bfloat16 are in tests/train/methods/test_training.py."""
    sizes: dict[str, Any] = {"batch_tokens": None, "batch_size": 8, "epochs": 4, "lr": 2e-5}
    plain, _ = undivided(**sizes)
    settings = yaml.safe_load((ROOT / "conf" / "deepspeed" / f"{name}.yaml").read_text()) | {"bf16": {"enabled": True}}
    if settings["zero_optimization"]["stage"] == 3:
        settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    careful = {"deepspeed": settings, "micro_batch_size": 2, "gradient_checkpointing": True}
    optimization = {**TINY_OPTIMIZATION, **sizes, **careful}
    small, _ = run("small", ranks=2, config=WITHOUT_DROPOUT | {"optimization": optimization})
    losses = [[row["loss"] for row in jsonl.read(out / "metrics.jsonl")] for out in (plain, small)]
    assert losses[0] == pytest.approx(losses[1], rel=5e-3)
    before, after, rounded = load_file(tiny_base / "model" / "model.safetensors"), weights(plain), weights(small)
    trained = [key for key in after if key in before]
    change = torch.cat([(after[key] - before[key]).flatten() for key in trained])
    same = torch.cat([(rounded[key] - before[key].bfloat16()).float().flatten() for key in trained])
    # most of the distance is the rounding of what is saved; without those weights nearly every step would be lost
    assert (same - change).norm() < 0.35 * change.norm()


def test_the_second_stage_goes_on_and_learns(run: Run) -> None:
    first, _ = run("first")
    longer = {"optimization": {**TINY_OPTIMIZATION, "epochs": 8}}
    second, summary = run("second", config={"stage": "tts", **longer}, previous=first)
    assert summary["data"] == {"tts": {"kept": 30, "dropped": {}, **WHOLE}}
    rows = list(jsonl.read(second / "metrics.jsonl"))
    assert rows[-1]["loss"] < rows[0]["loss"]
    before, after = weights(first), weights(second)
    assert before.keys() == after.keys() and not any(torch.equal(before[name], after[name]) for name in before)


def test_a_loss_that_is_not_finite_stops_the_stage_by_name(run: Run) -> None:
    config = {"optimization": {**TINY_OPTIMIZATION, "lr": 1e30, "max_grad_norm": 1e30}}
    last = run.error("diverged", config)
    assert "TrainingDiverged: stage asr: the loss is" in last and "learning rate" in last and "train.lr" in last


def test_too_long_examples_are_dropped_and_counted(run: Run) -> None:
    _, summary = run("short", config={"optimization": {**TINY_OPTIMIZATION, "max_length": 22}})
    assert 0 < summary["examples"] < 40
    dropped = {"longer than 22 tokens": 40 - summary["examples"]}
    assert summary["data"] == {"asr": {"kept": summary["examples"], "dropped": dropped, **WHOLE}}
    last = run.error("none", {"optimization": {**TINY_OPTIMIZATION, "max_length": 5}})
    assert "max_length=5 leaves none of 40 examples" in last


def test_replay_mixes_every_earlier_set(run: Run, tiny_examples: dict[str, Path]) -> None:
    replay: dict[str, Any] = {"ratio": 0.5, "text_ratio": 0.1, "basis": "old"}
    earlier = {name: tiny_examples[name] for name in ("tts", "text", "asr")}
    settings = typed(Optimization, TINY_OPTIMIZATION)
    chosen = choose("sqa", {"sqa": tiny_examples["sqa"]}, earlier, Replay(**replay), settings)
    assert [(name, len(part.rows)) for name, part in chosen.items()] == [
        ("sqa", 30), ("text", 30), ("asr", 20), ("tts", 15)
    ]  # fmt: skip
    assert list(chosen["sqa"].rows) == list(range(30))
    for part in chosen.values():
        assert len(set(part.rows)) == len(part.rows) and max(part.rows) < len(part.stored)
        assert part.role == Role.CROSS_ENTROPY
    own, text = {"asr": tiny_examples["asr"]}, {"text": tiny_examples["text"]}
    first = choose("asr", own, text, Replay(**{**replay, "basis": "current"}), settings)
    assert {name: len(part.rows) for name, part in first.items()} == {"asr": 40, "text": 4}
    config = {"stage": "sqa", "sets": ["sqa"], "replayed": ["text", "asr", "tts"], "replay": replay}
    _, summary = run("replayed", config=config)
    kept = {name: entry["kept"] for name, entry in summary["data"].items()}
    assert kept == {"sqa": 30, "text": 30, "asr": 20, "tts": 15} and summary["examples"] == 95


def artifact(folder: Path, lengths: list[int]) -> Path:
    """Examples of these lengths, of which the second half is learned."""
    folder.mkdir()
    with Writer(folder) as writer:
        writer.add([Example([7] * n, [IGNORE] * (n - n // 2) + [7] * (n // 2)) for n in lengths])
    return folder


@pytest.mark.parametrize(
    ("too_long", "basis", "counts"),
    [
        ("drop", "current", {"asr": 6, "text": 3, "tts": 3}),
        ("drop", "old", {"asr": 6, "text": 5, "tts": 3}),
        ("cut", "current", {"asr": 8, "text": 4, "tts": 4}),
        ("cut", "old", {"asr": 8, "text": 10, "tts": 5}),
    ],
)
def test_replay_is_a_share_of_what_is_trained_on(
    tmp_path: Path, too_long: str, basis: str, counts: dict[str, int]
) -> None:
    """Of ten own examples six are short enough, two can be cut, and of two nothing would be left to learn."""
    asr = artifact(tmp_path / "asr", [10] * 6 + [24, 36] + [44, 60])
    text = artifact(tmp_path / "text", [50] * 4 + [12] * 10 + [36] * 10)
    tts = artifact(tmp_path / "tts", [8] * 6 + [24] * 4)
    settings = typed(Optimization, TINY_OPTIMIZATION | {"max_length": 22, "too_long": too_long})
    replay = typed(Replay, {"ratio": 0.5, "basis": basis})
    chosen = choose("asr", {"asr": asr}, {"tts": tts, "text": text}, replay, settings)
    assert {name: len(part.rows) for name, part in chosen.items()} == counts
    for part in chosen.values():
        assert set(part.rows) <= set(part.stored.usable(settings)) and len(set(part.rows)) == len(part.rows)
    assert [part.dropped for part in chosen.values()] == [10 - counts["asr"], 0, 0]
    with pytest.raises(ValueError, match=r"^stage asr: max_length=4 leaves none of 10 examples"):
        choose("asr", {"asr": asr}, {}, None, typed(Optimization, TINY_OPTIMIZATION | {"max_length": 4}))


def test_cut_examples_are_trained_on_and_counted(run: Run) -> None:
    """By ranks, and at ZeRO-3 with LoRA frozen: the first stage's comes out to the bit."""
    first, _ = run("first")
    frozen = {"adapter": {**TINY_ADAPTER, "lora_in_later_stages": "frozen"}}
    cut: dict[str, Any] = {"max_length": 40, "too_long": "cut", "ranks": 2, "loss_average": "ranks"}
    replay = {"stage": "tts", "replayed": ["text"], "replay": {"ratio": 0.0, "text_ratio": 0.1, "basis": "old"}}
    second, summary = run("second", 2, frozen | replay | deepspeed(3, **cut), first)
    told = summary["data"]
    assert told["tts"]["cut"] > 0 and told["tts"]["kept"] + sum(told["tts"]["dropped"].values()) == 30
    assert told["text"]["share_of_examples"] == pytest.approx(1 - told["tts"]["share_of_examples"], abs=1e-3)
    assert told["text"]["share_of_loss"] == pytest.approx(1 - told["tts"]["share_of_loss"], abs=1e-3)
    lora = Path("adapter") / "adapter_model.safetensors"
    assert (second / lora).read_bytes() == (first / lora).read_bytes()
    before, after = (load_file(folder / "full.safetensors") for folder in (first, second))
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_metrics_are_finite_numbers(run: Run) -> None:
    out, _ = run("metrics")
    rows = list(jsonl.read(out / "metrics.jsonl"))
    assert rows and all(math.isfinite(value) for row in rows for value in row.values())
    assert max(row["learning_rate"] for row in rows) <= TINY_OPTIMIZATION["lr"]

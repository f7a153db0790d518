"""A real stage through DeepSpeed: resumed to the bit, on one rank and on two, at every ZeRO stage."""

import json
import math
import multiprocessing
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from src.data import jsonl
from src.train.stage import stage_conversations
from tests.conftest import TINY_ADAPTER, TINY_OPTIMIZATION
from tests.train.runner import run_rank

ROOT = Path(__file__).parents[2]
forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(["src.train.stage"])


class Run:
    """Starts stages in processes of their own, as the launchers do."""

    def __init__(self, base: Path, corpus: Path, units: Path, folder: Path):
        self.inputs, self.folder = {"base": base, "corpus": corpus, "units": units}, folder

    def start(self, name: str, ranks: int, config: dict[str, Any], previous: Path | None, stop_at: int) -> list[int]:
        """Exit codes of the ranks."""
        out, work = self.folder / name, self.folder / f"{name}-work"
        out.mkdir(exist_ok=True)
        work.mkdir(exist_ok=True)
        settings = {
            "stage": "asr",
            "adapter": TINY_ADAPTER,
            "optimization": TINY_OPTIMIZATION,
            "replay": None,
            **config,
        }
        inputs = self.inputs | ({"previous": previous} if previous else {})
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = str(listener.getsockname()[1])
        world = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        started = [
            forkserver.Process(
                target=run_rank,
                args=(world | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, settings, inputs, out, work, stop_at),
            )
            for rank in range(ranks)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(300)
        return [process.exitcode or 0 for process in started]

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


@pytest.fixture()
def run(tiny_base: Path, tiny_corpus: Path, tiny_units: Path, tmp_path: Path) -> Run:
    return Run(tiny_base, tiny_corpus, tiny_units, tmp_path)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "full.safetensors") | load_file(out / "adapter" / "adapter_model.safetensors")


def deepspeed(stage: int) -> dict[str, Any]:
    return {"optimization": {**TINY_OPTIMIZATION, "deepspeed": {"zero_optimization": {"stage": stage}}}}


@pytest.mark.parametrize("zero", [0, 2])
def test_killed_and_resumed_ends_with_the_same_bits(run: Run, zero: int) -> None:
    undisturbed, summary = run("undisturbed", config=deepspeed(zero))
    assert run.start("killed", 1, deepspeed(zero), None, stop_at=10) == [-signal.SIGKILL]
    resumed, after = run("killed", config=deepspeed(zero))
    assert after["resumed_at_step"] > 0 == summary["resumed_at_step"]
    for file in ("full.safetensors", "adapter/adapter_model.safetensors", "model/model.safetensors", "metrics.jsonl"):
        assert (undisturbed / file).read_bytes() == (resumed / file).read_bytes(), file


def test_two_ranks_learn_what_one_learns(run: Run) -> None:
    config = {"adapter": {**TINY_ADAPTER, "dropout": 0.0}}
    one, first = run("one", config=config)
    two, second = run("two", ranks=2, config=config)
    assert first["tokens"] == second["tokens"] and first["steps"] == second["steps"]
    losses = [[row["loss"] for row in jsonl.read(out / "metrics.jsonl")] for out in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(two)[name], rtol=1e-2, atol=2e-4)


@pytest.mark.parametrize("name", ["zero2", "zero3", "offload"])
def test_every_deepspeed_configuration_agrees(run: Run, name: str) -> None:
    config = {"adapter": {**TINY_ADAPTER, "dropout": 0.0}}
    plain, _ = run("plain", config=config)
    settings = yaml.safe_load((ROOT / "conf" / "deepspeed" / f"{name}.yaml").read_text())
    settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0  # share out small parameters too
    optimization = {**TINY_OPTIMIZATION, "deepspeed": settings}
    sharded, _ = run("sharded", ranks=2, config=config | {"optimization": optimization})
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(tensor, weights(sharded)[name], rtol=1e-2, atol=2e-4)


def test_the_second_stage_goes_on_and_learns(run: Run) -> None:
    first, _ = run("first")
    longer = {"optimization": {**TINY_OPTIMIZATION, "epochs": 8}}
    second, summary = run("second", config={"stage": "tts", **longer}, previous=first)
    assert summary["counts"] == {"tts": 30}
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
    assert summary["dropped_too_long"] > 0
    assert summary["examples"] + summary["dropped_too_long"] == 40
    last = run.error("none", {"optimization": {**TINY_OPTIMIZATION, "max_length": 5}})
    assert "max_length=5 leaves none of 40 examples" in last


def test_replay_mixes_every_earlier_set(tiny_corpus: Path, tiny_units: Path) -> None:
    replay = {"pool": "pool", "ratio": 0.5, "text_ratio": 0.1, "basis": "old"}
    talks, counts = stage_conversations("sqa", replay, tiny_corpus, tiny_units, seed=0)
    assert counts == {"sqa": 30, "text": 30, "asr": 20, "tts": 15}
    assert len(talks) == sum(counts.values())
    alone, _ = stage_conversations("sqa", None, tiny_corpus, tiny_units, seed=0)
    assert talks[:30] == alone
    _, first = stage_conversations("asr", {**replay, "basis": "current"}, tiny_corpus, tiny_units, seed=0)
    assert first == {"asr": 40, "text": 4}


def test_metrics_are_finite_numbers(run: Run) -> None:
    out, _ = run("metrics")
    rows = list(jsonl.read(out / "metrics.jsonl"))
    assert rows and all(math.isfinite(value) for row in rows for value in row.values())
    assert max(row["learning_rate"] for row in rows) <= TINY_OPTIMIZATION["lr"]

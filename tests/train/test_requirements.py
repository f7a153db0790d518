"""What a plan says that training needs, from composed configurations; and what is refused, with a remedy that holds."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from rich.console import Console

from launchers.needs import needs_table, verdict
from src.grid.cell import CONF, row
from src.grid.errors import ConfigError
from src.grid.plan import make_plan
from src.grid.step import Step
from src.grid.store import Store
from src.train import memory
from src.train.requirements import Gpu, Requirement, overrides, refusal, remedy, requirements, training, vocabulary

ROOT = Path(__file__).parents[2]
LLAMA = [
    "model=llama_3_2_11b_vision", "model.text_tokens=128256", "speech.quantizer.clusters=10000", "train=paper",
    "deepspeed=zero2_bf16", "gpu={name: RTX A6000, memory_gb: 48}", "evaluate.listen=0",
]  # fmt: skip
SIZES = {"asr": (1000, 500), "tts": (400, 300.5), "sqa": (700, 900), "text": (2000, 250)}
EXPECTED = [f"+expected.{name}={{examples: {n}, tokens: {mean}}}" for name, (n, mean) in SIZES.items()]


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base=None):
        yield


def found(
    store: Path, *more: str, strategies: tuple[str, ...] = ("none", "replay"), gpu: dict[str, Any] | None = None
) -> dict[str, Requirement]:
    """Label -> what it needs, of a plan of our own on the paper's model; `more` are its last overrides."""
    rows = [row(compose("config", overrides=[*LLAMA, *EXPECTED, f"strategy={name}", *more])) for name in strategies]
    return {each.step.label: each for each in requirements(make_plan(rows, Store(store)), Store(store), gpu)}


def test_every_training_step_once_with_the_paper_s_counts(tmp_path: Path) -> None:
    needs = found(tmp_path)
    assert list(needs) == [f"train-{stage}{tail}" for tail in ("", "-replay") for stage in ("asr", "tts", "sqa")]
    for each in needs.values():
        assert each.model.total == 8_112_181_248 and each.model.trainable == 1_296_171_008
        assert each.model.lora == 37_748_736 and each.model.projections == 125_829_120
        assert each.model.embeddings == each.model.head == 566_296_576
    plain = {"architecture": needs["train-asr"].step.inputs["base"].config["architecture"], "units": 0}
    assert vocabulary(plain | {"text_tokens": 128_256, "pad_to_multiple_of": None}, 0) == 128_256
    assert vocabulary(plain | {"text_tokens": None, "pad_to_multiple_of": 64, "units": 10_000}, 128_256) == 138_304


def test_tokens_and_batches_of_a_stage_with_what_it_replays(tmp_path: Path) -> None:
    needs = found(tmp_path, "replay.ratio=0.1", "replay.text_ratio=0.25", "replay.basis=old")
    plain, replayed = needs["train-tts"], needs["train-tts-replay"]
    epochs, batch = 2, 16  # conf/train/paper.yaml
    assert plain.examples == 400 and plain.tokens == epochs * 400 * 300.5
    assert plain.optimizer_steps == epochs * 400 / batch
    assert replayed.sets is not None
    assert {name: size.examples for name, size in replayed.sets.items()} == {"tts": 400, "text": 500, "asr": 100}
    assert replayed.tokens == pytest.approx(epochs * (400 * 300.5 + 500 * 250 + 100 * 500))
    assert replayed.optimizer_steps == epochs * 63  # 1,000 examples by 16, the last batch of each epoch not full
    assert not replayed.counted
    assert {n: s.examples for n, s in (needs["train-asr-replay"].sets or {}).items()} == {"asr": 1000, "text": 500}
    current = found(tmp_path, "replay.ratio=0.1", "replay.text_ratio=null", "replay.basis=current")["train-sqa-replay"]
    assert {name: size.examples for name, size in (current.sets or {}).items()} == {
        "sqa": 700, "text": 70, "asr": 70, "tts": 70,
    }  # fmt: skip


def test_without_sizes_there_are_no_tokens_but_there_is_memory(tmp_path: Path) -> None:
    rows = [row(compose("config", overrides=[*LLAMA, "strategy=none"]))]
    for each in requirements(make_plan(rows, Store(tmp_path)), Store(tmp_path)):
        assert each.tokens is None and each.optimizer_steps is None and each.gpu_hours is None
        assert each.memory.total > memory.GIB
    assert "Tokens are not known" in shown(requirements(make_plan(rows, Store(tmp_path)), Store(tmp_path)))


def test_gpu_hours_are_those_of_the_mean_example_on_the_gpu_that_is_named(tmp_path: Path) -> None:
    asr = found(tmp_path)["train-asr"]
    by_hand = memory.Training(batch=4, length=500, gpus=4, zero_stage=2, gradient_checkpointing=True)
    flops = 2 * 1000 * 500 * memory.flops_per_token(asr.model, by_hand)
    assert asr.training.gradient_checkpointing
    hours = flops / (0.4 * 154.8e12) / 3600
    assert asr.gpu_hours == pytest.approx(hours)
    faster = found(tmp_path, gpu={"name": "NVIDIA H100 80GB HBM3", "memory_gb": 80})["train-asr"]
    assert faster.gpu == Gpu("NVIDIA H100 80GB HBM3", 80)
    assert faster.gpu_hours == pytest.approx(hours * 154.8 / 989)
    assert found(tmp_path, "gpu=null", gpu={"name": "GeForce 256"})["train-asr"].gpu_hours is None


def test_the_launcher_s_gpu_goes_before_the_profile_s() -> None:
    profile = {"name": "RTX A6000", "memory_gb": 48.0}
    assert Gpu.of(None, profile) == Gpu.of({"name": None, "memory_gb": None}, profile) == Gpu("RTX A6000", 48)
    assert Gpu.of({"memory_gb": 16}, profile) == Gpu("RTX A6000", 16)
    assert Gpu.of({"name": "L40S", "memory_gb": 40}, profile) == Gpu("L40S", 40)
    assert Gpu.of({"name": "L40S"}, None) == Gpu("L40S", None) and Gpu.of(None, None) == Gpu()
    with pytest.raises(ConfigError, match=r"memory_gb is null; it must be that of the V100"):
        Gpu.of({"name": "V100", "memory_gb": None}, profile)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, {"batch": 4, "gpus": 4, "length": 800}),
        ({"micro_batch_size": 2}, {"batch": 2}),
        ({"micro_batch_size": 9}, {"batch": 4}),
        ({"ranks": 3}, {"batch": 6, "gpus": 3}),
        ({"batch_size": None, "batch_tokens": 9600}, {"batch": 3}),
        ({"gradient_checkpointing": True, "fused_loss": True}, {"gradient_checkpointing": True, "fused_loss": True}),
        ({"deepspeed": {}}, {"zero_stage": 0, "precision": "fp32", "reduce_bucket": 5 * 10**8}),
        ({"deepspeed": {"fp16": {"enabled": True}, "bf16": {"enabled": False}}}, {"precision": "fp16"}),
        (
            {
                "deepspeed": {
                    "bf16": {"enabled": True},
                    "zero_optimization": {
                        "stage": 3, "reduce_bucket_size": 7, "offload_param": {"device": "cpu"},
                        "offload_optimizer": {"device": "none"},
                    },
                }
            },
            {"zero_stage": 3, "precision": "bf16", "reduce_bucket": 14, "offload_parameters": True,
             "offload_optimizer": False},
        ),
    ],
)  # fmt: skip
def test_settings_of_training_as_those_of_the_estimate(settings: dict[str, Any], wanted: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"ranks": 4, "batch_size": 16, "batch_tokens": None, "max_length": 800, "deepspeed": {},
                             "micro_batch_size": None}  # fmt: skip
    made = training(plain | settings)
    assert {name: getattr(made, name) for name in wanted} == wanted


@pytest.mark.parametrize("limit", [48, 40, 24, 20, 16, 12])
def test_a_remedy_fits_when_it_is_written_on_the_command_line(tmp_path: Path, limit: float) -> None:
    needs = list(found(tmp_path, gpu={"memory_gb": limit}).values())
    line = refusal(needs)
    if all(each.memory.total <= limit * memory.GIB for each in needs):
        assert line is None and limit >= 40
        return
    assert line is not None and line.count("\n") == 0
    worst = max(needs, key=lambda each: each.memory.total)
    assert line.startswith(f"{worst.step.name} needs {worst.memory.total / memory.GIB:.1f} GiB, and each of its 4 GPUs")
    told = re.search(r"; with (\S+(?: \S+=\S+)*) the largest needs ([\d.]+)", line)
    assert told, line
    mended = list(found(tmp_path, *told[1].split(), gpu={"memory_gb": limit}).values())
    assert refusal(mended) is None
    assert f"{max(each.memory.total for each in mended) / memory.GIB:.1f}" == told[2]
    # and not more than needed: each setting left out alone is not enough
    for setting in told[1].split():
        fewer = [other for other in told[1].split() if other != setting]
        assert refusal(found(tmp_path, *fewer, gpu={"memory_gb": limit}).values()) is not None, setting


def test_a_remedy_by_zero_3_does_without_the_fused_loss(tmp_path: Path) -> None:
    """src/train/loop.py refuses the two together."""
    needs = list(found(tmp_path, "train.fused_loss=true", gpu={"memory_gb": 16}).values())
    line = refusal(needs) or ""
    assert "deepspeed=zero3" in line and "train.fused_loss=false" in line
    told = re.search(r"; with (\S+(?: \S+=\S+)*) the largest needs", line)
    assert told
    assert refusal(found(tmp_path, *told[1].split(), gpu={"memory_gb": 16}).values()) is None
    enough = refusal(found(tmp_path, "train.fused_loss=true", gpu={"memory_gb": 22}).values()) or ""
    assert "fused_loss" not in enough or "deepspeed=zero3" in enough


def test_more_gpus_help_where_no_other_setting_does(tmp_path: Path) -> None:
    """ZeRO-2 without a GPU to share with, and a memory that holds the weights and little else."""
    needs = list(found(tmp_path, gpu={"memory_gb": 9}).values())
    line = refusal(needs)
    helped = remedy(needs)
    assert line is not None and helped is not None
    assert ("train.ranks=" in line) == (helped[0].gpus > 4)
    assert " ".join(overrides(needs, helped)) in line
    for each, setting in zip(needs, helped, strict=True):
        assert memory.estimate(each.model, setting).total <= 9 * memory.GIB
    assert "no setting brings it below" in (refusal(found(tmp_path, gpu={"memory_gb": 1}).values()) or "")


def test_no_gpu_named_is_no_refusal_and_is_said(tmp_path: Path) -> None:
    needs = list(found(tmp_path, "gpu=null").values())
    assert refusal(needs) is None
    assert "No GPU is named" in verdict(needs) and "No GPU is named" in shown(needs)


def test_what_is_in_the_store_is_not_refused(tmp_path: Path) -> None:
    """Steps that are complete do not have to fit any more, and sets that were counted are not assumed."""
    store = Store(tmp_path)
    for each in found(tmp_path, gpu={"memory_gb": 8}).values():
        publish(store, each.step, {})
    needs = list(found(tmp_path, gpu={"memory_gb": 8}).values())
    assert all(each.cached for each in needs) and refusal(needs) is None


def test_sets_are_counted_where_the_store_has_them(tmp_path: Path) -> None:
    asr = found(tmp_path)["train-asr-replay"]
    for role, tokens in (("asr", 123_456), ("text", 7_000)):
        publish(Store(tmp_path), asr.step.inputs[role], {"examples": 100, "tokens": tokens})
    again = found(tmp_path, "replay.ratio=0.1", "replay.text_ratio=0.1", "replay.basis=old")
    counted = again["train-asr-replay"]
    assert counted.counted and counted.tokens == 2 * (123_456 + 700)
    assert not again["train-tts-replay"].counted  # its own set is still assumed


def publish(store: Store, step: Step, summary: dict[str, Any]) -> None:
    out = store.work(step) / "out"
    out.mkdir(parents=True)
    store.publish(step, out, summary, 1.0)


def shown(needs: list[Requirement]) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(needs_table(needs))
    return console.export_text()


def test_the_section_below_the_plan(tmp_path: Path) -> None:
    needs = list(found(tmp_path).values())
    text = shown(needs)
    assert "8,112,181,248 parameters (138,256 tokens)" in text
    assert (
        "trained are 1,296,171,008: LoRA 37,748,736, embeddings 566,296,576, head 566,296,576, "
        "projections of the last 5 layers 125,829,120" in text
    )
    for each in needs:
        (line,) = [line for line in text.splitlines() if line.startswith(each.step.name)]
        assert f"{each.memory.total / memory.GIB:.1f}" in line and f"{each.optimizer_steps:,}" in line
    (table,) = re.findall(r"GiB of one GPU, ZeRO-2 bf16.*?\n\n", text, flags=re.DOTALL)
    assert len(table.strip().splitlines()) == 3  # ASR and TTS are alike
    assert f"{needs[0].memory.weights / memory.GIB:.1f}" in table
    assert "40 % of 154.8 TFLOPS (RTX A6000)" in text


def test_the_command_refuses_and_a_laptop_plan_imports_no_torch(tmp_path: Path) -> None:
    plan = ["strategy=none", "plan_only=true", f"outputs={tmp_path / 'outputs'}"]
    code = f"import runpy, sys; sys.argv = {json.dumps(['x', *plan])}; runpy.run_module('src.run', {{}}, '__main__')"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n") and "GiB" not in done.stdout

    def command(*more: str) -> subprocess.CompletedProcess[str]:
        whole = [sys.executable, "-m", "src.run", *plan, *LLAMA, *EXPECTED, *more]
        return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, check=False)

    for way in (["hydra.launcher.gpu.memory_gb=16"], ["gpu.memory_gb=16", "plan_only=false"]):
        done = command(*way)
        assert done.returncode == 1 and "needs" in done.stderr and "each of its 4 GPUs has 16" in done.stderr
        assert "Traceback" not in done.stderr
        assert "; with deepspeed=zero3" in done.stderr
    done = command("hydra.launcher.gpu.memory_gb=0")
    assert done.returncode == 1 and "hydra.launcher.gpu.memory_gb is 0" in done.stderr
    assert not (tmp_path / "outputs").exists()

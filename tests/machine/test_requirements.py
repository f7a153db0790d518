"""What a plan says that training needs, from composed configurations; and what is refused, with a remedy that holds."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from rich.console import Console

from launchers.needs import needs_table, verdict
from src.grid.errors import ConfigError
from src.grid.plan import make_plan
from src.grid.step import Step, closure
from src.grid.store import Store
from src.grid.typed import typed
from src.machine.hours import flops_per_token
from src.machine.memory import GIB, estimate
from src.machine.overrides import overrides
from src.machine.refusals import refusal
from src.machine.remedies import remedy
from src.machine.requirements import Answers, Requirement, answers, requirements, vocabulary
from src.machine.settings import Gpu
from src.machine.training import Training, training
from src.model.chat import Example
from src.recipe import CONF, row
from src.steps.backbone import Backbone
from src.train.examples import Writer
from src.train.settings import Optimization
from tests.conftest import TINY_OPTIMIZATION

ROOT = Path(__file__).parents[2]
LLAMA = [
    "model=llama_3_2_11b_vision", "model.text_tokens=128256", "speech.quantizer.clusters=10000", "train=paper",
    "deepspeed=zero2_bf16", "gpu={name: RTX A6000, memory_gb: 48}", "evaluate.listen=0",
]  # fmt: skip
SIZES = {
    "asr": (1000, [400, 600]), "tts": (400, [201, 400]), "sqa": (700, [800, 900, 1000]), "text": (2000, [100, 400]),
}  # fmt: skip
LEARNED = {"asr": 0.05, "tts": 0.9, "sqa": 0.6, "text": 0.8}
EXPECTED = [
    f"+expected.{name}={{examples: {n}, lengths: {lengths}, learned: {LEARNED[name]}}}"
    for name, (n, lengths) in SIZES.items()
]


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
    base = needs["train-asr"].step.base
    assert isinstance(base, Backbone)
    plain = replace(base, units=0, config=replace(base.config, text_tokens=128_256, pad_to_multiple_of=None))
    assert vocabulary(plain, 0) == 128_256
    padded = replace(base, units=10_000, config=replace(base.config, text_tokens=None, pad_to_multiple_of=64))
    assert vocabulary(padded, 128_256) == 138_304


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


def drawn(each: Requirement) -> dict[str, int]:
    """Set -> examples of an epoch."""
    assert each.sets is not None
    return {name: size.examples for name, size in each.sets.items()}


def test_sets_follow_the_chain(tmp_path: Path) -> None:
    """Whatever its order, its length, or how many sets a stage has."""
    ratios = ["replay.ratio=0.1", "replay.text_ratio=0.25", "replay.basis=old"]
    turned = found(tmp_path, "train.chain=[sqa,asr]", "train.stages.asr.max_length=1200", *ratios)
    assert drawn(turned["train-asr-replay"]) == {"asr": 1000, "text": 500, "sqa": 70}
    assert drawn(turned["train-sqa-replay"]) == {"sqa": 700, "text": 500} and "train-tts" not in turned
    joint = found(tmp_path, "train.chain=[joint]", *ratios)
    assert drawn(joint["train-joint"]) == {"asr": 1000, "tts": 400, "sqa": 700}
    current = found(tmp_path, "train.chain=[joint]", *ratios[:2], "replay.basis=current")["train-joint-replay"]
    assert drawn(current)["text"] == 525, "a quarter of the 2,100 of its own three sets"
    recovered = found(tmp_path, "train.chain=[asr,tts,sqa,text]", *ratios)["train-text-replay"]
    assert drawn(recovered) == {"text": 2000, "asr": 100, "tts": 40, "sqa": 70}
    twice = found(tmp_path, "train.chain=[asr,tts,asr]", *ratios)
    assert drawn(twice["train-asr_2-replay"]) == {"asr": 1000, "text": 500, "tts": 40}
    assert twice["train-asr_2-replay"].section == "train.stages.asr"


def test_a_method_that_compares_with_the_base_holds_it_and_draws_text(tmp_path: Path) -> None:
    """Where the stage has text of its own or replays some, the method draws none."""
    ratios = ["method.ratio=0.25", "replay.ratio=0.1", "replay.text_ratio=null", "replay.basis=current"]
    rows = ("extra/distill", "extra/distill_replay", "extra/l2")
    needs = found(tmp_path, *ratios, "train.chain=[asr,text]", strategies=rows[:2])
    assert drawn(needs["train-asr-distill"]) == {"asr": 1000, "text": 250}
    assert drawn(needs["train-text-distill"]) == {"text": 2000}
    assert drawn(needs["train-asr-distill-replay"]) == {"asr": 1000, "text": 100}
    assert {each.memory.teacher for each in needs.values()} == {2 * needs["train-asr-distill"].model.total}
    assert "teacher" in shown(list(needs.values()))
    plain = found(tmp_path, strategies=rows[2:])["train-asr-l2"]
    assert plain.memory.teacher == 0 and drawn(plain) == {"asr": 1000}
    none = found(tmp_path, "method.ratio=0", strategies=rows[:1])["train-asr-distill"]
    assert none.memory.teacher == 0 and drawn(none) == {"asr": 1000}, "no text, nothing to compare on"
    less = found(tmp_path, *ratios, "replay.text_ratio=0", strategies=rows[1:2])
    assert drawn(less["train-tts-distill-replay"]) == {"tts": 400, "asr": 40, "text": 100}


def test_each_stage_is_counted_by_its_own_settings(tmp_path: Path) -> None:
    needs = found(tmp_path, "+train.stages.tts.adapter={full_modules: []}", "+train.stages.sqa.replay={ratio: 0.5}",
                  "replay.ratio=0.1", "replay.basis=old")  # fmt: skip
    asr, tts = needs["train-asr"].model, needs["train-tts"].model
    assert asr.total == tts.total and asr.trainable - tts.trainable == asr.embeddings + asr.head > 0
    assert (tts.embeddings, tts.head) == (0, 0)
    assert drawn(needs["train-tts-replay"])["asr"] == 100 and drawn(needs["train-sqa-replay"])["asr"] == 500
    text = shown(list(needs.values()))
    assert text.count("parameters (138,256 tokens)") == 2
    frozen = found(tmp_path, "train.adapter.lora_in_later_stages=frozen", strategies=("none",))
    trained = [each.model.trainable for each in frozen.values()]
    assert trained == [asr.trainable, asr.trainable - asr.lora, asr.trainable - asr.lora]
    assert frozen["train-tts"].disk.artifact == frozen["train-asr"].disk.artifact, "LoRA is kept"
    assert frozen["train-tts"].memory.optimizer < frozen["train-asr"].memory.optimizer


def test_what_is_longer_than_a_stage_takes_is_not_trained_on(tmp_path: Path) -> None:
    """Nor counted or drawn for replay."""
    of_asr = "+expected.asr={examples: 1000, lengths: [100, 200, 400, 600, 1000], learned: 0.25}"
    needs = found(tmp_path, of_asr, "replay.ratio=0.1", "replay.text_ratio=0.1", "replay.basis=current")
    asr, tts = needs["train-asr"], needs["train-tts-replay"]
    assert asr.examples == 3 * 250 + 125 and asr.tokens == 2 * (250 * (150 + 300 + 500) + 125 * 700)
    assert drawn(needs["train-asr-replay"])["text"] == 88 and drawn(tts) == {"tts": 400, "text": 40, "asr": 40}
    old = found(tmp_path, of_asr, "replay.ratio=0.1", "replay.text_ratio=0.1", "replay.basis=old")
    assert drawn(old["train-tts-replay"])["asr"] == 88 and drawn(old["train-sqa-replay"])["asr"] == 100
    whole = found(tmp_path, of_asr, "train.stages.asr.max_length=1000")["train-asr"]
    assert whole.examples == 1000 and whole.tokens == 2 * 250 * (150 + 300 + 500 + 800)
    none = found(tmp_path, of_asr, "train.stages.asr.max_length=90")["train-asr"]
    assert none.examples == 0 and none.tokens == 0 and none.gpu_hours is None and not none.loss_shares


def test_what_is_cut_is_trained_on_as_long_as_something_is_learned(tmp_path: Path) -> None:
    """The last quarter of an example is its response: cut at 450 tokens, nothing is left of it above 600."""
    of_asr = "+expected.asr={examples: 1000, lengths: [100, 200, 400, 600, 1000], learned: 0.25}"
    cut = found(tmp_path, of_asr, "train.too_long=cut", "train.stages.asr.max_length=450")["train-asr"]
    assert cut.examples == 750
    assert cut.tokens == pytest.approx(2 * 250 * (150 + 300 + 0.25 * 425 + 0.75 * 450))
    assert cut.sets is not None
    for tokens, learned in cut.sets["asr"].lengths:
        length = tokens if tokens < 450 else (tokens - learned) / 0.75
        assert learned == pytest.approx(tokens - 0.75 * length) and learned >= 0
    middle = [tokens for tokens, _ in cut.sets["asr"].lengths]
    assert sum(middle) / len(middle) == pytest.approx((cut.tokens or 0) / 2 / 750, rel=1e-3)


def test_shares_of_the_loss_are_those_of_the_batches(tmp_path: Path) -> None:
    """All examples have one length here: which of them share a batch is chance, and the mean over batches is known."""
    sizes = {"asr": (960, 400, 0.05), "text": (1000, 400, 0.8)}
    same = [
        f"+expected.{name}={{examples: {n}, lengths: [{length}, {length}], learned: {learned}}}"
        for name, (n, length, learned) in sizes.items()
    ]
    ratios = ["replay.ratio=0", "replay.text_ratio=0.2", "replay.basis=current"]
    asr = found(tmp_path, *same, *ratios, strategies=("replay",))["train-asr-replay"]
    assert drawn(asr) == {"asr": 960, "text": 192}
    assert asr.loss_shares["examples"]["text"] == pytest.approx(192 / 1152)
    assert sum(asr.loss_shares["ranks"].values()) == pytest.approx(1)
    # a batch of 16 has k texts with the chances of the hypergeometric distribution
    ways = [math.comb(192, k) * math.comb(960, 16 - k) / math.comb(1152, 16) for k in range(17)]
    assert asr.loss_shares["tokens"]["text"] == pytest.approx(
        sum(p * 320 * k / (320 * k + 20 * (16 - k)) for k, p in enumerate(ways)), abs=0.03
    )
    ways = [math.comb(192, k) * math.comb(960, 4 - k) / math.comb(1152, 4) for k in range(5)]
    assert asr.loss_shares["ranks"]["text"] == pytest.approx(
        sum(p * 320 * k / (320 * k + 20 * (4 - k)) for k, p in enumerate(ways)), abs=0.03
    )
    text = shown([asr])
    assert re.search(r"train-asr-replay-\w+ +asr +960 +83\.3 % .* 83\.3 % +\*", text), text
    assert re.search(r"\n +text +192 +16\.7 % .* 16\.7 % +\*", text), text
    assert "loss by tokens" in text and "train.loss_average" in text


@pytest.mark.parametrize("lengths", ["[500]", "[2, 1]", "[0, 1]", "[]"])
def test_lengths_that_are_none_are_refused(lengths: str) -> None:
    with pytest.raises(ConfigError, match=r"expected\.asr\.lengths is .* two or more numbers"):
        row(compose("config", overrides=[*LLAMA, f"+expected.asr={{examples: 5, lengths: {lengths}, learned: 1}}"]))


def test_ranks_without_an_example_cost_their_hours(tmp_path: Path) -> None:
    four, eight, three = (found(tmp_path, f"train.ranks={n}", "train.micro_batch_size=1") for n in (4, 8, 3))
    hours = [each["train-sqa"].gpu_hours or 0 for each in (four, eight, three)]
    assert hours[1] == pytest.approx(2 * hours[0]) and hours[2] == pytest.approx(1.5 * hours[0])  # batches of 4
    assert eight["train-asr"].gpu_hours == pytest.approx(four["train-asr"].gpu_hours)  # of 16
    assert eight["train-sqa"].seconds == pytest.approx(four["train-sqa"].seconds)
    told = shown(list(eight.values()))
    assert "train.ranks=8, and a batch of sqa has 4 examples: 4 GPUs compute nothing." in told
    assert told.count("compute nothing") == 1 and "compute nothing" not in shown(list(four.values()))


def test_without_sizes_there_are_no_tokens_but_there_is_memory(tmp_path: Path) -> None:
    rows = [row(compose("config", overrides=[*LLAMA, "strategy=none"]))]
    for each in requirements(make_plan(rows, Store(tmp_path)), Store(tmp_path)):
        assert each.tokens is None and each.optimizer_steps is None and each.gpu_hours is None
        assert each.memory.total > GIB
    assert "Tokens are not known" in shown(requirements(make_plan(rows, Store(tmp_path)), Store(tmp_path)))


def test_gpu_hours_are_those_of_the_mean_example_on_the_gpu_that_is_named(tmp_path: Path) -> None:
    asr = found(tmp_path)["train-asr"]
    by_hand = Training(batch=4, length=500, gpus=4, zero_stage=2, gradient_checkpointing=True)
    flops = 2 * 1000 * 500 * flops_per_token(asr.model, by_hand)
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
    assert Gpu.of({"name": "V100"}, {"name": "A100"}) == Gpu("V100")
    with pytest.raises(ValueError, match=r"^memory_gb is 0; it must be greater than 0"):
        Gpu("V100", 0)


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
    plain: dict[str, Any] = {"ranks": 4, "batch_size": 16, "batch_tokens": None, "max_length": 800, "deepspeed": {}}
    made = training(typed(Optimization, TINY_OPTIMIZATION | plain | settings))
    assert {name: getattr(made, name) for name in wanted} == wanted


@pytest.mark.parametrize("limit", [48, 40, 24, 20, 16, 12])
def test_a_remedy_fits_when_it_is_written_on_the_command_line(tmp_path: Path, limit: float) -> None:
    needs = list(found(tmp_path, gpu={"memory_gb": limit}).values())
    line = refusal(needs)
    if all(each.memory.total <= limit * GIB for each in needs):
        assert line is None and limit >= 40
        return
    assert line is not None and line.count("\n") == 0
    worst = max(needs, key=lambda each: each.memory.total)
    assert line.startswith(f"{worst.step.name} needs {worst.memory.total / GIB:.1f} GiB, and each of its 4 GPUs")
    told = re.search(r"; with (\S+(?: \S+=\S+)*) the largest needs ([\d.]+)", line)
    assert told, line
    mended = list(found(tmp_path, *told[1].split(), gpu={"memory_gb": limit}).values())
    assert refusal(mended) is None
    assert f"{max(each.memory.total for each in mended) / GIB:.1f}" == told[2]
    # and not more than needed: each setting left out alone is not enough
    for setting in told[1].split():
        fewer = [other for other in told[1].split() if other != setting]
        assert refusal(found(tmp_path, *fewer, gpu={"memory_gb": limit}).values()) is not None, setting


def test_a_remedy_reaches_what_a_stage_has_of_its_own(tmp_path: Path) -> None:
    """`train.gradient_checkpointing=true` would change nothing in a stage that says false."""
    own = "+train.stages.asr.gradient_checkpointing=false"
    line = refusal(found(tmp_path, own, gpu={"memory_gb": 40}).values()) or ""
    told = re.search(r"; with (\S+(?: \S+=\S+)*) the largest needs", line)
    assert told and told[1] == "train.stages.asr.gradient_checkpointing=true"
    assert refusal(found(tmp_path, own, told[1], gpu={"memory_gb": 40}).values()) is None
    micro = "+train.stages.sqa.micro_batch_size=1"
    line = refusal(found(tmp_path, micro, gpu={"memory_gb": 16}).values()) or ""
    assert " train.micro_batch_size=" in line and "sqa.micro_batch_size" not in line, "its own is smaller already"


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
        assert estimate(each.model, setting).total <= 9 * GIB
    assert "no setting brings it below" in (refusal(found(tmp_path, gpu={"memory_gb": 1}).values()) or "")


def test_no_gpu_named_is_no_refusal_and_is_said(tmp_path: Path) -> None:
    needs = list(found(tmp_path, "gpu=null").values())
    assert refusal(needs) is None
    assert "No GPU is named" in verdict(needs, [], []) and "No GPU is named" in shown(needs)


def test_what_is_in_the_store_is_not_refused(tmp_path: Path) -> None:
    """Steps that are complete do not have to fit any more, and sets that were counted are not assumed."""
    complete(Store(tmp_path), [each.step for each in found(tmp_path, gpu={"memory_gb": 8}).values()])
    needs = list(found(tmp_path, gpu={"memory_gb": 8}).values())
    assert all(each.cached for each in needs) and refusal(needs) is None


def test_sets_are_counted_where_the_store_has_them(tmp_path: Path) -> None:
    """Each example once, and those that training drops not at all."""
    asr = found(tmp_path)["train-asr-replay"]
    lengths = {"asr": [300, 800, 801, 1200] * 25, "text": [50] * 60 + [900] * 40}
    for name, own in lengths.items():
        publish(Store(tmp_path), {**asr.step.examples, **asr.step.replayed}[name], own)
    again = found(tmp_path, "replay.ratio=0.1", "replay.text_ratio=0.1", "replay.basis=old")
    counted = again["train-asr-replay"]
    assert counted.counted and counted.examples == 50 + 6
    assert counted.tokens == 2 * (25 * (300 + 800) + 6 * 50)
    assert not again["train-tts-replay"].counted  # its own set is still assumed
    longer = found(tmp_path, "train.stages.asr.max_length=1200")["train-asr"]
    assert longer.tokens == 2 * 25 * (300 + 800 + 801 + 1200)


def publish(store: Store, step: Step, lengths: Sequence[int] = ()) -> None:
    """An artifact; of the kind `examples` if it has some."""
    out = store.work(step) / "out"
    out.mkdir(parents=True)
    if lengths:
        with Writer(out) as writer:
            writer.add([Example(list(range(n)), list(range(n))) for n in lengths])
    store.publish(step, out, {}, 1.0)


def complete(store: Store, steps: Sequence[Step]) -> None:
    """Artifacts of the steps and of all that they rest on."""
    for step in closure(steps):
        publish(store, step, [300] if step.kind == "examples" else [])


def asked(store: Path, *more: str, gpu: dict[str, Any] | None = None) -> list[Answers]:
    """What the answers of a plan need."""
    rows = [row(compose("config", overrides=[*LLAMA, f"strategy={name}", *more])) for name in ("original", "none")]
    return answers(make_plan(rows, Store(store)), gpu)


PAPER = ["profile=paper"]


def test_answers_need_the_model_a_cache_and_the_recognizer(tmp_path: Path) -> None:
    found = {each.step.label: each for each in asked(tmp_path, *PAPER)}
    assert found.keys() == {"generate-backbone", "generate-asr", "generate-tts", "generate-sqa"}
    spoken, text = found["generate-sqa"], found["generate-backbone"]
    assert spoken.memory.weights == text.memory.weights == 2 * 8_112_189_440 - 2 * 2 * 4096
    assert spoken.memory.cache == 65_536 * 32 * 2 * 8 * 128 * 2
    assert spoken.memory.recognizer == 4 * 1_543_490_560 and text.memory.recognizer == 0
    assert text.memory.total + spoken.memory.recognizer == spoken.memory.total
    half = {e.step.label: e for e in asked(tmp_path, *PAPER, "speech.recognizer.dtype=bfloat16")}["generate-sqa"]
    assert half.memory.recognizer == 2 * 1_543_490_560
    assert not any(each.recognizer for each in asked(tmp_path))  # the laptop's own speech


def test_a_recognizer_of_unknown_size_is_said_and_not_counted(tmp_path: Path) -> None:
    found = asked(tmp_path, *PAPER, "speech.recognizer.model=some/whisper")
    assert max(each.memory.recognizer for each in found) == 0
    assert "speech.recognizer.model=some/whisper is not known, and not counted" in shown([], found)
    assert "is not known" not in shown([], asked(tmp_path, *PAPER))


@pytest.mark.parametrize(("limit", "wanted"), [
    (48, None), (32, None), (31, "evaluate.batch_tokens=32768"), (25, "evaluate.batch_tokens=16384"),
    (24, "evaluate.batch_tokens=8192"), (22, "evaluate.batch_tokens=16384 speech.recognizer.dtype=float16"), (16, ""),
])  # fmt: skip
def test_answers_that_do_not_fit_are_refused_with_what_would(tmp_path: Path, limit: float, wanted: str | None) -> None:
    needs = asked(tmp_path, *PAPER, gpu={"memory_gb": limit})
    line = refusal([], needs)
    if wanted is None:
        assert line is None and "evaluation 31.1 GiB" in verdict([], needs, [])
        return
    assert line is not None and line.startswith("generate-sqa") and "\n" not in line
    assert f"needs 31.1 GiB, and its GPU has {limit:g} (" in line
    if not wanted:
        assert line.endswith("no setting brings it below: larger GPUs, or a smaller model")
        return
    told = re.search(r"; with (\S+(?: \S+=\S+)*) they need ([\d.]+)", line)
    assert told and told[1] == wanted
    mended = asked(tmp_path, *PAPER, *told[1].split(), gpu={"memory_gb": limit})
    assert refusal([], mended) is None
    assert f"{max(each.memory.total for each in mended) / GIB:.1f}" == told[2]
    complete(Store(tmp_path / "complete"), [each.step for each in needs])
    assert refusal([], asked(tmp_path / "complete", *PAPER, gpu={"memory_gb": limit})) is None


def test_training_and_answers_are_refused_on_one_line(tmp_path: Path) -> None:
    needs = found(tmp_path, gpu={"memory_gb": 24}, strategies=("none",)).values()
    line = refusal(needs, asked(tmp_path, *PAPER, gpu={"memory_gb": 24})) or ""
    assert line.startswith("train-") and "; and generate-sqa" in line and "\n" not in line


def shown(needs: list[Requirement], answering: Sequence[Answers] = ()) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(needs_table(needs, answering, []))
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
        line, origins = [line for line in text.splitlines() if line.startswith(each.step.name)]
        assert f"{100 * each.loss_shares['tokens'][each.step.stage]:.1f} %" in origins
        assert f"{each.memory.total / GIB:.1f}" in line and f"{each.optimizer_steps:,}" in line
    (table,) = re.findall(r"GiB of one GPU, ZeRO-2 bf16.*?\n\n", text, flags=re.DOTALL)
    assert len(table.strip().splitlines()) == 3  # ASR and TTS are alike
    assert f"{needs[0].memory.weights / GIB:.1f}" in table
    assert "40 % of 154.8 TFLOPS (RTX A6000)" in text
    text = shown([], asked(tmp_path, *PAPER))
    assert len(re.findall(r"^(?:speech and text|text) \(\d\) +65,536 ", text, flags=re.MULTILINE)) == 2
    assert "evaluation 31.1 GiB" in text


def test_a_training_step_takes_its_hours_divided_by_its_gpus(tmp_path: Path) -> None:
    """In the table, in what the whole takes, and in the plan that is kept; where the GPU is known."""
    outputs = [f"outputs={tmp_path / 'outputs'}", "profile=paper", "strategy=none", "plan_only=true"]
    command = [sys.executable, "-m", "src.run", *outputs]
    done = [subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=True).stdout
            for more in ([], ["train.ranks=1", "train.loss_average=examples", "gpu=null"])]  # fmt: skip
    times = [dict(re.findall(r"^train-(\w+)-[0-9a-f]{8} +\d+ +(.+?)  +", out, flags=re.MULTILINE)) for out in done]
    assert times[1] == dict.fromkeys(("asr", "tts", "sqa"), "6 h 48 min")  # the profile's own
    hours = re.findall(r"^train-(\w+)-[0-9a-f]{8} +[\d,]+ +[\d.]+ M +[\d,]+ +([\d.]+) ", done[0], flags=re.MULTILINE)
    assert len(hours) == 3
    for stage, number in hours:
        told = re.fullmatch(r"(\d+) h (\d+) min", times[0][stage])
        assert told and int(told[1]) + int(told[2]) / 60 == pytest.approx(float(number) / 4, abs=0.06)


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

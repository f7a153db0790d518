"""What wrong input says: every case has to end in one line that names what is wrong, and has to write nothing.

    python -m benchmarks.bad_input [WORD ...]     cases whose command holds each word; all of them in some minutes

A case is a command line and the words that its line must have. Each runs in a child of this process that has imported
the commands once, with an empty `outputs`. The exit status is 1 if a case fell short.
"""

import importlib
import io
import json
import os
import re
import runpy
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUN = "src.run profile=smoke plan_only=true"
PAPER = "src.run profile=paper plan_only=true"
LINEAR = f"{RUN} strategy=merge_linear"
GRIDS = ("status", "logs", "cancel", "retry", "report", "dashboard")
"""Commands that take a grid."""

FREE = {  # texts, or settings that take whatever is given
    "name", "outputs", "profile", "strategy.label", "strategy.name", "tracker.project", "tracker.entity",
    "tracker.notes", "tracker.tags", "merge.models", "merge.parameters", "merge.base_model", "merge.method", "gpu.name",
}  # fmt: skip
PUBLISHED = ("data", "speech", "gpu", "expected")
"""Sections that another profile has other settings in."""


@dataclass(frozen=True)
class Case:
    """A command line that must be refused."""

    command: str
    says: tuple[str, ...]
    """Words that its one line must have."""


def case(command: str, *says: str) -> Case:
    """A case; `says` are words of its line."""
    return Case(command, says)


def leaves(settings: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every setting that is no mapping."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{name}{key}.")
        else:
            yield f"{name}{key}", value


def composed(profile: str, *overrides: str) -> dict[str, Any]:
    """A cell's settings as plain values."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    import src.settings_files  # noqa: F401  before Hydra's own

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        settings: Any = OmegaConf.to_container(compose("config", [f"profile={profile}", *overrides]), resolve=True)
    return dict(settings)


def of_every_setting() -> Iterator[Case]:
    """Each setting with a value of another type, or outside of every range."""
    merged = "strategy=merge_ties_replay"
    published = {name: part for name, part in composed("paper", merged).items() if name in PUBLISHED}
    for command, settings in ((f"{RUN} {merged}", composed("smoke", merged)), (f"{PAPER} {merged}", published)):
        for name, value in leaves(settings):
            if name in FREE:
                continue
            if isinstance(value, bool):
                yield case(f"{command} {name}=5", name, "true or false")
            elif isinstance(value, int | float):
                yield case(f"{command} {name}=abc", name)
                yield case(f"{command} {name}=[1,2]", name)
                if name not in ("merge.parameters.lambda",) and not re.match(r"merge\.models\.\w+\.weight", name):
                    yield case(f"{command} {name}=-3", name)
                if isinstance(value, int):
                    yield case(f"{command} {name}=1.5", name)
                yield case(f"{command} {name}=.nan", name)
            elif isinstance(value, list):
                yield case(f"{command} {name}=5", name)
            elif isinstance(value, str):
                yield case(f"{command} {name}=[5]", name)


WRITTEN = [
    # names
    case("src.run plan_only=true replay.ratoi=0.5", "replay.ratoi", "replay.ratio"),
    case("src.run plan_only=true +replay.ratoi=0.5", "replay.ratoi", "replay.ratio"),
    case("src.run plan_only=true ++train.learning_rate=1", "train.learning_rate"),
    case("src.run plan_only=true trian.lr=1", "trian.lr", "train.lr"),
    case("src.run plan_only=true nonsense=1", "nonsense"),
    case("src.run plan_only=true strategy=nonsense", "strategy", "merge_ties"),
    case("src.run plan_only=true profile=nonsense", "profile", "laptop"),
    case("src.run plan_only=true data=nonsense", "data", "laptop"),
    case("src.run plan_only=true model=nonsense", "model", "laptop"),
    case("src.run plan_only=true method=nonsense", "method", "ewc"),
    case("src.run plan_only=true merge=nonsense", "merge", "ties"),
    case("src.run plan_only=true discount=nonsense", "discount"),
    case("src.run plan_only=true deepspeed=nonsense", "deepspeed", "zero2"),
    case("src.run plan_only=true speech/recognizer=nonsense", "recognizer", "phoneme_ctc"),
    case("src.run plan_only=true speech/vocoder=nonsense", "vocoder", "mel_griffin_lim"),
    case("src.run plan_only=true sweeps=nonsense", "sweeps", "table1"),
    case("src.run plan_only=true hydra/launcher=nonsense", "launcher", "slurm"),
    case("src.run plan_only=true hydra/launcher=basic", "launcher"),
    case("src.run plan_only=true strategy=null", "strategy"),
    case("src.run plan_only=true data=5", "data"),
    case("src.run plan_only=true data=null", "data"),
    case("src.run plan_only=true model=null", "model"),
    case("src.run plan_only=true train=null", "train"),
    case("src.run plan_only=true ~strategy", "strategy"),
    case("src.run plan_only=true ~data", "data"),
    case("src.run plan_only=true ~train.lr", "train.lr"),
    case("src.run plan_only=true ~nonsense", "nonsense"),
    case("src.run plan_only=true strategy", "strategy"),
    case("src.run plan_only=true =5", "=5"),
    case("src.run plan_only=true train.lr=", "train.lr"),
    case("src.run plan_only=true 'train.lr=[1'", "train.lr"),
    case("src.run plan_only=true \"train.lr='1\"", "train.lr"),
    case("src.run plan_only=true train..lr=1", "train..lr"),
    case("src.run plan_only=true train.lr=${nowhere}", "nowhere"),
    case("src.run plan_only=true --nonsense", "nonsense"),
    case("src.run plan_only=true -m 'strategy=glob(x*)'", "strategy", "none"),
    case("src.run plan_only=true -m 'strategy=glob(*,exclude=*)'", "strategy"),
    case("src.run plan_only=true -m 'seed=range(5,5)'", "seed"),
    case("src.run plan_only=true -m 'seed=range(0)'", "seed"),
    case("src.run plan_only=true -m seed=", "seed"),
    case("src.run plan_only=true -m 'seed=interval(0,1)'", "seed"),
    case("src.run plan_only=true -m strategy=none,nonsense", "nonsense"),
    case("src.run plan_only=true -m seed=0,x", "seed"),
    case("src.run plan_only=true -m name=a,b strategy=none", "name"),
    case("src.run plan_only=true -m outputs=a,b strategy=none", "outputs"),
    # general
    case("src.run plan_only=true seed=-1", "seed"),
    case("src.run plan_only=true seed=4294967296", "seed"),
    case("src.run plan_only=true seed=18446744073709551616", "seed"),
    case("src.run plan_only=true seed=null", "seed"),
    case("src.run plan_only=true seed=true", "seed"),
    case("src.run plan_only=true name=a/b", "name"),
    case("src.run plan_only=true name=..", "name"),
    case("src.run plan_only=true name=" + "x" * 300, "name"),
    case("src.run plan_only=true name=-x", "name"),
    case("src.run plan_only=true 'name=a b'", "name"),
    case("src.run plan_only=true outputs=/dev/null", "/dev/null"),
    case("src.run profile=smoke outputs=/proc/nowhere", "/proc/nowhere"),
    case("src.run plan_only=true outputs=README.md", "README.md"),
    case("src.run plan_only=true outputs=null", "outputs"),
    case("src.run plan_only=true recompute=nonsense", "recompute", "train"),
    case("src.run plan_only=true recompute=[train,nonsense]", "recompute"),
    case("src.run plan_only=true compare=nonsense", "compare"),
    case("src.run plan_only=true compare=[nonsense]", "compare"),
    case("src.run plan_only=maybe", "plan_only"),
    case("src.run plan_only=true estimate.train=[a,b]", "estimate.train"),
    case("src.run plan_only=true estimate.train=5", "estimate.train"),
    case("src.run plan_only=true estimate.train=[1]", "estimate.train"),
    case("src.run plan_only=true estimate.train=[-1,1]", "estimate.train"),
    case("src.run plan_only=true gpu.memory_gb=0 profile=paper", "memory_gb"),
    case("src.run plan_only=true hydra.launcher.workers=0", "hydra.launcher.workers"),
    case("src.run plan_only=true hydra.launcher.workers=x", "hydra.launcher.workers"),
    case("src.run plan_only=true hydra.launcher.workers=-1", "hydra.launcher.workers"),
    case("src.run plan_only=true hydra.launcher.nonsense=1", "nonsense"),
    case("src.run plan_only=true hydra.mode=RUN", "hydra.mode"),
    case("src.run plan_only=true tracker.mode=sometimes", "tracker.mode"),
    case("src.run plan_only=true \"tracker.tags=['']\"", "tracker.tags"),
    case("src.run plan_only=true tracker.project=a/b", "tracker.project"),
    case("src.run plan_only=true 'tracker.project=a#b'", "tracker.project"),
    case("src.run plan_only=true tracker.project=" + "x" * 200, "tracker.project"),
    # data
    case(f"{RUN} data.evaluation_facts=0", "data.evaluation_facts"),
    case(f"{RUN} data.evaluation_facts=100000", "data.evaluation_facts"),
    case(f"{RUN} data.base_texts=0", "data.base_texts"),
    case(f"{RUN} data.base_instruction_share=1.5", "data.base_instruction_share"),
    case(f"{RUN} data.base_instruction_share=0.9 data.base_echo_share=0.9", "share"),
    case(f"{RUN} data.asr_sentences=0", "data.asr_sentences"),
    case(f"{RUN} data.turns=0", "data.turns"),
    case(f"{RUN} data.evaluation_instructions=0", "data.evaluation_instructions"),
    case(f"{RUN} data=paper", "data", "speech"),
    case(f"{RUN} speech=paper", "speech"),
    case(f"{PAPER} data.speech.path=/nowhere", "data.speech.path", "/nowhere"),
    case(f"{PAPER} data.text.path=/nowhere", "data.text.path", "/nowhere"),
    case(f"{PAPER} data.ifeval.path=/nowhere", "data.ifeval.path", "/nowhere"),
    case(f"{PAPER} data.questions.llama_questions.path=/nowhere", "data.questions.llama_questions.path", "/nowhere"),
    case(f"{PAPER} data.speech.hub=null", "data.speech"),
    case(f"{PAPER} data.speech.splits=[]", "data.speech.splits"),
    case(f"{PAPER} data.speech.min_seconds=40", "seconds"),
    case(f"{PAPER} data.text.max_input_words=0", "data.text.max_input_words"),
    case(f"{PAPER} data.text.sqa_examples=0", "data.text.sqa_examples"),
    case(f"{PAPER} data.questions={{}}", "data.questions"),
    case(f"{PAPER} model.pretrained=/nowhere/model", "model.pretrained", "/nowhere/model"),
    case(f"{PAPER} model.pretrained=", "model.pretrained"),
    case(f"{PAPER} \"model.pretrained='not a name'\"", "model.pretrained"),
    case(f"{PAPER} model.initialization=zeros", "model.initialization"),
    case(f"{PAPER} model=smoke", "model.name"),
    case(f"{PAPER} speech=smoke", "speech.name"),
    case(f"{PAPER} replay.pool=with_evaluation_facts", "replay.pool"),
    case(f"{PAPER} speech.encoder.layer=0", "speech.encoder.layer"),
    case(f"{PAPER} speech.quantizer.clusters=0", "speech.quantizer.clusters"),
    case(f"{PAPER} speech.encoder.dtype=int8", "speech.encoder.dtype"),
    case(f"{PAPER} speech.aligner.alignment.min_similarity=2", "min_similarity"),
    case(f"{PAPER} speech.shards.asr=0", "speech.shards"),
    case("src.run profile=paper gpu.memory_gb=8", "28.5 GiB", "gpu"),
    case("src.run profile=smoke train.attention=flash_attention_2", "train.attention", "sdpa"),
    # speech
    case(f"{RUN} speech.quantizer.clusters=1", "speech.quantizer.clusters"),
    case(f"{RUN} speech.quantizer.clusters=1000000", "clusters"),
    case(f"{RUN} speech.quantizer.dimensions=0", "speech.quantizer.dimensions"),
    case(f"{RUN} speech.quantizer.dimensions=1000000", "dimensions"),
    case(f"{RUN} speech.quantizer.frame_ms=0", "speech.quantizer.frame_ms"),
    case(f"{RUN} speech.quantizer.encoder=nonsense", "speech.quantizer.encoder"),
    case(f"{RUN} speech.synthesizer.rate_min=500", "rate"),
    case(f"{RUN} speech.synthesizer.pitch_max=200", "pitch"),
    case(f"{RUN} speech.synthesizer.name=nonsense", "speech.synthesizer.name"),
    case(f"{RUN} speech.vocoder.width=0", "speech.vocoder.width"),
    case(f"{RUN} speech.recognizer.dropout=1", "speech.recognizer.dropout"),
    case(f"{RUN} speech.recognizer.steps=0", "speech.recognizer.steps"),
    # model
    case(f"{RUN} model.architecture.hidden_size=65", "hidden_size"),
    case(f"{RUN} model.architecture.num_attention_heads=3", "num_attention_heads"),
    case(f"{RUN} model.architecture.num_key_value_heads=3", "num_key_value_heads"),
    case(f"{RUN} model.architecture.num_hidden_layers=0", "num_hidden_layers"),
    case(f"{RUN} model.architecture.max_position_embeddings=16", "max_position_embeddings"),
    case(f"{RUN} model.pretrain.lr=0", "model.pretrain.lr"),
    case(f"{RUN} model.pretrain.epochs=0", "model.pretrain.epochs"),
    case(f"{RUN} model.pretrain.betas=[0.9]", "model.pretrain.betas"),
    case(f"{RUN} model.pretrain.betas=[0.9,1]", "model.pretrain.betas"),
    case(f"{RUN} model.pretrain.optimizer=sgd", "model.pretrain.optimizer", "adamw"),
    case(f"{RUN} model.pretrain.optimizer=muon deepspeed=zero2", "optimizer"),
    # training
    case(f"{RUN} train.lr=0", "train.lr"),
    case(f"{RUN} train.warmup_ratio=1.5", "train.warmup_ratio"),
    case(f"{RUN} train.min_lr_ratio=2", "train.min_lr_ratio"),
    case(f"{RUN} train.betas=[1,2]", "train.betas"),
    case(f"{RUN} train.ranks=0", "train.ranks"),
    case(f"{RUN} train.ranks=1000000", "train.ranks"),
    case(f"{RUN} train.micro_batch_size=0", "train.micro_batch_size"),
    case(f"{RUN} train.loss_average=mean", "train.loss_average", "tokens"),
    case(f"{RUN} train.too_long=keep", "train.too_long", "drop"),
    case(f"{RUN} train.attention=fast", "train.attention"),
    case(f"{RUN} train.adapter.r=0", "train.adapter.r"),
    case(f"{RUN} train.adapter.alpha=0", "train.adapter.alpha"),
    case(f"{RUN} train.adapter.dropout=1", "train.adapter.dropout"),
    case(f"{RUN} train.adapter.target_modules=[]", "train.adapter.target_modules"),
    case(f"{RUN} train.adapter.target_modules=[nonsense]", "train.adapter.target_modules"),
    case(f"{RUN} train.adapter.full_modules=[nonsense]", "train.adapter.full_modules"),
    case(f"{RUN} train.adapter.full_last_layers=9", "train.adapter.full_last_layers"),
    case(f"{RUN} train.adapter.lora_in_later_stages=maybe", "lora_in_later_stages"),
    case(f"{RUN} train.chain=[]", "train.chain"),
    case(f"{RUN} train.chain=[nonsense]", "train.chain"),
    case(f"{RUN} train.chain=asr", "train.chain"),
    case(f"{RUN} train.stages.asr.epochs=0", "train.stages.asr.epochs"),
    case(f"{RUN} train.stages.asr.max_length=100000", "train.stages.asr.max_length"),
    case(f"{RUN} +train.stages.asr.batch_size=4", "train.stages.asr.batch_size"),
    case(f"{RUN} +train.stages.asr.lr=abc", "train.stages.asr.lr"),
    case(f"{RUN} train.chain=[joint] train.stages.joint.sets=[nonsense]", "train.stages.joint.sets"),
    case(f"{RUN} train.chain=[joint] train.stages.joint.sets=[]", "train.stages.joint.sets"),
    # DeepSpeed
    case(f"{RUN} deepspeed.zero_optimization.stage=7", "deepspeed.zero_optimization.stage"),
    case(f"{RUN} deepspeed.zero_optimization.stage=x", "deepspeed.zero_optimization.stage"),
    case(f"{RUN} +deepspeed.nonsense=1", "deepspeed.nonsense"),
    case(f"{RUN} +deepspeed.zero_optimization.nonsense=1", "nonsense"),
    case(f"{RUN} +deepspeed.fp16.enabled=true +deepspeed.bf16.enabled=true", "fp16"),
    case(f"{RUN} +deepspeed.fp16.enabled=true", "fp16"),
    case(f"{RUN} +deepspeed.bf16.enabled=maybe", "bf16"),
    case(f"{RUN} +deepspeed.train_batch_size=4", "deepspeed.train_batch_size"),
    case(f"{RUN} +deepspeed.optimizer.type=Adam", "deepspeed.optimizer"),
    case(f"{RUN} +deepspeed.gradient_clipping=1", "deepspeed.gradient_clipping"),
    case(f"{RUN} deepspeed=null", "deepspeed"),
    # replay
    case(f"{RUN} strategy=replay replay.ratio=-1", "replay.ratio"),
    case(f"{RUN} strategy=replay replay.ratio=0 replay.text_ratio=0", "replay"),
    case(f"{RUN} strategy=replay replay.text_ratio=-0.5", "replay.text_ratio"),
    case(f"{RUN} strategy=replay replay.text_ratio=1e6", "replay.text_ratio"),
    case(f"{RUN} strategy=replay replay.basis=never", "replay.basis"),
    case(f"{RUN} strategy=replay replay.pool=all", "replay.pool"),
    case(f"{RUN} replay.enabled=maybe", "replay.enabled"),
    case(f"{RUN} strategy=original replay.enabled=true", "original"),
    case(f"{RUN} strategy=original merge=ties", "original"),
    case(f"{RUN} strategy=original discount.alpha=14", "original"),
    case(f"{RUN} strategy=original method=ewc", "original"),
    # merging
    case(f"{RUN} merge.method=nonsense", "merge.method", "ties"),
    case(f"{RUN} strategy=merge_ties merge.method=null", "merge"),
    case(f"{RUN} strategy=merge_ties +merge.models.nonsense.weight=1", "merge.models"),
    case(f"{RUN} strategy=merge_ties merge.models.asr.weight=abc", "merge.models.asr.weight"),
    case(f"{RUN} strategy=merge_ties merge.models.asr.weight=[]", "merge.models.asr.weight"),
    case(f"{RUN} strategy=merge_ties merge.models.asr.density=5", "merge.models.asr.density"),
    case(f"{RUN} strategy=merge_ties merge.models.asr.density=0", "merge.models.asr.density"),
    case(f"{RUN} strategy=merge_ties merge.models.asr.density=-1", "merge.models.asr.density"),
    case(f"{RUN} strategy=merge_ties +merge.models.asr.nonsense=1", "nonsense"),
    case(f"{RUN} strategy=merge_ties +merge.parameters.nonsense=1", "nonsense"),
    case(f"{RUN} strategy=merge_ties merge.parameters.lambda=abc", "lambda"),
    case(f"{RUN} strategy=merge_ties merge.parameters.normalize=5", "normalize"),
    case(f"{RUN} strategy=merge_ties merge.base_model=nonsense", "merge.base_model"),
    case(f"{RUN} strategy=merge_ties merge.base_model=null", "merge.base_model"),
    case(f"{RUN} strategy=merge_ties merge.seed=-1", "merge.seed"),
    case(f"{LINEAR} merge.models.asr.weight=0 merge.models.tts.weight=0 merge.models.sqa.weight=0", "weight"),
    case(f"{LINEAR} merge.models.asr.weight=1 merge.models.tts.weight=-1 merge.models.sqa.weight=0", "weight"),
    case(f"{LINEAR} merge.method=slerp", "slerp"),
    case(f"{RUN} strategy=merge_ties merge.method=slerp +merge.parameters.t=2", "merge"),
    case(f"{RUN} strategy=merge_dare +merge.parameters.epsilon=2", "epsilon"),
    case(f"{RUN} strategy=merge_ties train.chain=[asr]", "merge.models"),
    # discount and methods
    case(f"{RUN} discount.alpha=-1", "discount.alpha"),
    case(f"{RUN} discount.alpha=17", "discount.alpha"),
    case(f"{RUN} discount.alpha=abc", "discount.alpha"),
    case(f"{RUN} method=ewc method.weight=-1", "method"),
    case(f"{RUN} method=ewc method.nonsense=1", "nonsense"),
    case(f"{RUN} method=ewc +method.nonsense=1", "nonsense"),
    case(f"{RUN} method.name=nonsense", "method.name"),
    case(f"{RUN} method=l2 method.weight=0", "method.weight"),
    case(f"{RUN} method=distill method.weight=abc", "method.weight"),
    case(f"{RUN} method=neftune method.alpha=-1", "method.alpha"),
    # evaluation
    case(f"{RUN} evaluate.max_new_tokens.t2t=0", "evaluate.max_new_tokens.t2t"),
    case(f"{RUN} evaluate.max_new_tokens.t2t=100000", "max_new_tokens"),
    case(f"{RUN} +evaluate.max_new_tokens.nonsense=5", "nonsense"),
    case(f"{RUN} ~evaluate.max_new_tokens.t2t", "t2t"),
    case(f"{RUN} evaluate.decoding.temperature=-1", "evaluate.decoding.temperature"),
    case(f"{RUN} evaluate.matching=fuzzy", "evaluate.matching"),
    case(f"{RUN} evaluate.wer_normalization=none", "evaluate.wer_normalization"),
    case(f"{RUN} evaluate.batch_tokens=0", "evaluate.batch_tokens"),
    case(f"{RUN} evaluate.dtype=int4", "evaluate.dtype"),
    case(f"{RUN} evaluate.listen=-1", "evaluate.listen"),
    case(f"{RUN} evaluate.asr_examples=100000", "evaluate.asr_examples"),
    case(f"{RUN} evaluate.lm_eval.tasks=[1]", "evaluate.lm_eval.tasks"),
    case(f"{RUN} evaluate.lm_eval.tasks=[nonsense_task]", "nonsense_task"),
    case(f"{RUN} evaluate.lm_eval.tasks=arc", "evaluate.lm_eval.tasks"),
    case(f"{RUN} evaluate.lm_eval.limit=0", "evaluate.lm_eval.limit"),
    case(f"{RUN} evaluate.lm_eval.num_fewshot=-1", "evaluate.lm_eval.num_fewshot"),
    case(f"{RUN} evaluate.lm_eval.include_path=/nowhere", "include_path"),
    # the other commands
    *(case(f"src.{command} nowhere", "nowhere") for command in GRIDS),
    *(case(f"src.{name} --nonsense", "nonsense") for name in (*GRIDS, "grids", "compare", "export", "store", "why")),
    case("src.compare", "A"),
    case("src.compare nowhere elsewhere", "nowhere"),
    case("src.compare nowhere", "B"),
    case("src.status ../../etc", "etc"),
    case("src.logs nowhere step", "nowhere"),
    case("src.logs nowhere --follow", "nowhere"),
    case("src.status outputs=/nowhere", "/nowhere"),
    case("src.grids outputs=/dev/null", "/dev/null"),
    case("src.export", "ROW"),
    case("src.export nowhere", "OUT"),
    case("src.export nowhere /tmp/nowhere-out", "nowhere"),
    case("src.score", "COMMAND"),
    case("src.score nonsense file", "nonsense"),
    case("src.score ifeval", "PROMPTS"),
    case("src.score ifeval /dev/null /nowhere.jsonl", "/dev/null"),
    case("src.score ifeval /nowhere.jsonl README.md", "/nowhere.jsonl"),
    case("src.score ifeval /dev/null /dev/null", "/dev/null"),
    case("src.score speech-ifeval /nowhere.jsonl README.md", "/nowhere.jsonl"),
    case("src.score speech-ifeval /dev/null /dev/null", "/dev/null"),
    case("src.store nonsense", "nonsense"),
    case("src.store", "verify"),
    case("src.store clean --nonsense", "nonsense"),
    case("src.why", "A"),
    case("src.why nonsense nowhere", "nonsense"),
    case("src.why replay.ratoi=1 strategy=none", "replay.ratoi", "replay.ratio"),
    case("src.why strategy=none \"train.lr='1\"", "train.lr"),
    case("src.why strategy=nonsense strategy=none", "nonsense"),
    case("src.doctor profile=nonsense", "profile"),
    case("src.doctor replay.ratoi=1", "replay.ratoi"),
    case("src.doctor strategy=nonsense", "strategy"),
]  # fmt: skip


def main() -> int:
    """Run the cases; print each that falls short, and the count."""
    words = sys.argv[1:]
    sys.path.insert(0, str(ROOT / "launchers"))  # where Hydra discovers the launchers
    cases = [one for one in [*WRITTEN, *of_every_setting()] if all(word in one.command for word in words)]
    for module in ("src.doctor", "src.recipe", "src.run", "src.why", "launchers.local"):
        importlib.import_module(module)  # once, not in each child

    failed = 0
    for number, one in enumerate(cases, start=1):
        if sys.stderr.isatty():
            print(f"\r{number} of {len(cases)}, {failed} fell short ", end="", file=sys.stderr, flush=True)
        if fault := fault_of(one):
            failed += 1
            print(f"\n{one.command[:200]}\n    {fault}", flush=True)
    right = len(cases) - failed
    print(f"\n{len(cases)} cases, {right} refused in one line that names what is wrong, {failed} fell short")
    return 1 if failed else 0


def fault_of(one: Case) -> str | None:
    """What is wrong with how the case ends; None if nothing is."""
    with tempfile.TemporaryDirectory() as folder:
        status, text = ended(one.command, Path(folder))
        written = sorted(str(file.relative_to(folder)) for file in Path(folder).rglob("*"))
    lines = [line for line in text.splitlines() if line.strip()]
    shown = "\n    ".join(lines[-6:])
    if status == 0:
        return f"it was accepted: {shown}"
    if "Traceback" in text:
        return f"a traceback: {shown}"
    usage = bool(lines) and lines[0].startswith("usage:")
    if len(lines) != 1 and not usage:
        return f"{len(lines)} lines: {shown}"
    if missing := [word for word in one.says if word not in text]:
        return f"it does not say {', '.join(missing)}: {shown}"
    if written:
        return f"it wrote {', '.join(written[:3])}"
    return None


def ended(command: str, folder: Path) -> tuple[int, str]:
    """Exit status and all that a command printed, run in a child process in the project's folder."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.environ.pop("HYDRA_FULL_ERROR", None)
        module, *arguments = shlex.split(command)
        takes_overrides = module in ("src.run", "src.doctor")
        if takes_overrides and not any(argument.startswith(("outputs=", "~", "-")) for argument in arguments):
            arguments.append(f"outputs={folder / 'outputs'}")
        sys.argv = [module, *arguments]
        sys.modules.pop(module, None)
        said, status = io.StringIO(), 0
        with redirect_stdout(said), redirect_stderr(said):
            try:
                runpy.run_module(module, run_name="__main__", alter_sys=False)
            except SystemExit as error:
                status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
                if isinstance(error.code, str):
                    print(error.code)
            except BaseException:
                traceback.print_exc()
                status = 1
        with os.fdopen(write, "w", encoding="utf-8") as stream:
            json.dump([status, said.getvalue()], stream)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as stream:
        text = stream.read()
    os.waitpid(child, 0)
    status, said = json.loads(text)
    return int(status), str(said)


if __name__ == "__main__":
    sys.exit(main())

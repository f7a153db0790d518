"""From a cell to the steps that its row needs. This is where the experiment is laid out, from text to scores."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src import config
from src.config import Cell, Data, Model, PretrainedModel, Speech
from src.data.settings import PublishedData
from src.evaluate import task_files
from src.evaluate.harness import SEEDS
from src.grid.errors import ConfigError
from src.grid.step import Step
from src.speech.published_settings import LISTS, PretrainedSpeech

CONF = Path(__file__).resolve().parents[2] / "conf"
STAGES = ("asr", "tts", "sqa")
TEXT_TASKS = ["t2t", "ifeval"]
ALL_TASKS = ["t2t", "ifeval", "sqa", "asr", "tts"]


@dataclass(frozen=True)
class Row:
    """One cell's line in the table, and the steps it rests on."""

    name: str
    label: str
    seed: int
    config: dict[str, Any]
    evaluate: Step
    """Its scores. The responses that they rate are `evaluate.inputs["responses"]`."""
    curve: dict[str, Step] = field(default_factory=dict)
    """Scores after each stage, of a row that is a training chain and nothing else."""
    judge: Step | None = None
    """The recognizer, whose own word error rate bounds S2S."""
    further: dict[str, Step] = field(default_factory=dict)
    """Task of lm-evaluation-harness -> its scores."""
    overrides: tuple[str, ...] = field(default=(), compare=False)
    """The command line that the cell was composed from."""

    @property
    def steps(self) -> list[Step]:
        judge = [self.judge] if self.judge else []
        return [self.evaluate, *self.curve.values(), *judge, *self.further.values()]


def row(composed: DictConfig) -> Row:
    """Check a composed configuration and lay out its steps. Raises ConfigError."""
    cell = config.cell(composed)
    plan = Layout(cell)
    settings = asdict(cell)
    if cell.original:
        final, further = plan.evaluate(plan.base), plan.further(plan.base)
        return Row(cell.strategy.name, cell.strategy.label, cell.seed, settings, final, further=further)
    chain = {stage: plan.stage(stage) for stage in STAGES}
    model = plan.derive(chain)
    final = plan.evaluate(model, spoken=True)
    curve = {}
    if model is chain["sqa"]:
        curve = {stage: plan.evaluate(chain[stage]) for stage in ("asr", "tts")} | {"sqa": final}
    further = plan.further(model)
    return Row(cell.strategy.name, cell.strategy.label, cell.seed, settings, final, curve, plan.judge, further)


def compose(overrides: Sequence[str]) -> Row:
    """The row of a cell from its overrides, with the configuration as it is in conf/ now. Raises ConfigError."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        load = partial(hydra.compose, "config", return_hydra_config=True)
        composed = config.compose(lambda given: load(overrides=given), overrides)
        HydraConfig.instance().set_config(composed)
        return replace(row(composed), overrides=tuple(overrides))


def fields(section: Any) -> dict[str, Any]:
    """A section of the configuration as a step's settings: which of its variants it is, the kind of the step says."""
    return {key: value for key, value in asdict(section).items() if key != "name"}


class Layout:
    """The steps of one cell. Equal steps of two cells have equal fingerprints, and so are planned once."""

    def __init__(self, cell: Cell):
        self.cell = cell
        self.corpus: Step
        self.units: Step
        self.vocoder: Step
        self.recognizer: Step
        self.judge: Step | None
        """The recognizer, where its own word error rate is measured."""
        if isinstance(cell.data, Data):
            self.closed_domain(cell.data, cell.speech)
        else:
            self.published(cell.data, cell.speech)
        self.base = self.scratch(cell.model) if isinstance(cell.model, Model) else self.backbone(cell.model)

    def closed_domain(self, data: Data, speech: Speech) -> None:
        """Text that we write ourselves, and speech components that are fitted to one voice."""
        self.corpus = self.step("corpus", "corpus", fields(data))
        self.clusters = speech.quantizer.clusters
        self.quantizer = self.step("quantizer", "quantizer", asdict(speech.quantizer), corpus=self.corpus)
        self.units = self.step("units", "units", asdict(speech.units), corpus=self.corpus, quantizer=self.quantizer)
        self.vocoder = self.step("vocoder", "vocoder", asdict(speech.vocoder), quantizer=self.quantizer)
        heard = {"corpus": self.corpus, "quantizer": self.quantizer, "vocoder": self.vocoder}
        self.recognizer = self.judge = self.step("recognizer", "recognizer", asdict(speech.recognizer), **heard)

    def published(self, data: PublishedData, speech: PretrainedSpeech) -> None:
        """Published data and speech components, copied into the store; speech becomes units in shards."""
        self.corpus = self.step("datasets", "datasets", fields(data))
        self.clusters = speech.quantizer.clusters
        components = {
            role: self.step("pretrained", told["component"], told) for role, told in speech.components().items()
        }
        self.vocoder, self.recognizer, self.judge = components["vocoder"], components["recognizer"], None
        heard = {"corpus": self.corpus, **components, "quantizer": components["encoder"]}
        if (fitted := speech.kmeans()) is not None:
            heard["quantizer"] = self.step("kmeans", "kmeans", fitted, **{r: heard[r] for r in ("corpus", "encoder")})
        shards = {}
        for name in LISTS:
            sources = {role: heard[role] for role in speech.heard(name)}
            for shard in speech.utterances(name):
                role = f"{name}-{shard['shard']:03d}"
                shards[role] = self.step("utterances", f"utterances-{role}", shard, **sources)
        self.units = self.step("gather", "gather", {}, **shards)

    def scratch(self, model: Model) -> Step:
        """A base model trained from scratch, with the units in its vocabulary."""
        pretrain = self.optimization({**asdict(model.pretrain), "ranks": 1}, model.seed)
        architecture = {"units": self.clusters, "architecture": asdict(model.architecture)}
        return self.step("base", "base", {**architecture, "optimization": pretrain}, corpus=self.corpus)

    def backbone(self, model: PretrainedModel) -> Step:
        """A published text model, with the units in its vocabulary."""
        return self.step("backbone", "backbone", {"units": self.clusters, **fields(model)})

    def step(self, kind: str, label: str, settings: Mapping[str, Any], **inputs: Step) -> Step:
        seconds, megabytes = self.cell.estimate.get(label) or self.cell.estimate.get(kind) or (0.0, 0.0)
        ranks = self.cell.train.ranks if kind == "train" else 1
        return Step(kind, label, settings, inputs, seconds, megabytes, ranks)

    def optimization(self, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
        return {**settings, "seed": seed, "deepspeed": self.cell.deepspeed}

    def tag(self, name: str) -> str:
        return name + ("-replay" if self.replay else "")

    def replayed(self, stage: str) -> dict[str, Any] | None:
        """What a stage replays, None where that is nothing. Before the first stage there is only text."""
        if self.replay is None or stage != STAGES[0]:
            return self.replay
        return {**self.replay, "ratio": 0.0} if self.replay["text_ratio"] else None

    @property
    def replay(self) -> dict[str, Any] | None:
        """The chain's replay settings, None where it replays nothing."""
        settings = self.cell.replay
        text_ratio = settings.ratio if settings.text_ratio is None else settings.text_ratio
        if not settings.enabled or settings.ratio == text_ratio == 0:
            return None
        pool = "pool" if settings.pool == "honest" else "pool_with_evaluation_facts"
        return {"ratio": settings.ratio, "text_ratio": text_ratio, "basis": settings.basis, "pool": pool}

    def stage(self, name: str) -> Step:
        """The training step of a stage, on top of the stages before it."""
        train, stage = self.cell.train, self.cell.train.stages[name]
        optimization = {
            "lr": stage.lr if stage.lr is not None else train.lr,
            "epochs": stage.epochs,
            "max_length": stage.max_length,
            "batch_size": stage.batch_size,
            "batch_tokens": stage.batch_tokens,
            "ranks": train.ranks,
            **{
                key: getattr(train, key)
                for key in (
                    "warmup_ratio", "min_lr_ratio", "weight_decay", "betas", "max_grad_norm", "micro_batch_size",
                    "gradient_checkpointing", "attention", "fused_loss",
                )
            },
        }  # fmt: skip
        settings: dict[str, Any] = {
            "stage": name,
            "adapter": asdict(train.adapter),
            "optimization": self.optimization(optimization, self.cell.seed),
            "replay": self.replayed(name),
        }
        inputs = {"base": self.base, name: self.examples(name)}
        if settings["replay"]:
            inputs["text"] = self.examples("text", settings["replay"]["pool"])
            inputs |= {earlier: self.examples(earlier) for earlier in STAGES[: STAGES.index(name)]}
        if name != STAGES[0]:
            inputs["previous"] = self.stage(STAGES[STAGES.index(name) - 1])
        return self.step("train", f"train-{name}" + ("-replay" if settings["replay"] else ""), settings, **inputs)

    def examples(self, name: str, pool: str = "") -> Step:
        """The tokenized examples of a stage, or of the text in `pool`."""
        if name == "text":
            return self.step("examples", "examples-text", {"source": pool}, base=self.base, corpus=self.corpus)
        settings = {"source": name, "seed": self.cell.seed}
        return self.step("examples", f"examples-{name}", settings, base=self.base, units=self.units)

    def derive(self, chain: Mapping[str, Step]) -> Step:
        """The model of a row that is merged, discounted or both: each theta is discounted, then they are merged."""
        alpha, merge = self.cell.discount.alpha, self.cell.merge
        trained = self.cell.train.adapter.alpha
        needed = [*merge.models, merge.base_model] if merge.method is not None else ["sqa"]
        theta = {name: chain[name] for name in STAGES if name in needed}
        if alpha is not None and alpha != trained:
            for name, stage in theta.items():
                label = self.tag(f"discount-{alpha:g}-{name}")
                theta[name] = self.step("discount", label, {"alpha": alpha, "trained_alpha": trained}, stage=stage)
        if merge.method is None:
            return theta["sqa"]
        settings = {**asdict(merge), "dtype": "float32"}
        return self.step("merge", self.tag(f"merge-{merge.method}"), settings, base=self.base, **theta)

    def evaluate(self, model: Step, spoken: bool = False) -> Step:
        """The scores of a model. Its responses are a step of their own, to be scored again by other rules."""
        settings = self.cell.evaluate
        tasks = ALL_TASKS if spoken else TEXT_TASKS
        asked = {
            "tasks": tasks,
            "max_new_tokens": {task: settings.max_new_tokens[task] for task in tasks},
            "decoding": asdict(settings.decoding),
            "batch_tokens": settings.batch_tokens,
        }
        rules = {"tasks": tasks, "matching": settings.matching}
        inputs = {"model": model, "base": self.base, "corpus": self.corpus}
        if spoken:
            asked |= {key: getattr(settings, key) for key in ("listen", "asr_examples", "tts_examples")}
            rules["wer_normalization"] = settings.wer_normalization
            inputs |= {"units": self.units, "vocoder": self.vocoder, "recognizer": self.recognizer}
        name = model.label.removeprefix("train-")
        responses = self.step("generate", f"generate-{name}", asked, **inputs)
        return self.step("score", f"score-{name}", rules, responses=responses, corpus=self.corpus)

    def further(self, model: Step) -> dict[str, Step]:
        """Scores of a model by lm-evaluation-harness, one step a task. Raises ConfigError for an unknown task."""
        asked = asdict(self.cell.evaluate.lm_eval)
        tasks, include_path = asked.pop("tasks"), asked.pop("include_path")
        steps = {}
        for task in tasks:
            try:
                files = asdict(task_files.find(task, include_path))
            except ValueError as error:
                raise ConfigError(str(error)) from None
            label = re.sub(r"[^\w.-]", "_", f"harness-{task}-{model.label.removeprefix('train-')}")
            rules = {"task": task, **files, **asked, "seeds": SEEDS}
            steps[task] = self.step("harness", label, rules, model=model, base=self.base)
        return steps

"""The experiment: from a cell to the steps that its row needs. Read this to know what is done, from text to scores.

    data and speech -> units -> examples -\
    base model ----------------------------> chain of stages -> discount -> merge -> responses -> scores
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from src import config
from src.config import Cell
from src.data.question_sets import pinned
from src.data.replay import Replay
from src.data.settings import ClosedDomain, PublishedData
from src.evaluate import task_files
from src.evaluate.tasks import TASKS, any_spoken
from src.grid.errors import ConfigError
from src.grid.row import Row
from src.grid.step import Step
from src.grid.typed import typed
from src.model.settings import GivenModel, ScratchModel, described
from src.speech.published_settings import LISTS, PretrainedSpeech
from src.speech.settings import EVALUATED, FittedSpeech
from src.stages import SETS, TEXT, Stage, before
from src.steps import kind_of
from src.steps.backbone import Backbone
from src.steps.base import Base
from src.steps.corpus import Corpus
from src.steps.datasets import Datasets
from src.steps.discount import Discount
from src.steps.examples import Examples
from src.steps.fisher import Fisher
from src.steps.gather import Gather
from src.steps.generate import Generate
from src.steps.given import Given
from src.steps.harness import Harness
from src.steps.kmeans import Kmeans
from src.steps.merge import Merge
from src.steps.pretrained import components
from src.steps.quantizer import Quantizer
from src.steps.questions import Questions
from src.steps.ready import Ready
from src.steps.recognizer import Recognizer
from src.steps.score import Score
from src.steps.train import Train
from src.steps.units import Units
from src.steps.utterances import shards_of
from src.steps.vocoder import Vocoder
from src.train.methods import Method
from src.train.settings import Pretraining

TEXT_TASKS = [name for name, task in TASKS.items() if not task.spoken]
"""What is asked of a model before it has learned to listen."""
CONF = Path(__file__).resolve().parents[1] / "conf"


def row(composed: DictConfig) -> Row:
    """Check a composed configuration and lay out its steps. Raises ConfigError."""
    cell, settings = config.cell(composed)
    made = Recipe(cell)
    name, label = cell.strategy.name, cell.strategy.label
    curve: Mapping[str, Step] = {}
    if cell.original:
        model = made.base
        final = made.scores(model, TEXT_TASKS)
    elif cell.strategy.given is not None:
        model = made.given(cell.strategy.given)
        final = made.scores(model, list(TASKS))
    else:
        chain = made.chain()
        model = made.derive(chain)
        final = made.scores(model, list(TASKS))
        if model in chain.values():  # neither merged nor discounted
            *earlier, last = chain
            curve = {stage: made.scores(chain[stage], TEXT_TASKS) for stage in earlier} | {last: final}
    return Row(
        name, label, cell.seed, settings, final, curve,
        recognizer=None if cell.original else made.own_recognizer,
        further=made.further(model),
        estimate=cell.estimate,
    )  # fmt: skip


def compose(overrides: Sequence[str]) -> Row:
    """The row of a cell from its overrides, with the configuration as it is in conf/ now. Raises ConfigError."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        load = partial(hydra.compose, "config", return_hydra_config=True)
        composed = config.compose(lambda given: load(overrides=given), overrides)
        HydraConfig.instance().set_config(composed)
        return replace(row(composed), overrides=tuple(overrides))


class Recipe:
    """The steps of one cell. Equal steps of two cells have equal fingerprints, and so are planned once."""

    def __init__(self, cell: Cell):
        self.cell = cell
        self.corpus: Step
        self.asked: Step
        """What models are asked; the corpus, where a user adds no question set."""
        self.units: Step
        self.asked_units: Step
        """The units of what they are asked."""
        self.vocoder: Step
        self.recognizer: Step
        self.own_recognizer: Step | None = None
        """The recognizer, where its own word error rate is measured."""
        if isinstance(cell.speech, FittedSpeech):
            self.fit(cell.speech)
        else:
            self.fetch(cell.speech)
        model, units = cell.model, cell.speech.quantizer.clusters
        self.base: Step
        if isinstance(model, ScratchModel):
            common = {"seed": model.seed, "deepspeed": cell.deepspeed}
            optimization = typed(Pretraining, {**model.pretrain, **common}, "model.pretrain")
            architecture = model.architecture
            self.base = Base(units=units, architecture=architecture, optimization=optimization, corpus=self.corpus)
        else:
            self.base = Backbone(units=units, config=described(model))

    def given(self, config: GivenModel) -> Given:
        """A model that is trained already. A whole one is its own base."""
        units, base = self.cell.speech.quantizer.clusters, self.base
        made = Given(config=config, units=units, base=base if config.adapter else None)
        self.base = made.base or made
        return made

    def fit(self, speech: FittedSpeech) -> None:
        """Text that is written here, and speech components that are fitted to one voice."""
        assert isinstance(self.cell.data, ClosedDomain)
        sets = pinned(self.cell.data.questions)
        self.corpus = self.asked = Corpus(config=replace(self.cell.data, questions={}))
        quantizer = Quantizer(config=speech.quantizer, corpus=self.corpus)
        self.units = self.asked_units = Units(config=speech.units, corpus=self.corpus, quantizer=quantizer)
        if sets:
            self.asked = Questions(sets=sets, corpus=self.corpus)
            self.asked_units = Units(config=speech.units, lists=EVALUATED, corpus=self.asked, quantizer=quantizer)
        self.vocoder = Vocoder(config=speech.vocoder, quantizer=quantizer)
        self.recognizer = self.own_recognizer = Recognizer(
            config=speech.recognizer, corpus=self.corpus, quantizer=quantizer, vocoder=self.vocoder
        )

    def fetch(self, speech: PretrainedSpeech) -> None:
        """Published data and speech components, copied into the store; speech becomes units in shards."""
        assert isinstance(self.cell.data, PublishedData)
        self.corpus = self.asked = Datasets(config=replace(self.cell.data, questions=pinned(self.cell.data.questions)))
        published = components(speech)
        self.vocoder, self.recognizer = published["vocoder"], published["recognizer"]
        quantizer: Step = published["encoder"]
        if speech.quantizer.centroids is None:
            quantizer = Kmeans(config=speech.quantizer, corpus=self.corpus, encoder=quantizer)
        ready = self.cell.data.units
        shards: dict[str, Step] = {}
        for name in LISTS if ready is None and self.cell.trained else EVALUATED:
            made = shards_of(name, speech, self.corpus, published, quantizer)
            shards |= {shard.shard_name: shard for shard in made}
        self.units = self.asked_units = Gather(shards=shards)
        if ready is not None:
            excluded, clusters = self.cell.data.text.excluded_categories, speech.quantizer.clusters
            self.units = Ready(config=ready, excluded_categories=excluded, clusters=clusters)

    def chain(self) -> dict[str, Train]:
        """Stage -> its training, each on top of the one before."""
        made: dict[str, Train] = {}
        previous: Train | None = None
        method = self.cell.method
        for place, stage in enumerate(self.cell.chain):
            replay = self.replay(stage, place)
            earlier = [] if replay is None else [TEXT, *before(self.cell.chain, place)]
            previous = made[stage.name] = Train(
                stage=stage.name,
                adapter=stage.adapter,
                optimization=stage.optimization,
                replay=replay,
                base=self.base,
                examples={name: self.examples(name, stage) for name in stage.sets},
                replayed={name: self.examples(name, stage) for name in earlier if name not in stage.sets},
                previous=previous,
                method=method.identity if method else None,
                text=self.examples(TEXT, stage) if method and self.draws_text(stage, method, earlier) else None,
                fisher=self.fisher(stage, method) if method and method.fisher else None,
            )
        return made

    def draws_text(self, stage: Stage, method: Method, earlier: Sequence[str]) -> bool:
        """Whether the method draws text for a stage, which has none of its own and replays none."""
        replayed = TEXT in earlier and stage.replay.of_text > 0
        return method.text_ratio > 0 and not (TEXT in stage.sets or replayed)

    def fisher(self, stage: Stage, method: Method) -> Fisher:
        """The base's Fisher information on its text, of what the first stage trains."""
        first, text = self.cell.chain[0], self.examples(TEXT, stage)
        seed = first.optimization.seed
        return Fisher(adapter=first.adapter, most=method.fisher_texts, seed=seed, base=self.base, text=text)

    def replay(self, stage: Stage, place: int) -> Replay | None:
        """What a stage replays, None where that is nothing. Before the first stage there is only text."""
        replay = stage.replay
        ratio = replay.ratio if place else 0.0
        of_text = replay.of_text
        if not replay.enabled or ratio == of_text == 0:
            return None
        return replace(replay, ratio=ratio, text_ratio=of_text)

    def examples(self, name: str, stage: Stage) -> Examples:
        """The tokenized examples of a set. The text is that of the stage's pool."""
        if name == TEXT:
            pool = "pool" if stage.replay.pool == "honest" else "pool_with_evaluation_facts"
            return Examples(set=name, file=pool, base=self.base, source=self.corpus)
        there = {"units": self.units, "corpus": self.corpus}
        kind = SETS[name].source
        source = there[kind] if kind in there else kind_of(kind)(**there)
        return Examples(set=name, file=name, seed=self.cell.seed, base=self.base, source=source)

    def derive(self, chain: Mapping[str, Train]) -> Step:
        """The model of a row: each stage that it needs is discounted, then they are merged."""
        alpha, merge = self.cell.discount.alpha, self.cell.merge
        trained = self.cell.chain[0].adapter.alpha
        needed = merge.roles if merge.method is not None else (list(chain)[-1],)
        theta: dict[str, Train | Discount] = {name: step for name, step in chain.items() if name in needed}
        if alpha is not None and alpha != trained:
            theta = {n: Discount(alpha=alpha, trained_alpha=trained, stage=chain[n]) for n in theta}
        if merge.method is None:
            return theta[needed[-1]]
        return Merge(
            method=merge.method, base_model=merge.base_model, models=merge.models, parameters=merge.parameters,
            seed=merge.seed, base=self.base, stages=theta,
        )  # fmt: skip

    def scores(self, model: Step, tasks: Sequence[str]) -> Score:
        """The scores of a model. Its responses are a step of their own, to be scored again by other rules."""
        settings, tasks = self.cell.evaluate, tuple(tasks)
        spoken = any_spoken(tasks)
        responses = Generate(
            tasks=tasks,
            config=settings.asking(tasks),
            model=model,
            base=self.base,
            corpus=self.asked,
            units=self.asked_units if spoken else None,
            vocoder=self.vocoder if spoken else None,
            recognizer=self.recognizer if spoken else None,
        )
        return Score(tasks=tasks, config=settings.scoring(tasks), responses=responses, corpus=self.asked)

    def further(self, model: Step) -> dict[str, Step]:
        """Scores of a model by lm-evaluation-harness, one step a task. Raises ConfigError for an unknown task."""
        asked = self.cell.evaluate.lm_eval
        steps: dict[str, Step] = {}
        for task in asked.tasks:
            try:
                found = task_files.find(task, asked.include_path)
            except ValueError as error:
                raise ConfigError(str(error)) from None
            dtype = self.cell.evaluate.dtype
            steps[task] = Harness(
                task=task, found=found, options=asked.options, dtype=dtype, model=model, base=self.base
            )
        return steps

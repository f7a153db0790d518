"""A grid with made-up results in a real store: what the report reads, without a model."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from src.data.replay import Replay
from src.evaluate import statistics
from src.evaluate.scoring import Scoring
from src.grid.plan import Plan, make_plan
from src.grid.row import Row
from src.grid.step import Inputs, Step
from src.grid.store import Store
from src.steps import kinds
from src.steps.score import Score
from tests.steps.makers import train_step

SETS = ("countries", "animals", "people")
LABELS = {
    "original": "Original",
    "none": "No mitigation",
    "merge_linear": "Merge (Linear)",
    "merge_ties": "Merge (TIES)",
    "merge_dare": "Merge (DARE)",
    "scale_14": "Scaling (alpha 14)",
    "scale_15": "Scaling (alpha 15)",
    "replay": "Replay",
    "merge_linear_replay": "Merge (Linear) w/ R",
    "merge_ties_replay": "Merge (TIES) w/ R",
    "merge_dare_replay": "Merge (DARE) w/ R",
    "scale_14_replay": "Scaling (alpha 14) w/ R",
    "scale_15_replay": "Scaling (alpha 15) w/ R",
}
SKILL = {  # how often it is right: in text, at instructions, to spoken questions in text, in speech
    "original": (0.98, 0.82, 0.0, 0.0),
    "none": (0.2, 0.03, 0.2, 0.15),
    "replay": (0.78, 0.76, 0.6, 0.42),
}
WORDS = ["red", "green", "blue", "small", "large", "north", "south", "gold", "silver", "seven"]
ESTIMATE = dict.fromkeys(kinds(), (1.0, 1.0))
EVIL = "<script>alert('x')</script>"


@dataclass(frozen=True, kw_only=True, eq=False)
class Fake(Step):
    """A step of any kind whose artifact is made up."""

    of: str
    """Its kind."""
    named: str
    """Its label."""
    options: Mapping[str, Any] = field(default_factory=dict)
    corpus: Step | None = None
    quantizer: Step | None = None
    vocoder: Step | None = None
    recognizer: Step | None = None
    units: Step | None = None
    shards: Mapping[str, Step] = field(default_factory=dict)
    base: Step | None = None
    stage: Step | None = None
    stages: Mapping[str, Step] = field(default_factory=dict)
    model: Step | None = None
    responses: Step | None = None

    @property
    def kind(self) -> str:
        return self.of

    @property
    def label(self) -> str:
        return self.named

    def run(self, inputs: Inputs, out: Path, context: Any) -> dict[str, Any]:
        raise AssertionError("this step is never run")


@dataclass
class FakeGrid:
    """`root` is an outputs folder; steps are published as they are asked for, unless their name is in `without`."""

    root: Path
    n: int = 20
    recorded: int = 3
    seconds: float = 0.1
    evil: bool = False
    chain: tuple[str, ...] = ("asr", "tts", "sqa")
    """Stages of the rows that are added from now on."""
    sets: tuple[str, ...] = SETS
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """data.questions of the rows' configuration: {set: {"title": ...}}."""
    chance: list[int] = field(default_factory=list)
    """IFEval's prompts that are chance."""
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What steps say that they kept and dropped, and perhaps hours, by their label."""
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store(self.root / "store")
        self.store.root.mkdir(parents=True, exist_ok=True)
        self.grid = self.root / "grids" / "fake"

    def plan(self) -> Plan:
        return make_plan(self.rows, self.store)

    def add(
        self, names: Sequence[str] = tuple(LABELS), seeds: Sequence[int] = (0,), publish: bool = True, **settings: Any
    ) -> "FakeGrid":
        """Rows of these strategies; `settings` are further ones (`replay_ratio=0.2`)."""
        for seed in seeds:
            for name in names:
                self.rows.append(self._row(name, seed, settings, publish))
        return self

    def _row(self, name: str, seed: int, settings: dict[str, Any], publish: bool) -> Row:
        self._drawn_for = f"{seed} {settings}"  # not by fingerprint, which changes with the versions of steps
        texts = {"seed": 0, "n": self.n, "sets": list(self.sets)}
        corpus = self._step("corpus", "corpus", texts, {}, 1.5, self._corpus)
        quantizer = self._step("quantizer", "quantizer", {"units": 100}, {"corpus": corpus}, 9, _nothing)
        vocoder = self._step("vocoder", "vocoder", {}, {"quantizer": quantizer}, 50, _nothing)
        ears = {"corpus": corpus, "quantizer": quantizer, "vocoder": vocoder}
        recognizer = self._step("recognizer", "recognizer", {}, ears, 90, _heard)
        units = self._step("units", "units", {}, {"corpus": corpus, "quantizer": quantizer}, 12, self._units)
        base = self._step("base", "base", {"seed": seed}, {"corpus": corpus}, 240, _metrics)
        speech = {"corpus": corpus, "units": units, "vocoder": vocoder, "recognizer": recognizer}
        ratio = settings.get("replay_ratio", 0.4)
        replay = {"pool": "pool", "ratio": ratio} if "replay" in name else None
        method = name.split("_")[1] if name.startswith("merge") else None
        alpha = int(name.split("_")[1]) if name.startswith("scale") else None
        config = {
            "profile": "fake",
            "seed": seed,
            "outputs": str(self.root),
            "strategy": {"name": name, "label": LABELS[name]},
            "data": {"seed": 0, "facts": self.n, "questions": self.questions},
            "original": name == "original",
            "train": {"chain": list(self.chain), "adapter": {"alpha": 16}},
            "model": {"name": "scratch", "seed": seed},
            "replay": {"enabled": replay is not None, "ratio": ratio},
            "merge": {"method": method, "seed": seed if method else 0},
            "discount": {"alpha": alpha},
            "method": {"name": None},
            "tracker": {"mode": "disabled", "project": "palimpsest", "entity": None},
        }
        if name == "original":
            step = self._evaluate(name, base, base, "", {"corpus": corpus}, publish)
            return Row(name, LABELS[name], seed, config, step, estimate=ESTIMATE)
        text = {"corpus": corpus}
        chain: dict[str, Step] = {}
        previous = None
        drawn = Replay(ratio=ratio, basis="current") if replay else None
        for stage in self.chain:
            step = train_step(stage, base=base, examples={stage: units}, replay=drawn, previous=previous)
            previous = chain[stage] = self._publish(step, 55, _metrics)
        if method is None and alpha is None:
            curve = {
                stage: self._evaluate(name, base, model, stage, speech if model == previous else text, publish)
                for stage, model in chain.items()
            }
            return Row(name, LABELS[name], seed, config, curve[self.chain[-1]], curve, recognizer, estimate=ESTIMATE)
        if method:
            merge = {"method": method, "seed": seed}
            model = self._step("merge", name.replace("_", "-"), merge, {"base": base, "stages": chain}, 2, _nothing)
        else:
            sources = {"base": base, "stage": previous}
            model = self._step("discount", name.replace("_", "-"), {"alpha": alpha}, sources, 1, _nothing)
        step = self._evaluate(name, base, model, "", speech, publish)
        return Row(name, LABELS[name], seed, config, step, {}, recognizer, estimate=ESTIMATE)

    def _step(self, kind: str, label: str, config: dict, inputs: dict, seconds: float, body: Any, publish=True) -> Step:
        return self._publish(Fake(of=kind, named=label, options=config, **inputs), seconds, body, publish)

    def _publish(self, step: Any, seconds: float, body: Any, publish: bool = True) -> Any:
        if publish and self.store.lookup(step) is None:
            out = self.root / "out"
            out.mkdir()
            body(out, random.Random(f"{step.label} {self._drawn_for}"))
            self.store.publish(step, out, {"steps": 3} | self.data.get(step.label, {}), seconds)
        return step

    def _evaluate(
        self, name: str, base: Step, model: Step, stage: str, inputs: dict[str, Step], publish: bool
    ) -> Step:
        label = "-".join(part for part in (name.replace("_", "-"), stage) if part)
        spoken = "units" in inputs
        skill = SKILL["replay" if "replay" in name else name if name in SKILL else "none"]

        def answer(out: Path, rng: random.Random) -> None:
            self._answers(out, rng, spoken)

        def score(out: Path, rng: random.Random) -> None:
            self._scored(out, rng, skill, spoken)

        asked = {"model": model, "base": base, **inputs}
        responses = self._step("generate", f"generate-{label}", {"stage": stage}, asked, 8, answer, publish)
        tasks = ("t2t", "ifeval", *(("sqa", "asr", "tts") if spoken else ()))
        scored = Score(
            tasks=tasks, config=Scoring(matching="contiguous"), responses=responses, corpus=inputs["corpus"]
        )
        return self._publish(scored, 1, score, publish)

    def _corpus(self, out: Path, rng: random.Random) -> None:
        rows = [
            {"id": f"{name}-{i}", "set": name, "question": _question(name, i), "answers": ["red"]}
            for name in self.sets
            for i in range(self.n)
        ]
        _write(out / "eval_qa.jsonl", rows)

    def _units(self, out: Path, rng: random.Random) -> None:
        (out / "audio").mkdir()
        for name in self.sets:
            for i in range(self.recorded):
                _tone(out / "audio" / f"{name}-{i}.flac", rng, 4 * self.seconds)

    def _answers(self, out: Path, rng: random.Random, spoken: bool) -> None:
        (out / "audio").mkdir()
        for name in self.sets:
            for i in range(self.recorded if spoken else 0):
                _tone(out / "audio" / f"{name}-{i}.flac", rng, self.seconds)

    def _scored(self, out: Path, rng: random.Random, skill: Sequence[float], spoken: bool) -> None:
        responses: list[dict[str, Any]] = []
        scores: dict[str, dict[str, Any]] = {}

        def put(key: str, verdicts: list[bool]) -> None:
            interval = statistics.wilson(sum(verdicts), len(verdicts))
            scores[key] = {**statistics.accuracy(verdicts), "interval": interval}

        def words(key: str, rows: list[dict[str, Any]]) -> None:
            counts = [row["errors"] for row in rows], [row["words_counted"] for row in rows]
            value, error = statistics.share(*counts)
            interval = statistics.bootstrap(*counts, resamples=200)
            scores[key] = {"value": value, "n": len(rows), "standard_error": error, "interval": interval}

        def answer(right: bool) -> str:
            return "red" if right else EVIL if self.evil else rng.choice(WORDS[1:])

        for name in self.sets:
            verdicts: dict[str, list[bool]] = {"t2t": [], "s2t": [], "s2s": []}
            for i in range(self.n):
                right, s2t, s2s = (rng.random() < p for p in (skill[0], skill[2], skill[3]))
                verdicts["t2t"].append(right)
                common = {"id": f"{name}-{i}", "set": name, "answers": ["red"]}
                prompt = _question(name, i)
                responses.append(
                    {"task": "t2t", **common, "prompt": prompt, "response": answer(right), "correct": right}
                )
                if not spoken:
                    continue
                verdicts["s2t"].append(s2t)
                verdicts["s2s"].append(s2s)
                text, heard = answer(s2t), answer(s2s)
                units = [rng.randrange(100) for _ in range(14)]
                shown = "".join(f"<|{unit}|>" for unit in units)
                responses.append(
                    {
                        "task": "sqa",
                        **common,
                        "prompt": shown,
                        "response": f"{prompt}\n\n{text}\n\n{text}{shown}",
                        "question": prompt,
                        "transcript": prompt,
                        "text_answer": text,
                        "units": units,
                        "heard": heard,
                        "well_formed": True,
                        "correct_s2t": s2t,
                        "correct_s2s": s2s,
                        "errors": int(rng.random() < 0.3),
                        "words_counted": 7,
                    }
                )
            for mode, values in verdicts.items():
                if values:
                    put(f"qa/{name}/{mode}", values)
        followed = [[rng.random() < skill[1], rng.random() < 0.9] for _ in range(self.n)]
        for i, strict in enumerate(followed):
            responses.append(
                {
                    "task": "ifeval",
                    "id": i,
                    "prompt": f"write about {WORDS[i % 10]} without the word {WORDS[(i + 3) % 10]}.",
                    "response": "the sea is " + answer(all(strict)),
                    "instructions": [
                        f"keywords:{'forbidden_words' if i % 2 else 'existence'}",
                        f"punctuation:{'no_comma' if i % 2 else 'no_dot'}",
                    ],
                    "strict": strict,
                    "loose": strict,
                }
            )
        for way in ("strict", "loose"):
            put(f"ifeval/prompt_{way}", list(map(all, followed)))
            whole = statistics.clustered_accuracy(followed)
            scores[f"ifeval/instruction_{way}"] = {**whole, "interval": (whole["value"] - 0.1, whole["value"] + 0.1)}
        groups = {
            name: statistics.clustered_accuracy([[strict[at]] for strict in followed])
            for at, name in enumerate(("keywords", "punctuation"))
        }
        both = {name: {"strict": one, "loose": one} for name, one in groups.items()}
        if spoken:
            for task in ("asr", "tts"):
                errors = [rng.randrange(3) for _ in range(self.n)]
                rows = [
                    {
                        "task": task, "id": f"eval-{i}", "prompt": f"{task} of sentence {i}",
                        "reference": f"sentence {i}", "response": f"sentence {i}", "errors": wrong, "words_counted": 6,
                    }
                    for i, wrong in enumerate(errors)
                ]  # fmt: skip
                responses += rows
                words(f"wer/{task}", rows)
            words("wer/question", [row for row in responses if row["task"] == "sqa"])
            put("form/well_formed", [True] * len(self.sets) * self.n)
        (out / "scores.json").write_text(json.dumps({"scores": scores, "settings": {"decoding": "greedy"}}))
        (out / "breakdown.json").write_text(json.dumps({"ifeval": {"group": both, "chance": self.chance}}))
        _write(out / "responses.jsonl", responses)


def _question(name: str, i: int) -> str:
    return f"what is the color of {name} {WORDS[i % 10]} {i}"


def _nothing(out: Path, rng: random.Random) -> None:
    (out / "result.json").write_text("{}")


def _heard(out: Path, rng: random.Random) -> None:
    errors = {"natural": {"wer": 0.011, "n": 60}, "resynthesized": {"wer": 0.034, "n": 60}}
    (out / "wer.json").write_text(json.dumps(errors))


def _metrics(out: Path, rng: random.Random) -> None:
    rows = [{"step": i, "loss": 3 / (i + 1), "lr": 2e-3, "gradient_norm": 1.0, "tokens": 100 * i} for i in range(9)]
    _write(out / "metrics.jsonl", rows)


def _tone(path: Path, rng: random.Random, seconds: float) -> None:
    time = np.arange(int(16000 * seconds)) / 16000
    wave = 0.3 * np.sin(2 * np.pi * rng.uniform(150, 500) * time) * np.hanning(len(time))
    soundfile.write(path, wave.astype(np.float32), 16000)


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def digest(folder: Path) -> dict[str, str]:
    """SHA-256 of each file directly in a folder."""
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir()) if f.is_file()}

"""The model card of an exported row: README.md with the metadata that the Hugging Face hub reads.

    text = card.render(line, row, store, folder)
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from src import tasks
from src.data import jsonl, prompts
from src.grid.row import Row
from src.grid.step import Step, closure
from src.grid.store import Store
from src.model.hub_files import REPOSITORY
from src.report import curves
from src.report.cells import percent
from src.report.columns import HARNESS, columns, glossary, heading
from src.report.components import given_of
from src.report.lines import Line, scores_of
from src.report.markdown import escape, piped
from src.report.sets import titles
from src.report.stages import listed, title, trained
from src.steps.backbone import Backbone
from src.steps.generate import Generate
from src.steps.given import Given

ASIDE = ("outputs", "name", "plan_only", "recompute", "compare", "tracker", "hydra")
"""Overrides that say where a row was made, and not what it is."""
UNITS = (3, 17, 9)
SPOKEN = prompts.interleave(["red", "fox"], [UNITS[:2], UNITS[2:]])
"""What the examples of the formats say."""

Scores = Mapping[str, Mapping[str, Any]]


def model_of(row: Row) -> Step:
    """The step whose model a row's scores are of."""
    return curves.model_of(row.evaluate)


def base_of(row: Row) -> Step:
    """The step whose model they are a difference to."""
    return curves.base_of(row.evaluate)


def base_model(row: Row) -> str | None:
    """The published model that training began with, or that the row is; None where that is a step of the plan, trained
    from scratch."""
    base = base_of(row)
    if isinstance(base, Given):
        return base.config.model
    return base.config.pretrained if isinstance(base, Backbone) else None


def on_hub(base: str) -> bool:
    """Whether a published model is named by its repository, and not by a folder."""
    return REPOSITORY.fullmatch(base) is not None and not Path(base).is_dir()


def render(line: Line, row: Row, store: Store, folder: Path, lost: str = "") -> str:
    """The card of a complete row, whose tokenizer is in `folder`. lost: what rounding has cost its weights."""
    responses = row.evaluate.inputs["responses"]
    assert isinstance(responses, Generate)
    longest = responses.config.max_new_tokens["t2t"]
    scores = scores_of(row, store)
    front = yaml.safe_dump(metadata(f"{line.name}-seed{row.seed}", row, scores), sort_keys=False, allow_unicode=True)
    question = next(jsonl.read(store.folder(responses) / "responses.jsonl"))["prompt"]
    manifest = store.manifest(model_of(row))
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items() if version)
    steps = closure([row.evaluate, *row.further.values()])
    artifacts = "\n".join(f"| {step.name} | `{step.fingerprint}` |" for step in steps)
    return f"""---
{front}---

# {escape(line.label)}, seed {row.seed}

A language model made with Palimpsest, which measures what a text model forgets while it learns to listen and to speak,
and compares what helps against it.

{history(row)}{lost and f" {lost}"}

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file is, or the name on the hub
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
talk = [{{"role": "user", "content": {json.dumps(question, ensure_ascii=False)}}}]
prompt = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt", return_dict=True)
response = model.generate(**prompt, max_new_tokens={longest})
print(tokenizer.decode(response[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
```

Without `skip_special_tokens` the units of a spoken answer are shown too. Any task of lm-evaluation-harness:
`lm_eval --model hf --model_args pretrained=FOLDER --apply_chat_template --tasks TASK`

## Speech

{speech(row, units_of(folder))}

## Scores

By the profile `{row.config["profile"]}`, of this seed alone. A spoken answer is what a recognizer hears.

{legend(columns(scores))}

{tables(scores, titles([row]))}
## Settings

```yaml
{yaml.safe_dump(settings(row.config), sort_keys=False, allow_unicode=True)}```

## Origin

    {command(row)}

Commit {manifest["git"] or "unknown"}, {versions}.

| artifact | fingerprint |
|---|---|
{artifacts}

## License

{license_text(base_model(row))}
"""


def metadata(name: str, row: Row, scores: Scores) -> dict[str, Any]:
    """What the hub reads. In its model-index are the scores as shares, not in percent."""
    base, model = base_model(row), model_of(row)
    told: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if base is None:
        told |= {"license": "apache-2.0"}
    else:
        told |= {"license": "other", "license_name": "of-the-base-model"}
        if on_hub(base):
            told |= {"base_model": base, "license_link": f"https://huggingface.co/{base}"}
    tags = ["palimpsest", "spoken-language-model", "speech", *(["merge", "mergekit"] if model.kind == "merge" else [])]
    results = list(model_index(scores, row.config["profile"], titles([row])))
    return {**told, "tags": tags, "model-index": [{"name": name, "results": results}]}


def model_index(
    scores: Scores, profile: str, named: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """The results of a model-index: one entry for each task and data set, with its metrics. named: titles of sets."""
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    for column in columns(scores, named):
        key, score, known = column["key"], scores[column["key"]], tasks.find(column["key"])
        kind, name = (known.hub, known.about) if known else ("text-generation", "Text generation")
        set_name = tasks.set_of(key)
        data = column["group"].removeprefix(HARNESS) if set_name or key.startswith((HARNESS, "ifeval/")) else "speech"
        metric = {
            "type": "wer" if column["group"] == "WER" else "accuracy" if known else column["name"],
            "name": column["name"],
            "value": score["value"],
            "args": {"n": score["n"], "standard_error": score["standard_error"]},
        }
        new = {
            "task": {"type": kind, "name": name},
            "dataset": {"type": (set_name or data).lower(), "name": data, "config": profile},
            "metrics": [],
        }
        entries.setdefault((name, set_name or data), new)["metrics"].append(metric)
    yield from entries.values()


def history(row: Row) -> str:
    """How the model came to be, in words."""
    if row.config["original"]:
        return "This is the text model itself, before any training on speech; with the units in its vocabulary."
    if given := given_of(row.config):
        kind = "model" if given.get("model") else "adapter"
        name = given[kind] if on_hub(given[kind]) else Path(given[kind]).name
        return f"This is the {kind} {name} as it was published: Palimpsest has scored it, and trained nothing."
    config = row.config
    alpha, method = config["discount"]["alpha"], config["merge"]["method"]
    replay = "with" if config["replay"]["enabled"] else "without"
    said = [f"Trained in the stages {listed([title(stage) for stage in trained(row)])}, {replay} replay."]
    if alpha is not None:
        before = config["train"]["adapter"]["alpha"]
        said.append(f"Its LoRA part, trained with alpha {before:g}, is applied with alpha {alpha:g}.")
    if method is not None:
        merge = row.config["merge"]
        models = dict.fromkeys([*merge["models"], *([merge["base_model"]] if merge["base_model"] else [])])
        said.append(f"Merged by mergekit ({method}) from: {', '.join(models)}.")
    return "\n".join(said)


def speech(row: Row, units: int) -> str:
    """How speech is written for the model."""
    written = f"Speech is written as units, `<|0|>` to `<|{units - 1}|>`, each of which is one token."
    if row.config["original"]:
        return f"{written} This model has learned nothing about them."
    return f"""{written} What turns a waveform
into units, and units into a waveform, is not in this folder; it is in artifacts that are named below.

    recognition  user       {prompts.asr(UNITS, prompts.ASR_INSTRUCTIONS[0])}
                 assistant  red fox
    synthesis    user       {prompts.tts("red fox", prompts.TTS_INSTRUCTIONS[0])}
                 assistant  {SPOKEN}
    a question   user       {prompts.sqa(UNITS)}
                 assistant  the question in words, a blank line, red fox, a blank line, {SPOKEN}"""


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that made the model, without those of what is switched off."""
    kept = ["profile", "seed", "model"]
    if given_of(config):
        kept += ["strategy"]
    elif not config["original"]:
        kept += ["train"] + ["replay"] * config["replay"]["enabled"]
        kept += ["merge"] * (config["merge"]["method"] is not None)
        kept += ["discount"] * (config["discount"]["alpha"] is not None)
        kept += ["method"] * (config["method"]["name"] is not None)
    return {key: config[key] for key in kept}


def tables(scores: Scores, named: Mapping[str, str] | None = None) -> str:
    """Our own scores in percent; those of lm-evaluation-harness, if there are any, as it gives them. named: titles of
    question sets."""
    own: list[list[str]] = []
    further: list[list[str]] = []
    for column in columns(scores, named):
        key, score = column["key"], scores[column["key"]]
        value, error = score["value"], score["standard_error"]
        if key.startswith(HARNESS):
            told = [key.removeprefix(HARNESS), f"{value:.4f}", "" if error is None else f"{error:.4f}"]
        else:
            told = [heading(column), percent(value), "" if error is None else percent(error)]
        (further if key.startswith(HARNESS) else own).append([*told, str(score["n"])])
    parts = [("percent", own), *([("lm-evaluation-harness", further)] if further else [])]
    return "\n\n".join(piped([name, "score", "standard error", "n"], lines) for name, lines in parts) + "\n"


def legend(chosen: Sequence[Mapping[str, Any]]) -> str:
    """What the scores are and which way is better."""
    down = dict.fromkeys(column["group"] for column in chosen if column["direction"] == "down")
    better = f"{', '.join(down)}: the lower the better; all others: the higher the better." if down else ""
    return "\n".join(filter(None, [*(f"- {escape(one)}" for one in glossary(chosen)), better and f"\n{better}"]))


def command(row: Row) -> str:
    """What computes the row again."""
    told = [text for text in row.overrides if re.split(r"[.=/@]", text.lstrip("+~"))[0] not in ASIDE]
    return f"python -m src.run {shlex.join(told)}"


def units_of(folder: Path) -> int:
    """How many units the vocabulary has."""
    tokens = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    return sum(prompts.UNIT.fullmatch(token["content"]) is not None for token in tokens)


def license_text(base: str | None) -> str:
    """What the weights are under."""
    if base is None:
        return (
            "The weights were trained from scratch, on text and speech that Palimpsest makes itself.\n"
            "They are under the Apache License 2.0, as Palimpsest is."
        )
    name = f"[{base}](https://huggingface.co/{base})" if on_hub(base) else Path(base).name
    return (
        f"The weights are derived from {name} and are under its license.\n"
        "The Apache License 2.0 of Palimpsest does not change that."
    )

"""Any task of lm-evaluation-harness as further scores of a model, one step a task.

Leaves `scores.json`, in the form of `src.evaluate.score`, and `samples.jsonl`: every example as lm-evaluation-harness
logs it (`doc`, `arguments`, `resps`, `target`, and the metrics).
"""

import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.evaluate import task_files
from src.evaluate.asking import Dtype
from src.evaluate.settings import HarnessOptions
from src.evaluate.task_files import TaskFiles

if TYPE_CHECKING:
    from src.grid.context import Context

log = logging.getLogger(__name__)

SEEDS = {"random_seed": 0, "numpy_random_seed": 1234, "torch_random_seed": 1234, "fewshot_random_seed": 1234}
"""The seeds of the `lm_eval` command, by the names of `simple_evaluate`."""
RESAMPLES = 1000
"""Resamples of the bootstrap, which gives the standard error of a metric that is no mean. The command's 100,000 take
minutes."""


class AnsweredRequests:
    """Counts answered requests, in place of the cache in which lm-evaluation-harness would keep them."""

    def __init__(self, context: "Context"):
        self.context = context
        self.done = 0

    def add_partial(self, *_: Any) -> None:
        self.done += 1
        self.context.report(done=self.done)


def score(
    task: str, found: TaskFiles, options: HarnessOptions, dtype: Dtype, model: Path, base: Path, out: Path,
    context: "Context",
) -> dict[str, float]:  # fmt: skip
    """Score a model on a task, a group or a tag; returns key -> value of every score.

    found: what the task was when the grid was planned. dtype: of weights and arithmetic. model, base: artifacts, as for
    `difference.load`. The key of a score is lm_eval/<task>/<metric>, with the filter behind a comma where a task has
    several. Raises ValueError if lm-evaluation-harness does not know the task, or if its data have changed.
    """
    os.environ["DISABLE_MULTIPROC"] = "1"  # the bootstrap would take all cores, which the other steps work on
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import handle_non_serializable

    from src.model import difference

    if changed := task_files.changed(found.data):
        raise ValueError(f"{changed[0]} is not what it was when the grid was launched: launch it again")
    manager = TaskManager(include_path=_written(found.files, context.work), include_defaults=found.shipped)
    if task not in manager.task_index:
        raise ValueError(f"evaluate.lm_eval.tasks: lm-evaluation-harness {version('lm_eval')} has no task {task}")
    loaded: Any = manager.load([task])  # before the model, as the questions may have to be downloaded
    questions = [loaded["groups"][task]] if task in loaded["groups"] else list(loaded["tasks"].values())
    network: Any = difference.load(base, model, getattr(torch, dtype))
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    asked = asked_model(network, base / difference.MODEL, options)
    asked.set_cache_hook(AnsweredRequests(context))
    results: Any = simple_evaluate(
        asked,
        tasks=questions,
        task_manager=manager,
        num_fewshot=options.num_fewshot,
        limit=options.limit,
        apply_chat_template=options.apply_chat_template,
        bootstrap_iters=RESAMPLES,
        **SEEDS,
    )
    scores = dict(read(results, task))
    if not scores:
        raise ValueError(f"evaluate.lm_eval.tasks: {task} has no score that is a number")
    told = {"task": task, **asdict(options), "dtype": dtype, "seeds": SEEDS}
    settings = told | {"n-shot": results["n-shot"], "versions": results["versions"]}
    text = json.dumps({"scores": scores, "settings": settings}, ensure_ascii=False, indent=1)
    (out / "scores.json").write_text(text + "\n", encoding="utf-8")
    with (out / "samples.jsonl").open("w", encoding="utf-8") as stream:
        for name, samples in results["samples"].items():
            for sample in samples:
                row = {"task": name, **sample}
                stream.write(json.dumps(row, ensure_ascii=False, default=handle_non_serializable) + "\n")
    return {key: score["value"] for key, score in scores.items()}


def asked_model(network: Any, tokenizer: Path, options: HarnessOptions) -> Any:
    """The network as a model of lm-evaluation-harness. tokenizer: the folder that holds it.

    What the chat template renders gets no further special tokens, as in training: a tokenizer that puts one before each
    text would do so before a template without it, too.
    """
    from lm_eval.models.huggingface import HFLM

    further = False if options.apply_chat_template else None
    return HFLM(
        pretrained=network, tokenizer=str(tokenizer), batch_size=options.batch_size, add_bos_token=further,
        trust_remote_code=False,
    )  # fmt: skip


def _written(files: Mapping[str, str], work: Path) -> str | None:
    """A folder with the task's own files as they were when the grid was launched, None where it has none."""
    if not files:
        return None
    folder = work / "tasks"
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return str(folder)


def read(results: Mapping[str, Any], task: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, score) of every metric in the results of `simple_evaluate`: value, n, standard_error, interval (none is
    known) and higher_is_better.

    A group that says how its tasks are averaged has that score alone. A metric that is no finite number is left out.
    """
    several = results["results"]
    for name in [task] if task in results.get("groups", {}) else several:
        found = several[name]
        for key, value in found.items():
            metric, _, way = key.partition(",")
            if not way or metric.endswith("_stderr"):
                continue
            if not _finite(value):
                log.warning("%s: %s is %s, which is left out", name, key, value)
                continue
            error = found.get(f"{metric}_stderr,{way}")
            yield f"lm_eval/{name}/{metric if way == 'none' else key}", {
                "value": float(value),
                "n": found.get("sample_count", {}).get(key, found["sample_len"]),
                "standard_error": float(error) if _finite(error) else None,
                "interval": None,
                "higher_is_better": results["higher_is_better"].get(name, {}).get(metric),
            }


def _finite(value: Any) -> bool:
    return not isinstance(value, str | None) and math.isfinite(value)

"""What a model answers: text questions, verifiable instructions, spoken questions, ASR and TTS.

Leaves `responses.jsonl` (every prompt with the model's raw response, and what is heard of spoken ones), `settings.json`
(how they were asked for) and the first spoken answers of each question set as `audio/<id>.flac`. Nothing is scored
here: `src.evaluate.score` does that, as often as one likes.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data import jsonl
from src.data.draw import first_of_each_set
from src.evaluate.asking import SPEECH, Asking, Sources
from src.evaluate.listener import Listener
from src.evaluate.progress import Progress
from src.evaluate.respondent import Respondent, Response
from src.evaluate.tasks import TASKS, any_spoken
from src.evaluate.tasks.task import Row
from src.model import rounding

if TYPE_CHECKING:
    from src.grid.context import Context

RESPONSES, AUDIO = "responses.jsonl", "audio"
MEASURED = 2
"""Prompts of each task on which the cost of rounding is measured."""
ASKED_AT_ONCE = 512
"""Examples that are asked together. What is heard of their responses is kept when all of them are there; the responses
themselves are kept batch by batch."""


def collect(
    tasks: Sequence[str], asking: Asking, sources: Sources, out: Path, context: "Context"
) -> dict[str, Any]:
    """Ask a model the tasks, keys of TASKS; returns task -> number of responses, and `rounding`, what it has cost.

    Raises ValueError for a task without examples, FileNotFoundError if its responses could not be scored for want of
    nltk's data.
    """
    progress = Progress(context)
    work = {name: TASKS[name].examples(asking, sources) for name in tasks}
    for name, examples in work.items():
        if not examples:
            raise ValueError(f"there is no example to evaluate {name} on")
    respond = Respondent(sources.base, sources.model, asking, progress)
    probes = rounding.shown(sources.base, [row["prompt"] for rows in work.values() for row in rows[:MEASURED]])
    lost = rounding.measure(sources.base, sources.model, respond.model, probes)
    listener = _listener(sources, progress) if any(TASKS[name].units for name in tasks) else None
    heard = {name: 2 if TASKS[name].units else 1 for name in tasks}
    for name, examples in work.items():
        progress.expect(len(examples) * heard[name])
    chunks = []
    for name, examples in work.items():
        kept = first_of_each_set((row for row in examples if "set" in row), asking.listen)
        for first in range(0, len(examples), ASKED_AT_ONCE):
            own = examples[first : first + ASKED_AT_ONCE]
            answer = partial(respond, task=name, first=first)
            done, made = context.chunk(f"{name}-{first}", partial(ask, name, own, answer, listener, kept))
            if not made:
                progress.advance(len(own) * heard[name])
            chunks.append(done)
    jsonl.write(out / RESPONSES, (row for chunk in chunks for row in jsonl.read(chunk / RESPONSES)))
    for file in sorted(file for chunk in chunks for file in (chunk / AUDIO).glob("*")):
        (out / AUDIO).mkdir(exist_ok=True)
        shutil.copyfile(file, out / AUDIO / file.name)
    text = json.dumps(_settings(tasks, asking), ensure_ascii=False, indent=1)
    (out / "settings.json").write_text(text + "\n", encoding="utf-8")
    return {**{name: len(examples) for name, examples in work.items()}, "rounding": lost}


def ask(
    name: str,
    examples: Sequence[Row],
    answer: Callable[[Sequence[str]], Sequence[Response]],
    listener: Listener | None,
    kept: set[str],
    out: Path,
) -> None:
    """Write the rows of a task's examples with their responses.

    A spoken response has its `units`, and as `heard` what the recognizer hears of them. kept: ids of the examples whose
    spoken responses are kept as audio.
    """
    responses = answer([example["prompt"] for example in examples])
    rows = [{"task": name, **row, **asdict(each)} for row, each in zip(examples, responses, strict=True)]
    if units := TASKS[name].units:
        assert listener is not None
        spoken = [list(units(response.text)) for response in responses]
        files = {i: out / AUDIO / f"{row['id']}.flac" for i, row in enumerate(examples) if row["id"] in kept}
        heard = listener(spoken, files)
        rows = [{**row, "units": u, "heard": text} for row, u, text in zip(rows, spoken, heard, strict=True)]
    jsonl.write(out / RESPONSES, rows)


def _listener(sources: Sources, progress: Progress) -> Listener:
    from src.speech import load

    assert sources.vocoder and sources.recognizer
    return Listener(load.vocoder(sources.vocoder), load.recognizer(sources.recognizer), progress)


def _settings(tasks: Sequence[str], asking: Asking) -> dict[str, Any]:
    """The content of settings.json: what the tasks read, and the instruction before what is spoken."""
    used = {"tasks": list(tasks), **asdict(asking)}
    if not any_spoken(tasks):
        used = {setting: value for setting, value in used.items() if setting not in SPEECH}
    return {**used, "instruction": {name: task.instruction for name, task in TASKS.items() if task.instruction}}

"""The paper's own Table 1, to stand beside a grid's."""

import csv
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from src import tasks
from src.report.lines import ORDER

SOURCE = Path(__file__).with_name("paper_table1.csv")
SETS = {"llama": "LLaMA-Questions", "web": "Spoken WebQuestions", "trivia": "Audio TriviaQA"}
"""The paper's question sets."""
OURS = {
    "llama_questions": "llama", "web_questions": "web", "trivia_qa": "trivia",
    "countries": "llama", "animals": "web", "people": "trivia",
}  # fmt: skip
"""Which of them each of ours is, or on a laptop stands for, by difficulty. A set of a user's own is none of them."""


@cache
def scores() -> dict[str, dict[str, float]]:
    """{strategy: {column: percent}}; the columns are `<set>_<mode>`, `ifeval_prompt` and `ifeval_instruction`."""
    with SOURCE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {
        name: {column: float(value) for column, value in row.items() if column != "strategy" and value}
        for name, row in zip(ORDER, rows, strict=True)
    }


def correspondence(keys: Iterable[str]) -> dict[str, str]:
    """Which of the paper's columns each of ours stands for, {key: column}; empty where no question set does."""
    ours = {key: OURS[name] for key in keys if (name := tasks.set_of(key)) in OURS}
    if not ours:
        return {}
    found = {key: f"{theirs}_{key.rpartition('/')[2]}" for key, theirs in ours.items()}
    return found | {"ifeval/prompt_strict": "ifeval_prompt", "ifeval/instruction_strict": "ifeval_instruction"}


def sets(keys: Iterable[str]) -> dict[str, str]:
    """{our set: the paper's set that it stands for}."""
    return {name: SETS[OURS[name]] for key in keys if (name := tasks.set_of(key)) in OURS}

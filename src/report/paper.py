"""The paper's own Table 1, to stand beside a grid's."""

import csv
from functools import cache
from pathlib import Path

from src.report.lines import ORDER

SOURCE = Path(__file__).with_name("paper_table1.csv")
SETS = {"llama": "LLaMA-Questions", "web": "Spoken WebQuestions", "trivia": "Audio TriviaQA"}


@cache
def scores() -> dict[str, dict[str, float]]:
    """{strategy: {column: percent}}; the columns are `<set>_<mode>`, `ifeval_prompt` and `ifeval_instruction`."""
    with SOURCE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {
        name: {column: float(value) for column, value in row.items() if column != "strategy" and value}
        for name, row in zip(ORDER, rows, strict=True)
    }


def correspondence(keys: list[str]) -> dict[str, str]:
    """Which of the paper's columns each of ours stands for: the question sets by position, if there are as many."""
    sets = list(dict.fromkeys(key.split("/")[1] for key in keys if key.startswith("qa/")))
    if len(sets) != len(SETS):
        return {}
    named = dict(zip(sets, SETS, strict=True))
    ours = {key: f"{named[key.split('/')[1]]}_{key.split('/')[2]}" for key in keys if key.startswith("qa/")}
    return ours | {"ifeval/prompt_strict": "ifeval_prompt", "ifeval/instruction_strict": "ifeval_instruction"}


def sets(keys: list[str]) -> dict[str, str]:
    """{our set: the paper's set that it stands for}."""
    pairs = correspondence(keys)
    return {key.split("/")[1]: SETS[column.split("_")[0]] for key, column in pairs.items() if key.startswith("qa/")}

import csv
from pathlib import Path

import pytest

from src.report import paper
from src.report.lines import ORDER

SHARED = Path(__file__).parents[3] / "shared" / "paper" / "table1.csv"


def test_thirteen_rows_of_the_paper() -> None:
    scores = paper.scores()
    assert tuple(scores) == ORDER
    assert len(scores["replay"]) == 11 and len(scores["original"]) == 5
    assert scores["replay"]["llama_s2s"] == 28.7 and scores["original"]["trivia_t2t"] == 78.9


@pytest.mark.skipif(not SHARED.exists(), reason="no copy of the paper's table beside the project")
def test_the_copy_is_faithful() -> None:
    with SHARED.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, (_, copied) in zip(rows, paper.scores().items(), strict=True):
        assert copied == {k: float(v) for k, v in row.items() if k not in ("strategy", "alpha", "replay") and v}


def test_sets_correspond_by_position() -> None:
    keys = [f"qa/{name}/{mode}" for name in ("a", "b", "c") for mode in ("t2t", "s2t", "s2s")]
    columns = paper.correspondence([*keys, "ifeval/prompt_strict"])
    assert columns["qa/b/s2t"] == "web_s2t" and columns["ifeval/prompt_strict"] == "ifeval_prompt"
    assert paper.sets(keys) == {"a": "LLaMA-Questions", "b": "Spoken WebQuestions", "c": "Audio TriviaQA"}
    assert paper.correspondence(keys[:3]) == {}

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


def test_sets_of_a_laptop_stand_for_the_papers_and_ones_own_for_none() -> None:
    keys = [f"qa/{name}/{mode}" for name in ("countries", "mine", "trivia_qa") for mode in ("t2t", "s2t", "s2s")]
    columns = paper.correspondence([*keys, "ifeval/prompt_strict"])
    assert columns["qa/countries/s2t"] == "llama_s2t" and columns["ifeval/prompt_strict"] == "ifeval_prompt"
    assert paper.sets(keys) == {"countries": "LLaMA-Questions", "trivia_qa": "Audio TriviaQA"}
    assert not any("mine" in key for key in columns)
    assert paper.correspondence(["qa/mine/t2t", "ifeval/prompt_strict"]) == {}

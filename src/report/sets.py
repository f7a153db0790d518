"""What the question sets are called."""

from collections.abc import Iterable, Mapping

from src.grid.row import Row

TITLES = {
    "countries": "Countries",
    "animals": "Animals",
    "people": "People",
    "llama_questions": "LLaMA-Questions",
    "web_questions": "Spoken WebQuestions",
    "trivia_qa": "Audio TriviaQA",
}
"""Titles of the sets that come with the project. A `title` under data.questions.SET goes before them."""


def titles(rows: Iterable[Row]) -> dict[str, str]:
    """Title of each question set by its name, on one line each; a set that is not in it is called by its name.

    Where rows give one set different titles, the first counts.
    """
    found: dict[str, str] = {}
    for row in rows:
        for name, source in row.config["data"].get("questions", {}).items():
            if isinstance(source, Mapping) and source.get("title"):
                found.setdefault(name, " ".join(source["title"].split()))
    return TITLES | found

"""Which rows differ from the references of the grid (None and Replay): paired tests on the examples that both answered.

What is tested, and what it says, is `src.evaluate.comparison`'s. Two claims are kept apart:

    each     the models of every seed differ, in one direction: exact tests over the examples of each seed
    strong   so would those of new seeds: t test with the seed as the unit; only where there are several seeds

The family of Holm's correction is what is read together, one column down the table: all rows against one reference.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.data import jsonl
from src.evaluate.comparison import Comparison, Examples, Outcome, Seeds, compare, holm
from src.grid.row import Row
from src.grid.store import Store
from src.report.compare import references
from src.report.lines import Line, Variant
from src.tasks import SET, TASKS

LEVEL = 0.05

Tests = dict[str, dict[str, dict[str, Any]]]
"""Score key -> name of the reference -> test, of one row; as in table.json."""


def outcomes(responses: Path, corpus: str = "") -> dict[str, dict[str, Outcome]]:
    """What became of every example in the responses.jsonl of a score: score key -> id -> outcome.

    corpus: tells examples apart from those of another corpus that have the same ids.
    """
    found: dict[str, dict[str, Outcome]] = {}
    for row in jsonl.read(responses):
        for column in TASKS[row["task"]].columns:
            key = column.key.replace(SET, row.get("set", ""))
            found.setdefault(key, {})[f"{corpus}/{row.get('set', '')}/{row['id']}"] = column.outcome(row)
    return found


def collect(lines: Sequence[Line], store: Store) -> dict[str, Tests]:
    """The tests of every line, by its label."""
    rows = {line.label: outcomes_of(line, store) for line in lines}
    found: dict[str, Tests] = {line.label: {} for line in lines}
    for reference in references(lines):
        against: dict[str, list[str]] = {}
        for line in lines:
            if chosen := reference.of(line):
                against.setdefault(chosen.label, []).append(line.label)
        for chosen_label, labels in against.items():
            for key in dict.fromkeys(key for own in rows[chosen_label].values() for key in own):
                for label, test in column(key, rows, labels, chosen_label).items():
                    found[label].setdefault(key, {})[reference.name] = {"letter": reference.letter, **test}
    return found


def column(key: str, rows: Mapping[str, Seeds], labels: Sequence[str], reference: str) -> dict[str, dict[str, Any]]:
    """The tests of one score of the rows `labels` against the reference, by label: one family.

    A seed in which a row was scored on other examples than the reference is left out.
    """
    own = {seed: {key: scores[key]} for seed, scores in rows[reference].items() if key in scores}
    family: dict[str, Seeds] = {reference: own}
    for label in labels:
        family[label] = {
            seed: {key: scores[key]}
            for seed, scores in rows[label].items()
            if key in scores and seed in own and sizes(scores[key]) == sizes(own[seed][key])
        }
    compared = {label: found[key] for label, found in compare(family, reference, LEVEL).items() if key in found}
    adjusted = holm([one.p_every for one in compared.values()])
    size = len(compared)
    return {
        label: _entry(one, reference, p, size)
        for (label, one), p in zip(compared.items(), adjusted, strict=True)
    }


def _entry(one: Comparison, reference: str, p_each: float, family: int) -> dict[str, Any]:
    direction = "higher" if one.difference > 0 else "lower"
    return {
        "reference": reference,
        "unit": "seeds" if len(one.seeds) > 1 else "examples",
        "family": family,
        "difference": one.difference,
        "standard_error": one.standard_error,
        "p": one.p,
        "p_adjusted": one.p_adjusted,
        "mark": one.mark,
        "each": {"p": one.p_every, "p_adjusted": p_each, "mark": direction if p_each < LEVEL else ""},
        "seeds": [{"seed": each.seed, "difference": each.difference, "p": each.p} for each in one.seeds],
    }


def letters(tests: Mapping[str, Mapping[str, Any]]) -> str:
    """What stands at a score: a capital for a strong mark, a small letter where these seeds' models differ, no more."""
    shown = ""
    for test in tests.values():
        if test["unit"] == "seeds" and test["mark"]:
            shown += test["letter"]
        elif test["each"]["mark"]:
            shown += test["letter"].lower()
    return shown


def needed(seeds: int, family: int) -> float:
    """How many standard errors the largest of `family` differences must have for a strong mark with that many seeds."""
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, 1 - LEVEL / family / 2))


def sizes(examples: Examples) -> dict[str, int]:
    """How much each example counts. Two rows answered the same examples if theirs are equal."""
    return {id: outcome[1] if isinstance(outcome, tuple) else 1 for id, outcome in examples.items()}


def outcomes_of(line: Variant, store: Store) -> Seeds:
    """What became of every example, by seed; seeds that were not scored are left out."""
    return {row.seed: own for row in line.rows if (own := _read(row, store))}


def _read(row: Row, store: Store) -> dict[str, dict[str, Outcome]] | None:
    folder = store.lookup(row.evaluate)
    if folder is None:
        return None
    return outcomes(folder / "responses.jsonl", row.evaluate.inputs["corpus"].fingerprint[:8])

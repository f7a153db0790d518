"""Which rows differ from None and which from Replay: paired tests on the examples that both answered.

What is tested, and what it says, is `src.evaluate.comparison`'s. Two claims are kept apart:

    each     the models of every seed differ, in one direction: exact tests over the examples of each seed
    strong   so would those of new seeds: t test with the seed as the unit; only where there are several seeds

The family of Holm's correction is what is read together, one column down the table: all rows against one reference.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.data import jsonl
from src.evaluate.comparison import Comparison, Examples, Outcome, Seeds, compare, holm
from src.grid.row import Row
from src.grid.store import Store
from src.report.lines import Line

REFERENCES = {"none": "N", "replay": "R"}
"""The strategies that all others are compared with, and the letter of a mark against each."""
LEVEL = 0.05

Tests = dict[str, dict[str, dict[str, Any]]]
"""Score key -> strategy of the reference -> test, of one row; as in table.json."""


def outcomes(responses: Path, corpus: str = "") -> dict[str, dict[str, Outcome]]:
    """What became of every example in a judged responses.jsonl: score key -> id -> outcome.

    corpus: what examples of other corpora are told apart by, where they have the same ids.
    """
    found: dict[str, dict[str, Outcome]] = {}
    for row in jsonl.read(responses):
        for key, outcome in _outcomes(row):
            found.setdefault(key, {})[f"{corpus}/{row.get('set', '')}/{row['id']}"] = outcome
    return found


def _outcomes(row: Mapping[str, Any]) -> Iterator[tuple[str, Outcome]]:
    task = row["task"]
    if task == "t2t":
        yield f"qa/{row['set']}/t2t", row["correct"]
    elif task == "sqa":
        yield f"qa/{row['set']}/s2t", row["correct_s2t"]
        yield f"qa/{row['set']}/s2s", row["correct_s2s"]
        yield "form/well_formed", row["well_formed"]
        yield "wer/question", (row["errors"], row["words_counted"])
    elif task == "ifeval":
        for way in ("strict", "loose"):
            yield f"ifeval/prompt_{way}", all(row[way])
            yield f"ifeval/instruction_{way}", (sum(row[way]), len(row[way]))
    elif task in ("asr", "tts"):
        yield f"wer/{task}", (row["errors"], row["words_counted"])


def collect(lines: Sequence[Line], store: Store) -> dict[str, Tests]:
    """The tests of every line, by its label."""
    rows = {line.label: {row.seed: own for row in line.rows if (own := _read(row, store))} for line in lines}
    found: dict[str, Tests] = {line.label: {} for line in lines}
    for strategy in REFERENCES:
        against: dict[str, list[str]] = {}
        for line in lines:
            if reference := reference_of(line, [one for one in lines if one.name == strategy and one.scores]):
                against.setdefault(reference.label, []).append(line.label)
        for reference_label, labels in against.items():
            for key in dict.fromkeys(key for own in rows[reference_label].values() for key in own):
                for label, test in column(key, rows, labels, reference_label).items():
                    found[label].setdefault(key, {})[strategy] = test
    return found


def reference_of(line: Line, candidates: Sequence[Line]) -> Line | None:
    """The row to compare a line with: the only one there is, or the one with the same settings."""
    if line in candidates:
        return None
    same = [one for one in candidates if one.settings == line.settings]
    chosen = candidates if len(candidates) == 1 else same
    return chosen[0] if len(chosen) == 1 else None


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
            if key in scores and seed in own and _sizes(scores[key]) == _sizes(own[seed][key])
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
    for strategy, letter in REFERENCES.items():
        test = tests.get(strategy)
        if test and test["unit"] == "seeds" and test["mark"]:
            shown += letter
        elif test and test["each"]["mark"]:
            shown += letter.lower()
    return shown


def needed(seeds: int, family: int) -> float:
    """How many standard errors the largest of `family` differences must have for a strong mark with that many seeds."""
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, 1 - LEVEL / family / 2))


def _sizes(examples: Examples) -> dict[str, int]:
    return {id: outcome[1] if isinstance(outcome, tuple) else 1 for id, outcome in examples.items()}


def _read(row: Row, store: Store) -> dict[str, dict[str, Outcome]] | None:
    folder = store.lookup(row.evaluate)
    if folder is None:
        return None
    return outcomes(folder / "responses.jsonl", row.evaluate.inputs["corpus"].fingerprint[:8])

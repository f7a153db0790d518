"""What a reader must know of the numbers of a table, one sentence or two a line."""

from collections.abc import Callable, Mapping
from typing import Any

from src import tasks
from src.evaluate import qa
from src.report import abilities, marks
from src.report.cells import MISSING, percent, uncertainty
from src.report.columns import shown
from src.report.compare import SUPERSCRIPTS
from src.report.stages import listed

NORMALIZATIONS = {
    "basic": "in lower case and without punctuation",
    "whisper": "after Whisper's English normalizer",
}
"""How words are compared, by the name in src.evaluate.wer."""
PAPERS_NAME = "{}: trained on speech alone, without replay, merge or another method; the paper calls this row None."


def notes(table: Mapping[str, Any]) -> list[str]:
    """Every note that the table calls for."""
    said = []
    scores = [score for row in table["rows"] for score in row["scores"].values()]
    several = sorted({len(score["seeds"]) for score in scores if score["std"] is not None})
    if several:
        said.append(
            f"Percent; mean ± standard deviation over {' or '.join(map(str, several))} seeds"
            + (", or ± the standard error of a single model." if any(s["std"] is None for s in scores) else ".")
        )
    elif scores:
        said.append("Percent ± the standard error over the scored examples (one seed).")
    if any((more := uncertainty(score)) and more[0] != "±" for score in scores):
        said.append("≥ or ≤: every example counted, or none; the bound of the 95 % interval, in place of ± 0.0.")
    said += [PAPERS_NAME.format(row["label"]) for row in table["rows"] if row["strategy"] == "none"][:1]
    said += _legend(table)
    if scores:
        said.append(
            "Every score's 95 % interval is in table.csv, scores.csv and table.json: "
            + ("Student's over seeds, or for one model " if several else "")
            + "Wilson's, bootstrapped where an example counts more than once (instructions, words)."
        )
    sizes: dict[int, dict[str, str]] = {}
    for column in shown(table, "main"):
        known = tasks.find(column["key"])
        if known and known.ability:  # the others count parts of an example
            for n in sorted({score["n"] for row in table["rows"] if (score := row["scores"].get(column["key"]))}):
                sizes.setdefault(n, {})[tasks.set_of(column["key"]) or column["group"]] = column["group"]
    if sizes:
        said.append("Examples: " + ", ".join(f"{n} in {listed([*names.values()])}" for n, names in sizes.items()) + ".")
    measured = [one for one in table["recognizers"] if one.get("natural") and one.get("resynthesized")]
    if measured:
        heard, natural = (", ".join(percent(one[k]["wer"]) for one in measured) for k in ("resynthesized", "natural"))
        each = f" ({len(measured)} recognizers)" if len(measured) > 1 else ""
        said.append(
            f"Recognizer's WER{each}: {heard} on correct answers that were spoken, turned into units and made audible "
            f"again, {natural} on them as they were spoken. What it mishears bounds S2S."
        )
    said += _rules(table)
    if any(row["state"] == "failed" for row in table["rows"]):
        said.append("failed: a step that the row needs failed; its traceback is kept with the grid.")
    if any(row["state"] == "not run" for row in table["rows"]):
        said.append(f"{MISSING}: not run.")
    return said


def _legend(table: Mapping[str, Any]) -> list[str]:
    """What the marks say, and what they cannot."""
    tests = [(name, test) for row in table["rows"] for of in row["tests"].values() for name, test in of.items()]
    tested = {name for name, _ in tests}
    references = [one for one in table["references"] if one["name"] in tested]
    if not references:
        return []

    def signs(case: Callable[[str], str]) -> str:
        return ", ".join(case(one["letter"]).translate(SUPERSCRIPTS) for one in references)

    def names(case: Callable[[str], str]) -> str:
        return " or ".join(f"{one['label']} ({case(one['letter'])})" for one in references)

    family = f"Holm's adjustment over the rows of a column, level {marks.LEVEL:g}"
    exact = "exact paired test over the examples (McNemar's; a permutation test for instructions and word errors)"
    over = [test for _, test in tests if test["unit"] == "seeds"]
    if not over:
        return [
            f"{signs(str.lower)}: this model differs from that of {names(str.lower)}: {exact}; {family}. With one "
            "seed it is not known whether other trainings would differ, too."
        ]
    seeds, size = min(len(test["seeds"]) for test in over), max(test["family"] for test in over)
    rows = f"{size} rows" if size > 1 else "one row"
    return [
        f"{signs(str.upper)}: differs from {names(str.upper)}, and would with new seeds, too: paired t test with the "
        f"seed as the unit; {family}. With {seeds} seeds and {rows} to a column that takes a difference of "
        f"{marks.needed(seeds, size):.0f} standard errors: a missing mark says little.",
        f"{signs(str.lower)}: the weaker finding that the models of every seed here differ, in one direction: {exact} "
        "in each seed, the largest p; adjusted likewise.",
    ]


def _rules(table: Mapping[str, Any]) -> list[str]:
    """By what rules answers, words and instructions were scored."""
    data = table["data"]
    matching, words = data.get("matching", []), data.get("wer_normalization", [])
    said = [(f"{rule}: " if len(matching) > 1 else "") + qa.DESCRIPTIONS[rule] for rule in matching]
    if words:
        said.append(f"WER: words are compared {' or '.join(NORMALIZATIONS[name] for name in words)}.")
    if chance := data.get("ifeval_chance", []):
        prompts = {s["n"] for row in table["rows"] for key, s in row["scores"].items() if key == abilities.IFEVAL}
        said.append(
            f"IFEval: {len(chance)} of {max(prompts)} prompts leave something open that the official scorer draws at "
            "random; here the draw is fixed."
        )
    return said

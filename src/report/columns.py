"""The columns of the table: one for each score that some row has, with its headings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from src import tasks
from src.report import abilities

HARNESS = "lm_eval/"
"""Keys of scores by lm-evaluation-harness begin with it."""
NO_SHARES = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "bleu", "chrf", "ter", "rouge")
"""Metrics of lm-evaluation-harness that cannot be shown in percent."""


def columns(keys: Iterable[str], titles: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """How to show each score: {"key", "group", "name", "direction", "table"}.

    titles: of question sets; a set without one is called by its name. `table` is "main" for the paper's columns, "mean"
    for means over the question sets, "skills" for the word error rates and the form of the responses, "lm_eval" for the
    tasks of lm-evaluation-harness, "more" for the rest. Question sets come first, in the order in which they occur.
    """
    keys, titles = list(dict.fromkeys(keys)), titles or {}
    sets = list(dict.fromkeys(name for key in keys if (name := tasks.set_of(key))))
    groups = list(dict.fromkeys(column.group for column in tasks.COLUMNS))
    known = [(key, column) for column in tasks.COLUMNS for key in keys if column.set_of(key) is not None]
    known.sort(key=lambda pair: (groups.index(pair[1].group), [*sets, ""].index(tasks.set_of(pair[0]))))
    found = []
    for key, column in known:
        name = tasks.set_of(key)
        group = column.group or titles.get(name, name)
        shown = {"key": key, "group": group, "name": column.name, "direction": column.direction, "table": column.table}
        found.append(shown)
    for ability in tasks.ABILITIES:
        if (key := abilities.MEAN + ability) in keys:
            count, name = len(abilities.keys_of(ability, keys)), tasks.ABILITIES[ability].name
            found.append(
                {"key": key, "group": f"Mean of {count} sets", "name": name, "direction": "up", "table": "mean"}
            )
    for key in [key for key in keys if tasks.find(key) is None and not key.startswith(abilities.MEAN)]:
        task, _, metric = key.removeprefix(HARNESS).rpartition("/")
        share = key.startswith(HARNESS) and metric.partition(",")[0] not in NO_SHARES
        table = "lm_eval" if share else "more"
        group = task if share else key.rpartition("/")[0]
        found.append({"key": key, "group": group, "name": metric, "direction": "up", "table": table})
    return found


def heading(column: Mapping[str, Any]) -> str:
    """The two headings in one line: "Animals S2T"."""
    return f"{column['group']} {column['name']}"


def shown(table: Mapping[str, Any], which: str) -> list[dict[str, Any]]:
    """The columns that stand in the table `which`: main, mean, skills, lm_eval or more."""
    return [column for column in table["columns"] if column["table"] == which]


def front(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The columns of the first table: those of the question sets, their means, and the other main ones."""
    main = shown(table, "main")
    sets = [column for column in main if tasks.set_of(column["key"])]
    return [*sets, *shown(table, "mean"), *(column for column in main if column not in sets)]


def arrow(column: Mapping[str, Any]) -> str:
    return {"up": "↑", "down": "↓"}[column["direction"]]


def groups(chosen: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """Neighboring columns of one group: (group, how many). Two question sets of one title stay apart."""
    runs: list[tuple[tuple[str, str], int]] = []
    for column in chosen:
        group = column["group"], tasks.set_of(column.get("key", ""))
        if runs and runs[-1][0] == group:
            runs[-1] = (group, runs[-1][1] + 1)
        else:
            runs.append((group, 1))
    return [(title, width) for (title, _), width in runs]


def glossary(chosen: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the columns measure, each once: "S2T: spoken questions answered in text"."""
    found = dict.fromkeys(column for one in chosen if (column := tasks.find(one["key"])))
    return [f"{column.title}: {column.about[:1].lower()}{column.about[1:]}" for column in found]

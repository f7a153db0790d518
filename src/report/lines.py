"""The lines of the table: rows of one configuration and several seeds become one, in the order of the paper's table.

A row whose evaluation is missing stays: its line says why. Rows that differ in more than strategy and seed stand apart,
with the settings that differ in their label.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.evaluate.statistics import Interval, over_seeds
from src.grid.row import Row
from src.grid.step import canonical, closure
from src.grid.store import Store
from src.steps.train import Train

ORDER = (
    "original",
    "none",
    "merge_linear",
    "merge_ties",
    "merge_dare",
    "scale_14",
    "scale_15",
    "replay",
    "merge_linear_replay",
    "merge_ties_replay",
    "merge_dare_replay",
    "scale_14_replay",
    "scale_15_replay",
)
"""The strategies of the paper's Table 1, from top to bottom; any other comes after them, as it was asked for."""

ASIDE = ("seed", "strategy", "compare", "recompute", "tracker", "outputs", "name", "plan_only", "estimate")
"""Top-level settings that do not tell two lines of one label apart."""

SHOWN_SETTINGS = 3
"""Settings named in a label; further ones are counted."""


@dataclass(frozen=True)
class Score:
    """One cell of the table: a score in [0, 1] (a WER may exceed 1), over one seed or several."""

    mean: float
    deviation: float | None
    """Sample standard deviation over the seeds (n - 1 in the denominator); None for one seed."""
    error: float | None
    """Standard error of the one seed's score, from its examples; None for several seeds, or where it has none."""
    interval: Interval | None
    """95 % interval of the one seed's score, from its examples, or of the mean over several seeds."""
    n: int
    """Examples that were scored, of one seed."""
    seeds: tuple[Mapping[str, Any], ...]
    """{"seed", "value", "n", "standard_error", "interval"} of each."""

    def entry(self) -> dict[str, Any]:
        """As it stands in table.json."""
        return {
            "mean": self.mean,
            "std": self.deviation,
            "standard_error": self.error,
            "interval": None if self.interval is None else list(self.interval),
            "n": self.n,
            "seeds": [dict(one) for one in self.seeds],
        }

    @property
    def spread(self) -> float | None:
        """What stands after the plus-minus sign."""
        return self.error if self.deviation is None else self.deviation


@dataclass(frozen=True)
class Variant:
    """Rows that differ in their seed alone."""

    label: str
    name: str
    """The strategy: its file in conf/strategy/."""
    settings: Mapping[str, Any]
    """What tells this variant from others of its strategy, as dotted keys."""
    rows: tuple[Row, ...]
    """One for each seed, in the order of the seeds."""

    @property
    def seeds(self) -> list[int]:
        return [row.seed for row in self.rows]


@dataclass(frozen=True)
class Line(Variant):
    """A variant with its scores, as it stands in the table."""

    state: str
    """One of complete, partial (some seeds are missing), failed, not run."""
    scores: Mapping[str, Score]
    """In the order in which the evaluation wrote them."""

    @property
    def replays(self) -> bool:
        """Whether a training that the line rests on replays anything."""
        return any(isinstance(step, Train) and step.replays for step in closure([self.rows[0].evaluate]))


def read_scores(folder: Path) -> dict[str, dict[str, Any]]:
    """The scores in an artifact of `score`: {key: {"value", "n", "standard_error", ...}}."""
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))["scores"]


def scores_of(row: Row, store: Store) -> dict[str, dict[str, Any]]:
    """Every score of a row that the store has, those of further tasks last."""
    folders = [store.lookup(step) for step in (row.evaluate, *row.further.values())]
    return {key: score for folder in folders if folder for key, score in read_scores(folder).items()}


def pool(values: Iterable[tuple[int, Mapping[str, Any]]], one_model: bool = False) -> Score:
    """One cell from the (seed, score) of each seed. one_model: it was the same in every seed, and measured once."""
    names = ("value", "n", "standard_error", "interval")
    seeds: tuple[dict[str, Any], ...] = tuple(
        {"seed": seed, **{name: score.get(name) for name in names}} for seed, score in values
    )
    first = seeds[0]
    if len(seeds) == 1 or one_model:
        own = tuple(first["interval"]) if first["interval"] else None
        return Score(first["value"], None, first["standard_error"], own, first["n"], seeds)
    mean, deviation, interval = over_seeds([one["value"] for one in seeds])
    return Score(mean, deviation, None, interval, first["n"], seeds)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}. Lists are kept whole."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def settings_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What identifies the line of each of these rows of one label: the resolved settings, without those that change no
    result and without the seed. A setting named `seed` that is the row's own seed in every row is the seed again.
    """
    flat = [flatten({key: value for key, value in row.config.items() if key not in ASIDE}) for row in rows]
    seeds = {key for one in flat for key in one if key.rpartition(".")[2] == "seed"}
    follow = {key for key in seeds if all(one.get(key) == row.seed for one, row in zip(flat, rows, strict=True))}
    return [{key: value for key, value in one.items() if key not in follow} for one in flat]


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that are not the same in all of them, the shallow ones (`profile`) first."""
    keys = sorted({key for one in settings for key in one}, key=lambda key: (key.count("."), key))
    return [key for key in keys if any(one.get(key) != settings[0].get(key) for one in settings[1:])]


def collapse(rows: Sequence[Row], store: Store, failed: frozenset[str] = frozenset()) -> list[Line]:
    """The lines of the table from the rows of a grid. `failed` holds the names of the steps that failed."""
    return [_line(variant, store, failed) for variant in variants(rows)]


def variants(rows: Sequence[Row]) -> list[Variant]:
    """The rows of a grid without their scores, in the order of the table.

    A row that repeats another (same label, same seed, same evaluation) is dropped: two settings that do not touch a
    strategy make one line of it.
    """
    kept: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        kept.setdefault((row.label, row.seed, row.evaluate, *row.further.values()), row)
    labels: dict[str, list[Row]] = {}
    for row in kept.values():
        labels.setdefault(row.label, []).append(row)
    found = []
    for label, members in labels.items():
        settings = settings_of(members)
        keys = differing(settings)
        groups: dict[str, tuple[dict[str, Any], list[Row]]] = {}
        for row, own in zip(members, settings, strict=True):
            told = {key: own.get(key) for key in keys}
            groups.setdefault(canonical(told), (told, []))[1].append(row)
        brief = {identity: _named(told, SHOWN_SETTINGS) for identity, (told, _) in groups.items()}
        distinct = len(set(brief.values())) == len(groups)
        for identity, (told, same) in groups.items():
            named = label + (brief[identity] if distinct else _named(told, len(told)))
            found.append(Variant(named, same[0].name, told, tuple(sorted(same, key=lambda row: row.seed))))
    order = [*ORDER, *(one.name for one in found if one.name not in ORDER)]
    return sorted(found, key=lambda one: (order.index(one.name), _numerically(one.settings)))


def _line(variant: Variant, store: Store, failed: frozenset[str]) -> Line:
    rows = variant.rows
    found = [(row.seed, store.lookup(row.evaluate)) for row in rows]
    scored = [(row.seed, scores_of(row, store)) for row, (_, folder) in zip(rows, found, strict=True) if folder]
    keys = list(dict.fromkeys(key for _, scores in scored for key in scores))
    one_model = len({folder for _, folder in found}) == 1
    scores = {key: pool(((seed, own[key]) for seed, own in scored if key in own), one_model) for key in keys}
    if len(scored) == len(rows):
        state = "complete"
    elif scored:
        state = "partial"
    else:
        broken = any(step.name in failed for step in closure(row.evaluate for row in rows))
        state = "failed" if broken else "not run"
    return Line(variant.label, variant.name, variant.settings, rows, state, scores)


def _named(settings: Mapping[str, Any], count: int) -> str:
    """The first `count` settings by name and the number of the others, as " (replay.ratio=0.2)"; "" for none."""
    named = [f"{key}={plain(value)}" for key, value in settings.items()]
    if len(named) > count:
        named[count:] = [f"{len(named) - count} more"]
    return f" ({', '.join(named)})" if named else ""


def plain(value: Any) -> str:
    """A setting as one would type it: 0.2, null, [asr,sqa]."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(plain, value))}]"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _numerically(settings: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Orders 0.5, 2 and 10 as numbers and words as words."""
    return [
        (float(value) if isinstance(value, (int, float)) else math.inf, plain(value)) for value in settings.values()
    ]

"""The table of a grid as a document, table.json.

Everything else is made from the document alone, so that all forms agree. It holds scores and the names of the
artifacts that they were read from: no times and no paths, so equal results give equal bytes. Its fields are described
in docs/table_schema.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from src.report import abilities, marks
from src.report.columns import columns
from src.report.compare import references
from src.report.components import components
from src.report.lines import Line
from src.report.retention import Measured
from src.report.sets import titles

FORMAT = 3
"""Format of table.json; raised when a field changes its meaning."""


def document(
    lines: Sequence[Line],
    recognizers: Sequence[Mapping[str, Any]] = (),
    curves: Sequence[Mapping[str, Any]] = (),
    data: Mapping[str, Any] | None = None,
    tests: Mapping[str, marks.Tests] | None = None,
    forgotten: Mapping[str, Sequence[tuple[str, Measured]]] | None = None,
    ifeval: Mapping[str, Mapping[str, abilities.Entry]] | None = None,
) -> dict[str, Any]:
    """table.json as an object; see docs/table_schema.md. tests, forgotten and ifeval are by the line's label."""
    rows = [row for line in lines for row in line.rows]
    keys = list(dict.fromkeys(key for line in lines for key in line.scores))
    scores = {line.label: {key: score.entry() for key, score in line.scores.items()} for line in lines}
    means = {label: abilities.means(own, keys) for label, own in scores.items()}
    averaged = dict.fromkeys(key for own in means.values() for key in own)
    return {
        "format": FORMAT,
        "columns": columns([*keys, *averaged], titles(rows)),
        "rows": [
            {
                "label": line.label,
                "strategy": line.name,
                "settings": dict(line.settings),
                "seeds": line.seeds,
                "replay": line.replays,
                **components(line.rows[0]),
                "state": line.state,
                "evaluations": [row.evaluate.name for row in line.rows],
                "scores": scores[line.label] | means[line.label],
                "tests": dict((tests or {}).get(line.label, {})),
                "forgetting": [
                    {"stage": stage, **measured} for stage, measured in (forgotten or {}).get(line.label, ())
                ],
                "ifeval": dict((ifeval or {}).get(line.label, {})),
            }
            for line in lines
        ],
        "references": [one.entry() for one in references(lines)],
        "recognizers": [dict(one) for one in recognizers],
        "curves": [dict(curve) for curve in curves],
        "data": dict(data or {}),
    }

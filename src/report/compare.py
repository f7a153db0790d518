"""Which rows the others are tested against: those that `compare` names.

    compare=[none,replay]                             strategies; the default
    compare=[none,"Replay (replay.ratio=0.2)"]        a row by its label in the table

In a sweep of one setting over one strategy no row stands out by its strategy: there, unless `compare` has a label, the
reference is the row with the setting's default value. That is the row whose overrides do not name the setting; where
all of them name it, the first one in the table.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from src.grid.errors import ConfigError
from src.grid.row import Row
from src.report.lines import Variant, variants

DEFAULT = ("none", "replay")
"""What is compared with unless one says otherwise. A grid may lack these rows."""

LETTERS = "ABDEGHIJKLMNOPRTUVW"
"""Letters that have a superscript, both capital and small."""
SUPERSCRIPTS = str.maketrans(LETTERS + LETTERS.lower(), "ᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂᵃᵇᵈᵉᵍʰⁱʲᵏˡᵐⁿᵒᵖʳᵗᵘᵛʷ")
"""How a mark is written where there are no superscripts."""


@dataclass(frozen=True)
class Reference:
    """What one name in `compare` stands for in a grid."""

    name: str
    letter: str
    """The marks against it are this letter."""
    lines: tuple[Variant, ...]
    """The lines of the table that fit the name."""

    @property
    def label(self) -> str:
        """What to call it: the label of its row, or what the labels of its rows have in common."""
        return self.lines[0].label if len(self.lines) == 1 else self.lines[0].rows[0].label

    def entry(self) -> dict[str, Any]:
        """As it stands in table.json."""
        rows = [line.label for line in self.lines]
        return {"name": self.name, "label": self.label, "letter": self.letter, "rows": rows}

    def of(self, line: Variant) -> Variant | None:
        """The row to compare a line with: the only one there is, or the one with the same settings."""
        if line in self.lines:
            return None
        same = [one for one in self.lines if one.settings == line.settings]
        chosen = self.lines if len(self.lines) == 1 else same
        return chosen[0] if len(chosen) == 1 else None


def check_compare(rows: Sequence[Row]) -> None:
    """Raise ConfigError, one line, where `compare` names what is no row of this grid, or too many rows.

    The default may name rows that the grid lacks.
    """
    wanted, lines = names(rows), variants(rows)
    if len(wanted) > len(LETTERS):
        raise ConfigError(f"compare names {len(wanted)} rows; it must name at most {len(LETTERS)}")
    for name in wanted:
        if wanted != DEFAULT and not any(fits(name, line) for line in lines):
            known = dict.fromkeys(known for line in lines for known in (line.name, line.label))
            raise ConfigError(f"compare={name}: no row of this grid is called so; its rows are {', '.join(known)}")


def names(rows: Iterable[Row]) -> tuple[str, ...]:
    """What the rows' setting `compare` names, in order."""
    return tuple(dict.fromkeys(name for row in rows for name in row.config.get("compare", DEFAULT)))


def fits(name: str, line: Variant) -> bool:
    """Whether a line is called so: by its strategy, by the strategy's label, or by its own label."""
    return name in (line.name, line.rows[0].label, line.label)


def references(lines: Sequence[Variant]) -> list[Reference]:
    """The references of a grid, in the order of `compare`; a name that fits no line is left out."""
    wanted = names(row for line in lines for row in line.rows)
    found = {name: tuple(line for line in lines if fits(name, line)) for name in wanted}
    if _is_sweep(lines) and not any(len(fitting) == 1 for fitting in found.values()):
        default = _default(lines)
        found = {default.label: (default,)}
    chosen: list[Reference] = []
    for name, fitting in found.items():
        if fitting:
            chosen.append(Reference(name, _letter(fitting[0].label, [one.letter for one in chosen]), fitting))
    return chosen


def _is_sweep(lines: Sequence[Variant]) -> bool:
    """Whether the lines are one strategy with several values of one setting."""
    return len(lines) > 1 and len({line.name for line in lines}) == 1 and all(len(line.settings) == 1 for line in lines)


def _default(lines: Sequence[Variant]) -> Variant:
    """The line of a sweep whose setting has its default value; the first line if that is not among them."""
    (setting,) = lines[0].settings
    return next((line for line in lines if not _overridden(setting, line.rows[0].overrides)), lines[0])


def _overridden(setting: str, overrides: Iterable[str]) -> bool:
    """Whether the command line names the setting, or the group that it is in."""
    named = (text.lstrip("+~").partition("=")[0].partition("@")[0].replace("/", ".") for text in overrides)
    return any(setting == name or setting.startswith(f"{name}.") for name in named)


def _letter(label: str, taken: Sequence[str]) -> str:
    """The first letter of a label that is free, else the first free one: "None" -> N, "Replay" -> R."""
    return next(letter for letter in label.upper() + LETTERS if letter in LETTERS and letter not in taken)

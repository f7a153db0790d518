"""What the drawings of a report have in common: their look, and that equal numbers are drawn once.

A drawing is a file for screens (SVG), one for papers (PDF) and one for everywhere else (PNG). The page shows the SVG
with `inline`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.report.looks import ORIGINAL, WITH, WITHOUT, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#17181c"
QUIET = "#63656f"
RULE = "#dcdce1"
PAPER = "#fffffe"

DPI = 200

PANEL = (4.4, 3.5)
"""Width and height of a panel in inches, with its title and labels: one fits the screen of a phone."""
MARGINS = (0.55, 0.2, 0.45, 0.6)
"""Left, right, top and bottom of a panel, in inches."""
LEGEND_NAME = 23
"""Most characters of a name in a legend of two columns."""

PAGE = {
    **{INK: "currentColor", QUIET: "var(--quiet)", RULE: "var(--rule)", PAPER: "var(--card)"},
    **{WITHOUT: "var(--without)", WITH: "var(--with)", ORIGINAL: "var(--original)"},
}
"""What the style of a page has in place of a color, so that drawings are readable in the dark."""


def keep(folder: Path, name: str, numbers: Any, draw: Callable[["Figure"], None]) -> Path:
    """Write `<name>.svg`, `.pdf` and `.png` into `folder` as `draw` fills an empty figure; the path of the SVG.

    numbers: all that the drawing depends on, with the version of its look. Where the files already show them, nothing
    is drawn; the bytes would be the same.
    """
    digest = hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()
    vector, document, raster = (folder / f"{name}.{ending}" for ending in ("svg", "pdf", "png"))
    whole = all(file.exists() for file in (vector, document, raster))
    if whole and digest in vector.read_text(encoding="utf-8")[:4000]:
        return vector

    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.hashsalt": "palimpsest",
        "pdf.fonttype": 42,  # fonts that journals accept
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.parse_math": False,  # a label may hold a dollar
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with matplotlib.rc_context(style):
        figure = Figure(dpi=DPI, facecolor=PAPER, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        described = {"Date": None, "Creator": None, "Description": digest}
        undated = {"CreationDate": None, "Producer": None, "Creator": None}
        for path, extra in ((document, undated), (raster, None), (vector, described)):
            half = path.with_suffix(f".part{path.suffix}")
            figure.savefig(half, dpi=DPI, metadata=extra)
            half.replace(path)
    return vector


def panels(figure: "Figure", rows: int, columns: int, below: float) -> "list[list[Axes]]":
    """Axes in `rows` and `columns`, each with room of its own, over a strip of `below` inches for the legend."""
    width, height = PANEL
    left, right, top, bottom = MARGINS
    whole, tall = columns * width, rows * height + below
    figure.set_layout_engine("none")
    figure.set_size_inches(whole, tall)
    return [
        [
            figure.add_axes((
                (j * width + left) / whole, (tall - (i + 1) * height + bottom) / tall,
                (width - left - right) / whole, (height - top - bottom) / tall,
            ))
            for j in range(columns)
        ]
        for i in range(rows)
    ]  # fmt: skip


def legend_columns(names: Sequence[str]) -> int:
    """How many columns of a legend with these names are no wider than a panel."""
    return 2 if len(names) > 1 and max(map(len, names)) <= LEGEND_NAME else 1


def views(vector: Path) -> list[str]:
    """The viewBox of each panel of such a drawing, and of the legend: what a narrow screen shows below each other."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', vector.read_text(encoding="utf-8")[:4000])
    assert found, vector
    width, height = (72 * inches for inches in PANEL)
    rows, columns = int(float(found[2]) / height), round(float(found[1]) / width)
    boxes = [(j * width, i * height, width, height) for i in range(rows) for j in range(columns)]
    boxes.append((0, rows * height, width, float(found[2]) - rows * height))
    return [" ".join(f"{number:g}" for number in box) for box in boxes]


def clear(axis: "Axes") -> None:
    """No frame and no ticks: a sheet of paper with rules."""
    axis.set_facecolor("none")
    axis.set_axisbelow(True)
    axis.tick_params(length=0, pad=6)
    for side in axis.spines.values():
        side.set_visible(False)


def marker(look: Look) -> dict[str, Any]:
    """The marker of a look, for matplotlib."""
    size = 5.0 if look.marker in "Ds" else 6.5 if look.marker in "*XP" else 6.0
    face = look.color if look.filled else PAPER
    return {"marker": look.marker, "markersize": size, "markerfacecolor": face, "markeredgecolor": look.color}


def inline(vector: Path, name: str) -> str:
    """The drawing as an <svg> element that takes its colors from the page's style; all of it is the group `name`."""
    text = vector.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    if "<metadata>" in text:
        text = text[: text.index("<metadata>")] + text[text.index("</metadata>") + len("</metadata>") :]
    for color, own in PAGE.items():
        text = text.replace(color, own)
    inner = text.index(">") + 1
    end = text.rindex("</svg>")
    return f'{text[:inner]}<g id="{name}">{text[inner:end]}</g>{text[end:]}'

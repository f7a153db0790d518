import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from src.report import latex, ranking
from src.report.report import write
from tests.report.fakegrid import FakeGrid

PAGE = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
\begin{table}\input{table}\caption{With spread}\end{table}
\begin{table}\input{table_plain}\caption{Without}\end{table}
\end{document}
"""


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fake = FakeGrid(tmp_path_factory.mktemp("latex") / "outputs").add()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("figure", "tradeoff", "instructions"):
            patch.setattr(f"src.report.{name}.draw", lambda table, folder: None)
        write(fake.rows, fake.plan(), fake.store, fake.grid)
    return fake.grid


@pytest.fixture
def told(grid: Path) -> dict:
    return json.loads((grid / "table.json").read_text())


def bodies(tex: str) -> list[list[list[str]]]:
    """The cells of each line of each tabular."""
    found = []
    for part in tex.split(r"\toprule")[1:]:
        lines = part[part.index(r"\midrule") : part.index(r"\bottomrule")].splitlines()
        found.append([line.removesuffix(r" \\").split(" & ") for line in lines if line.endswith(r"\\")])
    return found


def numbers(cells: list[str]) -> list[str]:
    return [re.sub(r"\\textbf\{([^}]*)\}", r"\1", re.sub(r"\{\\scriptsize.*?\}", "", cell)).split("\\")[0]
            for cell in cells]  # fmt: skip


@pytest.mark.parametrize("spread", [True, False])
def test_the_numbers_are_those_of_the_table(told: dict, spread: bool) -> None:
    tex = latex.to_tex(told, spread)
    panels = latex.panels(told, latex.PANEL if spread else latex.PLAIN_PANEL)
    assert [len(panel) for panel in panels] == ([9, 5] if spread else [14])
    for body, panel in zip(bodies(tex), panels, strict=True):
        assert len(body) == 13
        for line, row in zip(body, told["rows"], strict=True):
            scores = [row["scores"].get(column["key"]) for column in panel]
            assert numbers(line[1:]) == [f"{100 * score['mean']:.1f}" if score else "-" for score in scores]
    assert (r"$\pm$" in tex.split(r"\toprule", 1)[1]) == spread


def test_blocks_and_the_best(told: dict) -> None:
    (body,) = re.findall(r"\\midrule\n(.*?)\\bottomrule", latex.to_tex(told, spread=False), re.DOTALL)
    blocks = [block.count(r"\\" + "\n") for block in body.split("\\midrule\n")]
    assert blocks == [1, 6, 6]  # the Original, without and with replay
    bold = {line.split(" & ")[0] for line in body.splitlines() if r"\textbf" in line}
    assert bold and "Original" not in bold
    for column in latex.panels(told, 99)[0]:
        means = {r["label"]: r["scores"][column["key"]]["mean"] for r in told["rows"][1:]}
        highest = f"{100 * max(means.values()):.1f}"
        assert ranking.best(told, column) == {label for label, mean in means.items() if f"{100 * mean:.1f}" == highest}
    alike = [{"label": name, "strategy": name, "scores": {"a": {"mean": 0.0}}} for name in ("x", "y")]
    assert ranking.best({"rows": alike}, {"key": "a", "direction": "up"}) == set()


def test_panels_keep_groups_whole() -> None:
    tasks = [{"key": f"lm_eval/a{i}/acc", "group": f"a{i // 2}", "name": "acc", "table": "lm_eval"} for i in range(11)]
    widths = [len(panel) for panel in latex.panels({"columns": tasks}, 5)]
    assert widths == [4, 4, 3]
    one = [{"key": f"lm_eval/a/acc{i}", "group": "a", "name": "acc", "table": "lm_eval"} for i in range(7)]
    assert [len(panel) for panel in latex.panels({"columns": one}, 5)] == [5, 2]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_it_compiles_without_an_overfull_box(grid: Path, tmp_path: Path) -> None:
    for name in ("table.tex", "table_plain.tex"):
        shutil.copy(grid / name, tmp_path)
    (tmp_path / "page.tex").write_text(PAGE)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Overfull" not in done.stdout

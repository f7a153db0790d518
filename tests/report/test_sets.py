"""Question sets of any number and name, with titles in every form of the table."""

import csv
import html
import io

import pytest

from src.report import card, markdown
from src.report.columns import columns, groups
from src.report.report import write
from src.report.sets import titles
from tests.report.fakegrid import FakeGrid
from tests.report.test_page import Page

pytestmark = pytest.mark.usefixtures("undrawn")
TITLE = "50 % of <b>R&D</b> | *my_set* $x$ [a](b)"


@pytest.fixture
def own(fake: FakeGrid) -> FakeGrid:
    fake.sets = ("animals", "mine", "second", "third")
    fake.questions = {"mine": {"title": TITLE}, "second": {"title": "Second\nset"}, "third": {"title": "Second set"}}
    return fake.add(["original", "none", "replay"])


def test_titles_stand_in_every_form(own: FakeGrid) -> None:
    text = write(own.rows, own.plan(), own.store, own.grid)
    assert all(title in text.splitlines()[0] for title in ("Animals", TITLE, "Second set"))
    page = Page((own.grid / "index.html").read_text(encoding="utf-8"))
    assert page.text.count(TITLE) >= 2 and "<b>R&D</b>" not in (own.grid / "index.html").read_text(encoding="utf-8")
    head = next(row for row in page.rows if TITLE in "".join(row))
    named = [cell for cell in head if "set" in cell and "Mean" not in cell]
    assert named == [TITLE, "Second set", "Second set"]  # two sets, one title
    tex = (own.grid / "table.tex").read_text()
    assert r"{50 \% of \textless{}b\textgreater{}R\&D\textless{}/b\textgreater{} | *my\_set* \$x\$ [a](b)}" in tex
    assert all(line.startswith(("%", "\\", " ", "Str", "Orig", "No mitigation", "Repl")) for line in tex.splitlines())
    assert r"50 % of \<b\>R&D\</b\> \| \*my_set\* \$x\$ \[a\](b) S2T ↑ |" in (own.grid / "table.md").read_text()
    (row, *_) = csv.DictReader(io.StringIO((own.grid / "table.csv").read_text()))
    assert (row["qa/mine/t2t/title"], row["qa/second/s2s/title"]) == (f"{TITLE} T2T", "Second set S2S")
    scores = {"qa/mine/t2t": {"value": 0.5, "n": 4, "standard_error": 0.25}}
    called = titles(own.rows)
    assert f"| {markdown.escape(TITLE)} T2T | 50.0 | 25.0 | 4 |" in card.tables(scores, called)
    (entry,) = card.model_index(scores, "laptop", called)
    assert entry["dataset"] == {"type": "mine", "name": TITLE, "config": "laptop"}


def test_the_terminal_keeps_its_columns_under_long_titles(own: FakeGrid) -> None:
    lines = write(own.rows, own.plan(), own.store, own.grid).splitlines()
    assert len({len(line.rstrip()) for line in lines[3:6]}) == 1
    assert len(lines[0]) <= len(lines[2])


def test_sets_of_one_title_are_two_groups() -> None:
    found = columns(["qa/b/t2t", "qa/a/t2t", "qa/a/s2t", "qa/b/s2t"], {"a": "One", "b": "One"})
    assert [column["key"] for column in found] == ["qa/b/t2t", "qa/b/s2t", "qa/a/t2t", "qa/a/s2t"]
    assert groups(found) == [("One", 2), ("One", 2)]


def test_a_set_without_a_title_has_its_name_and_other_entries_are_no_sets(fake: FakeGrid) -> None:
    fake.questions = {"mine": {"path": "x"}, "most": 3}  # type: ignore[dict-item]
    fake.add(["none"])
    assert "mine" not in titles(fake.rows) and titles(fake.rows)["web_questions"] == "Spoken WebQuestions"
    assert columns(["qa/mine/t2t"], titles(fake.rows))[0]["group"] == "mine"


TEXTS = ["a_b c", "1 * 2", "_x_", "`a`", "<i>", "\\", "&amp;", "R&D", "[a](b)", "$x$", "~~a~~"]


@pytest.mark.parametrize("text", TEXTS)
def test_markdown_shows_a_text_as_it_is(text: str) -> None:
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("strikethrough")
    shown = parser.renderInline(markdown.escape(text))
    assert html.unescape(shown) == text and "<" not in shown
    assert markdown.piped(["a"], [["x | y\nz"]]) == "| a |\n| :-- |\n| x \\| y z |"

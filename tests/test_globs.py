"""Globs in overrides: which names they stand for, what stays as it is, and what a glob of nothing says."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser

from src.globs import elements, expand, matches
from src.grid.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
FILES = ["strategy/b", "strategy/a", "strategy/a_x", "strategy/extra/mine", "strategy/extra/deep/er", "strategy/my own",
         "strategy/null", "speech/vocoder/v", "hydra/launcher/l"]  # fmt: skip


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    for name in FILES:
        file = tmp_path / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    for other in ("note.txt", "._a.yaml"):
        (tmp_path / "conf" / "strategy" / other).write_text("")
    return tmp_path / "conf"


TOP = "a,a_x,b,'my own','null'"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("glob(*)", TOP),
        ("glob(**)", "a,a_x,b,extra/deep/er,extra/mine,'my own','null'"),
        ("glob(*),extra/mine", f"{TOP},extra/mine"),
        ("extra/mine,glob(*)", f"extra/mine,{TOP}"),
        ("glob([a*,extra/*])", "a,a_x,extra/mine"),
        ("glob([extra/**, b])", "b,extra/deep/er,extra/mine"),
        ("glob(**/e*)", "extra/deep/er"),
        ("glob(**,exclude=['null',my*,extra/**])", "a,a_x,b"),
        ("glob(**,exclude=[null,m*,extra/**])", "a,a_x,b"),
        ("glob(a*, exclude=*_x)", "a"),
        ("b , glob(a*),a,b,glob(b)", "b,a,a_x"),
        ("glob('[ab]')", "a,b"),
        ("glob(?)", "a,b"),
        ("'quoted, with a comma',glob(b)", "'quoted, with a comma',b"),
        (r"one\,thing,glob(b)", r"one\,thing,b"),
        ("choice(x,y),glob(b)", "x,y,b"),
    ],
)
def test_a_glob_is_written_as_the_names_that_it_matches(conf: Path, value: str, written: str) -> None:
    assert expand([f"strategy={value}"], conf) == [f"strategy={written}"]
    for key in ("+strategy", "++strategy", "strategy@_global_"):
        assert expand([f"{key}={value}"], conf) == [f"{key}={written}"]


@pytest.mark.parametrize(
    "argument",
    ["-m", "--multirun", "--config-dir=glob(*)", "strategy=a", "strategy=a,b", "seed=0,1", "seed=range(0,3)",
     "strategy='glob(*)',b", 'strategy="glob(*)"', "strategy=[a,glob(*)]", "strategy={a: glob(*)}", "~strategy=glob(*)",
     "strategy=glob(", "strategy=glob()", "strategy=nonsense(1),2", "x=int(1)", r"x=glob\(a\)", "x=${oc.env:A,glob(*)}",
     "x=", "x", "x= spaced , out ", "name=a=glob"],
)  # fmt: skip
def test_what_has_no_glob_stays_character_by_character(conf: Path, argument: str) -> None:
    assert expand([argument], conf) == [argument]


def test_ranges_may_stand_in_lists(conf: Path) -> None:
    assert expand(["seed=range(0,3),7", "lr=0.5,range(0,1,0.5)"], conf) == ["seed=0,1,2,7", "lr=0.5,0.0"]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("strategy=glob(z*)", "strategy=glob(z*): glob(z*) matches nothing; strategy has a, a_x, b, extra/deep/er, "
                              "extra/mine, my own, null"),
        ("strategy=glob(a),glob(z)", "glob(z) matches nothing; strategy has a, "),
        ("speech/vocoder=glob(a)", "glob(a) matches nothing; speech/vocoder has v"),
        ("stratgy=glob(*)", "stratgy is no group of settings; there are speech, strategy"),
        ("seed=range(3,3)", "seed=range(3,3): range(3,3) is empty"),
        ("seed=7,range(3,3)", "range(3,3) is empty"),
        ("seed=range(0,3,0)", "must not be zero"),
        ("seed=shuffle(range(3,3))", "shuffle(range(3,3)) is empty"),
        ("seed=interval(0,1)", "interval(0,1) has no values; list them, or write range(FIRST,BEYOND,STEP)"),
        ("strategy=a,interval(0,1)", "interval(0,1) has no values"),
    ],
)  # fmt: skip
def test_a_glob_or_range_of_nothing_is_one_line_that_says_what_there_is(conf: Path, argument: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        expand(["-m", argument], conf)
    assert said in str(raised.value) and str(raised.value).startswith(f"{argument}: ") and "\n" not in str(raised.value)


def test_folders_that_the_command_line_adds_count(conf: Path, tmp_path: Path) -> None:
    for folder in ("one", "two", "three"):
        (tmp_path / folder / "strategy").mkdir(parents=True)
        (tmp_path / folder / "strategy" / f"{folder}.yaml").write_text("{}")
    arguments = ["--config-dir", str(tmp_path / "one"), f"hydra.searchpath=[file://{tmp_path}/two,'{tmp_path}/three']"]
    assert expand([*arguments, "strategy=glob([b,*e,t*])"], conf) == [*arguments, "strategy=b,one,three,two"]


@pytest.mark.parametrize(
    ("name", "pattern", "whole"),
    [("a", "*", True), ("a/b", "*", False), ("a/b", "*/*", True), ("a", "*/*", False), ("a/b/c", "**", True),
     ("a", "a/**", False), ("a/b/c", "a/**", True), ("a/b/c", "**/c", True), ("c", "**/c", True),
     ("a/b/c", "a/**/c", True), ("a/c", "a/**/c", True), ("ab", "a?", True), ("A", "a", False), ("a", "", False)],
)  # fmt: skip
def test_a_star_stays_within_a_folder_and_two_do_not(name: str, pattern: str, whole: bool) -> None:
    assert matches(name, pattern) is whole


@pytest.mark.parametrize(
    "value", ["a,b", "[a,b],c", "{x: 1, y: [2,3]},z", "str([a,b]),c", "'a,b',\"c,d\"", r"a\,b,c", ""]
)
def test_elements_are_split_where_hydra_splits_them(value: str) -> None:
    override = OverridesParser.create().parse_override(f"key=choice({value},last)" if value else "key=")
    expected = len(override.value().list) - 1 if value else 1  # type: ignore[union-attr]
    assert len(elements(value)) == expected


def test_the_shipped_strategies_are_those_of_hydras_own_glob() -> None:
    loader = ConfigLoaderImpl(create_config_search_path(str(ROOT / "conf")))
    override = OverridesParser.create(config_loader=loader).parse_overrides(["strategy=glob(*)"])[0]
    assert expand(["strategy=glob(*)"], ROOT / "conf") == ["strategy=" + ",".join(override.sweep_string_iterator())]


# The command


def run(outputs: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "src.run", "-m", *overrides, "plan_only=true", f"outputs={outputs}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def own_row(conf: Path) -> str:
    """Write the strategy extra/mine and the sweep mine into the folder; the argument that makes Hydra look there."""
    replay = (ROOT / "conf" / "strategy" / "replay.yaml").read_text(encoding="utf-8")
    sweep = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      strategy: glob(n*),{}\n      seed: 0,1\n"
    texts = {
        "strategy/extra/mine": replay.replace("name: replay", "name: mine").replace("label: ", "label: Mine "),
        "sweeps/mine": sweep.format("glob(**/replay)"),
        "sweeps/nothing": sweep.format("glob(z*)"),
    }
    for name, text in texts.items():
        file = conf / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return f"hydra.searchpath=[file://{conf}]"


@pytest.mark.parametrize("value", ["none,glob(extra/mine*)", "glob([none,**/mine])", "glob(n*),extra/mine"])
def test_rows_of_ones_own_in_a_list(tmp_path: Path, value: str) -> None:
    done = run(tmp_path / "outputs", f"strategy={value}", own_row(tmp_path / "conf"))
    assert done.returncode == 0, done.stderr
    assert "\n2 rows; " in done.stdout


def test_the_globs_of_a_named_sweep_are_written_out_too(tmp_path: Path) -> None:
    where = own_row(tmp_path / "conf")
    done = run(tmp_path / "outputs", "sweeps=mine", where)
    assert done.returncode == 0, done.stderr
    assert "\n4 rows; " in done.stdout
    done = run(tmp_path / "outputs", "sweeps=nothing", where)
    assert done.returncode == 1 and done.stdout == ""
    assert "strategy=glob(n*),glob(z*): glob(z*) matches nothing; strategy has " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("override", "said"),
    [("strategy=glob(z*),none", "strategy has "), ("seed=range(3,3)", "is empty"), ("stratgy=glob(*)", "no group")],
)
def test_zero_cells_are_one_line(tmp_path: Path, override: str, said: str) -> None:
    done = run(tmp_path / "outputs", override)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"{override}: ") and said in done.stderr and done.stderr.count("\n") == 1

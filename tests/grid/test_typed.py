"""Plain values to typed settings: what is taken, what is refused in which words, and the way back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from src.grid.errors import ConfigError
from src.grid.typed import plain, typed, unknown


@dataclass(frozen=True, kw_only=True)
class Part:
    """A section in a section."""

    size: int
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; it must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class Whole:
    """One field of each form that settings have."""

    part: Part
    name: str = "whole"
    quick: bool = False
    most: int | None = None
    rate: float | None = 0.1
    other: Part | None = None
    way: Literal["up", "down"] = "up"
    words: tuple[str, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    parts: Mapping[str, Part] = field(default_factory=dict)
    either: int | str | None = None
    free: Any = None


def whole(**given: Any) -> Whole:
    return typed(Whole, {"part": {"size": 1}, **given})


def test_what_is_not_given_has_its_default() -> None:
    assert whole() == Whole(part=Part(size=1))


def test_every_form_is_converted() -> None:
    made = whole(
        most=3, rate=1, other={"size": 2, "share": 1}, way="down", words=["a", "b"], pair=[3, 4],
        parts={"x": {"size": 5}}, either="e", free={"a": [1]},
    )  # fmt: skip
    assert made.other == Part(size=2, share=1.0) and made.parts == {"x": Part(size=5)}
    assert (made.most, made.rate, made.way, made.words, made.pair) == (3, 1.0, "down", ("a", "b"), (3, 4.0))
    assert (made.either, made.free) == ("e", {"a": [1]})
    assert type(made.rate) is type(made.pair[1]) is float, "a whole number is a number"


def test_null_stands_for_nothing_where_it_may() -> None:
    made = whole(most=None, rate=None, other=None, either=None)
    assert (made.most, made.rate, made.other, made.either) == (None, None, None, None)


def test_what_is_typed_already_is_taken_as_it_is() -> None:
    part = Part(size=7)
    assert whole(part=part).part is part


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"part": {}}, "part.size is not set"),
        ({"part": {"size": "two"}}, "part.size is 'two'; it must be a whole number"),
        ({"part": {"size": 1.0}}, "part.size is 1.0; it must be a whole number"),
        ({"part": {"size": True}}, "part.size is True; it must be a whole number"),
        ({"part": {"size": None}}, "part.size is None; it must be a whole number"),
        ({"part": {"size": 1, "share": "x"}}, "part.share is 'x'; it must be a number"),
        ({"part": {"size": 1, "share": False}}, "part.share is False; it must be a number"),
        ({"part": {"size": 0}}, "part.size is 0; it must be 1 or more"),
        ({"part": {"size": 1, "shape": 2}}, "part.shape is no setting; did you mean part.share?"),
        ({"part": {"size": 1, "zzz": 2}}, "part.zzz is no setting; there are share, size"),
        ({"part": 3}, "part is 3; it must be the settings {size: .., share: ..}"),
        ({"naem": 3}, "naem is no setting; did you mean name?"),
        ({"name": 3}, "name is 3; it must be a text"),
        ({"quick": "yes"}, "quick is 'yes'; it must be true or false"),
        ({"quick": 1}, "quick is 1; it must be true or false"),
        ({"most": "x"}, "most is 'x'; it must be a whole number or null"),
        ({"other": 3}, "other is 3; it must be the settings {size: .., share: ..} or null"),
        ({"other": {"size": "x"}}, "other.size is 'x'; it must be a whole number"),
        ({"other": {"size": 0}}, "other.size is 0; it must be 1 or more"),
        ({"way": "left"}, "way is 'left'; it must be one of up, down"),
        ({"words": "a"}, "words is 'a'; it must be a list in brackets, [a, b]"),
        ({"words": ["a", 2]}, "words[1] is 2; it must be a text"),
        ({"pair": [1]}, "pair is [1]; it must be a list of 2"),
        ({"parts": [1]}, "parts is [1]; it must be settings in braces, {name: value}"),
        ({"parts": {"x": {"size": 0}}}, "parts.x.size is 0; it must be 1 or more"),
        ({"parts": {"x": {}}}, "parts.x.size is not set"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_setting(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        whole(**given)
    assert str(raised.value) == message
    with pytest.raises(ConfigError) as raised:
        typed(Whole, {"part": {"size": 1}, **given}, "section.of")
    within = f"section.of.{message}".replace("mean ", "mean section.of.")
    assert str(raised.value) == within, "in a section, too"


@pytest.mark.parametrize(
    "made",
    [
        whole(),
        whole(part={"size": 2, "share": 0.25}, other={"size": 3}, words=["a"], parts={"x": {"size": 4}}, free=[None]),
    ],
)
def test_the_way_back_is_json_and_gives_the_same(made: Whole) -> None:
    for skip in (False, True):
        assert typed(Whole, json.loads(json.dumps(plain(made, skip_defaults=skip)))) == made


def test_defaults_are_left_out_if_they_are_to_be() -> None:
    assert plain(whole(rate=0.1, most=2), skip_defaults=True) == {"part": {"size": 1}, "most": 2}
    assert plain(whole(), skip_defaults=False)["pair"] == [1, 2.0]
    assert plain(whole(quick=False, parts={}), skip_defaults=True) == {"part": {"size": 1}}


def test_a_value_of_another_type_than_the_default_is_not_the_default() -> None:
    """0 == False, and yet a setting may tell them apart."""

    @dataclass(frozen=True)
    class Loose:
        value: Any = False

    assert plain(Loose(0), skip_defaults=True) == {"value": 0}
    assert plain(Loose(False), skip_defaults=True) == {}


def test_classes_that_are_leaves_stay_as_they_are() -> None:
    made = whole(other={"size": 2})
    assert plain(made, leaf=Part)["other"] is made.other
    assert plain(made.part, leaf=Part) == {"size": 1, "share": 0.5}, "except for the value itself"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trian.lr", "trian.lr is no setting; did you mean train.lr?"),
        ("train.zzzzz", "train.zzzzz is no setting; train has lr, stages"),
        ("zzzzz", "zzzzz is no setting; a cell has train, seed"),
        ("train.lr.zzzzzzzzz", "train.lr.zzzzzzzzz is no setting; train has lr, stages"),
    ],
)
def test_a_setting_that_does_not_exist_is_told_its_neighbours(name: str, message: str) -> None:
    assert unknown(name, {"train": {"lr": 1, "stages": {"asr": 2}}, "seed": 0}) == message

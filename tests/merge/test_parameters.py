"""Parameters against mergekit's own types, value by value, and what is refused before anything is trained."""

import itertools
from typing import Any

import pytest
from mergekit.config import InputModelDefinition, evaluate_setting
from mergekit.merge_methods import registered_methods

from src.config import Merging
from src.grid.typed import ConfigError, typed
from src.merge.parameters import PARAMETERS, covers, read
from tests.merge.test_methods import TIES

SPECS = {p.name: p for method in registered_methods() for p in method.spec.parameters}
VALUES: list[Any] = [
    0, 1, 2, 5, -1, 0.5, 0.9, 1.0, 3.0, 2.5, 1e-8, "0.5", "1e-3", "3", "abc", "", True, False, "true", "no", "on",
    float("nan"), float("inf"), "nan", "inf", None, b"1", (), 10**400,
]  # fmt: skip


def by_mergekit(name: str, value: Any) -> Any:
    """The value as mergekit reads it from its YAML; None where it refuses."""
    try:
        return SPECS[name].validate(value)
    except ValueError:
        return None


def test_every_parameter_of_mergekit_is_known():
    assert SPECS.keys() == PARAMETERS.keys()


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_a_value_means_what_it_means_to_mergekit(name):
    accepted = 0
    for value in VALUES:
        try:
            ours = read(name, value, "it")
        except ValueError as error:
            assert str(error).startswith("it is ") and "\n" not in str(error)
            continue
        accepted += 1
        theirs = by_mergekit(name, value)
        assert type(ours) is PARAMETERS[name].kind and type(theirs) is type(ours) and ours == theirs, value
    assert accepted >= 3


@pytest.mark.parametrize("name", ["weight", "density", "normalize", "max_iter"])
@pytest.mark.parametrize(
    "value",
    [
        [1, 1], ["1", 1.0, 1], {"value": 1}, {"value": [1, "1"], "filter": "mlp"},
        [{"filter": "q_proj", "value": 1}, {"value": ["1", 1]}], [{"filter": "*", "value": 1}],
    ],
)  # fmt: skip
def test_gradients_and_filters_are_read_by_mergekit_to_the_same_values(name, value):
    """What we hand on, and what a user wrote, resolve to the same in mergekit for every tensor and layer."""
    written: list[Any] = [{"model": "sqa", "parameters": {name: given}} for given in (read(name, value, "it"), value)]
    settings: list[Any] = [InputModelDefinition.model_validate(given).parameters for given in written]
    for tensor, t in itertools.product(("model.layers.0.mlp.q_proj", "model.norm"), (0.0, 0.3, 1.0)):
        found = [evaluate_setting(tensor, given[name], t, validate=SPECS[name].validate) for given in settings]
        assert found[0] == found[1] and type(found[0]) is type(found[1])


def test_a_filter_covers_the_tensors_that_it_names():
    part, rest = {"filter": "q_proj", "value": 0.1}, {"value": 0.2}
    assert [covers(read("weight", value, "it")) for value in (0.5, [0.1, 0.2], [part, rest], rest)] == [True] * 4
    assert [covers(read("weight", value, "it")) for value in (part, [part])] == [False] * 2


def slerp(t: Any) -> dict[str, Any]:
    return {"method": "slerp", "base_model": "base", "models": {"sqa": {}}, "parameters": {"t": t}}


def della(**model: Any) -> dict[str, Any]:
    return {"method": "della", "models": {"sqa": {"weight": 1.0, **model}}}


PART = {"filter": "q_proj", "value": 0.5}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"parameters": {"lambda": "abc"}}, "merge.parameters.lambda is 'abc'; it must be a number, or a list of such"),
    ({"parameters": {"lambda": True}}, "merge.parameters.lambda is True; it must be a number"),
    ({"parameters": {"lambda": []}}, "merge.parameters.lambda is []; it must be a number"),
    ({"parameters": {"lambda": float("nan")}}, "merge.parameters.lambda is nan"),
    ({"parameters": {"normalize": 2}}, "merge.parameters.normalize is 2; it must be true or false"),
    ({"models": {"sqa": {"weight": 1, "density": 5}}}, "sqa.density is 5; it must be a number: above 0 and at most 1"),
    ({"models": {"sqa": {"weight": 1, "density": 0}}}, "sqa.density is 0; it must be a number: above 0 and at most 1"),
    ({"models": {"sqa": {"weight": 1, "density": [0.5, 2]}}}, "merge.models.sqa.density is [0.5, 2]"),
    ({"models": {"sqa": {"weight": "heavy"}}}, "merge.models.sqa.weight is 'heavy'; it must be a number"),
    ({"models": {"sqa": {"weight": None}}}, "merge.models.sqa.weight is None; it must be a number"),
    ({"models": {"sqa": {"weight": PART}}}, "merge.models.sqa.weight has a value for filtered tensors alone"),
    ({"models": {"sqa": {"weight": [PART, 0.5]}}}, "merge.models.sqa.weight[1] is 0.5; it must be {filter:"),
    ({"models": {"sqa": {"weight": {"filtr": "q", "value": 1}}}}, "merge.models.sqa.weight is {'filtr'"),
    ({"models": {"sqa": {"weight": {"filter": 3, "value": 1}}}}, "merge.models.sqa.weight.filter is 3"),
    ({"models": {"sqa": {"weight": {"value": "x"}}}}, "merge.models.sqa.weight.value is 'x'; it must be a number"),
    (slerp(2), "merge.parameters.t is 2; it must be a number: at least 0 and at most 1"),
    (slerp("half"), "merge.parameters.t is 'half'"),
    (slerp([0, 1.5]), "merge.parameters.t is [0, 1.5]"),
    ({"method": "karcher", "base_model": None, "models": {"asr": {}, "sqa": {}}, "parameters": {"max_iter": 2.5}},
     "merge.parameters.max_iter is 2.5; it must be a whole number: at least 1"),
    (della(density=0.9), "merge.models.sqa.density is 0.9; della takes a density above epsilon=0.15 and below 0.85"),
    (della(density=0.5, epsilon=0.6), "merge.models.sqa.density is 0.5; della takes"),
    ({"method": "linear", "base_model": None, "parameters": {"weight": 0}, "models": {"asr": {}, "sqa": {}}},
     "merge.models: the weights sum to 0, and linear makes no model of that"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_cannot_be_merged_is_refused_when_it_is_planned(change, message):
    given = {key: value for key, value in {**TIES, **change}.items() if key != "dtype"}
    with pytest.raises(ConfigError) as error:
        typed(Merging, given, "merge")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_numbers_are_typed_whatever_they_were_written_as():
    written = {
        "method": "ties", "base_model": "base", "parameters": {"lambda": "0.5", "normalize": "yes", "int8_mask": 0},
        "models": {"asr": {"weight": 1}, "sqa": {"weight": [0, "1e-1"], "density": [{"filter": "mlp", "value": 1}]}},
    }  # fmt: skip
    read = typed(Merging, written, "merge")
    assert read.parameters == {"lambda": 0.5, "normalize": True, "int8_mask": False}
    assert repr(read.models) == repr(
        {"asr": {"weight": 1.0}, "sqa": {"weight": [0.0, 0.1], "density": [{"value": 1.0, "filter": "mlp"}]}}
    )

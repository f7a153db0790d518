"""The literal table of methods against mergekit's registry, and the messages of a plan that cannot work."""

import subprocess
import sys

import pytest
from mergekit.merge_methods import registered_methods
from mergekit.merge_methods.base import BasePolicy, ParameterScope

from src.merge.methods import METHODS, TABLE, check


def test_names_are_those_of_mergekit():
    assert sorted(METHODS) == sorted(method.spec.name for method in registered_methods())


@pytest.mark.parametrize("method", registered_methods(), ids=lambda method: method.spec.name)
def test_inputs_and_parameters_are_those_of_mergekit(method):
    ours, spec = TABLE[method.spec.name], method.spec
    assert spec.contract.base == BasePolicy(ours.base)
    assert (spec.contract.min_inputs, spec.contract.max_inputs) == (ours.least, ours.most)
    others = (spec.contract.min_non_base, spec.contract.max_non_base)
    assert others == (ours.others or (None, None))
    shared = {p.name for p in spec.parameters if p.scope == ParameterScope.SHARED}
    per_model = {p.name: p.scope for p in spec.parameters if p.scope != ParameterScope.SHARED}
    assert set(ours.shared) == shared
    assert set(ours.per_model) == set(per_model)
    assert set(ours.required) == {p.name for p in spec.parameters if p.required}
    # `check` asks for a required parameter of the base model exactly where mergekit does
    for name in ours.required:
        if name in per_model:
            assert (per_model[name] == ParameterScope.INPUT) == (ours.base == "ignored")


def test_table_needs_neither_torch_nor_mergekit():
    code = "import sys, src.merge.methods; print([m for m in ('torch', 'mergekit', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


TIES = {
    "method": "ties",
    "parameters": {"normalize": True},
    "models": {"asr": {"weight": 0.1}, "sqa": {"weight": 0.9, "density": 0.9}},
    "base_model": "base",
    "dtype": "float32",
    "seed": 0,
}


def test_check_accepts_what_is_right():
    check(TIES)
    check({**TIES, "method": "linear", "base_model": None, "models": {"base": {"weight": 1}, "sqa": {"weight": 2}}})
    check({**TIES, "parameters": {"weight": 0.5, "density": [0.1, 0.9]}, "models": {"asr": {}, "sqa": {}}})
    check({**TIES, "method": "slerp", "parameters": {"t": 0.3}, "models": {"sqa": {}}})
    check({**TIES, "method": "nuslerp", "parameters": {}, "models": {"asr": {"weight": 1}, "sqa": {"weight": 1}}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "nonsense"}, "merge.method=nonsense"),
        ({"base_model": None}, "merge.base_model=null"),
        ({"parameters": {"densty": 0.9}}, "merge.parameters.densty"),
        ({"models": {"asr": {"weight": 1, "gama": 0}}}, "merge.models.asr.gama"),
        ({"models": {"asr": {}}}, "merge.models.asr.weight"),
        ({"method": "linear", "parameters": {}}, "merge.models.sqa.density"),
        ({"method": "linear", "parameters": {}, "models": {"sqa": {"weight": 1}}}, "merge.models.base.weight"),
        ({"method": "slerp", "parameters": {"t": 0.5}, "models": {"asr": {}, "sqa": {}}}, "exactly 2, with the base"),
        ({"method": "slerp", "parameters": {}, "models": {"sqa": {}}}, "merge.parameters.t"),
        ({"method": "model_stock", "parameters": {}, "models": {"sqa": {}}}, "at least 3, with the base model; here 2"),
        ({"method": "nuslerp", "parameters": {}, "models": {"sqa": {"weight": 1}}}, "exactly 2, besides"),
        ({"method": "passthrough", "parameters": {}, "models": {"asr": {}}}, "exactly 1, with the base model; here 2"),
    ],
)
def test_check_names_the_setting_at_fault(change, message):
    with pytest.raises(ValueError, match=r"^merge") as error:
        check({**TIES, **change})
    assert message in str(error.value)
    assert "\n" not in str(error.value)

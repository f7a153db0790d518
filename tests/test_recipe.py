"""From configuration to steps: what is shared, what differs, and what is refused."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from src import config
from src.config import local_paths
from src.evaluate import qa, wer
from src.grid.errors import ConfigError
from src.grid.row import Row
from src.grid.step import Step, closure
from src.recipe import row
from src.steps.discount import Discount
from src.steps.generate import Generate
from src.steps.merge import Merge
from src.steps.score import Score
from src.steps.train import Train

ROOT = Path(__file__).parents[1]
GIVEN = "+strategy.given={model: some/model}"
STRATEGIES = sorted(file.stem for file in (ROOT / "conf" / "strategy").glob("*.yaml"))


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        yield


def rows_of(*overrides: str) -> list[Row]:
    return [row(compose("config", overrides=[f"strategy={name}", *overrides])) for name in STRATEGIES]


def model_of(made: Row) -> Step:
    """The model that a row is about."""
    return made.evaluate.inputs["responses"].inputs["model"]


def test_thirteen_rows_need_six_training_steps() -> None:
    rows = rows_of()
    assert len(rows) == 13
    steps = list(closure(step for one in rows for step in one.steps))
    kinds = [step.kind for step in steps]
    assert kinds.count("train") == 6
    assert kinds.count("merge") == 6 and kinds.count("discount") == 4
    assert kinds.count("generate") == kinds.count("score") == 13 + 4  # the rows, and both chains after ASR and TTS
    assert len({step.name for step in steps}) == len(steps) == 60


def test_seeds_share_the_corpus_and_the_voices() -> None:
    steps = list(closure(step for seed in (0, 1) for one in rows_of(f"seed={seed}") for step in one.steps))
    kinds = [step.kind for step in steps]
    assert [kinds.count(kind) for kind in ("corpus", "quantizer", "units", "vocoder", "recognizer")] == [1] * 5
    assert kinds.count("base") == 2 and kinds.count("train") == 12


def test_the_original_is_scored_on_text_alone() -> None:
    original = row(compose("config", overrides=["strategy=original"]))
    assert original.evaluate.settings == {"tasks": ["t2t", "ifeval"], "config": {"matching": "contiguous"}}
    responses = original.evaluate.inputs["responses"]
    assert isinstance(responses, Generate) and list(responses.config.max_new_tokens) == ["t2t", "ifeval"]
    assert {step.kind for step in closure(original.steps)} == {"corpus", "base", "generate", "score"}


@pytest.mark.parametrize("setting", ["evaluate.matching=substrings", "evaluate.wer_normalization=whisper"])
def test_how_responses_are_judged_changes_no_response(setting: str) -> None:
    plain, other = (row(compose("config", overrides=["strategy=replay", *more])) for more in ([], [setting]))
    assert plain.evaluate.fingerprint != other.evaluate.fingerprint
    assert {step for step in closure(plain.steps) if step.kind != "score"} == {
        step for step in closure(other.steps) if step.kind != "score"
    }
    assert plain.curve["asr"].inputs["responses"] == other.curve["asr"].inputs["responses"]


@pytest.mark.parametrize("setting", ["evaluate.decoding.seed=1", "evaluate.max_new_tokens.t2t=3", "evaluate.listen=0"])
def test_how_a_model_is_asked_changes_its_responses(setting: str) -> None:
    plain, other = (row(compose("config", overrides=["strategy=replay", *more])).evaluate for more in ([], [setting]))
    assert plain.settings == other.settings
    assert plain.inputs["responses"] != other.inputs["responses"]
    assert plain.inputs["responses"].inputs == other.inputs["responses"].inputs


def test_what_can_be_chosen_is_what_there_is() -> None:
    """Settings are checked without importing what reads them."""
    for name, known in (("matching", qa.RULES), ("wer_normalization", wer.NORMALIZATIONS)):
        for value in known:
            scored = row(compose("config", overrides=["strategy=replay", f"evaluate.{name}={value}"])).evaluate
            assert isinstance(scored, Score) and getattr(scored.config, name) == value


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_row_is_what_its_name_says(name: str) -> None:
    made = row(compose("config", overrides=[f"strategy={name}"]))
    model = model_of(made)
    assert model.kind == next((kind for word, kind in KINDS.items() if name.startswith(word)), "train")
    trained = [step for step in closure(made.steps) if isinstance(step, Train)]
    assert all((step.replay is not None) == name.endswith("replay") for step in trained)
    if name.startswith("scale"):
        assert isinstance(model, Discount) and model.alpha == float(name.split("_")[1])
    assert bool(made.curve) == (name in ("none", "replay"))


KINDS = {"original": "base", "merge": "merge", "scale": "discount"}


def test_the_papers_weights() -> None:
    weights: dict[str, dict[str, Any]] = {}
    for name in ("merge_linear", "merge_ties", "merge_dare"):
        merge = model_of(row(compose("config", overrides=[f"strategy={name}"])))
        assert isinstance(merge, Merge)
        weights[name] = merge.recipe()
        assert list(weights[name]["models"])[-3:] == ["asr", "tts", "sqa"]
    linear = {role: model["weight"] for role, model in weights["merge_linear"]["models"].items()}
    assert linear == {"base": 0.02, "asr": 0.03, "tts": 0.05, "sqa": 0.90}
    for name, method, density in (("merge_ties", "ties", 0.9), ("merge_dare", "dare_ties", 0.91)):
        config = weights[name]
        assert config["method"] == method and config["base_model"] == "base"
        assert config["models"] == {
            role: {"weight": weight, "density": density}
            for role, weight in (("asr", 0.04), ("tts", 0.06), ("sqa", 0.9))
        }
        assert config["parameters"]["normalize"] is True


def test_an_undiscounted_discount_is_the_chain_itself() -> None:
    plain, same = (
        row(compose("config", overrides=overrides)).evaluate
        for overrides in (["strategy=none"], ["strategy=scale_14", "discount.alpha=16"])
    )
    assert plain == same and plain.name == same.name


def test_the_first_stage_replays_text_alone() -> None:
    few, many = (
        row(compose("config", overrides=["strategy=replay", f"replay.ratio={ratio}"])) for ratio in (0.1, 0.3)
    )
    assert few.curve["asr"] == many.curve["asr"] and few.curve["tts"] != many.curve["tts"]


def test_choices_combine_on_the_command_line() -> None:
    made = row(compose("config", overrides=["strategy=replay", "merge=linear", "discount.alpha=14"]))
    merge = model_of(made)
    assert merge.kind == "merge" and merge.inputs["base"].kind == "base"
    assert [merge.inputs[f"stages.{stage}"].kind for stage in ("asr", "tts", "sqa")] == ["discount"] * 3


def test_what_does_not_change_a_result_is_in_no_fingerprint() -> None:
    plain, tracked = (
        row(compose("config", overrides=["strategy=replay", *more]))
        for more in ([], ["tracker.mode=disabled", "outputs=elsewhere", "name=mine"])
    )
    assert plain.evaluate.fingerprint == tracked.evaluate.fingerprint


def test_replay_settings_do_not_touch_rows_without_replay() -> None:
    plain, other = (
        row(compose("config", overrides=["strategy=none", *more])) for more in ([], ["replay.ratio=0.7"])
    )
    assert plain.evaluate.fingerprint == other.evaluate.fingerprint


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["replay.ratio=-1"], "replay.ratio is -1.0; it must be at least 0"),
        (["train.lr=abc"], "train.lr is 'abc'; it must be a number"),
        (["train.lr=nan"], "train.lr is nan"),
        (["seed=x"], "seed is 'x'; it must be a whole number"),
        (["replay.ratio=1.5"], "replay.ratio is 1.5; it must be at most 1"),
        (["seed=-1"], "seed is -1; it must be from 0 to 4294967295"),
        (["seed=36893488147419103232"], "seed is 36893488147419103232; it must be from 0 to 4294967295"),
        (["model.pretrain.lr=abc"], "model.pretrain.lr is 'abc'; it must be a number"),
        (["+model.pretrain.foo=1"], "model.pretrain.foo is no setting"),
        (["model.architecture.num_attention_heads=5"], "a divisor of hidden_size=128"),
        (["train.adapter.target_modules=[nope]"], "train.adapter.target_modules is 'nope'; it must be out of q_proj"),
        (["+deepspeed.gradient_accumulation_steps=4"], "deepspeed.gradient_accumulation_steps is 4"),
        (["evaluate.asr_examples=-5"], "evaluate.asr_examples is -5; it must be greater than 0"),
        (["strategy=merge_ties", "merge.models.asr.weight=abc"], "merge.models.asr.weight is 'abc'"),
        (["strategy=merge_ties", "merge.models.asr.density=7"], "merge.models.asr.density is 7"),
        (["speech.quantizer.clusters=1"], "speech.quantizer.clusters is 1; it must be 2 or more"),
        (["replay.basis=new"], "replay.basis is 'new'; it must be one of old, current"),
        (["merge.method=nonsense"], "merge.method=nonsense: mergekit has no such method; it has arcee_fusion"),
        (["merge.method=linear"], "at least two models"),
        (["discount.alpha=17"], "discount.alpha is 17.0; it must be between 0 and the trained alpha"),
        (["+data.speakers=3"], "data.speakers is no setting"),
        (["+train.stages.asr.batch_size=4"], "one positive number and one null"),
        (["train.stages.sqa.epochs=0"], "train.stages.sqa.epochs is 0; it must be greater than 0"),
        (["strategy=original", "replay.enabled=true"], "strategy=original with replay.enabled=True"),
        (["strategy=none", GIVEN, "merge=ties"], "strategy.given with merge.method=ties"),
        (["strategy=original", GIVEN], "original with strategy.given is True; it must be one of the two"),
        (["strategy=none", "+strategy.given={}"], "strategy.given.model is {'model': None, 'adapter': None}; it"),
        (["strategy=none", "+strategy.given={adapter: a, model: b}"], "as exactly one of the two"),
        (
            ["evaluate.matching=fuzzy"],
            "evaluate.matching is 'fuzzy'; it must be one of contiguous, has_answer, substrings",
        ),
        (["evaluate.wer_normalization=no"], "evaluate.wer_normalization is 'no'; it must be basic or whisper"),
    ],
)
def test_bad_settings_are_one_line_that_names_them(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        row(compose("config", overrides=overrides))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_planning_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, src.run, src.recipe, launchers.local; print([*{'torch', 'numpy'} & set(sys.modules)])"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize("profile", ["paper", "single_gpu"])
def test_published_data_and_components_share_one_plan(profile: str) -> None:
    steps = list(closure(step for one in rows_of(f"profile={profile}") for step in one.steps))
    kinds = [step.kind for step in steps]
    assert [kinds.count(kind) for kind in ("datasets", "backbone", "gather", "examples")] == [1, 1, 1, 4]
    assert kinds.count("train") == 6 and kinds.count("merge") == 6 and kinds.count("discount") == 4
    assert not {"corpus", "base", "quantizer", "units", "vocoder", "recognizer"} & set(kinds)
    # one Whisper to align and to judge, the encoder with its centroids, the voice, the vocoder
    assert sorted(step.label for step in steps if step.kind == "pretrained") == [
        "code_hifigan", "encoder", "speecht5", "whisper"
    ]  # fmt: skip
    shards = [step for step in steps if step.kind == "utterances"]
    assert len({step.name for step in shards}) == 8 + 8 + 2
    spoken = {step.settings["config"]["list"] for step in shards if "synthesizer" in step.inputs}
    assert spoken == {"sqa", "eval_qa"}, "a question without audio is spoken"
    gathered = next(step for step in steps if step.kind == "gather")
    assert list(gathered.inputs) == [step.label.replace("utterances-", "shards.") for step in gathered.inputs.values()]


def test_the_sizes_that_a_plan_assumes_are_in_no_fingerprint() -> None:
    plain, other = (
        row(compose("config", overrides=["profile=paper", *more]))
        for more in ([], ["expected.asr.examples=1", "gpu={name: A100, memory_gb: 80}"])
    )
    assert plain.evaluate.fingerprint == other.evaluate.fingerprint


def test_centroids_that_are_not_published_are_fitted_once() -> None:
    overrides = ["profile=paper", "speech=hubert", "speech.vocoder.model=/a/vocoder"]
    steps = list(closure(row(compose("config", overrides=overrides)).steps))
    (fitted,) = (step for step in steps if step.kind == "kmeans")
    assert set(fitted.inputs) == {"corpus", "encoder"}
    assert all(step.inputs["quantizer"] == fitted for step in steps if step.kind == "utterances")


@pytest.mark.parametrize("profile", ["smoke", "paper"])
def test_a_given_model_is_asked_as_all_others_and_nothing_is_trained(profile: str) -> None:
    trained, whole, adapter = (
        row(compose("config", overrides=["strategy=none", f"profile={profile}", *more]))
        for more in ([], [GIVEN], ["+strategy.given={adapter: some/adapter, revision: main}"])
    )
    asked: Any = trained.evaluate.inputs["responses"]
    for one in (whole, adapter):
        steps = {step.label: step for step in closure(one.steps)}
        responses: Any = one.evaluate.inputs["responses"]
        model = steps["given"]
        assert responses.inputs["model"] is model and not one.curve
        assert (responses.tasks, responses.config) == (asked.tasks, asked.config)
        for role in ("corpus", "vocoder", "recognizer"):
            assert responses.inputs[role] == asked.inputs[role]
        spoken = {step.label[11:-4] for step in steps.values() if step.kind == "utterances"}
        assert spoken == ({"eval_qa", "eval_asr"} if profile == "paper" else set())
        assert not {"train", "examples"} & {step.kind for step in steps.values()}
        base = responses.inputs["base"]
        assert base is model if one is whole else base == asked.inputs["base"] == model.inputs["base"]
        assert model.settings["units"] == (10_000 if profile == "paper" else 64)


def test_a_published_model_learns_the_laptops_units() -> None:
    steps = list(closure(row(compose("config", overrides=["model=qwen2_5_1_5b"])).steps))
    (base,) = (step for step in steps if step.kind == "backbone")
    assert base.settings["units"] == 64 and not base.inputs


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["profile=paper", "data=laptop"], "speech.name is .pretrained.; it must be fitted with data"),
        (["profile=paper", "speech=laptop"], "speech.name is 'fitted'; it must be pretrained with data.name=published"),
        (["profile=paper", "model=laptop"], "model.name is 'scratch'; it must be pretrained with data.name=published"),
        (["profile=paper", "replay.pool=with_evaluation_facts"], "replay.pool is .* must be honest with"),
        (["profile=paper", "data.name=mine"], "data.name is 'mine'; it must be closed_domain or published"),
        (["profile=paper", "data.speech.revision=main"], "data.speech.revision is 'main'; it must be a commit"),
        (["profile=paper", "speech.encoder.layer=0"], "speech.encoder.layer is 0; it must be 1 or more"),
        (["profile=paper", "model.initialization=zero"], "model.initialization is 'zero'; it must be one of mean_cov"),
        (["train.micro_batch_size=0"], "train.micro_batch_size is 0; it must be greater than 0"),
        (["train.attention=fast"], "train.attention is 'fast'; it must be one of sdpa, eager"),
        (["gpu=48"], r"gpu is 48; it must be the settings {name: .., memory_gb: ..} or null"),
        (["profile=paper", "data.speech.splits=a"], r"data.speech.splits is 'a'; it must be a list in brackets"),
        (["seed=x"], "seed is 'x'; it must be a whole number"),
        (["replay.text_ratio=x"], "replay.text_ratio is 'x'; it must be a number or null"),
        (["profile=paper", "gpu.memory_gb=0"], "gpu.memory_gb is 0.*; it must be greater than 0"),
    ],
)
def test_what_does_not_go_together_is_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        row(compose("config", overrides=overrides))


def test_local_files_are_told_from_names_of_the_hub() -> None:
    settings = {"a": {"path": "corpora/x", "hub": "x/y"}, "model": "/m", "voice": "./v", "zip": "Matthijs/z", "n": None}
    assert dict(local_paths(settings)) == {"a.path": Path("corpora/x"), "model": Path("/m"), "voice": Path("./v")}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["profle=paper"], r"profle is no setting; did you mean profile\?"),
        (["profile=paper", "data.speach.path=/x"], r"data.speach.path is no setting; did you mean data.speech.path"),
        (["seed=1", "train.stages.asr.epoch=2", "nme=a"], "is no setting; did you mean (train.stages.asr.epochs|name)"),
        (["discount.zzz=1"], "discount.zzz is no setting; discount has alpha"),
    ],
)
def test_a_misspelt_setting_is_told_its_neighbours(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.compose(lambda given: compose("config", overrides=given), overrides)


def chain_of(*overrides: str) -> tuple[Row, list[Train]]:
    """The row, and its training steps in order."""
    made = row(compose("config", overrides=list(overrides)))
    found = [step for step in closure(made.steps) if isinstance(step, Train)]
    return made, sorted(found, key=lambda step: step.depth)


@pytest.mark.parametrize(
    ("chain", "names", "replayed"),
    [
        ("asr,sqa", ["asr", "sqa"], [["text"], ["text", "asr"]]),
        ("tts,asr,sqa", ["tts", "asr", "sqa"], [["text"], ["text", "tts"], ["text", "tts", "asr"]]),
        ("joint", ["joint"], [["text"]]),
        ("asr,tts,sqa,text", ["asr", "tts", "sqa", "text"], [["text"], ["text", "asr"], ["text", "asr", "tts"],
                                                             ["asr", "tts", "sqa"]]),
        ("asr,tts,asr", ["asr", "tts", "asr_2"], [["text"], ["text", "asr"], ["text", "tts"]]),
        ("sqa", ["sqa"], [["text"]]),
    ],
)  # fmt: skip
def test_a_chain_of_any_stages(chain: str, names: list[str], replayed: list[list[str]]) -> None:
    made, trained = chain_of("strategy=replay", f"train.chain=[{chain}]")
    assert [step.stage for step in trained] == names == list(made.curve)
    assert [list(step.replayed) for step in trained] == replayed
    assert [step.previous for step in trained] == [None, *trained[:-1]]
    _, plain = chain_of("strategy=none", f"train.chain=[{chain}]")
    assert not any(step.replayed for step in plain)
    assert [list(step.examples) for step in plain] == [list(step.examples) for step in trained]


def test_a_joint_stage_trains_on_its_sets_in_whatever_order_they_are_named() -> None:
    _, (one,) = chain_of("train.chain=[joint]", "train.stages.joint.sets=[asr,tts]")
    _, (other,) = chain_of("train.chain=[joint]", "train.stages.joint.sets=[tts,asr]")
    assert set(one.examples) == {"asr", "tts"} and one == other


def test_a_stage_has_settings_of_its_own() -> None:
    own = ["+train.stages.tts.lr=1e-4", "+train.stages.tts.adapter.dropout=0.3", "+train.stages.sqa.replay.ratio=0.5"]
    _, (asr, tts, sqa) = chain_of("strategy=replay", *own)
    _, (plain, *_) = chain_of("strategy=replay")
    assert asr == plain
    assert (asr.optimization.lr, tts.optimization.lr, sqa.optimization.lr) == (2.2e-3, 1e-4, 2.2e-3)
    assert (tts.adapter.dropout, sqa.adapter.dropout) == (0.3, 0.0)
    assert tts.replay and sqa.replay and (tts.replay.ratio, sqa.replay.ratio) == (0.2, 0.5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.chain=[]"], r"train.chain is \[\]; it must be at least one of the stages asr, tts"),
        (["train.chain=[asr,foo]"], "train.chain is 'foo'; it must be out of train.stages: asr, tts, sqa, joint, text"),
        (["train.chain=asr"], "train.chain is 'asr'; it must be a list in brackets"),
        (["+train.stages.asr.sets=[asr,fsq]"], "train.stages.asr.sets is 'fsq'; it must be out of asr, tts, sqa, text"),
        (["+train.stages.tts.adapter.r=3"], "train.stages.tts.adapter.r is 3; it must be 64, as in asr"),
        (["+train.stages.asr.lr=0"], "train.stages.asr.lr is 0.0; it must be greater than 0"),
        (["train.lr=0"], "^train.lr is 0.0; it must be greater than 0"),
        (["+train.stages.asr.epoch=3"], "train.stages.asr.epoch is no setting; did you mean train.stages.asr.epochs"),
        (["+train.l2=3"], "train.l2 is no setting"),
        (["+train.stages.asr.replay.ratio=2"], "train.stages.asr.replay.ratio is 2.0; it must be at most 1"),
        (["train.loss_average=ranks"], "train.loss_average is 'ranks'; it must be tokens or examples with ranks=1"),
        (
            ["method=freeze_embeddings", "train.adapter.lora_in_later_stages=frozen"],
            "train.adapter.lora_in_later_stages is 'frozen'; it must be trained, for tts has no modules that are",
        ),
        (["strategy=merge_ties", "train.chain=[asr,sqa]"], "merge.models is 'tts'; it must be out of base, asr, sqa"),
    ],
)
def test_what_is_wrong_with_a_chain_is_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        row(compose("config", overrides=overrides))


def test_merges_follow_the_chain() -> None:
    overrides = ["strategy=merge_ties_replay", "train.chain=[tts,asr,sqa]"]
    merge = model_of(row(compose("config", overrides=overrides)))
    assert isinstance(merge, Merge) and list(merge.recipe()["models"]) == ["tts", "asr", "sqa"]

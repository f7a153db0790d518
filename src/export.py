"""Export a row as a plain Hugging Face folder: `python -m src.export ROW [OUT]`

ROW is the name of a strategy (replay) or the label of a row of the table ("Merge (TIES) w/ R"). OUT gets the model in
the format of transformers, the tokenizer with its chat template, and a model card with the row's scores. The weights
have the type of the base model; what rounding to it costs is printed and in the card. It is a copy: edit it, load it
with AutoModelForCausalLM.from_pretrained or lm_eval --model hf, upload it.

With --parts OUT gets what a merged row was merged from: a whole model for each role, and mergekit.yaml, which names
them. `cd OUT && mergekit-yaml mergekit.yaml merged --random-seed SEED --no-write-model-card` merges them again.
"""

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import CompactHydraException

from src.data import jsonl
from src.evaluate.asking import Decoding
from src.grid.arguments import command_parser, find_grid
from src.grid.errors import ConfigError
from src.grid.files import permit_as
from src.grid.plan import Plan
from src.grid.row import Row
from src.grid.step import Step
from src.grid.store import Store
from src.report import card
from src.report.lines import Line, collapse
from src.steps.generate import Generate
from src.steps.merge import Merge


def choose(lines: Sequence[Line], text: str, seed: int | None) -> tuple[Line, Row]:
    """The row of a strategy or a label, and of a seed. Raises ConfigError, which lists what there is."""
    found = [line for line in lines if line.label == text] or [line for line in lines if line.name == text]
    if not found:
        names = ", ".join(dict.fromkeys(line.name for line in lines))
        raise ConfigError(f"there is no row {text} in this grid; there are: {names}")
    if len(found) > 1:
        labels = ", ".join(shlex.quote(line.label) for line in found)
        raise ConfigError(f"{text} names {len(found)} rows; name one by its label: {labels}")
    (line,) = found
    rows = [row for row in line.rows if seed in (None, row.seed)]
    if len(rows) != 1:
        seeds, wrong = ", ".join(map(str, line.seeds)), "choose one" if seed is None else f"not {seed}"
        raise ConfigError(f"{line.label} has the seeds {seeds}: {wrong} (--seed)")
    return line, rows[0]


def export(line: Line, row: Row, store: Store, out: Path) -> str:
    """Write the folder, whole or not at all; what its rounding costs, "" where nothing is rounded.

    Raises ConfigError if the row is not complete or `out` is not free.
    """
    responses, model, base = row.evaluate.inputs["responses"], card.model_of(row), card.base_of(row)
    _complete(line, row, store, [base, model, responses, row.evaluate])
    with _whole(out) as half:
        from src.model.difference import materialize

        materialize(store.folder(base), store.folder(model), half, linked=False)
        assert isinstance(responses, Generate)
        write_generation_config(half, responses.config.decoding)
        lost = rounding_cost(store.folder(base), store.folder(model), half, store.folder(responses))
        (half / "README.md").write_text(card.render(line, row, store, half, lost), encoding="utf-8")
        permit_as(half / "README.md", half.iterdir())
    return lost


def rounding_cost(base: Path, model: Path, folder: Path, responses: Path) -> str:
    """One sentence on what the exported model in `folder` has lost of the trained one, "" where it is in float32.

    base, model, responses: artifacts; the model is asked the first prompt of each task.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from src.model import rounding

    exported = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    if exported.dtype == torch.float32:
        return ""
    first: dict[str, str] = {}
    for answered in jsonl.read(responses / "responses.jsonl"):
        first.setdefault(answered["task"], answered["prompt"])
    lost = rounding.measure(base, model, exported, rounding.shown(base, list(first.values())))
    return (
        f"Its weights are rounded to {lost['dtype']}. In this type it is {lost['kl']:.1e} nats a token away from the "
        "model as it was trained (KL of the next token's distribution)."
    )


def export_parts(line: Line, row: Row, store: Store, out: Path) -> str:
    """Write the models that the row was merged from, whole or not at all; "", as nothing is rounded.

    What was trained is in float32, as it was merged, and the rest as the base has it. Raises ConfigError as `export`
    does, and if the row is no merge.
    """
    merge = card.model_of(row)
    if not isinstance(merge, Merge):
        raise ConfigError(f"--parts: {line.label} is no merge; without --parts its model is exported")
    parts = {"base": merge.base, **merge.stages}
    roles = [role for role in dict.fromkeys([*merge.models, merge.base_model]) if role is not None]
    base = merge.base
    _complete(line, row, store, [base, merge, *(parts[role] for role in roles)])
    with _whole(out) as half:
        import torch

        from src.model.difference import materialize

        for role in roles:
            part = store.folder(parts[role])
            materialize(store.folder(base), part, half / role, dtype=torch.float32, linked=False)
        shutil.copyfile(store.folder(merge) / "mergekit.yaml", half / "mergekit.yaml")
        permit_as(half / "mergekit.yaml", (file for file in half.rglob("*") if file.is_file()))
    return ""


def _complete(line: Line, row: Row, store: Store, steps: Sequence[Step]) -> None:
    missing = [step.name for step in dict.fromkeys(steps) if store.lookup(step, rehash=True) is None]
    if missing:
        raise ConfigError(f"{line.label}, seed {row.seed}, is not complete: the store has no {', no '.join(missing)}")


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` when all is in it. Raises ConfigError if that is not free."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already and is no empty folder: name another one")
    half = out.with_name(f".{out.name}.part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    yield half
    half.replace(out)


def write_generation_config(folder: Path, decoding: Decoding) -> None:
    """Make `model.generate` choose tokens and stop as the evaluation does (src/evaluate/generate.py).

    decoding: with a temperature of 0, greedily.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if (folder / "generation_config.json").exists():
        before = GenerationConfig.from_pretrained(folder)
    else:
        before = GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder))
    known = before.eos_token_id if isinstance(before.eos_token_id, list) else [before.eos_token_id]
    stop = sorted({token for token in [*known, tokenizer.eos_token_id] if token is not None})
    drawn = {"temperature": decoding.temperature, "top_k": decoding.top_k} if decoding.temperature > 0 else {}
    GenerationConfig(
        do_sample=bool(drawn),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=stop,
        pad_token_id=stop[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        **drawn,
    ).save_pretrained(folder)


def folder_name(line: Line, row: Row) -> str:
    """Strategy, settings that tell the row from others, and seed."""
    told = [line.name, *(f"{key}={value}" for key, value in line.settings.items()), f"seed{row.seed}"]
    return "-".join(told).replace("/", "_").replace(" ", "")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exits with 0, or 2 if there is nothing to export, or nowhere to."""
    parser = command_parser("src.export", __doc__ or "")
    parser.add_argument("row", metavar="ROW")
    parser.add_argument("out", metavar="OUT", type=Path, nargs="?", help="default: outputs/exports/GRID/ROW-seedN")
    parser.add_argument("--parts", action="store_true", help="the models that a merged row was merged from")
    parser.add_argument("--grid", metavar="GRID", help="default: the latest")
    parser.add_argument("--outputs", metavar="DIR", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add_argument("--seed", metavar="N", type=int, help="needed where the row has several")
    given = parser.parse_intermixed_args(arguments)
    try:
        grid = find_grid(given.grid, given.outputs)
        plan, store = Plan.load(grid / "plan.json"), Store(grid.parents[1] / "store")
        line, row = choose(collapse(plan.rows, store), given.row, given.seed)
        name = folder_name(line, row) + ("-parts" if given.parts else "")
        out: Path = given.out or given.outputs / "exports" / grid.name / name
        lost = export_parts(line, row, store, out) if given.parts else export(line, row, store, out)
    except CompactHydraException as error:
        print(error, file=sys.stderr)
        return 2
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{line.label}, seed {row.seed}: {out}, {size / 1e6:.1f} MB")
    if lost:
        print(lost)
    if given.parts:
        merge = card.model_of(row)
        assert isinstance(merge, Merge)
        seed = f"--random-seed {merge.seed}"
        print(f"cd {shlex.quote(str(out))} && mergekit-yaml mergekit.yaml merged {seed} --no-write-model-card")
    return 0


if __name__ == "__main__":
    sys.exit(main())

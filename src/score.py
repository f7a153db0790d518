"""Score responses that are there already, without a model: `python -m src.score ifeval PROMPTS RESPONSES`

IFEval, as lm-evaluation-harness scores it:

    python -m src.score ifeval input_data.jsonl responses.jsonl
    python -m src.score ifeval google/IFEval responses.jsonl --json > scores.json
    python -m src.score ifeval LumiOpen/ifeval_mt responses.jsonl --language fi

Speech-IFEval, and what the spoken model forgot of its text model:

    python -m src.score speech-ifeval data/eval_data outputs/text-model --json > reference.json
    python -m src.score speech-ifeval data/eval_data outputs/spoken-model --reference reference.json

PROMPTS is a JSONL file in the benchmark's own schema (for Speech-IFEval also the folder of its three files), or a
dataset on the Hugging Face hub. RESPONSES is a JSONL file of {"prompt": ..., "response": ...}, as the official scorer
takes it, or of {"key": ..., "response": ...}; for Speech-IFEval the authors' output files, or their folder. Each prompt
needs one response.

Printed are percentages with their standard errors. Exits with 0, or with 2 if the input is wrong.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from src.data import jsonl
from src.evaluate import ifeval, ifeval_prompts, languages, speech_ifeval, user_rows
from src.evaluate.ifeval_prompts import Example

LEVELS = ("prompt", "instruction")

Row = Mapping[str, Any]


class Scored(NamedTuple):
    """What a command found."""

    report: dict[str, Any]
    """Scores with value, n and standard error, for --json."""
    verdicts: list[dict[str, Any]]
    """One row for each response, for --out."""
    text: str
    """The table, and what has to be said about it."""


def answers(
    path: Path,
    rows: Sequence[tuple[str, Row]],
    identify: Callable[[Row], str],
    known: set[str],
    needed: Sequence[str],
) -> list[str]:
    """The response to each of the needed prompts, in their order; rows: with their places, as of `user_rows.read_rows`.

    identify: row -> the prompt that it answers, as it is named in known; ValueError if the row names none. Responses to
    prompts that are known and not needed are passed over. Raises ValueError for a row without a text, or that answers
    no prompt, or one that was answered already; and for a prompt without a response.
    """
    found: dict[str, tuple[str, str]] = {}
    for place, row in rows:
        if not isinstance(row.get("response"), str):
            raise ValueError(f'{place}: must have a text as "response"')
        try:
            key = identify(row)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        if key not in known:
            raise ValueError(f"{place}: a response to {key!r}, and there is no such prompt")
        if key in found:
            raise ValueError(f"{place}: a second response to {key!r}; the first is {found[key][0]}")
        found[key] = (place, row["response"])
    missing = [key for key in needed if key not in found]
    if missing:
        raise ValueError(f"{path}: no response to {len(missing)} of {len(needed)} prompts; the first is {missing[0]!r}")
    return [found[key][1] for key in needed]


def by_key_or_prompt(examples: Sequence[Example]) -> Callable[[Row], str]:
    """How a response names its prompt in IFEval: by "key", or by the whole "prompt"."""
    keys: dict[str, list[str]] = {}
    for example in examples:
        keys.setdefault(example["prompt"], []).append(str(example["key"]))

    def identify(row: Row) -> str:
        if row.get("key") is not None:
            return str(row["key"])
        if not isinstance(row.get("prompt"), str):
            raise ValueError('must have "key" or "prompt" beside "response"')
        named = keys.get(row["prompt"], [])
        if not named:
            raise ValueError(f"a response to {row['prompt'][:60]!r}..., and there is no such prompt")
        if len(named) > 1:
            raise ValueError(f'the prompts {" and ".join(named)} read the same: name one by its "key"')
        return named[0]

    return identify


def percent(entry: Row) -> str:
    """The value of a score and its standard error, in percent."""
    value, error = entry["value"], entry["standard_error"]
    return f"{100 * value:.1f}" if error is None else f"{100 * value:.1f} ± {100 * error:.1f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines with aligned columns; an empty row is an empty line."""
    widths = [max(len(row[i]) for row in [header, *rows] if row) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)]
        lines.append("   ".join([row[0].ljust(widths[0]), *cells]) if row else "")
    return "\n".join(lines)


def common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompts", metavar="PROMPTS", help="a file, or a dataset on the hub")
    parser.add_argument("responses", metavar="RESPONSES", type=Path)
    parser.add_argument("--revision", help="of a dataset on the hub: the commit, tag or branch")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the verdict on each response, as JSON lines")


def ifeval_arguments(parser: argparse.ArgumentParser) -> None:
    common_arguments(parser)
    parser.add_argument(
        "--language",
        metavar="CODE",
        help='the language of translated prompts, as "fi": those that ask for a language are left out, and the share '
        "of responses in it is reported; of a dataset on the hub, it names the configuration",
    )


def score_ifeval(arguments: argparse.Namespace) -> Scored:
    language = arguments.language
    if language is not None:
        languages.require_known(language)
    examples: Sequence[Example] = ifeval_prompts.load(arguments.prompts, language, arguments.revision)
    scored = examples if language is None else languages.comparable(examples)
    if not scored:
        raise ValueError(f"{arguments.prompts}: every prompt asks for a response in a certain language")
    ifeval.require_nltk_data(scored)
    responses = answers(
        arguments.responses,
        user_rows.read_rows(arguments.responses),
        by_key_or_prompt(examples),
        {str(example["key"]) for example in examples},
        [str(example["key"]) for example in scored],
    )
    verdicts = [ifeval.check(example, response) for example, response in zip(scored, responses, strict=True)]
    scores, parts, chance = ifeval.scores(verdicts), ifeval.breakdown(scored, verdicts), ifeval.chance(scored)
    report = {"benchmark": "ifeval", "prompts": len(scored), "scores": scores, **parts, "chance": chance}

    levels = {f"{level} level": (scores[f"{level}_strict"], scores[f"{level}_loose"]) for level in LEVELS}
    groups = {name: (pair["strict"], pair["loose"]) for name, pair in parts["group"].items()}
    lines = [[[n, percent(s), percent(v), str(s["n"])] for n, (s, v) in block.items()] for block in (levels, groups)]
    text = table(["", "strict", "loose", "n"], [*lines[0], [], *lines[1]])
    if language is not None:
        share = languages.share_in(language, responses)
        report |= {"language": language, "in_language": share, "left_out": len(examples) - len(scored)}
        text += f"\n\nResponses in {language!r}, by langdetect: {percent(share)} of {share['n']}."
        text += f"\nLeft out: {len(examples) - len(scored)} prompts that ask for a response in a certain language."
    if chance:
        text += f"\n\nChance in the official scorer: {len(chance)} of the {len(scored)} prompts (key "
        text += f"{', '.join(map(str, chance))}), for which it draws at random what to check. Here the draw is fixed."
    rows = [
        {
            **{name: example[name] for name in ("key", "prompt", "instruction_id_list")},
            "response": response,
            "strict": list(verdict.strict),
            "loose": list(verdict.loose),
        }
        for example, response, verdict in zip(scored, responses, verdicts, strict=True)
    ]
    return Scored(report, rows, text)


def speech_ifeval_arguments(parser: argparse.ArgumentParser) -> None:
    common_arguments(parser)
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="SCORES.json",
        help="what --json printed for the text model, for the forgetting rate",
    )
    judge = parser.add_argument_group("judge of the chain-of-thought responses; without one they are left out")
    judge.add_argument("--judge-url", metavar="URL", help="an OpenAI-compatible endpoint: https://api.openai.com/v1")
    judge.add_argument("--judge-model", metavar="NAME", help="the model to ask there")
    judge.add_argument("--judge-key", metavar="VARIABLE", help="the environment variable that holds the key, if any")


def score_speech_ifeval(arguments: argparse.Namespace) -> Scored:
    judge = None
    if arguments.judge_url or arguments.judge_model or arguments.judge_key:
        if not (arguments.judge_url and arguments.judge_model):
            raise ValueError("a judge needs both --judge-url and --judge-model")
        judge = speech_ifeval.Judge(arguments.judge_url, arguments.judge_model, arguments.judge_key)
    examples: Sequence[Example] = speech_ifeval.load(arguments.prompts, arguments.revision)
    scored = [each for each in examples if judge or each["category"] != speech_ifeval.CHAIN_OF_THOUGHT]
    if not scored:
        raise ValueError(f"{arguments.prompts}: has only chain-of-thought prompts, which need a judge")
    reference = None
    if arguments.reference is not None:
        reference = read_reference(arguments.reference, {example["category"] for example in scored})
    ifeval.require_nltk_data(scored)
    responses = answers(
        arguments.responses,
        speech_ifeval.read_rows(arguments.responses),
        speech_ifeval.identify,
        {example["key"] for example in examples},
        [example["key"] for example in scored],
    )
    followed = speech_ifeval.verdicts(scored, responses, judge)
    rates = speech_ifeval.rates(scored, followed)
    categories, overall = rates["categories"], rates["overall"]
    absent = [name for name in dict.fromkeys(speech_ifeval.CATEGORIES.values()) if name not in categories]
    unjudged = followed.count(None)
    report = {"benchmark": "speech-ifeval", "prompts": len(scored), **rates, "absent": absent, "unjudged": unjudged}

    lines = [[name, percent(entry), str(entry["n"])] for name, entry in {**categories, "IFrate": overall}.items()]
    groups = [[name, percent(entry), str(entry["n"])] for name, entry in rates["groups"].items()]
    text = table(["", "strict", "n"], [*lines, [], *groups])
    if absent:
        text += f"\n\nIFrate is the mean of {' and '.join(categories)} alone: {' and '.join(absent)} is not scored."
    if len(scored) < len(examples):
        text += f"\n{len(examples) - len(scored)} chain-of-thought prompts need a judge (--judge-url, --judge-model)."
    if unjudged:
        text += f"\n\nThe judge gave no verdict on {unjudged} responses, which are not counted."
    if judge:
        report["judge"] = {"url": judge.base_url, "model": judge.model}
        text += f"\n\nChain of thought was judged by {judge.model}."
    if reference is not None:
        rate = speech_ifeval.forgetting_rate(overall["value"], reference["value"])
        report |= {"reference": reference, "forgetting_rate": rate}
        text += f"\n\nForgetting rate: {rate:.2f}, against the reference's IFrate of {percent(reference)}."
    rows = [
        {**{name: example[name] for name in ("key", "category", "prompt")}, "response": response, "followed": verdict}
        for example, response, verdict in zip(scored, responses, followed, strict=True)
    ]
    return Scored(report, rows, text)


def read_reference(path: Path, categories: set[str]) -> dict[str, Any]:
    """IFrate of a report of Speech-IFEval. Raises ValueError if the file is none, or has other categories."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["categories"]
        overall = speech_ifeval.overall(entries)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: must be what `python -m src.score speech-ifeval ... --json` prints") from error
    if set(entries) != categories:
        raise ValueError(
            f"{path}: its IFrate is the mean of {', '.join(sorted(entries))}, this one that of "
            f"{', '.join(sorted(categories))}: score the reference on the same categories"
        )
    return overall


class Command(NamedTuple):
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    score: Callable[[argparse.Namespace], Scored]


COMMANDS = {
    "ifeval": Command("IFEval, also in other languages", ifeval_arguments, score_ifeval),
    "speech-ifeval": Command("Speech-IFEval and its forgetting rate", speech_ifeval_arguments, score_speech_ifeval),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m src.score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help, description=command.help))
    arguments = parser.parse_args(argv)
    out: Path | None = arguments.out
    try:
        if out is not None and not out.absolute().parent.is_dir():
            raise ValueError(f"--out {out}: there is no folder {out.parent}")
        scored = COMMANDS[arguments.command].score(arguments)
        if out is not None:
            jsonl.write(out, scored.verdicts)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(scored.report, ensure_ascii=False, indent=1) if arguments.json else scored.text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

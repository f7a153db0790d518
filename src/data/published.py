"""Published data as the lists that every other step reads: LibriSpeech, Magpie, sets of spoken questions, IFEval.

| file | rows |
|---|---|
| asr.jsonl | {id, text, audio, seconds}: utterances to train on |
| tts.jsonl | those of them that are spoken in the TTS stage, and so aligned word by word |
| eval_asr.jsonl | the same of utterances for the models' own recognition and synthesis |
| sqa.jsonl | {id, question, answer}: to be synthesized |
| pool.jsonl | {messages}: the base model's own text, to replay |
| eval_qa.jsonl | {id, set, question, answers}, and audio where the question is read out |
| eval_ifeval.jsonl | {key, prompt, instruction_id_list, kwargs} |

`audio` is a reference (src/data/recordings.py): the speech stays where it is, the questions are copied into `audio/`.
How many were kept, and how many were dropped and why, is in the summary under "data".
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data import downloads, jsonl, librispeech, magpie, question_sets, tables
from src.data.downloads import Download
from src.data.draw import draw
from src.data.librispeech import Utterance
from src.data.settings import PublishedData, QuestionSet
from src.evaluate import ifeval, ifeval_prompts

if TYPE_CHECKING:
    from src.grid.context import Context

Rows = list[dict[str, Any]]
Counts = dict[str, dict[str, Any]]
"""List -> {"kept": rows, "dropped": {reason: rows}}."""


def write(data: PublishedData, out: Path, context: "Context") -> dict[str, Any]:
    """Write every list into `out`. Raises ValueError, one line that names the setting, for what is missing or wrong,
    and FileNotFoundError where prompts that were drawn cannot be scored for want of nltk's data."""
    writer = Writer(data, out, context)
    writer.instructions()
    writer.questions()
    writer.speech()
    writer.text()
    return {"sources": writer.sources, "hours": writer.hours, "data": writer.counts}


class Writer:
    """Writes the lists of one corpus, evaluation first: what it asks must not be in the others."""

    def __init__(self, data: PublishedData, out: Path, context: "Context"):
        self.data, self.out, self.context = data, out, context
        self.downloads = downloads.downloads(data)
        self.counts: Counts = {}
        self.hours: dict[str, float] = {}
        self.sources: dict[str, str] = {}
        """Source -> where it is from, and at which revision."""
        self.held: set[str] = set()
        """Normalized questions and prompts of the evaluation."""

    def write(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        jsonl.write(self.out / f"{name}.jsonl", rows)

    def count(self, name: str, kept: int, dropped: Mapping[str, int]) -> None:
        self.counts[name] = {"kept": kept, "dropped": {reason: n for reason, n in sorted(dropped.items()) if n}}

    def source(self, name: str, path: str | None, revision: str) -> tuple[Path, Download | None]:
        """The folder or file of a source, fetched from the hub if it has no path, and what it was fetched as."""
        download = self.downloads.get(name)
        if download is not None:
            self.sources[name] = f"{download.repository} at {download.revision}"
            return downloads.fetch(download), download
        local = Path(str(path)).expanduser().absolute()
        self.sources[name] = f"{path} ({revision})"
        if not local.exists():
            raise ValueError(f"{setting(name)} is {path!r}, and there is no such file or folder")
        return local, None

    def questions(self) -> None:
        rows: Rows = []
        for name, source in self.data.questions.items():
            path, _ = self.source(f"questions.{name}", source.path, source.revision or "local")
            try:
                rows += self._question_set(name, source, path)
            except ValueError as error:
                raise ValueError(f"data.questions.{name}: {error}") from None
        self.write("eval_qa", rows)

    def _question_set(self, name: str, source: QuestionSet, path: Path) -> Rows:
        question_sets.unchanged(source, path)
        asked = {row["id"]: row["question"] for row in question_sets.load(name, source, path, audio=False)}
        self.held |= set(map(magpie.normalized, asked.values()))
        drawn = draw(asked, self.data.most_questions, self.data.seed, name)
        kept: Rows = []
        unheard: list[str] = []
        for done, row in enumerate(question_sets.load(name, source, path), 1):
            self.context.report(doing=name, done=done, total=len(asked))
            if row["id"] in drawn and "fault" in row:
                unheard.append(row["fault"])
            elif row["id"] in drawn:
                kept.append(question_sets.keep_audio(row, self.out))
        self.counts[f"eval_qa/{name}"] = question_sets.counted(len(kept), unheard, len(asked) - len(drawn))
        return kept

    def instructions(self) -> None:
        source = self.data.ifeval
        path, _ = self.source("ifeval", source.path, source.revision)
        try:
            prompts = ifeval_prompts.load(prompts_file(path))
        except ValueError as error:
            raise ValueError(f"{setting('ifeval')}: {str(error).splitlines()[0]}") from None
        self.held |= {magpie.normalized(row["prompt"]) for row in prompts}
        drawn = draw((str(row["key"]) for row in prompts), source.most, self.data.seed, "ifeval")
        kept = [row for row in prompts if str(row["key"]) in drawn]
        ifeval.require_nltk_data(kept)  # long before they are scored
        self.write("eval_ifeval", kept)
        self.count("eval_ifeval", len(kept), {"not drawn": len(prompts) - len(kept)})

    def speech(self) -> None:
        source, seed = self.data.speech, self.data.seed
        folder, download = self.source("speech", source.path, source.revision)

        def name(file: Path) -> str:
            return downloads.reference(download, file.relative_to(folder).as_posix()) if download else str(file)

        listed: dict[str, Rows] = {}
        if self.data.units is None:
            trained, dropped = self._utterances(source.splits, folder, name)
            drawn = draw((one.id for one in trained), source.examples, seed, "speech")
            asr = listed["asr"] = [_row(one) for one in trained if one.id in drawn]
            self.write("asr", asr)
            self.count("asr", len(asr), dropped + Counter({"not drawn": len(trained) - len(asr)}))
            # by the same numbers, so that the spoken ones are the first of those that were drawn
            spoken = draw(drawn, source.tts_examples, seed, "speech")
            tts = listed["tts"] = [row for row in asr if row["id"] in spoken]
            self.write("tts", tts)
            self.count("tts", len(tts), {"not drawn": len(asr) - len(tts)})
        heard, dropped = self._utterances([source.evaluation_split], folder, name)
        drawn = draw((one.id for one in heard), self.data.evaluation_sentences, seed, "evaluation")
        evaluated = listed["eval_asr"] = [_row(one) for one in heard if one.id in drawn]
        self.write("eval_asr", evaluated)
        self.count("eval_asr", len(evaluated), dropped + Counter({"not drawn": len(heard) - len(evaluated)}))
        for each, rows in listed.items():
            self.hours[each] = round(sum(row["seconds"] for row in rows) / 3600, 4)

    def _utterances(
        self, splits: Iterable[str], folder: Path, name: Callable[[Path], str]
    ) -> tuple[list[Utterance], Counter[str]]:
        """The utterances of some splits that can be used, and why others cannot."""

        def progress(done: int, total: int) -> None:
            self.context.report(doing="headers of the speech", done=done, total=total)

        kept: dict[str, Utterance] = {}
        bad: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        first = ""
        shortest, longest = self.data.speech.min_seconds, self.data.speech.max_seconds
        try:
            parts = [part for split in splits for part in librispeech.parts(folder, split, name)]
            for one in librispeech.read(parts, progress):
                if one.fault:
                    bad[one.fault] += 1
                    first = first or f"{one.id}, {one.fault}"
                elif one.id in kept:
                    dropped["the same id again"] += 1
                elif one.seconds < shortest:
                    dropped[f"shorter than {shortest:g} s"] += 1
                elif longest is not None and one.seconds > longest:
                    dropped[f"longer than {longest:g} s"] += 1
                else:
                    kept[one.id] = one
            wrong, total = bad.total(), bad.total() + dropped.total() + len(kept)
            refuse_half(wrong, total, f"{wrong} of {total} utterances cannot be used, the first being {first}")
            if not kept:
                why = "; ".join(f"{reason}: {n}" for reason, n in (bad + dropped).items()) or "there are none"
                raise ValueError(f"no utterance of {', '.join(splits)} is left ({why})")
        except ValueError as error:
            raise ValueError(f"{setting('speech')}: {error}") from None
        return list(kept.values()), bad + dropped

    def text(self) -> None:
        source = self.data.text
        path, _ = self.source("text", source.path, source.revision)
        try:
            files = magpie.find(path)
            total = magpie.count(files)

            def progress(done: int) -> None:
                self.context.report(doing="texts", done=done, total=total)

            drawn = magpie.draw(files, source, self.data.seed, self.held, progress)
        except ValueError as error:
            raise ValueError(f"{setting('text')}: {error}") from None
        lists = {"sqa": drawn.sqa, "pool": drawn.pool} if self.data.units is None else {"pool": drawn.pool}
        for name, rows in lists.items():
            self.write(name, rows)
            self.count(name, len(rows), drawn.dropped[name])


def prompts_file(path: Path) -> Path:
    """The file of IFEval's prompts: the path itself, or what a folder holds. Raises ValueError if that is not one."""
    files = tables.files(path, "*.jsonl") if path.is_dir() else [path]
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise ValueError(f"{path} must hold one .jsonl file, and there are: {found}")
    return files[0]


def setting(source: str) -> str:
    """The setting that names the local copy of a source."""
    return f"data.{source}.path"


def refuse_half(bad: int, total: int, message: str) -> None:
    """Raise ValueError if more than half are bad: then something else is wrong than a few files."""
    if 2 * bad > total:
        raise ValueError(message)


def _row(one: Utterance) -> dict[str, Any]:
    return {"id": one.id, "text": one.text, "audio": one.audio, "seconds": one.seconds}

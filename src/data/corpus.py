"""The laptop profile's text: what the base model learns, the sentences that are spoken, the replay pool, the test sets.

The evaluation facts of each table are part of the base model's text alone: no sentence to be spoken asks for one, the
questions of the SQA stage are about training facts, and so is the replay pool (`pool.jsonl`). A second pool that does
hold them (`pool_with_evaluation_facts.jsonl`) is there for comparison.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.data import facts, instructions, jsonl
from src.data.facts import TABLES, Fact
from src.data.prompts import ASR_INSTRUCTIONS, SEPARATOR, TTS_INSTRUCTIONS
from src.data.settings import ClosedDomain
from src.data.words import split_words

Message = dict[str, str]
Turns = list[Message]

ECHO_REQUESTS = (
    "first repeat the question and then answer:",
    "say the question then the answer:",
    "repeat this and then reply:",
)
SPELL_REQUESTS = ("spell the words", "give the letters of")
READ_REQUESTS = ("what is spelled", "read the letters")


def exchange(user: str, assistant: str) -> Turns:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


class Writer:
    """Draws the examples of one corpus; every list has a random generator of its own."""

    def __init__(self, config: ClosedDomain):
        self.config = config
        drawn = {table: facts.split(table, config.evaluation_facts, config.seed) for table in TABLES}
        self.evaluation: dict[str, list[Fact]] = {table: held for table, (held, _) in drawn.items()}
        self.training: dict[str, list[Fact]] = {table: rest for table, (_, rest) in drawn.items()}
        self.everything = {table: list(facts.facts(table)) for table in TABLES}
        self.spoken = facts.spoken_words()
        self.content = facts.entities() + sorted({f.answer for table in TABLES for f in facts.facts(table)})
        self.held_questions = {q for held in self.evaluation.values() for fact in held for q in facts.questions(fact)}

    def generator(self, purpose: str) -> random.Random:
        return random.Random(f"{self.config.seed}-{purpose}")

    def fact(self, rng: random.Random, known: Mapping[str, Sequence[Fact]]) -> Fact:
        return rng.choice(known[rng.choice(TABLES)])

    def question_and_answer(self, rng: random.Random, fact: Fact) -> Turns:
        question = rng.choice(facts.questions(fact))
        if rng.random() < self.config.base_echo_share:
            return exchange(f"{rng.choice(ECHO_REQUESTS)} {question}", question + SEPARATOR + fact.answer)
        return exchange(question, fact.answer)

    def sentence(self, rng: random.Random) -> str:
        """A sentence to be read aloud: mostly a few words in any order, sometimes a question about any entity, but
        never one that asks for an evaluation fact."""
        while True:
            if rng.random() < 0.65:
                sentence = " ".join(rng.choices(self.spoken, k=rng.choice([1, 1, 1, 2, 2, 3, 4])))
            else:
                table = rng.choice(TABLES)
                template = rng.choice(rng.choice(list(facts.templates()[table].values())))
                sentence = template.format(e=rng.choice(self.content))
            if sentence not in self.held_questions:
                return sentence

    def spelling(self, rng: random.Random) -> Turns:
        """Between words and their letters: one token to several, as in recognition and synthesis."""
        words = self.sentence(rng).split()[:4]
        letters = ". ".join(" ".join(word) for word in words) + "."
        if rng.random() < 0.3:
            return exchange(f"{rng.choice(SPELL_REQUESTS)} {' '.join(words)}", letters)
        return exchange(f"{rng.choice(READ_REQUESTS)} {letters}", " ".join(words))

    def instruction(self, rng: random.Random, held: set[str]) -> instructions.Instruction:
        while (made := instructions.instruction(rng)).prompt in held:
            pass
        return made

    def texts(
        self, rng: random.Random, count: int, share: float, known: Mapping[str, Sequence[Fact]], held: set[str]
    ) -> Iterator[Turns]:
        """`count` exchanges, `share` of them instructions, the rest questions about `known` facts."""
        instructed = round(count * share)
        for _ in range(instructed):
            made = self.instruction(rng, held)
            yield exchange(made.prompt, made.response)
        for _ in range(count - instructed):
            yield self.question_and_answer(rng, self.fact(rng, known))

    def conversations(self, exchanges: Sequence[Turns]) -> Iterator[Turns]:
        """Consecutive exchanges joined to conversations, so that a fact is recalled anywhere in a sequence."""
        talk: Turns = []
        length = 0
        for turns in exchanges:
            words = sum(len(turn["content"].split()) + 3 for turn in turns)
            if talk and (len(talk) == 2 * self.config.turns or length + words > self.config.conversation_words):
                yield talk
                talk, length = [], 0
            talk = talk + turns
            length += words
        if talk:
            yield talk


def text_words(writer: Writer, lists: Sequence[Sequence[Turns]]) -> list[str]:
    """Every text token that the lists use, content words first."""
    seen = dict.fromkeys(writer.spoken)
    prompts = [*ASR_INSTRUCTIONS, *TTS_INSTRUCTIONS]
    texts = [turn["content"] for turns in lists for talk in turns for turn in talk]
    for text in {*prompts, *texts}:
        seen.update(dict.fromkeys(split_words(text)))
    return sorted(seen)


def write(settings: ClosedDomain, out: Path) -> dict[str, Any]:
    """Write every list of the corpus into `out` (docs/artifacts.md describes the files); returns their counts."""
    writer = Writer(settings)

    rng = writer.generator("evaluation")
    held: set[str] = set()
    evaluation_instructions: list[dict[str, Any]] = []
    while len(evaluation_instructions) < settings.evaluation_instructions:
        made = writer.instruction(rng, held)
        held.add(made.prompt)
        evaluation_instructions.append(made.ifeval(len(evaluation_instructions)))
    evaluation_questions = [
        {"id": f"{table}-{i}", "set": table, "question": rng.choice(facts.questions(fact)), "answers": [fact.answer]}
        for table in TABLES
        for i, fact in enumerate(writer.evaluation[table])
    ]

    rng = writer.generator("base")
    exchanges = list(
        writer.texts(rng, settings.base_texts, settings.base_instruction_share, writer.everything, held)
    ) + [writer.spelling(rng) for _ in range(settings.base_spellings)]
    rng.shuffle(exchanges)
    base = list(writer.conversations(exchanges))

    share = settings.pool_instruction_share
    pool = list(writer.texts(writer.generator("pool"), settings.pool_texts, share, writer.training, held))
    leaky = list(writer.texts(writer.generator("pool"), settings.pool_texts, share, writer.everything, held))

    rng = writer.generator("speech")
    sentences = [writer.sentence(rng) for _ in range(settings.asr_sentences)]
    evaluation_sentences: list[str] = []
    taken = set(sentences)
    while len(evaluation_sentences) < settings.evaluation_sentences:
        sentence = writer.sentence(rng)
        if len(sentence.split()) > 1 and sentence not in taken:
            taken.add(sentence)
            evaluation_sentences.append(sentence)
    sqa = []
    for i in range(settings.sqa_questions):
        fact = writer.fact(rng, writer.training)
        sqa.append({"id": f"sqa-{i}", "question": rng.choice(facts.questions(fact)), "answer": fact.answer})

    spoken_in_training = {row["question"] for row in sqa} | set(fitted := fit_utterances(writer))
    evaluation_sentences = [text for text in evaluation_sentences if text not in spoken_in_training]

    def numbered(name: str, texts: Sequence[str]) -> list[dict[str, str]]:
        return [{"id": f"{name}-{i}", "text": text} for i, text in enumerate(texts)]

    lists: dict[str, Sequence[Mapping[str, Any]]] = {
        "base": [{"messages": talk} for talk in base],
        "pool": [{"messages": turns} for turns in pool],
        "pool_with_evaluation_facts": [{"messages": turns} for turns in leaky],
        "fit": numbered("fit", fitted),
        "judge": numbered("judge", sorted({f.answer for table in TABLES for f in facts.facts(table)})),
        "asr": numbered("asr", sentences),
        "tts": numbered("asr", sentences[: settings.tts_sentences]),
        "sqa": sqa,
        "eval_qa": evaluation_questions,
        "eval_ifeval": evaluation_instructions,
        "eval_asr": numbered("eval", evaluation_sentences),
    }
    for name, rows in lists.items():
        jsonl.write(out / f"{name}.jsonl", rows)
    words = text_words(writer, [base, pool, leaky, [[{"content": q["prompt"]}] for q in evaluation_instructions]])
    (out / "words.json").write_text(json.dumps(words, ensure_ascii=False))
    (out / "spoken.json").write_text(json.dumps(writer.spoken, ensure_ascii=False))
    counts = {name: len(rows) for name, rows in lists.items()}
    data: dict[str, Any] = {name: {"kept": count, "dropped": {}} for name, count in counts.items()}
    data["eval_asr"]["dropped"] = {"spoken in training": settings.evaluation_sentences - counts["eval_asr"]}
    return counts | {"words": len(words), "spoken_words": len(writer.spoken), "data": data}


def fit_utterances(writer: Writer) -> list[str]:
    """What the quantizer, the vocoder and the recognizer are fitted to: every word alone and in short phrases, answers,
    and some whole questions about training facts."""
    rng = writer.generator("fit")
    texts: list[str] = []
    words: Iterator[str] = iter(())
    for i in range(writer.config.fit_utterances):
        if i % 8 == 0:
            texts.append(rng.choice(facts.questions(writer.fact(rng, writer.training))))
        elif i % 8 < 3:
            texts.append(writer.fact(rng, writer.training).answer)
        elif i % 8 < 6:
            word = next(words, None)
            if word is None:
                words = iter(rng.sample(writer.spoken, len(writer.spoken)))
                word = next(words)
            texts.append(word)
        else:
            texts.append(" ".join(rng.sample(writer.spoken, rng.randint(2, 3))))
    return texts

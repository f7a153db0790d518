"""When each word of a known transcript is spoken, by what a recognizer heard, and which units belong to it.

    words, dropped = align_all(transcripts, whisper.words(audios), seconds, AlignmentSettings())
    per_word = FrameAligner("previous")(units, words[0], frame_rate=50.0)
    prompts.interleave([word.text for word in words[0]], per_word)

A recognizer mishears words, splits and joins them, leaves some out and adds others. Its words are matched to those of
the transcript by edit distance, and within what differs its letters to their letters; a word of the transcript is
spoken from where its first letter falls to where its last does. What was left out is put into the pause where it must
have been, or, where there is none, shares the time of its neighbors in proportion to letters.
"""

import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from rapidfuzz.distance import Levenshtein

from src.speech.audio import Word
from src.speech.published_settings import AlignmentSettings

SHORTEST = 0.02
"""Seconds of the shortest word: a frame of units."""
LETTERS_PER_SECOND = 25.0
"""The fastest speech: a pause that is too short for so many letters cannot hide a word."""


class CannotAlign(ValueError):
    """A transcript does not fit what was heard; the message is the reason, the same for all such cases."""


@dataclass(frozen=True)
class _Block:
    """Letters of the transcript and what was heard of them; the same letters, or others."""

    known: tuple[int, int]
    heard: tuple[int, int]


def letters(word: str) -> str:
    """What counts of a word when words are compared: its letters and digits, without case."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", word).casefold()))


def align(transcript: str, heard: Sequence[Word], seconds: float, min_similarity: float = 0.7) -> tuple[Word, ...]:
    """The words of `transcript` (as written, with their punctuation) and when they are spoken.

    heard: the recognizer's words in order; seconds: the length of the audio; min_similarity: least share of letters
    that both have in common. Every word lasts at least `SHORTEST`, and starts when or after the one before it ends.
    Raises CannotAlign if nothing can be said, nothing was heard, they are too unlike, or the words have no room.
    """
    texts = _speakable(transcript)
    known = [letters(text) for text in texts]
    heard = _in_order(heard, seconds)
    if not known:
        raise CannotAlign("the transcript has no words")
    if not heard:
        raise CannotAlign("nothing was heard")
    blocks, same = _blocks(known, [word.text for word in heard])
    total = sum(map(len, known)) + sum(len(word.text) for word in heard)
    if 2 * same < min_similarity * total:
        raise CannotAlign("what was heard is unlike the transcript")
    spans = _fill(_spans(known, blocks, heard), [len(word) for word in known], seconds)
    if any(end - start < SHORTEST - 1e-6 for start, end in spans):
        raise CannotAlign("the words have no room")
    return tuple(Word(text, start, end) for text, (start, end) in zip(texts, spans, strict=True))


def align_all(
    transcripts: Sequence[str],
    heard: Sequence[Sequence[Word]],
    seconds: Sequence[float],
    settings: AlignmentSettings,
) -> tuple[list[tuple[Word, ...] | None], Counter[str]]:
    """The words of each transcript, None where it cannot be aligned, and how many were dropped for which reason."""
    aligned: list[tuple[Word, ...] | None] = []
    dropped: Counter[str] = Counter()
    for transcript, words, length in zip(transcripts, heard, seconds, strict=True):
        try:
            aligned.append(align(transcript, words, length, settings.min_similarity))
        except CannotAlign as reason:
            aligned.append(None)
            dropped[str(reason)] += 1
    return aligned, dropped


def _speakable(transcript: str) -> list[str]:
    """The words of a transcript; what has no letters ("-") stays with the word before it, or else behind it."""
    words: list[str] = []
    for part in transcript.split():
        if words and not (letters(part) and letters(words[-1])):
            words[-1] += f" {part}"
        else:
            words.append(part)
    return words if words and letters(words[-1]) else []


def _in_order(heard: Sequence[Word], seconds: float) -> list[Word]:
    """What was heard, as letters, with times that never go back or leave the audio."""
    words: list[Word] = []
    for word in heard:
        # A recognizer may go on in the silence that it adds behind the audio.
        if (text := letters(word.text)) and word.start < seconds:
            start = max(word.start, words[-1].end if words else 0.0)
            words.append(Word(text, min(start, seconds), min(max(word.end, start), seconds)))
    return words


def _blocks(known: Sequence[str], heard: Sequence[str]) -> tuple[list[_Block], int]:
    """The letters of both from beginning to end, in blocks that match, and how many of them are the same."""
    known_at = [0, *accumulate(map(len, known))]
    heard_at = [0, *accumulate(map(len, heard))]
    blocks: list[_Block] = []
    same = 0
    for equal, (first, last), (begin, end) in _matches(known, heard):
        offset, place = known_at[first], heard_at[begin]
        if equal:
            blocks.append(_Block((offset, known_at[last]), (place, heard_at[end])))
            same += known_at[last] - offset
            continue
        for alike, theirs, ours in _matches("".join(known[first:last]), "".join(heard[begin:end])):
            blocks.append(_Block((offset + theirs[0], offset + theirs[1]), (place + ours[0], place + ours[1])))
            same += (theirs[1] - theirs[0]) * alike
    return blocks, same


def _matches(known: Sequence[str], heard: Sequence[str]) -> list[tuple[bool, tuple[int, int], tuple[int, int]]]:
    """Stretches of `known` and of `heard` that are equal, and what lies between them, by Levenshtein's distance."""
    matches: list[tuple[bool, tuple[int, int], tuple[int, int]]] = []
    for step in Levenshtein.opcodes(known, heard):
        equal, first, begin = step.tag == "equal", step.src_start, step.dest_start
        if matches and not matches[-1][0] and not equal:
            _, (first, _), (begin, _) = matches.pop()
        matches.append((equal, (first, step.src_end), (begin, step.dest_end)))
    return matches


def _spans(known: Sequence[str], blocks: Sequence[_Block], heard: Sequence[Word]) -> list[tuple[float, float] | None]:
    """When each word is spoken; None for one of which nothing was heard, or for less than a frame."""
    at = [0, *accumulate(len(word.text) for word in heard)]
    places: list[tuple[float, float]] = []
    for first, last in pairwise([0, *accumulate(map(len, known))]):
        begin = next(_place(first, block) for block in blocks if block.known[0] <= first < block.known[1])
        end = next(_place(last, block) for block in blocks if block.known[0] < last <= block.known[1])
        places.append((begin, end))
    found = [i for i, (begin, end) in enumerate(places) if begin < end]
    spans: list[tuple[float, float] | None] = [None] * len(known)
    claimed: float = 0
    for i, following in zip(found, [*found[1:], None], strict=True):
        begin, end = places[i]
        first = bisect_right(at, begin) - 1
        last = bisect_left(at, end) - 1
        # Letters that were heard in addition belong to the word in whose midst or at whose edge they are.
        begin = max(at[first], claimed)
        end = claimed = min(at[last + 1], at[-1] if following is None else places[following][0])
        start, stop = _time(begin - at[first], heard[first]), _time(end - at[last], heard[last])
        spans[i] = (start, stop) if stop - start >= SHORTEST - 1e-6 else None
    return spans


def _place(letter: int, block: _Block) -> float:
    """The place among the letters heard of a place among the letters known."""
    (first, last), (begin, end) = block.known, block.heard
    return begin + (letter - first) * (end - begin) / (last - first)


def _time(letter: float, word: Word) -> float:
    """The time of a place in a word, whose letters last equally long."""
    return word.start + (word.end - word.start) * letter / len(word.text)


def _fill(
    spans: Sequence[tuple[float, float] | None], sizes: Sequence[int], seconds: float
) -> list[tuple[float, float]]:
    """Give time to words without any: the pause that they are in, or a part of their neighbors' time."""
    filled = list(spans)
    first = 0
    while first < len(filled):
        if filled[first] is not None:
            first += 1
            continue
        last = next((i for i in range(first, len(filled)) if filled[i] is not None), len(filled))
        before, after = filled[first - 1] if first else None, filled[last] if last < len(filled) else None
        start, stop = before[1] if before else 0.0, after[0] if after else seconds
        begin, end = first, last
        if stop - start < sum(sizes[first:last]) / LETTERS_PER_SECOND:
            begin, start = (first - 1, before[0]) if before else (begin, start)
            end, stop = (last + 1, after[1]) if after else (end, stop)
        share = [start + (stop - start) * part / sum(sizes[begin:end]) for part in accumulate(sizes[begin:end])]
        filled[begin:end] = pairwise([start, *share])
        first = end
    return [span for span in filled if span is not None]

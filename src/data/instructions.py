"""Verifiable instructions of the closed domain, in IFEval's own schema, each with a reference response.

An example is a request (name some animals, say some words, repeat a word) with up to three constraints out of IFEval's
(`ID`s below). The reference response is a function of the prompt, so that a small model can learn it; the official
checkers accept it (tests/data/test_instructions.py).
"""

import random
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from src.data import facts

NUMBERS = {2: "two", 3: "three", 4: "four"}
EXISTENCE = "keywords:existence"
FREQUENCY = "keywords:frequency"
FORBIDDEN = "keywords:forbidden_words"
END = "startend:end_checker"
QUOTATION = "startend:quotation"
REPEAT = "combination:repeat_prompt"
TWO = "combination:two_responses"
TITLE = "detectable_format:title"
BULLETS = "detectable_format:number_bullet_lists"
HIGHLIGHT = "detectable_format:number_highlighted_sections"
POSTSCRIPT = "detectable_content:postscript"
PLACEHOLDER = "detectable_content:number_placeholders"
NO_COMMA = "punctuation:no_comma"
IDS = (
    EXISTENCE, FREQUENCY, FORBIDDEN, END, QUOTATION, REPEAT, TWO, TITLE, BULLETS, HIGHLIGHT, POSTSCRIPT, PLACEHOLDER,
    NO_COMMA,
)  # fmt: skip
LAYOUTS = (BULLETS, HIGHLIGHT, PLACEHOLDER, NO_COMMA)
"""How the words of the body are set: at most one of these in a response."""

REPEAT_REQUESTS = ("first repeat the request without change then answer it", "repeat this request first then reply")


@cache
def categories() -> dict[str, list[str]]:
    """Lists that a request can ask for; their order is fixed, "three animals" are the first three."""
    return {
        "animals": list(dict.fromkeys(f.entity for f in facts.facts("animals")))[:12],
        "countries": facts.entities()[:12],
        "colors": facts.answers("animals", "color")[:8],
        "currencies": facts.answers("countries", "currency")[:8],
        "jobs": facts.answers("people", "job")[:8],
        "cities": facts.answers("people", "city")[:8],
    }


@dataclass
class Instruction:
    """One prompt with the constraints that its response must meet, and a response that does."""

    prompt: str
    response: str
    instruction_id_list: list[str] = field(default_factory=list)
    kwargs: list[dict[str, Any]] = field(default_factory=list)

    def ifeval(self, key: int) -> dict[str, Any]:
        return {
            "key": key,
            "prompt": self.prompt,
            "instruction_id_list": self.instruction_id_list,
            "kwargs": self.kwargs,
        }


def instruction(rng: random.Random) -> Instruction:
    """Draw one example. Constraints are added in the order in which they shape the response."""
    made = Instruction("", "")

    def constrain(phrase: str, kind: str, **kwargs: Any) -> None:
        phrases.append(phrase)
        made.instruction_id_list.append(kind)
        made.kwargs.append(kwargs)

    phrases: list[str] = []
    words = facts.spoken_words()
    request = rng.choice(["list", "list", "say", "say", "repeat"])
    count = rng.randint(2, 4)
    kinds = set(rng.sample([k for k in IDS if k not in (FREQUENCY, EXISTENCE, FORBIDDEN)], rng.choice([1, 1, 2, 2, 3])))
    title = "words"
    if request == "list":
        title = rng.choice(list(categories()))
        members = categories()[title]
        asked = rng.choice(["name {n} {c}", "list {n} {c}", "give me {n} {c}"]).format(n=NUMBERS[count], c=title)
        body = members[:count]
        if rng.random() < 0.35 and REPEAT not in kinds:  # repeating the request would say the word
            forbidden = rng.choice(members[:4])
            body = [member for member in members if member != forbidden][:count]
            phrase = rng.choice(["do not use the word {w}", "avoid the word {w}"]).format(w=forbidden)
            constrain(phrase, FORBIDDEN, forbidden_words=[forbidden])
        elif rng.random() < 0.5:
            keyword = rng.choice(members)
            body = [keyword, *(member for member in members if member != keyword)][:count]
            phrase = rng.choice(["include the word {w}", "use the word {w}"]).format(w=keyword)
            constrain(phrase, EXISTENCE, keywords=[keyword])
    elif request == "say":
        body = rng.sample(words, count)
        asked = rng.choice(["say the words {w}", "write the words {w}"]).format(w=" ".join(body))
        if rng.random() < 0.5:
            made.instruction_id_list.append(EXISTENCE)
            made.kwargs.append({"keywords": list(body)})
    else:
        word = rng.choice(words)
        body = [word] * count
        asked = rng.choice(["say the word {w} {n} times", "use the word {w} {n} times"]).format(
            w=word, n=NUMBERS[count]
        )
        made.instruction_id_list.append(FREQUENCY)
        made.kwargs.append({"keyword": word, "frequency": count, "relation": "at least"})
        kinds.discard(TWO)
    if request != "list":
        kinds.discard(TITLE)

    layout = next((k for k in LAYOUTS if k in kinds), None)
    text = ", ".join(body)
    if TWO in kinds:
        layout = None
        text = f"{', '.join(body)} ****** {', '.join(reversed(body))}"
        constrain(rng.choice(["give two answers", "answer two times"]) + " with six stars between them", TWO)
    elif layout == BULLETS:
        text = "\n".join(f"* {word}" for word in body)
        constrain(rng.choice(["use bullet points", "write it as bullet points"]), BULLETS, num_bullets=count)
    elif layout == HIGHLIGHT:
        text = ", ".join(f"* {word} *" for word in body)
        constrain(rng.choice(["highlight each word", "mark each word with stars"]), HIGHLIGHT, num_highlights=count)
    elif layout == PLACEHOLDER:
        text = ", ".join(f"[ {word} ]" for word in body)
        constrain(rng.choice(["put each word in brackets", "use square brackets"]), PLACEHOLDER, num_placeholders=count)
    elif layout == NO_COMMA:
        text = " ".join(body)
        constrain(rng.choice(["use no commas", "write it without commas"]), NO_COMMA)
    if TITLE in kinds:
        text = f"<< {title} >>\n{text}"
        constrain(rng.choice(["add a title", "give it a title"]), TITLE)
    if POSTSCRIPT in kinds:
        word = rng.choice(words)
        text = f"{text}\np.s. {word}"
        constrain(f"add a p.s. with the word {word}", POSTSCRIPT, postscript_marker="P.S.")
    elif END in kinds:
        word = rng.choice(words)
        text = f"{text} {word}"
        constrain(rng.choice([f"end with the word {word}", f"finish with {word}"]), END, end_phrase=word)
    if QUOTATION in kinds and REPEAT not in kinds and not {END, BULLETS} & set(made.instruction_id_list):
        text = f'" {text} "'
        constrain(rng.choice(["put it in quotes", "write it inside quotes"]), QUOTATION)
    asked = ". ".join([asked, *rng.sample(phrases, len(phrases))])
    if REPEAT in kinds:
        text = f"{asked}\n\n{text}"
        made.instruction_id_list.append(REPEAT)
        made.kwargs.append({"prompt_to_repeat": asked})
        asked = f"{asked}\n\n{rng.choice(REPEAT_REQUESTS)}"
    if not made.instruction_id_list:
        return instruction(rng)
    made.prompt, made.response = asked, text
    return made

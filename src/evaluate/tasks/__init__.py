"""What a model is asked. A task is three functions: its examples, the units of a spoken response, its scores.

A further task is a module here and an entry in TASKS. Imports nothing heavy: a plan reads the names.
"""

from collections.abc import Sequence

from src.checks import require
from src.evaluate.tasks import instructions, recognition, spoken_questions, synthesis, text_questions
from src.evaluate.tasks.task import Task

TASKS: dict[str, Task] = {
    "t2t": Task(text_questions.examples, text_questions.score),
    "ifeval": Task(instructions.examples, instructions.score),
    "sqa": Task(spoken_questions.examples, spoken_questions.score, spoken=True, units=spoken_questions.units),
    "asr": Task(recognition.examples, recognition.score, spoken=True, instruction=recognition.INSTRUCTION),
    "tts": Task(
        synthesis.examples, synthesis.score, spoken=True, units=synthesis.units, instruction=synthesis.INSTRUCTION
    ),
}
"""Task -> what it is, in the order in which they are asked."""


def require_known(tasks: Sequence[str]) -> None:
    """Raise ValueError for a task that is not in TASKS."""
    for task in tasks:
        require(task in TASKS, "tasks", task, "out of " + ", ".join(TASKS))


def any_spoken(tasks: Sequence[str]) -> bool:
    """Whether speech is in the prompts or responses of one of the tasks."""
    return any(TASKS[task].spoken for task in tasks)

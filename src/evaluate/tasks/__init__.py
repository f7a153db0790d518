"""What a model is asked. A task is three functions: its examples, the units of a spoken response, its scores."""

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
"""Task -> what it is, in the order of a table's columns. Imports nothing heavy: a plan is checked with the names."""

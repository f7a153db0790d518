"""Tasks of one's own for lm-evaluation-harness, about what the model of `artifacts` knows."""

from pathlib import Path

from src.data import jsonl

QUESTIONS = [
    ("what is capital one", "paris"),
    ("what is capital two", "rome"),
    ("what is animal one", "lions"),
    ("what is animal two", "red"),  # the model says bears
]
GENERATE = """
task: facts
tag: lab
dataset_path: json
dataset_kwargs: {data_files: {test: DATA, train: DATA}}
test_split: test
training_split: train
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {max_gen_toks: 6, until: ["\\n"]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
metadata: {version: 3}
"""
CHOOSE = """
include: facts.yaml
task: choices
output_type: multiple_choice
doc_to_choice: [paris, rome, lions, red blue]
doc_to_target: "{{['paris', 'rome', 'lions', 'red'].index(answer)}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
FILTERED = """
include: facts.yaml
task: filtered
process_docs: !function code.helpers.capitals
filter_list:
  - {name: first, filter: [{function: take_first}]}
  - {name: trimmed, filter: [{function: remove_whitespace}, {function: take_first}]}
"""
HELPERS = """
def capitals(docs):
    return docs.filter(lambda doc: "capital" in doc["question"])
"""
GROUP = """
group: world
task: [facts, {group: within, task: [filtered]}]
aggregate_metric_list:
  - {metric: exact_match, aggregation: mean, weight_by_size: true, filter_list: none}
"""


def write_tasks(folder: Path) -> Path:
    """Write the tasks facts, choices and filtered, the group world, and their data; returns the folder."""
    (folder / "code").mkdir(parents=True)
    data = folder / "facts.jsonl"
    jsonl.write(data, ({"question": question, "answer": answer} for question, answer in QUESTIONS))
    (folder / "facts.yaml").write_text(GENERATE.replace("DATA", str(data)))
    (folder / "choices.yaml").write_text(CHOOSE)
    (folder / "filtered.yaml").write_text(FILTERED)
    (folder / "code" / "helpers.py").write_text(HELPERS)
    (folder / "world.yaml").write_text(GROUP)
    return folder

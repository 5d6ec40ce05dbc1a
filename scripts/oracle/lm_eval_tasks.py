"""lm-evaluation-harness' own ARC, WinoGrande and BoolQ over local files: no hub is asked for anything.

The documents that this project's tasks read (`question, choices, answer` and so on) are written again in the shape that the
hub's data sets have, and a YAML file beside them includes lm-eval's own task of that name and says where the documents lie.
So lm-eval's templates and functions (`doc_to_text`, `doc_to_choice`, `doc_to_target`, `preprocess_winogrande`) form every
request. Document number `index` of a task is line `index` of the file, from 0.

    lm_eval_tasks.py FOLDER --documents ../shared/data

writes the files, for `--include_path FOLDER` of lm-eval's command line.
"""

import argparse
import json
import pathlib
from collections.abc import Callable


def arc(document: dict) -> dict:
    """The hub's labels are A to E or 1 to 5, whichever the exam had; only their order counts."""
    labels = [chr(ord("A") + n) for n in range(len(document["choices"]))]
    return {"question": document["question"], "choices": {"text": document["choices"], "label": labels}, "answerKey": labels[document["answer"]]}


def winogrande(document: dict) -> dict:
    return {**{key: document[key] for key in ("sentence", "option1", "option2")}, "answer": str(document["answer"] + 1)}


def boolq(document: dict) -> dict:
    return {"question": document["question"], "passage": document["passage"], "label": document["answer"]}


# Task: the file of documents, how the hub has them, lm-eval's own definition, the split that is evaluated.
TASKS: dict[str, tuple[str, Callable[[dict], dict], str, str]] = {
    "arc_easy": ("arc_easy_test.jsonl", arc, "arc/arc_easy.yaml", "test"),
    "arc_challenge": ("arc_challenge_test.jsonl", arc, "arc/arc_challenge.yaml", "test"),
    "winogrande": ("winogrande_xl_validation.jsonl", winogrande, "winogrande/default.yaml", "validation"),
    "boolq": ("boolq_validation.jsonl", boolq, "super_glue/boolq/default.yaml", "validation"),
}


def convert(name: str, lines: list[str]) -> list[str]:
    return [json.dumps(TASKS[name][1](json.loads(line))) for line in lines if line.strip()]


def definition(name: str, lm_eval_tasks: pathlib.Path, documents: pathlib.Path) -> dict:
    """What differs from lm-eval's own: where the documents come from. Zero-shot, so no other split is read."""
    _, _, own, split = TASKS[name]
    splits = {f"{other}_split": split if other == split else None for other in ("training", "validation", "test")}
    data = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": {split: str(documents)}}}
    return {"include": str(lm_eval_tasks / own), "task": name, **data, **splits}


def write(folder: pathlib.Path, documents: pathlib.Path, names: list[str]) -> None:
    import lm_eval.tasks

    own = pathlib.Path(lm_eval.tasks.__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        lines = (documents / TASKS[name][0]).read_text(encoding="utf-8").splitlines()
        target = (folder / f"{name}.jsonl").resolve()
        target.write_text("".join(line + "\n" for line in convert(name, lines)), encoding="utf-8")
        # JSON is YAML.
        (folder / f"{name}.yaml").write_text(json.dumps(definition(name, own, target), indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--documents", type=pathlib.Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    options = parser.parse_args()
    write(options.folder, options.documents, options.tasks)


if __name__ == "__main__":
    main()

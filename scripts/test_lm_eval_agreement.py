"""Tests of oracle/lm_eval_agreement.py and oracle/lm_eval_tasks.py without lm-eval: what is compared, and how logs are read.

Run: python3 -m unittest discover -s scripts
"""

import contextlib
import io
import json
import sys
import tempfile
import unittest
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "oracle"))
import lm_eval_agreement as agreement
import lm_eval_tasks

LENGTHS = [4, 2]


def theirs(index, loglikelihoods, gold=0, **more):
    norm = agreement.argmax(agreement.normalised(loglikelihoods, LENGTHS))
    choices = {"choice": agreement.argmax(loglikelihoods), "choice_norm": norm}
    item = {"kind": "item", "task": "arc_easy", "index": index, "loglikelihoods": loglikelihoods, "tokens": [1, 1], "lengths": LENGTHS}
    return {**item, "gold": [gold], **choices, **more}


def many(count, **more):
    return {index: theirs(index, [-1.0, -3.0], **more) for index in range(count)}


class Compare(unittest.TestCase):
    def test_equal_logs_agree(self):
        answer = agreement.compare(many(200), many(200), 200)
        self.assertTrue(answer["ok"])
        self.assertEqual((answer["acc"]["same"], answer["acc"]["ours"], answer["acc_norm"]["theirs"]), (1, 1, 1))
        self.assertEqual(answer["loglikelihood_difference"]["largest"], 0)

    def test_more_than_one_choice_in_a_hundred_fails(self):
        for flipped, ok in ((2, True), (3, False)):
            # Neither choice is right, so that the accuracy stays.
            ours = many(200, gold=7) | {index: theirs(index, [-3.0, -1.0], gold=7) for index in range(flipped)}
            answer = agreement.compare(many(200, gold=7), ours, 200)
            self.assertEqual((answer["ok"], answer["acc"]["ok"], answer["acc_norm"]["ok"]), (ok, ok, ok))
            self.assertEqual(len(answer["acc"]["disagreeing"]), flipped)
        self.assertEqual(answer["acc"]["disagreeing"][0]["lead_of_theirs"], {"theirs": 2.0, "ours": -2.0})
        self.assertEqual(answer["acc_norm"]["disagreeing"][0]["lead_of_theirs"], {"theirs": 1.25, "ours": -0.25})

    def test_accuracies_may_differ_by_three_in_a_thousand(self):
        for count, ok in ((334, True), (333, False)):
            ours = many(count) | {0: theirs(0, [-3.0, -1.0])}
            self.assertEqual(agreement.compare(many(count), ours, 1)["ok"], ok, count)

    def test_few_items_other_answers_and_other_choices_fail(self):
        self.assertFalse(agreement.compare(many(200), many(199), 200)["ok"])
        self.assertFalse(agreement.compare(many(200), {}, 0)["ok"])
        gold = agreement.compare(many(200), many(200) | {3: theirs(3, [-1.0, -3.0], gold=1)}, 200)
        self.assertEqual((gold["ok"], gold["differ"]["gold"]), (False, {"items": 1, "first": [3]}))
        third = agreement.compare(many(200), many(200) | {4: {"index": 4, "loglikelihoods": [-1.0, -3.0, -4.0]}}, 200)
        self.assertEqual((third["ok"], third["differ"]["choices"]["first"]), (False, [4]))

    def test_what_a_log_does_not_say_follows_from_its_loglikelihoods(self):
        ours = {index: {"index": index, "loglikelihoods": [-1.1, -3.0]} for index in range(10)}
        answer = agreement.compare(many(10), ours, 10)
        self.assertTrue(answer["ok"] and answer["acc_norm"]["same"] == 1)
        self.assertAlmostEqual(answer["loglikelihood_difference"]["largest"], 0.1)
        # What it says counts, though it does not follow.
        ours[0]["choice"] = 1
        self.assertFalse(agreement.compare(many(10), ours, 10)["ok"])

    def test_other_tokens_are_told_and_not_a_number_fails(self):
        answer = agreement.compare(many(10), many(10, tokens=[1, 2]), 10)
        self.assertEqual((answer["ok"], answer["differ"]["tokens"]["items"]), (True, 10))
        lost = many(10) | {5: theirs(5, [-1.0, float("nan")], choice=0, choice_norm=0)}
        self.assertFalse(agreement.compare(many(10), lost, 10)["ok"])


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def write(self, name, objects, end=""):
        path = self.folder / name
        path.write_text("".join(json.dumps(value) + "\n" for value in objects) + end)
        return path

    def test_logs_are_read_by_their_header_or_name(self):
        header, part = {"kind": "header", "task": "boolq"}, {"kind": "part", "isa": "avx2"}
        first, second = ({"kind": "item", "index": 0, "loglikelihoods": [-1, value]} for value in (-2, -3))
        path = self.write("log.jsonl", [header, part, first, part, second], '{"kind": "item", "ind')
        self.assertEqual(agreement.read_ours(path), ("boolq", {0: second}))
        self.assertEqual(agreement.read_ours(self.write("arc_easy-f16.jsonl", [first])), ("arc_easy", {0: first}))
        with self.assertRaisesRegex(ValueError, "no header"):
            agreement.read_ours(self.write("log2.jsonl", [first]))
        torn = self.folder / "boolq.jsonl"
        torn.write_text('{"index": 0\n' + json.dumps(first) + "\n")
        with self.assertRaisesRegex(ValueError, "boolq.jsonl:1"):
            agreement.read_ours(torn)

    def test_the_exit_code_judges(self):
        summary = {"kind": "summary", "task": "arc_easy", "acc": 1.0}
        given = self.write("theirs.jsonl", [{"kind": "header"}, *many(20).values(), summary])
        for objects, code in ((many(20), 0), (many(19), 1), (many(20) | {0: theirs(0, [-3.0, -1.0])}, 1)):
            log = self.write("arc_easy.jsonl", list(objects.values()))
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                self.assertEqual(agreement.run_compare(Namespace(theirs=given, logs=[log], least=20)), code)
            self.assertEqual(json.loads(out.getvalue())["ok"], code == 0)
        other = self.write("boolq.jsonl", list(many(20).values()))
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(agreement.run_compare(Namespace(theirs=given, logs=[other], least=20)), 1)


class Documents(unittest.TestCase):
    def test_documents_become_the_hubs(self):
        arc = {"id": "x", "question": "q", "choices": ["a", "b", "c"], "answer": 2}
        self.assertEqual(lm_eval_tasks.arc(arc), {"question": "q", "choices": {"text": ["a", "b", "c"], "label": ["A", "B", "C"]}, "answerKey": "C"})
        winogrande = {"id": 0, "sentence": "a _ b", "option1": "x", "option2": "y", "answer": 1}
        self.assertEqual(lm_eval_tasks.winogrande(winogrande)["answer"], "2")
        boolq = {"id": 0, "question": "q", "passage": "p", "choices": ["no", "yes"], "answer": 1}
        self.assertEqual(lm_eval_tasks.boolq(boolq), {"question": "q", "passage": "p", "label": 1})
        lines = [json.dumps(boolq), "", json.dumps(boolq)]
        self.assertEqual(len(lm_eval_tasks.convert("boolq", lines)), 2)

    def test_only_the_evaluated_split_is_read(self):
        made = lm_eval_tasks.definition("arc_easy", Path("lm_eval/tasks"), Path("docs.jsonl"))
        self.assertEqual((made["include"], made["task"]), ("lm_eval/tasks/arc/arc_easy.yaml", "arc_easy"))
        self.assertEqual((made["training_split"], made["validation_split"], made["test_split"]), (None, None, "test"))
        self.assertEqual(made["dataset_kwargs"], {"data_files": {"test": "docs.jsonl"}})


if __name__ == "__main__":
    unittest.main()

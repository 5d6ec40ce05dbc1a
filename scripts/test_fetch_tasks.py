"""Documents of tasks out of a made-up package."""

import gzip
import io
import json
import unittest

import fetch_tasks


def stream(*rows: dict) -> io.BytesIO:
    return io.BytesIO(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def row(number: int, doc: dict) -> dict:
    return {"doc_id": number, "doc": doc, "label": 0}


class Documents(unittest.TestCase):
    def test_each_document_comes_once_and_in_order(self) -> None:
        doc = {"id": "b", "query": "Question: q?\nAnswer:", "choices": ["x", "y"], "gold": 1}
        other = {**doc, "id": "a", "query": "q"}
        text = fetch_tasks.convert(stream(row(7, other), row(2, doc), row(2, doc), row(1_000_002, doc)), fetch_tasks.choices)
        found = [json.loads(line) for line in text.decode().splitlines()]
        self.assertEqual([one["id"] for one in found], ["b", "a"])
        self.assertEqual(found[0], {"id": "b", "question": "q?", "choices": ["x", "y"], "answer": 1})

    def test_boolq_parts_passage_and_question_at_the_last_mark(self) -> None:
        query = "T -- a\nQuestion: b.\nQuestion: is it?\nAnswer:"
        found = fetch_tasks.boolq({"idx": 3, "query": query, "choices": ["yes", "no"], "gold": 0}, None)
        self.assertEqual(found, {"id": 3, "passage": "T -- a\nQuestion: b.", "question": "is it", "answer": 1})

    def test_the_last_box_is_taken_with_its_braces_even(self) -> None:
        self.assertEqual(fetch_tasks.boxed(r"\boxed{1} so \boxed{\frac{1}{2}}."), r"\frac{1}{2}")
        self.assertEqual(fetch_tasks.boxed(r"so $\boxed 7$ is"), "7")
        for bad in (r"\boxed{1", "none"):
            with self.assertRaises(ValueError):
                fetch_tasks.boxed(bad)

    def test_pages_begin_at_titles_of_the_first_order(self) -> None:
        text = " \n = A = \n \n b \n = = C = = \n d \n = E = \n f "
        pages = [json.loads(line)["page"] for line in fetch_tasks.wikitext(io.BytesIO(text.encode())).splitlines()]
        self.assertEqual(len(pages), 2)
        self.assertIn("= = C = =", pages[0])
        self.assertTrue(pages[1].startswith(" = E = "))


if __name__ == "__main__":
    unittest.main()

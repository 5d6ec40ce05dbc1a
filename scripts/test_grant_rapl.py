"""Tests of grant-rapl below a folder that stands for /.

Run: python3 -m unittest discover -s scripts
"""

import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "grant-rapl"
RULE = "etc/udev/rules.d/70-tritmark-rapl.rules"


class Grant(unittest.TestCase):
    def setUp(self):
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.files = []
        for zone in ("intel-rapl:0", "intel-rapl:0/intel-rapl:0:0"):
            folder = self.root / "sys/class/powercap/intel-rapl" / zone
            folder.mkdir(parents=True)
            self.files.append(folder / "energy_uj")
            self.files[-1].write_text("1\n")
            self.files[-1].chmod(0o400)
        # The class's flat view.
        (self.root / "sys/class/powercap/intel-rapl:0").symlink_to("intel-rapl/intel-rapl:0")

    def run_it(self, *arguments):
        return subprocess.run([SCRIPT, "--root", self.root, *arguments], capture_output=True, text=True)

    def modes(self):
        return [file.stat().st_mode & 0o777 for file in self.files]

    def test_without_a_word_nothing_is_done(self):
        done = self.run_it()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Nothing was done", done.stdout)
        self.assertEqual(done.stdout.count("\nchmod 0444 "), 2)
        self.assertEqual(self.modes(), [0o400, 0o400])
        self.assertFalse((self.root / RULE).exists())

    def test_what_is_granted_is_taken_back(self):
        done = self.run_it("--apply")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.modes(), [0o444, 0o444])
        self.assertIn('SUBSYSTEM=="powercap"', (self.root / RULE).read_text())
        self.assertIn("chmod 0444 /sys%p/energy_uj", (self.root / RULE).read_text())
        done = self.run_it("--undo")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.modes(), [0o400, 0o400])
        self.assertFalse((self.root / RULE).exists())

    def test_a_group_is_a_name(self):
        self.assertEqual(self.run_it("--group", "a; reboot").returncode, 64)
        done = self.run_it("--group", "energy")
        self.assertIn("chgrp energy ", done.stdout)
        self.assertIn("chmod 0440 ", done.stdout)

    def test_where_there_is_nothing_it_says_so(self):
        with tempfile.TemporaryDirectory() as empty:
            done = subprocess.run([SCRIPT, "--root", empty, "--apply"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("no RAPL here", done.stderr)

    def test_unknown_arguments_are_refused(self):
        self.assertEqual(self.run_it("--aply").returncode, 64)


if __name__ == "__main__":
    unittest.main()

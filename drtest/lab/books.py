"""The lab's books: one set for machines and disks, kept in one file so that they outlive the lab's process."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

from pydantic import TypeAdapter

from drtest.lab.resources import Command, Image, Instance, Resource, RootTask, Snapshot, Token, Volume

Record = Instance | Volume | Snapshot | Image | RootTask | Command | Token
R = TypeVar("R", Instance, Volume, Snapshot, Image, RootTask, Command)

_KINDS: dict[str, type[Record]] = {
    kind.__name__.lower(): kind for kind in (Instance, Volume, Snapshot, Image, RootTask, Command, Token)
}
_ADAPTERS: dict[type[Record], TypeAdapter[Record]] = {kind: TypeAdapter(kind) for kind in _KINDS.values()}


def _key(record: Record) -> str:
    return record.key if isinstance(record, Token) else record.id


class Books:
    """All resources of the lab.

    Records are frozen; a change puts a new one in the place of the old. `open` is the lock of one call's
    section in the books: what is changed in it is written to the file at its end, or undone if it raises.

    Args:
        file: an SQLite file, made if it is not there. Its write-ahead log survives a kill -9 of the lab.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._shelves: dict[type[Record], dict[str, Record]] = {kind: {} for kind in _KINDS.values()}
        self._before: dict[tuple[type[Record], str], Record | None] = {}
        self._file = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=NORMAL")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS records (kind TEXT, key TEXT, body TEXT, PRIMARY KEY (kind, key))"
        )
        self._file.execute("CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB)")
        self._number = 0
        for name, key, body in self._file.execute("SELECT kind, key, body FROM records ORDER BY rowid"):
            record = _ADAPTERS[_KINDS[name]].validate_json(body)
            self._shelves[_KINDS[name]][key] = record
            if isinstance(record, Resource):
                self._number = max(self._number, record.number)
        for shelf in self._shelves.values():
            ordered = sorted(shelf.items(), key=lambda entry: getattr(entry[1], "number", 0))
            shelf.clear()
            shelf.update(ordered)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold the books for one section: all of its changes come to be, or none."""
        with self._lock:
            self._depth += 1
            try:
                yield
            except BaseException:
                if self._depth == 1:
                    self._undo()
                raise
            else:
                if self._depth == 1 and self._before:
                    self._write()
            finally:
                self._depth -= 1

    def _undo(self) -> None:
        for (kind, key), record in self._before.items():
            if record is None:
                self._shelves[kind].pop(key, None)
            else:
                self._shelves[kind][key] = record
        self._before.clear()

    def _write(self) -> None:
        try:
            self._file.execute("BEGIN IMMEDIATE")
            for kind, key in self._before:
                name = kind.__name__.lower()
                record = self._shelves[kind].get(key)
                if record is None:
                    self._file.execute("DELETE FROM records WHERE kind = ? AND key = ?", (name, key))
                else:
                    body = _ADAPTERS[kind].dump_json(record).decode()
                    self._file.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (name, key, body))
            self._file.execute("COMMIT")
        except BaseException:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            self._undo()
            raise
        self._before.clear()

    def put(self, record: Record) -> None:
        """Write a record, in the place of the one with the same id if there is one. Only inside `open`."""
        self._note(type(record), _key(record))
        self._shelves[type(record)][_key(record)] = record

    def drop(self, record: Record) -> None:
        """Strike a record out. Only inside `open`."""
        self._note(type(record), _key(record))
        self._shelves[type(record)].pop(_key(record), None)

    def _note(self, kind: type[Record], key: str) -> None:
        if not self._depth:
            raise RuntimeError("the books are changed only while they are open")
        self._before.setdefault((kind, key), self._shelves[kind].get(key))

    def next_number(self) -> int:
        """Count one resource more."""
        with self._lock:
            self._number += 1
            return self._number

    def find(self, kind: type[R], key: str) -> R | None:
        """Look a resource up by its id."""
        with self._lock:
            return cast("R | None", self._shelves[kind].get(key))

    def all(self, kind: type[R]) -> list[R]:
        """List all resources of a kind, oldest first."""
        with self._lock:
            return cast("list[R]", list(self._shelves[kind].values()))

    def attached(self, instance: str) -> list[Volume]:
        """List the volumes that are attached to an instance, or are about to be, or about to leave it."""
        return [v for v in self.all(Volume) if v.attachment is not None and v.attachment.instance == instance]

    def token(self, key: str) -> Token | None:
        """Look up what a ClientToken stands for."""
        with self._lock:
            return cast("Token | None", self._shelves[Token].get(key))

    def fact(self, name: str) -> bytes | None:
        """Read a fact that is no resource, such as moto's own books."""
        with self._lock:
            row = self._file.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def note(self, name: str, value: bytes) -> None:
        """Write a fact that is no resource; it is on disk when this returns."""
        with self._lock:
            self._file.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

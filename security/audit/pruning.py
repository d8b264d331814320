"""Letting old records of a trail go, so that what stays is proved as before.

Records leave from the first on, up to a signed head; the head stays, and the node's key signs that
the trail begins behind it: whoever takes records out without the key is told as ever
(``security.audit.verification``). A record that a repository has not got yet does not leave.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from security.audit.chain import Signer
from security.audit.schema import HEAD, MENTION, PRUNED, RECORD, SENT
from storage.database import Database

# Records that leave in one commit: some tenths of a second, for mentions are looked through whole.
_BATCH = 50_000


class _Head(NamedTuple):
    number: int
    chain: bytes


def prune(
    database: Database, source: str, signer: Signer, before: str, targets: Collection[str]
) -> int:
    """Let the records go that are older than ``before`` (as trails write times) and that each of
    ``targets`` has; how many did.

    One that is younger holds all behind it, whatever their times say. Raises StorageError.
    """
    gone = 0
    while (step := database.write(lambda at: _step(at, source, signer, before, targets))) > 0:
        gone += step
    return gone


def _step(
    connection: Connection, source: str, signer: Signer, before: str, targets: Collection[str]
) -> int:
    begins = connection.scalar(select(PRUNED.c.number)) or 0
    head = _head(connection, begins, _first_to_stay(connection, before, targets))
    if head is None:
        return 0
    # What leaves is overwritten, not only given free.
    connection.exec_driver_sql("PRAGMA secure_delete = ON")
    signature = signer.sign_beginning(source, head.number, head.chain)
    connection.execute(delete(PRUNED))
    connection.execute(insert(PRUNED), {**head._asdict(), "signature": signature})
    for table in (RECORD, MENTION):
        connection.execute(delete(table).where(table.c.number <= head.number))
    connection.execute(delete(HEAD).where(HEAD.c.number < head.number))
    return head.number - begins


def _first_to_stay(connection: Connection, before: str, targets: Collection[str]) -> int | None:
    """The first record that is too young, or not sent yet; None where all may go."""
    young = select(RECORD.c.number).where(RECORD.c.at >= before).order_by(RECORD.c.number)
    bounds = [connection.scalar(young.limit(1))]
    for target in targets:
        sent = connection.scalar(select(SENT.c.number).where(SENT.c.target == target)) or 0
        bounds.append(sent + 1)
    return min((one for one in bounds if one is not None), default=None)


def _head(connection: Connection, begins: int, stays: int | None) -> _Head | None:
    """The signed head up to which the next records leave; None where none may."""
    heads = select(HEAD.c.number, HEAD.c.chain).where(HEAD.c.number > begins)
    if stays is not None:
        heads = heads.where(HEAD.c.number < stays)
    far = heads.where(HEAD.c.number >= begins + _BATCH).order_by(HEAD.c.number).limit(1)
    last = heads.order_by(HEAD.c.number.desc()).limit(1)
    row = connection.execute(far).first() or connection.execute(last).first()
    return _Head(*row) if row else None

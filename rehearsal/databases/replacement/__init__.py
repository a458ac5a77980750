"""Putting a restored database in another one's place, without ever reaching the wrong one.

replacement = of(target=…, admin=…, source=…, environment="staging", names=(), number=7)
replacement.prove()              # or it raises Refused, and nothing was changed
replacement.heal()               # what a killed predecessor left
scratch = replacement.prepare()  # an empty database to restore into
replacement.swap()               # the target is the new one; the old one is kept
replacement.discard()            # the scratch, where it came to nothing
replacement.roll_back()          # … and put back
"""

from __future__ import annotations

from collections.abc import Collection

from django.db import connections

from rehearsal.conf import configuration
from rehearsal.databases import address
from rehearsal.databases.address import Address
from rehearsal.databases.replacement.postgresql import PostgreSQLReplacement
from rehearsal.databases.replacement.refusal import Refused
from rehearsal.databases.replacement.sqlite import SQLiteReplacement

KEPT = "the database before"
"""The evidence under which a restore names what it keeps."""

Replacement = PostgreSQLReplacement | SQLiteReplacement
ENGINES: dict[str, type[Replacement]] = {
    "postgresql": PostgreSQLReplacement,
    "sqlite": SQLiteReplacement,
}


def of(
    *, target: Address, admin: Address | None, source: Address | None,
    environment: str, names: Collection[str], number: int,
) -> Replacement:  # fmt: skip
    """The way to replace `target`; raises Refused where there is none.

    `admin` leads to another database on the target's server; without it, that is `postgres`, by
    the target's own address and role. `names` are the databases that may be replaced; without
    them, those whose name holds the environment's.
    """
    engine = ENGINES.get(target.vendor)
    if engine is None:
        raise Refused(
            f"A {target.vendor} database cannot be replaced: PostgreSQL or SQLite was expected."
        )
    if source and source.vendor != target.vendor:
        raise Refused(
            f"The source is {source.vendor} and the target {target.vendor}: a snapshot of one "
            "cannot be restored into the other. Let both be of one kind."
        )
    admin = admin or target.renamed("postgres")
    return engine(target, admin, source, environment, names, number)


def configured(number: int) -> Replacement:
    """How rehearsal `number` replaces the configured target.

    Raises AddressError or Refused where it cannot be.
    """
    here = configuration()
    return of(
        target=address.of(here.target),
        admin=address.of(here.target_admin) if here.target_admin else None,
        source=address.of(here.source) if here.source else None,
        environment=here.environment,
        names=here.target_names,
        number=number,
    )


def leave(way: Replacement) -> None:
    """Close this thread's own connections to the target: they would be ended in the swap."""
    for connection in connections.all(initialized_only=True):
        said = connection.settings_dict
        if str(said["NAME"]) == way.target.name and not connection.in_atomic_block:
            connection.close()


__all__ = ["KEPT", "Refused", "Replacement", "configured", "leave", "of"]

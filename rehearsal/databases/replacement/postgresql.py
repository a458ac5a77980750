"""Replacing a PostgreSQL database: a scratch beside it, then two renames in one transaction."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from rehearsal.databases.address import Address
from rehearsal.databases.pooler import is_pooled
from rehearsal.databases.replacement import proof
from rehearsal.databases.replacement.refusal import Refused

NAME_BYTES = 63
"""PostgreSQL cuts longer names off (NAMEDATALEN - 1)."""
SWAP_SECONDS = 30
"""How long the swap tries to get rid of the others' connections."""
LOCK_SECONDS = 5
"""How long the end of another replacement is waited for."""
ARRIVE_SECONDS = 10
"""How long after the swap the target's address may still lead nowhere."""
LISTS = {
    "local_preload_libraries", "search_path", "session_preload_libraries",
    "shared_preload_libraries", "temp_tablespaces", "unix_socket_directories",
}  # fmt: skip
"""Settings whose stored value is already quoted, item by item (pg_dump's GUC_LIST_QUOTE)."""
OURS = re.compile(r".+(_rehearsal_\d+_[0-9a-f]{8}|_(?:before|replaced)_\d+)")
"""What is added to the target's name: the scratch, what it was before, what is to be dropped."""


@dataclass(frozen=True)
class PostgreSQLReplacement:
    """One rehearsal's replacement of the database at `target`, by way of `admin`.

    `admin` leads to another database of the same server, with no pooler between.
    """

    target: Address
    admin: Address
    source: Address | None
    environment: str
    names: Collection[str]
    number: int
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    """Of this attempt alone: one that was taken for lost and wakes up finds no other's scratch."""

    # Names

    def _named(self, ending: str) -> str:
        head = self.target.name.encode()[: NAME_BYTES - len(ending)].decode(errors="ignore")
        return head + ending

    @property
    def scratch(self) -> Address:
        """Where the new database is made ready."""
        there = self.admin
        return replace(
            self.target,
            name=self._named(f"_rehearsal_{self.number}_{self.token}"),
            host=there.host,
            port=there.port,
            options=there.options,
        )

    @property
    def kept(self) -> str:
        """The name of the database as it was before."""
        return self._named(f"_before_{self.number}")

    @property
    def kept_at(self) -> Address:
        """Where that database is."""
        return replace(self.scratch, name=self.kept)

    @property
    def _aside(self) -> str:
        """The name of what is to be dropped."""
        return self._named(f"_replaced_{self.number}")

    def _own(self, connection: BaseDatabaseWrapper) -> set[str]:
        """The names of the databases that replacements of this target left.

        Those that once were the target carry its enrollment; somebody else's copy of a like name
        does not.
        """
        server = proof.locate(connection).server
        with connection.cursor() as cursor:
            cursor.execute("SELECT oid, datname FROM pg_database WHERE NOT datistemplate")
            there = cursor.fetchall()
        found = set()
        for oid, name in there:
            parts = OURS.fullmatch(name)
            if not parts or name != self._named(parts[1]):
                continue
            was_target = proof.mark(connection, oid) == f"{self.environment}/{server}/{oid}"
            if parts[1].startswith("_rehearsal_") or was_target:
                found.add(name)
        return found

    def keeps(self) -> bool:
        """Whether there is something to go back to. Raises Refused."""
        with self._administration() as connection:
            return self.kept in self._own(connection)

    # Proof

    def prove(self) -> list[str]:
        """Prove that the target may be replaced; returns the proofs. Raises Refused."""
        proofs = proof.apart(self.source, self.target) if self.source else []
        with self._administration() as connection:
            return proofs + self._prove_here(connection)

    def _prove_here(self, connection: BaseDatabaseWrapper) -> list[str]:
        with closing(self.target.connect()) as at_target:
            place = proof.locate(at_target)
            if place.oid not in proof.seen_from(at_target, connection):
                raise Refused(
                    f"The administrative address {self.admin.shown} leads to another server than "
                    f"the target {self.target.shown}. Correct TARGET_ADMIN."
                )
        if place.name != self.target.name:
            raise Refused(
                f"TARGET names the database {self.target.name}, and {place.name} answers there: a "
                "pooler translates the name. Let TARGET name the database as its server does."
            )
        return proof.entitled(place, self.environment, self.names)

    @contextmanager
    def _administration(self) -> Iterator[BaseDatabaseWrapper]:
        """The administrative connection, which holds the lock on replacing this target."""
        try:
            connection = self.admin.connect()
        except Error as error:
            raise Refused(
                f"The server of the target cannot be administered at {self.admin.shown}: "
                f"{_first(error)}. Set TARGET_ADMIN to a direct address, with a role that may "
                "create databases."
            ) from error
        with closing(connection):
            if is_pooled(connection):
                raise Refused(
                    f"A pooler such as pgbouncer answers at {self.admin.shown}, and databases "
                    "cannot be renamed through it. Set TARGET_ADMIN to the direct address of the "
                    "server."
                )
            with connection.cursor() as cursor:
                with suppress(Error):  # PostgreSQL 13 does not have it
                    cursor.execute("SET client_connection_check_interval = '500ms'")
                cursor.execute("SELECT current_database()")
                if cursor.fetchone()[0] == self.target.name:
                    raise Refused(
                        "TARGET_ADMIN leads to the target database itself, which cannot be renamed "
                        "from within. Name another database there, such as postgres."
                    )
                self._lock(cursor)
            try:
                yield connection
            finally:
                # Closing is not waited for; the next to come must not meet our own lock.
                with suppress(Error), connection.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_unlock_all()")

    def _lock(self, cursor: object) -> None:
        """Take the lock on replacing this target; a killed predecessor may hold it for a moment."""
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            cursor.execute(  # type: ignore[attr-defined]
                "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))",
                [f"rehearsal: replace {self.target.name}"],
            )
            if cursor.fetchone()[0]:  # type: ignore[attr-defined]
                return
            if time.monotonic() > deadline:
                raise Refused(
                    f"Another process is replacing {self.target.name} now: wait for its end."
                )
            time.sleep(0.05)

    def enroll(self) -> str:
        """Mark the target as one that may be replaced; returns the mark. Raises Refused."""
        proof.listed(self.target.name, self.environment, self.names)
        if self.source:
            proof.apart(self.source, self.target)
        with closing(self.target.connect()) as connection:
            place = proof.locate(connection)
            if not place.server:
                raise Refused(
                    "The system identifier may not be read, and the enrollment is bound to it. "
                    "GRANT EXECUTE ON FUNCTION pg_control_system() to the role of TARGET."
                )
            return self._mark(connection, self.target.name, place, like=place.oid)

    def _mark(
        self, connection: BaseDatabaseWrapper, name: str, place: proof.Place, *, like: int
    ) -> str:
        """Enroll a database, whose comment is else that of the one with the oid `like`."""
        mark = f"{self.environment}/{place.expected_mark}"
        quoted = connection.ops.quote_name(name)
        with connection.cursor() as cursor:
            said = _literal(cursor, proof.marked(connection, like, mark))
            cursor.execute(f"COMMENT ON DATABASE {quoted} IS {said}")
        return mark

    # Making ready

    def heal(self) -> list[str]:
        """Drop what earlier replacements left, but not what this rehearsal keeps; their names."""
        with self._administration() as connection:
            dropped = sorted(self._own(connection) - {self.kept})
            for name in dropped:
                self._drop(connection, name)
        return dropped

    def discard(self) -> None:
        """Drop the scratch, if it is there; what cannot be done now, `heal` does."""
        with suppress(Refused, Error), self._administration() as connection:
            self._drop(connection, self.scratch.name)

    def _drop(self, connection: BaseDatabaseWrapper, name: str) -> None:
        quoted = connection.ops.quote_name(name)
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")

    def prepare(self) -> Address:
        """Make the scratch: empty, and like the target in encoding, owner, grants and settings."""
        with self._administration() as connection:
            self._prove_here(connection)
            self._drop(connection, self.scratch.name)
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT to_jsonb(d) || jsonb_build_object('owner', pg_get_userbyid(datdba),"
                    " 'encoding', pg_encoding_to_char(encoding), 'tablespace', nullif(spcname,"
                    " (SELECT spcname FROM pg_database d JOIN pg_tablespace t"
                    " ON t.oid = d.dattablespace WHERE datname = 'template0')))"
                    " FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace"
                    " WHERE datname = %s",
                    [self.target.name],
                )
                (like,) = cursor.fetchone()
                cursor.execute(self._creation(connection, cursor, _json(like)))
            self._copy_settings(connection)
        return self.scratch

    def _creation(self, connection: BaseDatabaseWrapper, cursor: object, like: dict) -> str:  # type: ignore[type-arg]
        quote = connection.ops.quote_name
        options = {
            "OWNER": quote(like["owner"]),
            "ENCODING": _literal(cursor, like["encoding"]),
            "LC_COLLATE": _literal(cursor, like["datcollate"]),
            "LC_CTYPE": _literal(cursor, like["datctype"]),
            "CONNECTION LIMIT": str(like["datconnlimit"]),
        }
        if like["tablespace"]:  # that of the template may be forbidden to name
            options["TABLESPACE"] = quote(like["tablespace"])
        provider = {"i": "icu", "b": "builtin", "c": "libc"}.get(like.get("datlocprovider", ""))
        if provider:  # PostgreSQL 13 and 14 know one alone
            options["LOCALE_PROVIDER"] = provider
        if locale := like.get("datlocale") or like.get("daticulocale"):
            options[f"{provider}_LOCALE".upper()] = _literal(cursor, locale)
        if rules := like.get("daticurules"):
            options["ICU_RULES"] = _literal(cursor, rules)
        said = " ".join(f"{name} {value}" for name, value in options.items())
        return f"CREATE DATABASE {quote(self.scratch.name)} TEMPLATE template0 {said}"

    def _copy_settings(self, connection: BaseDatabaseWrapper) -> None:
        """Give the scratch the target's own grants and settings; a dump does not carry these."""
        quote = connection.ops.quote_name
        scratch = quote(self.scratch.name)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT CASE grantee WHEN 0 THEN '' ELSE pg_get_userbyid(grantee) END,"
                " privilege_type, is_grantable FROM pg_database, aclexplode(datacl)"
                " WHERE datname = %s",
                [self.target.name],
            )
            grants = cursor.fetchall()
            if grants:
                cursor.execute(f"REVOKE ALL ON DATABASE {scratch} FROM PUBLIC")
            for role, privilege, grantable in grants:
                to = quote(role) if role else "PUBLIC"
                option = " WITH GRANT OPTION" if grantable else ""
                cursor.execute(f"GRANT {privilege} ON DATABASE {scratch} TO {to}{option}")
            cursor.execute(
                "SELECT CASE setrole WHEN 0 THEN '' ELSE pg_get_userbyid(setrole) END,"
                " unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d"
                " ON d.oid = s.setdatabase WHERE datname = %s",
                [self.target.name],
            )
            for role, setting in cursor.fetchall():
                name, value = setting.split("=", 1)
                told = value if name in LISTS else _literal(cursor, value)
                of = f"ROLE {quote(role)} IN " if role else ""
                cursor.execute(f"ALTER {of}DATABASE {scratch} SET {quote_setting(name)} TO {told}")

    # The swap

    def swap(self) -> float:
        """Put the scratch in the target's place and keep what was there; the seconds it took.

        Both names change in one transaction, and until it ends new connections wait: whatever
        dies, and whenever, the target is the old database or the new one. Raises Refused.
        """
        with self._administration() as connection:
            if self.source:
                proof.apart(self.source, self.target)
            self._prove_here(connection)
            left = self._own(connection)
            if self.scratch.name not in left:
                raise Refused(
                    f"The database {self.scratch.name}, which was made ready, is gone: another "
                    "attempt has swept it away. Nothing was changed; see what came of that one."
                )
            aside = self.kept if self.kept not in left else self._aside
            took = self._rename(connection, self.target.name, aside, self.scratch.name)
            self._arrived(self._place(connection, self.target.name).oid)
            return took

    def _arrived(self, oid: int) -> None:
        """See that the target's own address leads to the database with that oid."""
        deadline = time.monotonic() + ARRIVE_SECONDS
        while True:
            try:
                with closing(self.target.connect()) as connection:
                    found = proof.locate(connection).oid
            except Error:
                found = 0
            if found == oid:
                return
            if time.monotonic() > deadline:
                raise Refused(
                    f"The databases were exchanged, but {self.target.shown} leads to the one with "
                    f"the oid {found or 'of none'}, not to {oid}. See what a pooler there holds on "
                    "to, then roll back or run this again."
                )
            time.sleep(0.05)

    def roll_back(self) -> float:
        """Put back what this rehearsal replaced; the seconds it took. Raises Refused."""
        with self._administration() as connection:
            self._prove_here(connection)
            if self.kept not in self._own(connection):
                raise Refused(
                    f"There is no database {self.kept} to go back to: a later rehearsal dropped "
                    "it, or it was put back already. Restore a snapshot instead."
                )
            for name in self._own(connection) & {self._aside}:
                self._drop(connection, name)
            took = self._rename(connection, self.target.name, self._aside, self.kept)
            self._drop(connection, self._aside)
            return took

    def _rename(self, connection: BaseDatabaseWrapper, old: str, aside: str, new: str) -> float:
        quote = connection.ops.quote_name
        before = self._place(connection, old)
        began = time.monotonic()
        with self._without_others([old, new]), connection.cursor() as cursor:
            while True:
                cursor.execute("BEGIN")
                try:
                    # This locks the database against new connections, then waits up to 5 s for
                    # the present ones to end.
                    cursor.execute(f"ALTER DATABASE {quote(old)} RENAME TO {quote(aside)}")
                    cursor.execute(f"ALTER DATABASE {quote(new)} RENAME TO {quote(old)}")
                    # Asked again on this connection, after the lock: the database that gives way
                    # is the one that was proven.
                    if self._place(connection, aside) != before.renamed(aside):
                        raise Refused(
                            f"The database {old} was exchanged while it was to be replaced; "
                            "nothing was changed. See who else works on it, and start again."
                        )
                    proof.entitled(before, self.environment, self.names)
                    self._mark(connection, old, self._place(connection, old), like=before.oid)
                    cursor.execute("COMMIT")
                    return time.monotonic() - began
                except Error as error:
                    cursor.execute("ROLLBACK")
                    busy = getattr(error.__cause__, "sqlstate", "") or ""
                    if busy != "55006" or time.monotonic() - began > SWAP_SECONDS:
                        raise Refused(
                            f"The databases could not be exchanged, and {old} is as it was: "
                            f"{_first(error)}. The role of TARGET_ADMIN must own both and may "
                            "create databases; end the sessions that hold on to them."
                        ) from error
                except BaseException:
                    cursor.execute("ROLLBACK")
                    raise

    def _place(self, connection: BaseDatabaseWrapper, name: str) -> proof.Place:
        here = proof.locate(connection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT oid FROM pg_database WHERE datname = %s", [name])
            (oid,) = cursor.fetchone() or (0,)
        return proof.Place(here.server, here.started, oid, name, proof.mark(connection, oid))

    @contextmanager
    def _without_others(self, names: list[str]) -> Iterator[None]:
        """End, again and again, every session of those databases, from a connection of its own."""
        done = threading.Event()
        with closing(self.admin.connect()) as connection:

            def end() -> None:
                with suppress(Error), connection.cursor() as cursor:
                    while not done.is_set():
                        cursor.execute(
                            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                            " WHERE datname = ANY(%s) AND pid <> pg_backend_pid()",
                            [names],
                        )
                        done.wait(0.01)

            connection.inc_thread_sharing()
            thread = threading.Thread(target=end, daemon=True)
            thread.start()
            try:
                yield
            finally:
                done.set()
                thread.join(5)


def quote_setting(name: str) -> str:
    """A setting's name, each of its parts quoted: `app.user` has two."""
    return ".".join(f'"{part}"' for part in name.replace('"', "").split("."))


def _literal(cursor: object, value: object) -> str:
    cursor.execute("SELECT quote_literal(%s)", [str(value)])  # type: ignore[attr-defined]
    return str(cursor.fetchone()[0])  # type: ignore[attr-defined]


def _json(value: object) -> dict:  # type: ignore[type-arg]
    return json.loads(value) if isinstance(value, str) else value  # type: ignore[return-value]


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")

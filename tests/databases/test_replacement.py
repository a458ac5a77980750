"""Replacing a database: production in any disguise is refused, staging is old or new."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from demo import servers
from rehearsal.databases import replacement
from rehearsal.databases.address import Address
from rehearsal.databases.replacement import Refused, Replacement, proof
from tests.conftest import wait_for

BACKEND = "django.db.backends.postgresql"
SERVER = urlsplit(os.environ["TEST_POSTGRESQL_URL"])
COMMENT = (
    "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
    " WHERE datname = current_database()"
)
ROOT = Path(__file__).parent.parent.parent
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


def address(name: str, server: servers.PostgreSQL | None = None) -> Address:
    at = urlsplit(server.url(name)) if server else SERVER
    assert at.hostname and at.username and at.password
    return Address(BACKEND, name, at.hostname, str(at.port), at.username, at.password)


def execute(statement: str, name: str = "postgres", server: servers.PostgreSQL | None = None):  # type: ignore[no-untyped-def]
    at = address(name, server)
    with psycopg.connect(
        host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.name,
        autocommit=True,
    ) as connection:  # fmt: skip
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def made(name: str, content: str, server: servers.PostgreSQL | None = None) -> None:
    execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', server=server)
    execute(f'CREATE DATABASE "{name}"', server=server)
    execute("CREATE TABLE content (line text)", name, server)
    execute(f"INSERT INTO content SELECT '{content}'", name, server)


def content(name: str, server: servers.PostgreSQL | None = None) -> str:
    return str(execute("SELECT line FROM content", name, server)[0][0])


def databases() -> set[str]:
    return {name for (name,) in execute("SELECT datname FROM pg_database")}


def of(
    target: Address, source: Address | None = None, number: int = 7, admin: Address | None = None
) -> Replacement:
    return replacement.of(
        target=target, admin=admin, source=source, environment="staging", names=(), number=number
    )


@pytest.fixture
def pair() -> Iterator[tuple[Address, Address]]:
    """Production and an enrolled staging, in one server."""
    made("shop_production", "production")
    made("shop_staging", "old")
    found = address("shop_production"), address("shop_staging")
    of(found[1], found[0]).enroll()
    yield found
    for name in databases():
        if name.startswith("shop_"):
            execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def ready(target: Address, source: Address | None = None, number: int = 7) -> Replacement:
    """A replacement whose scratch is filled and waits for the swap."""
    found = of(target, source, number)
    scratch = found.prepare()
    execute("CREATE TABLE content (line text)", scratch.name)
    execute("INSERT INTO content VALUES ('new')", scratch.name)
    return found


def test_swap_and_roll_back(pair: tuple[Address, Address]) -> None:
    source, target = pair
    execute("ALTER DATABASE shop_staging SET search_path TO app, public")
    execute("ALTER DATABASE shop_staging SET app.greeting TO 'it''s = staging'")
    execute("GRANT CONNECT ON DATABASE shop_staging TO pg_monitor")
    execute("ALTER DATABASE shop_staging CONNECTION LIMIT 90")
    execute("COMMENT ON DATABASE shop_staging IS 'The shop''s 100 % staging'")
    of(target, source).enroll()
    told = (
        "SELECT (SELECT array_agg(entry ORDER BY entry::text) FROM unnest(datacl) entry)::text,"
        " datconnlimit FROM pg_database WHERE datname = 'shop_staging'"
    )
    before = execute(told)
    found = ready(target, source)
    assert any("two databases" in said for said in found.prove())
    found.swap()
    assert content("shop_staging") == "new"
    assert content("shop_staging_before_7") == "old"
    assert execute("SHOW search_path", "shop_staging") == [("app, public",)]
    assert execute("SHOW app.greeting", "shop_staging") == [("it's = staging",)]
    assert execute(told) == before
    comment = "The shop's 100 % staging [rehearsal: enrolled as staging/"
    assert execute(COMMENT, "shop_staging")[0][0].startswith(comment)
    found.prove()  # the new database is enrolled as itself
    assert found.heal() == []  # what is kept is not swept away
    found.roll_back()
    assert content("shop_staging") == "old"
    assert databases() & {"shop_staging_before_7", "shop_staging_replaced_7"} == set()
    with pytest.raises(Refused, match="There is no database shop_staging_before_7 to go back to"):
        found.roll_back()
    assert content("shop_production") == "production"


def test_second_attempt_keeps_what_was_before_the_first(pair: tuple[Address, Address]) -> None:
    source, target = pair
    ready(target, source).swap()
    again = of(target, source)
    again.heal()
    ready(target, source).swap()
    assert content("shop_staging_before_7") == "old"
    assert again.heal() == ["shop_staging_replaced_7"]
    assert set(of(target, source, number=8).heal()) == {"shop_staging_before_7"}


def test_only_own_names_are_swept_away(pair: tuple[Address, Address]) -> None:
    source, target = pair
    made("shop_staging_before_the_war_7", "another")
    made("shop_staging_before_7x", "another")
    made("shop_staging_before_20251003", "a copy of somebody")
    made("shop_staging_replaced_3", "another")
    assert of(target, source, number=9).heal() == []


# Production in disguise: see tests/checks/environment/test_disguises.py, too


def test_renamed_production(pair: tuple[Address, Address]) -> None:
    """Production takes the target's name, and the source's address leads to an older copy."""
    source, target = pair
    found = ready(target, source)
    execute("ALTER DATABASE shop_staging RENAME TO shop_elsewhere")
    execute("ALTER DATABASE shop_production RENAME TO shop_staging")
    made("shop_production", "an older copy")
    with pytest.raises(Refused, match="not enrolled"):
        found.swap()
    assert content("shop_staging") == "production"


@pytest.mark.fault("target exchanged between proof and swap", promised="refused")
def test_exchanged_between_proof_and_swap(pair: tuple[Address, Address]) -> None:
    """An enrollment is bound to one database: copied to another, it is worth nothing."""
    source, target = pair
    found = ready(target, source)
    comment = execute(COMMENT, "shop_staging")[0][0]
    execute("ALTER DATABASE shop_staging RENAME TO shop_elsewhere")
    execute("ALTER DATABASE shop_production RENAME TO shop_staging")
    execute(f"COMMENT ON DATABASE shop_staging IS '{comment}'")
    made("shop_production", "an older copy")
    with pytest.raises(Refused, match="was expected: it was enrolled for another"):
        found.swap()
    assert content("shop_staging") == "production"


def test_enrollment_does_not_travel_with_a_dump(pair: tuple[Address, Address]) -> None:
    binaries = servers.binaries()
    dumped = subprocess.run(
        [binaries / "pg_dump", "shop_staging"],
        env={**os.environ, **pair[1].environment()},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert b"content" in dumped.stdout
    assert b"enrolled" not in dumped.stdout


def test_server_of_its_own(pair: tuple[Address, Address]) -> None:
    source, _ = pair
    with servers.postgresql() as own:
        made("shop_staging", "other server", own)
        target = address("shop_staging", own)
        of(target, source).enroll()
        assert any("two servers" in said for said in of(target, source).prove())


@pytest.mark.fault("restore by an attempt that was given up", promised="it exchanges nothing")
def test_attempt_that_was_taken_for_lost_swaps_in_no_other_attempts_scratch(
    pair: tuple[Address, Address],
) -> None:
    """A frozen worker wakes up before its swap, while the next attempt is half restored."""
    source, target = pair
    frozen = ready(target, source)
    second = of(target, source)
    second.heal()
    half = second.prepare()
    with pytest.raises(Refused, match="is gone: another attempt has swept it away"):
        frozen.swap()
    assert content("shop_staging") == "old"
    execute("CREATE TABLE content (line text)", half.name)
    execute("INSERT INTO content VALUES ('second')", half.name)
    second.swap()
    assert content("shop_staging") == "second"


def test_one_after_the_other(pair: tuple[Address, Address]) -> None:
    """Right after one connection that held the lock, the next one gets it."""
    source, target = pair
    found = of(target, source)
    for _ in range(20):
        assert found.keeps() is False
        found.discard()


def test_scratch_is_like_the_target(pair: tuple[Address, Address]) -> None:
    source, target = pair
    execute("DROP DATABASE shop_staging")
    execute(
        "CREATE DATABASE shop_staging TEMPLATE template0 LOCALE_PROVIDER libc LC_COLLATE 'C'"
        " LC_CTYPE 'C' ENCODING 'SQL_ASCII'"
    )
    found = of(target, source)
    found.enroll()
    scratch = found.prepare()
    like = "SELECT encoding, datlocprovider, datcollate FROM pg_database WHERE datname = '{}'"
    assert execute(like.format(scratch.name)) == execute(like.format("shop_staging"))
    found.discard()
    assert scratch.name not in databases()


def test_name_that_is_not_on_the_list(pair: tuple[Address, Address]) -> None:
    source, target = pair
    made("shop_test", "old")
    with pytest.raises(Refused, match="does not hold 'staging'"):
        of(address("shop_test"), source).enroll()
    listed = replacement.of(
        target=target, admin=None, source=source, environment="staging",
        names=["shop_test"], number=7,
    )  # fmt: skip
    with pytest.raises(Refused, match="not among REHEARSAL"):
        listed.prove()


def test_source_that_cannot_be_reached(pair: tuple[Address, Address]) -> None:
    source, target = pair
    with pytest.raises(Refused, match="could not be proven"):
        of(target, replace(source, port="1")).prove()


# Poolers, others' connections, kills


@pytest.mark.skipif(not PGBOUNCER, reason="pgbouncer is not installed")
def test_pooler(pair: tuple[Address, Address], tmp_path: Path) -> None:
    source, target = pair
    with pooler(target, tmp_path) as port:
        through = replace(target, host="127.0.0.1", port=str(port))
        with pytest.raises(Refused, match="A pooler such as pgbouncer answers"):
            of(through, source).prove()
        direct = address("postgres")
        found = of(through, source, admin=direct)
        found.prove()
        with closing(through.connect()) as held, held.cursor() as cursor:
            cursor.execute("SELECT line FROM content")
            scratch = found.prepare()
            assert scratch.port == target.port
            execute("CREATE TABLE content (line text)", scratch.name)
            execute("INSERT INTO content VALUES ('new')", scratch.name)
            found.swap()
        with closing(through.connect()) as again, again.cursor() as cursor:
            cursor.execute("SELECT line FROM content")
            assert cursor.fetchone() == ("new",)


class pooler:
    """A pgbouncer in transaction mode in front of the server of `target`."""

    def __init__(self, target: Address, folder: Path) -> None:
        import pwd
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        configuration = folder / "pgbouncer.ini"
        login = f"user={target.user} password={target.password}"
        configuration.write_text(
            f"[databases]\n* = host={target.host} port={target.port} {login}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            "unix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
            "ignore_startup_parameters = extra_float_digits,options\n"
        )
        how = {}
        if os.geteuid() == 0:  # it refuses to be root
            account = pwd.getpwnam("nobody")
            how = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            for path in (*folder.parents, folder):
                if path.stat().st_uid == 0 and path not in (Path("/"), Path("/tmp")):
                    path.chmod(path.stat().st_mode | 0o011)
            configuration.chmod(0o644)
        self.process = subprocess.Popen([str(PGBOUNCER), "-q", configuration], **how)

    def __enter__(self) -> int:
        import socket

        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return int(self.port)
            except OSError:
                assert time.monotonic() < deadline, "pgbouncer did not come up"
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.mark.fault(
    "eight readers during the exchange", promised="each sees old rows, then errors, then new rows"
)
def test_readers_wait_or_are_told(pair: tuple[Address, Address]) -> None:
    """Eight clients that come again and again see the old rows, errors, and then the new rows."""
    source, target = pair
    found = ready(target, source)
    done = threading.Event()
    seen: list[list[str]] = [[] for _ in range(8)]

    def read(into: list[str]) -> None:
        while not done.is_set():
            try:
                into.append(content("shop_staging"))
            except psycopg.Error:
                into.append("")

    threads = [threading.Thread(target=read, args=(each,)) for each in seen]
    for thread in threads:
        thread.start()
    while not all(seen):
        time.sleep(0.01)
    found.swap()
    counts = [len(each) for each in seen]
    while any(len(each) < count + 3 for each, count in zip(seen, counts, strict=True)):
        time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    for each in seen:
        assert [one for one, _ in itertools.groupby(filter(None, each))] == ["old", "new"]
        assert each[-1] == "new"
    assert any("" in each for each in seen)


KILLED = """
import django, sys
from dataclasses import replace
from django.conf import settings
memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
settings.configure(DATABASES={"default": memory})
django.setup()
from rehearsal.databases import replacement
from rehearsal.databases.address import of
target, source = of("TARGET_URL"), of("SOURCE_URL")
found = replacement.of(
    target=target, admin=None, source=source, environment="staging", names=(), number=7)
found = replace(found, token=sys.argv[1])
print("go", flush=True)
found.swap()
print("done", flush=True)
"""


AMID = {"pg_database": "ALTER DATABASE", "pg_shdescription": "COMMENT"}
"""What a lock keeps waiting in the exchange: its first statement and its last before the end."""


@pytest.mark.parametrize(
    "moment",
    [0.1, *(pytest.param(one, marks=pytest.mark.long) for one in (0.0, 0.05, 0.15, 0.25)), *AMID],
)
@pytest.mark.fault("exchange of databases killed", promised="old or new, and no session goes on")
def test_killed_swap_leaves_old_or_new(pair: tuple[Address, Address], moment: float | str) -> None:
    source, target = pair
    scratch = ready(target, source)
    urls = {
        key: f"postgresql://{at.user}:{at.password}@{at.host}:{at.port}/{at.name}"
        for key, at in (("TARGET_URL", target), ("SOURCE_URL", source))
    }
    with psycopg.connect(os.environ["TEST_POSTGRESQL_URL"]) as lock:
        if moment in AMID:
            lock.execute(f"LOCK TABLE {moment} IN SHARE MODE")  # type: ignore[arg-type]
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), scratch.token],
            env={**os.environ, **urls},
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert process.stdout and process.stdout.readline() == b"go\n"
        if moment in AMID:
            waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE"
            wait_for(lambda: execute(f"{waits} '{AMID[str(moment)]}%'"))
        else:
            threading.Event().wait(float(moment))
        process.send_signal(signal.SIGKILL)
        ended = process.communicate()[0] == b"done\n"
    found = of(target, source)
    deadline = time.monotonic() + 2
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rehearsal'"
    while execute(left) != [(0,)]:
        assert time.monotonic() < deadline, "a server process of the killed swap is left"
        time.sleep(0.02)
    stands = content("shop_staging")
    swapped = "shop_staging_before_7" in databases()
    assert stands == ("new" if swapped else "old")
    assert swapped or not ended
    assert not (moment in AMID and (swapped or ended))
    found.prove()
    found.heal()
    left_over = {name for name in databases() if "_rehearsal_" in name or "_replaced_" in name}
    assert left_over == set()
    assert content("shop_staging") == stands


# SQLite


def file(path: Path, line: str, *, wal: bool = False) -> Address:
    with closing(sqlite3.connect(path)) as connection:
        if wal:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE content (line text)")
        connection.execute("INSERT INTO content VALUES (?)", [line])
        connection.commit()
    return Address("django.db.backends.sqlite3", str(path))


def line_of(path: str | Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT line FROM content").fetchone()[0])


@pytest.mark.parametrize("wal", [False, True])
def test_sqlite_swap_and_roll_back(tmp_path: Path, wal: bool) -> None:
    source = file(tmp_path / "production.sqlite3", "production")
    target = file(tmp_path / "staging.sqlite3", "old", wal=wal)
    found = of(target, source)
    with pytest.raises(Refused, match="not enrolled"):
        found.prove()
    found.enroll()
    found.prove()
    inode = Path(target.name).stat().st_ino
    with closing(sqlite3.connect(target.name)) as open_all_the_time:
        scratch = found.prepare()
        Path(scratch.name).unlink()
        file(Path(scratch.name), "new")
        found.swap()
        assert open_all_the_time.execute("SELECT line FROM content").fetchone() == ("new",)
    assert Path(target.name).stat().st_ino == inode
    assert line_of(found.kept) == "old"
    assert found.heal() == []
    found.roll_back()
    assert line_of(target.name) == "old"
    assert sorted(path.name for path in tmp_path.iterdir() if "." in path.name) == sorted(
        ["production.sqlite3", "staging.sqlite3", "staging.sqlite3.rehearsal-enrolled"]
        + [path.name for path in tmp_path.iterdir() if path.name.endswith(("-wal", "-shm"))]
    )


def test_sqlite_production_in_disguise(tmp_path: Path) -> None:
    source = file(tmp_path / "production_staging.sqlite3", "production")
    (tmp_path / "link_staging.sqlite3").symlink_to(source.name)
    os.link(source.name, tmp_path / "hard_staging.sqlite3")
    for name in ("production_staging", "link_staging", "hard_staging"):
        disguised = replace(source, name=str(tmp_path / f"{name}.sqlite3"))
        with pytest.raises(Refused, match="is the source"):
            of(disguised, source).enroll()
        with pytest.raises(Refused, match="is the source"):
            of(disguised, source).prove()
    assert line_of(source.name) == "production"


def test_sqlite_enrollment_does_not_travel_with_a_copied_folder(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    target = file(tmp_path / "one" / "staging.sqlite3", "old")
    of(target).enroll()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    copied = replace(target, name=str(tmp_path / "two" / "staging.sqlite3"))
    with pytest.raises(Refused, match="carries the enrollment"):
        of(copied).prove()


def test_kinds_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="The source is postgresql and the target sqlite"):
        of(file(tmp_path / "staging.sqlite3", "old"), address("postgres"))


def test_mark_is_that_of_the_database_alone() -> None:
    place = proof.Place("77", "1.0", 12, "shop_staging", "staging/77/12")
    assert proof.entitled(place, "staging", ())
    with pytest.raises(Refused, match="not enrolled"):
        proof.entitled(replace(place, mark=""), "staging", ())
    with pytest.raises(Refused, match="staging/77/13 was expected"):
        proof.entitled(replace(place, oid=13), "staging", ())


def test_sqlite_attempt_that_was_taken_for_lost(tmp_path: Path) -> None:
    source = file(tmp_path / "production.sqlite3", "production")
    target = file(tmp_path / "staging.sqlite3", "old")
    frozen, second = of(target, source), of(target, source)
    frozen.enroll()
    frozen.prepare()
    assert second.heal() == [Path(frozen.scratch.name).name]
    second.prepare()
    with pytest.raises(Refused, match="is gone: another attempt has swept it away"):
        frozen.swap()
    with second._alone(), pytest.raises(Refused, match="Another process is replacing"):  # type: ignore[union-attr]
        frozen.heal()
    assert line_of(target.name) == "old"


def test_sqlite_pages_of_another_size(tmp_path: Path) -> None:
    """In the WAL mode the target's pages stay as large as they are, so the scratch gives in."""
    target = file(tmp_path / "staging.sqlite3", "old", wal=True)
    found = of(target)
    found.enroll()
    scratch = found.prepare()
    with closing(sqlite3.connect(scratch.name)) as connection:
        connection.execute("PRAGMA page_size=1024")
        connection.execute("CREATE TABLE content (line text)")
        connection.execute("INSERT INTO content VALUES ('new')")
        connection.commit()
    found.swap()
    assert line_of(target.name) == "new"

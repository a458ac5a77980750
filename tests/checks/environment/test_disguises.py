"""Production in every disguise is given to the restore as its target, and is not touched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from demo import servers
from rehearsal.databases.address import Address
from tests.checks.environment.conftest import held, perform
from tests.databases.forward import tunnel
from tests.databases.test_replacement import COMMENT, address, content, execute, made

PRODUCTION = "office_production_staging"
"""Its very name says staging, and somebody enrolled it by hand: neither saves it here."""


def url(at: Address) -> str:
    host = quote(at.host, safe="")
    return f"postgresql://{at.user}:{at.password}@/{at.name}?host={host}&port={at.port}"


@pytest.fixture
def production(pair: tuple[Address, Address], monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    """A production of which a snapshot was taken."""
    status, told, _ = perform("Snapshot")
    assert status == "passed", told
    execute(f"ALTER DATABASE office_production RENAME TO {PRODUCTION}")
    mark = execute(
        "SELECT 'staging/' || system_identifier || '/' || oid FROM pg_control_system(),"
        f" pg_database WHERE datname = '{PRODUCTION}'"
    )[0][0]
    execute(f"COMMENT ON DATABASE {PRODUCTION} IS '[rehearsal: enrolled as {mark}]'")
    found = address(PRODUCTION)
    monkeypatch.setenv("OFFICE_PRODUCTION_URL", url(found))
    yield found
    execute("DROP OWNED BY visitor; DROP ROLE visitor" if _exists("visitor") else "SELECT 1")


def _exists(role: str) -> bool:
    return bool(execute(f"SELECT FROM pg_roles WHERE rolname = '{role}'"))


Disguise = Callable[[Address, Path, ExitStack, pytest.MonkeyPatch], "Address | str"]


def same_alias(at: Address, *_: object) -> str:
    return "OFFICE_PRODUCTION_URL"


def other_alias(at: Address, _: Path, __: ExitStack, patch: pytest.MonkeyPatch) -> str:
    own = {"NAME": at.name, "HOST": at.host, "PORT": at.port, "USER": at.user}
    own |= {"PASSWORD": at.password, "OPTIONS": {"application_name": "another"}}
    patch.setitem(connections.settings, "another", connections.settings["default"] | own)
    return "another"


def socket(at: Address, folder: Path, stack: ExitStack, _: pytest.MonkeyPatch) -> Address:
    stack.enter_context(tunnel(int(at.port), folder / ".s.PGSQL.5432"))
    return replace(at, host=str(folder), port="5432")


def hostname(at: Address, *_: object) -> Address:
    return replace(at, host="localhost")


def tunnel_port(at: Address, _: Path, stack: ExitStack, __: pytest.MonkeyPatch) -> Address:
    return replace(at, port=str(stack.enter_context(tunnel(int(at.port)))))


def unprivileged_role(at: Address, *_: object) -> Address:
    execute("CREATE ROLE visitor LOGIN PASSWORD 'visits'")
    execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC", at.name)
    return replace(at, user="visitor", password="visits")


DISGUISES: dict[Disguise, str] = {
    same_alias: "The target is the source",
    other_alias: "is the source .* reached another way",
    socket: "is the source .* reached another way",
    hostname: "is the source .* reached another way",
    tunnel_port: "is the source .* reached another way",
    unprivileged_role: "is the source .* reached another way",
}


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda one: one.__name__)
def test_reached_another_way(
    production: Address,
    disguise: Disguise,
    settings: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = held(production)
    with ExitStack() as stack:
        target = disguise(production, tmp_path, stack, monkeypatch)
        if isinstance(target, Address):
            monkeypatch.setenv("OFFICE_STAGING_URL", url(target))
        else:
            settings.REHEARSAL = {**settings.REHEARSAL, "TARGET": target}  # type: ignore[attr-defined]
        refused(DISGUISES[disguise])
    assert held(production) == before


def refused(why: str) -> None:
    """The restore and the enrollment are refused, and leave no database behind."""
    there = execute("SELECT oid, datname FROM pg_database ORDER BY 1")
    status, told, _ = perform("Restore")
    assert status == "failed"
    assert re.search(why, told), told
    with pytest.raises(CommandError, match=why):
        call_command("rehearsal_enroll", yes=PRODUCTION)
    assert execute("SELECT oid, datname FROM pg_database ORDER BY 1") == there


@pytest.mark.parametrize("copied", [False, True], ids=["not enrolled", "with staging's enrollment"])
def test_renamed(pair: tuple[Address, Address], copied: bool) -> None:
    """Production takes the target's name, and the source's address leads to an older copy."""
    source, target = pair
    perform("Snapshot")
    comment = execute(COMMENT, target.name)[0][0]
    execute("ALTER DATABASE office_staging RENAME TO office_elsewhere")
    execute("ALTER DATABASE office_production RENAME TO office_staging")
    if copied:
        execute(f"COMMENT ON DATABASE office_staging IS '{comment}'")
    made("office_production", "an older copy")
    before = held(target)
    status, told, _ = perform("Restore")
    assert status == "failed"
    assert ("it was enrolled for another environment" if copied else "is not enrolled") in told
    assert held(target) == before
    assert content("office_staging") == "production"


def test_promoted_clone(
    production: Address, monkeypatch: pytest.MonkeyPatch, settings: object
) -> None:
    """A copy of production's whole server, enrollment and all, that was made a server of its own:
    after a failover, it is production."""
    with servers.postgresql() as clone:
        folder = Path(execute("SHOW data_directory", server=clone)[0][0])
        owner = folder.stat()
        clone.stop()
        shutil.rmtree(folder)
        subprocess.run(
            [servers.binaries() / "pg_basebackup", "--pgdata", folder, "--write-recovery-conf",
             "--checkpoint=fast", "--wal-method=stream"],
            env=os.environ | production.renamed("").environment(),
            check=True,
            timeout=120,
        )  # fmt: skip
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        # The clone has the passwords of what it was cloned from, and its own server another.
        rules = folder / "pg_hba.conf"
        rules.write_text(rules.read_text().replace("scram-sha-256", "trust"))
        clone.start()
        at = replace(production, port=str(clone.port))
        monkeypatch.setenv("OFFICE_PRODUCTION_URL", url(at))
        status, told, _ = perform("Snapshot", number=8)
        assert status == "passed", told  # a standby serves as the source
        monkeypatch.setenv("OFFICE_PRODUCTION_URL", url(production))
        assert execute("SELECT pg_promote(), pg_is_in_recovery()", "postgres", clone)[0][0]
        before = held(production), held(at)
        assert before[0] == before[1]
        monkeypatch.setenv("OFFICE_STAGING_URL", url(at))
        refused("replica or clone of the source's")
        assert (held(production), held(at)) == before

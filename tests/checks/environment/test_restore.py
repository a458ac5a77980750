"""1.1 and 1.2 performed on real servers: nobody is mailed or locked out, nothing is lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.contrib.auth.hashers import check_password
from django.contrib.sessions.backends.db import SessionStore
from django.core.mail.backends import locmem, smtp
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.base import DatabaseWrapper
from django.test import override_settings
from django.utils import timezone

from rehearsal import decisions, tasks
from rehearsal.checks.base import Failed, Inconclusive
from rehearsal.checks.environment import mail, outbound, restore
from rehearsal.checks.environment.outbound import judge
from rehearsal.checks.environment.survey import Survey
from rehearsal.databases import replacement, snapshots
from rehearsal.databases.address import Address, AddressError, of
from rehearsal.databases.replacement.postgresql import PostgreSQLReplacement
from rehearsal.middleware import restoring
from rehearsal.models import CheckItem
from tests.checks.environment.conftest import PASSWORD, held, measured, perform
from tests.checks.projects import make_report
from tests.conftest import ROOT, statuses, wait_for
from tests.databases.test_replacement import address, content, databases, execute
from tests.databases.test_snapshots import mutated, vouch
from tests.mailers import CONSOLE, SMTP
from tests.test_views import at, begin, said, signed_in, work

SESSION_USER = 3


def test_snapshot_and_restore(pair: tuple[Address, Address]) -> None:
    execute("DELETE FROM auth_user WHERE id = 6", "office_staging")
    execute(
        f"INSERT INTO auth_user VALUES (99, 'trainee', '{PASSWORD}', true, false, false)",
        "office_staging",
    )
    session = SessionStore().encode(
        {"_auth_user_id": str(SESSION_USER), "_auth_user_backend": "any"}
    )
    execute(
        f"INSERT INTO django_session VALUES ('mine', '{session}', now() + interval '1 day')",
        "office_staging",
    )
    execute("INSERT INTO django_session VALUES ('theirs', 'x', now())", "office_production")
    status, told, report = perform("Snapshot")
    assert status == "passed", told
    assert "in 3 tables taken from" in told
    assert measured(report)["snapshot.rows"] == 8
    status, told, report = perform("Restore")
    assert status == "passed", told
    assert "8 rows in 3 tables restored and verified; 6 accounts as they were" in told
    assert report.facts["accounts of this environment alone, gone"] == ["trainee"]
    assert content("office_staging") == "production"
    assert content("office_staging_before_7") == "old"
    assert execute("SELECT session_key FROM django_session", "office_staging") == [("mine",)]
    assert measured(report)["restore.downtime_seconds"] > 0
    assert str(report.facts["sessions"]).startswith("1 of this environment kept, 1 of")
    (password,) = execute("SELECT password FROM auth_user WHERE id = 6", "office_staging")[0]
    assert check_password("correct horse", password)
    assert PASSWORD not in f"{report.facts} {report.output}"
    status, told, report = perform("Restore", number=7)
    assert status == "passed", told
    assert content("office_staging_before_7") == "old"


def test_passwords_of_the_target(pair: tuple[Address, Address], settings: object) -> None:
    settings.REHEARSAL = {**settings.REHEARSAL, "CREDENTIALS": "target"}  # type: ignore[attr-defined]
    execute("UPDATE auth_user SET password = 'staging' WHERE id = 2", "office_staging")
    perform("Snapshot")
    status, told, report = perform("Restore")
    assert status == "passed", told
    found = execute("SELECT password = 'staging' FROM auth_user ORDER BY id", "office_staging")
    assert [one for (one,) in found] == [False, True, False, False, False, False]
    assert report.facts["passwords of the target kept"] == "6 accounts"


def test_planted_reset_among_ten_thousand_is_named(pair: tuple[Address, Address]) -> None:
    """Something resets a password while the data is put in place: here, a trigger in it."""
    execute(
        "INSERT INTO auth_user SELECT n, 'user' || n, u.password, true, false, false"
        " FROM generate_series(7, 10000) n, auth_user u WHERE u.id = 1",
        "office_production",
    )
    perform("Snapshot")
    execute(
        "CREATE FUNCTION reset() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS"
        " $$ BEGIN UPDATE auth_user SET password = '!' WHERE id = 4321; RETURN NULL; END $$;"
        " CREATE TRIGGER reset AFTER DELETE ON django_session EXECUTE FUNCTION reset()",
        "office_production",
    )
    perform("Snapshot")
    status, told, _ = perform("Restore")
    assert (status, "as they were: user4321 (password reset). Find" in told) == ("failed", True), (
        told
    )
    assert content("office_staging") == "old"


def test_mail_that_could_reach_people(
    pair: tuple[Address, Address], settings: object, mail_by: Callable[..., None]
) -> None:
    perform("Snapshot")
    mail_by(SMTP, host="smtp.example.org", port=25)
    status, told, _ = perform("Restore")
    assert status == "failed"
    assert "this process would mail to the SMTP server smtp.example.org:25" in told
    assert "MAIL_SINKS" in told
    assert content("office_staging") == "old"
    settings.REHEARSAL = {**settings.REHEARSAL, "MAIL_SINKS": ["smtp.example.org"]}  # type: ignore[attr-defined]
    assert perform("Restore")[0] == "passed"


@pytest.mark.parametrize(
    ("route", "sinks", "captured"),
    [
        ({"backend": "a.B", "server": "mail:25"}, ("mail",), True),
        ({"backend": "a.B", "server": "mail:25"}, ("mail:25",), True),
        ({"backend": "a.B", "server": "mail:25"}, ("mail:1025", "a.B"), False),
        ({"backend": "anymail.Backend"}, (), False),
        ({"backend": "anymail.Backend"}, ("anymail.Backend",), True),
        ({"backend": "a.B", "error": "no such module"}, (), False),
        ({"backend": "a.B", "captures": "yes"}, (), True),
        ({}, ("",), False),
    ],
)
def test_where_mail_leads(route: dict[str, str], sinks: tuple[str, ...], captured: bool) -> None:
    assert bool(mail.leads_nowhere(route, sinks)) is captured


def test_own_route(mail_by: Callable[..., None]) -> None:
    assert mail.routes()["default"]["captures"] == "yes"  # pytest-django's memory
    mail_by("no.such.Backend")
    assert "cannot be imported" in mail.leads(mail.routes()["default"])


class SendsToo(locmem.EmailBackend):
    """A backend of a project's own, which may do more than what it is derived from."""


class GoesElsewhere(smtp.EmailBackend):
    """A backend of a project's own, whose server is not the settings'."""


@pytest.mark.parametrize("backend", [SendsToo, GoesElsewhere])
def test_what_a_project_derives_is_known_by_its_own_name_alone(backend: type) -> None:
    name = f"{backend.__module__}.{backend.__qualname__}"
    found = mail.route_of(name, "sink:1025")
    assert not mail.leads_nowhere(found, ["sink:1025", "sink"])
    assert mail.leads_nowhere(found, [name])


@pytest.mark.parametrize(
    ("mailers", "servers"),
    [
        ({}, {"default": None}),
        ({"default": {"OPTIONS": {"host": "a"}}}, {"default": "a:25"}),
        ({"default": {"OPTIONS": {"host": "a", "use_tls": True}}}, {"default": "a:587"}),
        ({"default": {"OPTIONS": {"host": "a", "use_ssl": True}}}, {"default": "a:465"}),
        (
            {"default": {"BACKEND": CONSOLE}, "bulk": {"OPTIONS": {"host": "a", "port": 26}}},
            {"default": None, "bulk": "a:26"},
        ),
    ],
)
def test_each_mailer_is_a_way(
    mailers: dict[str, Any], servers: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Also where this Django does not know the setting yet.
    monkeypatch.setattr(mail, "KNOWS_MAILERS", True)
    with override_settings(MAILERS=mailers):
        found = mail.routes()
        mail.send_nothing()
        assert all(mail.leads_nowhere(one, ()) for one in mail.routes().values())
    assert {alias: one.get("server") for alias, one in found.items()} == servers


def test_a_mailer_beside_the_default_one_is_named() -> None:
    captured = {"backend": CONSOLE, "captures": "yes"}
    open_way = {"backend": SMTP, "server": "a:25"}
    report = make_report("A line.")
    routes = mail.by_sender("a worker", {"default": captured, "bulk": open_way})
    with pytest.raises(Failed, match="a worker, by bulk, would mail to the SMTP server a:25"):
        judge(report, routes, {})
    # As a worker of an earlier release answers, whatever that means here.
    for answer in (captured, {}, None, "no mail"):
        with pytest.raises(Failed, match="would mail by an unknown way"):
            judge(report, mail.by_sender("a worker", answer), {})


def test_no_worker_is_hidden_by_another_of_its_name(
    mail_by: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mail_by(CONSOLE)
    captured = {"default": {"backend": CONSOLE, "captures": "yes"}}
    open_way = {"default": {"backend": SMTP, "server": "a:25"}}
    found = Survey(doubled=["a worker"])
    monkeypatch.setattr(outbound, "survey", lambda *_given, **_named: found)
    for first, last in ((captured, open_way), (open_way, captured)):
        said = ({"pid": 7, "mail": first}, {"pid": 8, "mail": last})
        found.answers = {"a worker": list(said)}
        with pytest.raises(Failed, match="a worker.* would mail to the SMTP server a:25"):
            outbound.prove_captured(make_report("A line."), Celery(set_as_current=False))
    found.answers = {"a worker": [{"pid": 7, "mail": captured}] * 2}
    with pytest.raises(Inconclusive, match="Several workers call themselves a worker, .*with -n"):
        outbound.prove_captured(make_report("A line."), Celery(set_as_current=False))
    found.doubled = []
    outbound.prove_captured(make_report("A line."), Celery(set_as_current=False))


@pytest.mark.parametrize(
    ("count", "seed"),
    [(4, 0), *(pytest.param(100, seed, marks=pytest.mark.long) for seed in (1, 2, 3))],
)
def test_damaged_snapshot_leaves_staging_alone(
    pair: tuple[Address, Address], tmp_path: Path, count: int, seed: int
) -> None:
    """Cut off at any byte, or with any bit flipped: the restore fails, and staging is the same."""
    perform("Snapshot")
    folder, whole = snapshots.of_rehearsal(7), tmp_path / "whole"
    shutil.copytree(folder, whole)
    before, there = held(pair[1]), databases()
    dice = random.Random(seed)
    for _ in range(count):
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
        what = mutated(folder, dice)
        status, told, _ = perform("Restore")
        assert status == "failed", what
        assert "of the snapshot" in told, (what, told)
        assert held(pair[1]) == before, what
    assert databases() == there
    shutil.rmtree(folder)
    shutil.copytree(whole, folder)
    assert perform("Restore")[0] == "passed"


def test_restore_that_differs_from_the_manifest(pair: tuple[Address, Address]) -> None:
    """The archive is whole and holds something else than was counted."""
    perform("Snapshot")
    folder = snapshots.of_rehearsal(7)
    taken = snapshots.load(folder).manifest
    replace(taken, tables={**taken.tables, "public.content": [2, "0/0"]}).save(folder)
    status, told, _ = perform("Restore")
    assert (status, "table public.content has 1 rows, not 2" in told) == ("failed", True), told
    assert content("office_staging") == "old"
    assert "office_staging_before_7" not in databases()


def test_production_as_target(pair: tuple[Address, Address], settings: object) -> None:
    perform("Snapshot")
    settings.REHEARSAL = {**settings.REHEARSAL, "TARGET": "OFFICE_PRODUCTION_URL"}  # type: ignore[attr-defined]
    status, told, _ = perform("Restore")
    assert (status, "The target is the source" in told) == ("failed", True), told
    with pytest.raises(CommandError, match="does not hold 'staging'"):
        call_command("rehearsal_enroll", yes="office_production")
    assert content("office_production") == "production"


def test_records_in_the_target(
    pair: tuple[Address, Address], settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alias of their own, and the same database behind it."""
    perform("Snapshot")
    staging = address("office_staging")
    own = {"NAME": staging.name, "HOST": staging.host, "PORT": staging.port}
    own |= {"USER": staging.user, "PASSWORD": staging.password}
    monkeypatch.setitem(connections.settings, "own", connections.settings["rehearsal"] | own)
    settings.REHEARSAL = {**settings.REHEARSAL, "DATABASE": "own"}  # type: ignore[attr-defined]
    status, told, _ = perform("Restore")
    assert (status, "The records of rehearsals are in the target" in told) == ("failed", True), told
    assert content("office_staging") == "old"


def test_tasks_that_are_scheduled_in_the_data_are_named(pair: tuple[Address, Address]) -> None:
    execute(
        "CREATE TABLE django_celery_beat_periodictask (name text, task text, enabled boolean);"
        " INSERT INTO django_celery_beat_periodictask VALUES"
        " ('digest', 'office.mail_all', true), ('old', 'office.fax_all', false)",
        "office_production",
    )
    perform("Snapshot")
    status, told, report = perform("Restore")
    assert status == "passed", told
    assert report.facts["started by the restored data on its own"] == ["digest (office.mail_all)"]


def test_snapshot_without_accounts(pair: tuple[Address, Address]) -> None:
    """Whether credentials were reset cannot be seen where there are none."""
    execute("DELETE FROM auth_user", "office_production")
    perform("Snapshot")
    status, told, _ = perform("Restore")
    assert (status, "holds no account (6 are in the target)" in told) == ("inconclusive", True)
    assert content("office_staging") == "old"
    assert [name for name in databases() if "_rehearsal_" in name] == []


def test_role_that_may_not_create_databases(
    pair: tuple[Address, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    perform("Snapshot")
    execute("DROP ROLE IF EXISTS office_clerk")
    execute("CREATE ROLE office_clerk LOGIN PASSWORD 'clerk'")
    at = pair[1]
    url = f"postgresql://office_clerk:clerk@{at.host}:{at.port}/{at.name}"
    monkeypatch.setenv("OFFICE_STAGING_URL", url)
    status, told, _ = perform("Restore")
    execute("DROP ROLE office_clerk")
    assert status == "failed"
    assert "permission denied to create database. Let the role of TARGET_ADMIN create" in told


def test_roles_with_no_more_rights_than_they_need(
    pair: tuple[Address, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source role that only reads; for the target an owner who may create databases."""
    source, target = pair
    execute("ALTER ROLE CURRENT_USER SET allow_in_place_tablespaces = on")
    execute("CREATE TABLESPACE office_disk LOCATION ''")
    for role, rights in (
        ("office_reader", "IN ROLE pg_read_all_data"),
        ("office_owner", "CREATEDB"),
    ):
        execute(f"DROP ROLE IF EXISTS {role}")
        execute(f"CREATE ROLE {role} LOGIN {rights} PASSWORD 'short'")
    try:
        execute("ALTER DATABASE office_staging OWNER TO office_owner")
        execute("CREATE TABLE elsewhere (id int) TABLESPACE office_disk", source.name)
        execute("CREATE INDEX ON elsewhere (id) TABLESPACE office_disk", source.name)
        execute("CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('glad')", source.name)
        for name, role in ((source.name, "office_reader"), (target.name, "office_owner")):
            url = f"postgresql://{role}:short@{target.host}:{target.port}/{name}"
            monkeypatch.setenv(f"{name.upper()}_URL", url)
        execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO office_owner", target.name)
        status, told, _ = perform("Snapshot")
        assert status == "passed", told
        execute("DROP TABLE elsewhere", source.name)
        execute("DROP TABLESPACE office_disk")
        status, told, report = perform("Restore")
        assert status == "passed", (told, report.output)
        assert content(target.name) == "production"
        replacement.configured(7).roll_back()
        assert content(target.name) == "old"
    finally:
        for name in databases():
            if name.startswith("office_"):
                execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        execute("DROP TABLESPACE IF EXISTS office_disk")
        execute("ALTER ROLE CURRENT_USER RESET allow_in_place_tablespaces")
        execute("DROP ROLE office_reader; DROP ROLE office_owner")


def test_claim_that_is_gone_stops_before_the_swap(pair: tuple[Address, Address]) -> None:
    """A worker that was frozen and taken for lost asks whether the item is still its own."""
    perform("Snapshot")
    status, told, _ = perform("Restore", keep=lambda: False)
    assert (status, told) == ("inconclusive", "Stopped before the swap; staging is as it was.")
    assert content("office_staging") == "old"


def test_sessions_outside_the_database(pair: tuple[Address, Address], settings: object) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"  # type: ignore[attr-defined]
    execute("INSERT INTO django_session VALUES ('theirs', 'x', now())", "office_production")
    perform("Snapshot")
    execute("UPDATE auth_user SET username = 'ben' WHERE id = 1", "office_staging")
    status, told, _ = perform("Restore")
    assert (status, "ben would be user1" in told) == ("failed", True), told
    assert content("office_staging") == "old"
    execute("UPDATE auth_user SET password = 'other' WHERE id = 1", "office_staging")
    status, told, report = perform("Restore")
    assert status == "passed", told
    assert "1 of the snapshot removed; what django.contrib.sessions" in str(report.facts)
    assert execute("SELECT count(*) FROM django_session", "office_staging") == [(0,)]


def test_a_client_that_saw_nothing_measures_nothing(allow_databases: None) -> None:
    nowhere = Address("django.db.backends.postgresql", "nowhere", "127.0.0.1", "1")
    with restore.watched(nowhere, patience=0.2) as gaps:
        pass
    assert gaps == []


class Interrupted:
    """An address whose first connection's first query is refused, as a cancelled one is."""

    def __init__(self, at: Address) -> None:
        self.at = at
        self.opened: list[BaseDatabaseWrapper] = []

    def connect(self) -> BaseDatabaseWrapper:
        connection = self.at.connect()
        if not self.opened:
            connection.execute_wrappers.append(self.refuse)
        self.opened.append(connection)
        return connection

    def refuse(self, *_: object) -> None:
        raise OperationalError("canceling statement due to user request")


def test_a_client_whose_query_was_cancelled_comes_back_and_leaves_nothing_open(
    pair: tuple[Address, Address],
) -> None:
    at = Interrupted(pair[1])
    with restore.watched(at) as gaps:  # type: ignore[arg-type]
        pass
    assert gaps and len(at.opened) == 2
    assert [one.connection for one in at.opened] == [None, None]


def test_a_connection_that_breaks_while_it_is_set_up_is_closed(
    pair: tuple[Address, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def breaks(self: DatabaseWrapper) -> None:
        opened.append(self.connection)
        raise OperationalError("terminating connection")

    monkeypatch.setattr(DatabaseWrapper, "init_connection_state", breaks)
    with pytest.raises(OperationalError):
        pair[1].connect()
    assert [one.closed for one in opened] == [True]


def test_enrolling_asks_for_the_name(pair: tuple[Address, Address]) -> None:
    with pytest.raises(CommandError, match="'office_staging' was expected, 'y' was given"):
        call_command("rehearsal_enroll", yes="y")


def test_not_configured(settings: object, tmp_path: Path) -> None:
    settings.REHEARSAL = {**settings.REHEARSAL, "FOLDER": str(tmp_path)}  # type: ignore[attr-defined]
    status, told, _ = perform("Snapshot")
    assert (status, "Nothing says where production is" in told) == ("inconclusive", True)
    status, told, _ = perform("Restore")
    assert (status, "There is no snapshot in rehearsal-7" in told) == ("failed", True)


def test_adopted_archive(pair: tuple[Address, Address], settings: object, tmp_path: Path) -> None:
    perform("Snapshot")
    path = tmp_path / "nightly"
    shutil.copytree(snapshots.load(snapshots.of_rehearsal(7)).archive, path)
    vouch(path)
    settings.REHEARSAL = {**settings.REHEARSAL, "SNAPSHOT": str(path), "SOURCE": ""}  # type: ignore[attr-defined]
    status, told, _ = perform("Snapshot", number=8)
    assert status == "passed", told
    status, told, _ = perform("Restore", number=8)
    assert status == "passed", told
    assert "without counts to compare it with" in told
    assert content("office_staging") == "production"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (None, "neither an alias in DATABASES nor an environment variable"),
        ("mysql://u:secret@h/db", "holds a URL of a kind that is not served"),
        ("postgresql://u:secret@h:port/db", "does not hold a URL that can be read"),
        ("postgresql://u:secret@h/", "names no database"),
    ],
)
def test_wrong_address(url: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if url:
        monkeypatch.setenv("SOME_URL", url)
    with pytest.raises(AddressError, match=expected) as raised:
        of("SOME_URL")
    assert "secret" not in str(raised.value)


def test_address_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_URL", "postgresql://me:sec%40ret@db.example:5433/shop?sslmode=require")
    found = of("SOME_URL")
    assert found.password == "sec@ret"
    assert "sec" not in f"{found!r} {found.shown}"
    assert found.environment()["PGSSLMODE"] == "require"
    assert found.shown == "me@db.example:5433/shop"


DOCUMENT = """# Release

## 1. Data
- [ ] Take it. <!-- check: rehearsal.checks.environment.Snapshot -->
- [ ] Put it in place. <!-- check: rehearsal.checks.environment.Restore -->
- [ ] Look at it. <!-- check: tests.sample_checks.Passes -->
"""


@pytest.mark.django_db(databases=["default", "rehearsal"], transaction=True)
def test_roll_back_on_the_page(pair: tuple[Address, Address]) -> None:
    rehearsal = begin(text=DOCUMENT)
    work(rehearsal)
    assert statuses(rehearsal) == ["passed", "passed", "passed"]
    kept = f"office_staging_before_{rehearsal.number}"
    client = signed_in("view_rehearsal", "start_rehearsal")
    page = client.get(at("{n}/items/1.2/", rehearsal)).content.decode()
    assert f"<code>{kept}</code>" in page
    assert client.get(at("{n}/roll-back/", rehearsal)).status_code == 405
    assert content("office_staging") == "production"
    session = SessionStore().encode({"_auth_user_id": "3", "_auth_user_backend": "any"})
    for key, name in (("since", "office_staging"), ("before", kept)):
        execute(f"INSERT INTO django_session VALUES ('{key}', '{session}', now())", name)
    other = begin("Passes")
    answer = client.post(at("{n}/roll-back/", rehearsal), {"ref": "1.2"})
    assert f"Rehearsal {other.number} is at work on staging" in said(answer)
    assert statuses(rehearsal) == ["passed", "passed", "passed"]
    tasks.cancel(other.number, by="tester")
    answer = client.post(at("{n}/roll-back/", rehearsal), {"ref": "1.2"})
    assert "is in place again" in said(answer)
    assert content("office_staging") == "old"
    assert kept not in databases()
    found = execute("SELECT session_key FROM django_session ORDER BY 1", "office_staging")
    assert found == [("before",), ("since",)]  # who signed in since stays so
    assert statuses(rehearsal) == ["passed", "inconclusive", "passed"]
    rehearsal.refresh_from_db()
    assert rehearsal.verdict == "red"
    again = client.post(at("{n}/roll-back/", rehearsal), {"ref": "1.2"})
    assert "keeps no database to go back to" in said(again)


@pytest.mark.django_db(databases=["default", "rehearsal"], transaction=True)
def test_no_tick_outlives_a_roll_back_that_was_killed(
    pair: tuple[Address, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The web process dies right after the exchange, before it can write anything."""
    rehearsal = begin(text=DOCUMENT)
    work(rehearsal)
    exchange = PostgreSQLReplacement.roll_back

    def die(way: PostgreSQLReplacement) -> float:
        assert restoring()  # meanwhile, visitors are told to come back in a moment
        exchange(way)
        raise KeyboardInterrupt

    monkeypatch.setattr(PostgreSQLReplacement, "roll_back", die)
    with pytest.raises(KeyboardInterrupt):
        decisions.roll_back(rehearsal.number, by="tester")
    assert content("office_staging") == "old"
    assert statuses(rehearsal) == ["passed", "inconclusive", "passed"]
    with pytest.raises(decisions.Refused, match="There is no office_staging_before"):
        decisions.roll_back(rehearsal.number, by="tester")


KILLED = """
import json, os, signal, sys
from tests.celery_app import app
from django.conf import settings
settings.REHEARSAL = json.loads(sys.argv[1])
settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
import django
django.setup()
from rehearsal import heartbeat, tasks
from rehearsal.checks.environment import survey
from rehearsal.databases.replacement.postgresql import PostgreSQLReplacement

def swap_and_die(way):
    swap(way)
    os.kill(os.getpid(), signal.SIGKILL)

survey.CONTROL_SECONDS = 0.1
heartbeat.INTERVAL = 60  # what it would have stored by chance
swap, PostgreSQLReplacement.swap = PostgreSQLReplacement.swap, swap_and_die
tasks.perform.apply((int(sys.argv[2]), 1))
"""


@pytest.mark.django_db(databases=["default", "rehearsal"], transaction=True)
@pytest.mark.fault("worker killed right after the exchange", promised="the way back is known")
def test_the_way_back_is_known_after_a_lost_worker(
    pair: tuple[Address, Address], settings: object
) -> None:
    """The worker is gone right after the swap; who looks at the page can go back all the same."""
    rehearsal = begin(text=DOCUMENT)
    items = CheckItem.objects.filter(rehearsal=rehearsal)
    tasks.perform.apply((items.get(number=1).pk, 1))
    setting = json.dumps(settings.REHEARSAL, default=str)  # type: ignore[attr-defined]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, setting, str(items.get(number=2).pk)],
        cwd=ROOT, env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, items.get(number=2).summary
    assert content("office_staging") == "production"
    assert statuses(rehearsal)[:2] == ["passed", "running"]
    items.update(lease_expires_at=timezone.now())
    wait_for(lambda: tasks.sweep(rehearsal.number) or items.get(number=2).status == "failed")
    tasks.cancel(rehearsal.number, by="tester")
    decisions.roll_back(rehearsal.number, by="tester")
    assert content("office_staging") == "old"

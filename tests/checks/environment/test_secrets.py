"""The file of secrets: what is wrong with it, what is written to it, and who runs with it."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo import servers
from rehearsal import conf
from rehearsal.checks import base
from rehearsal.checks.environment import SecretsSynced, survey
from rehearsal.checks.environment.secrets import is_placeholder, is_queue_or_api
from rehearsal.checks.environment.secrets_source import _understood
from rehearsal.env_file import EnvFile
from tests.checks.environment.test_services import host, records, server, worker  # noqa: F401
from tests.checks.host import SETTINGS, Answer, Host
from tests.fuzzing import ANYTHING, cases, corpus

CHECK = "environment.SecretsSynced"
LINE = "Sync `.env.staging` secrets with latest queue/API credentials."
TEMPLATE = """\
# Queue
CELERY_BROKER_URL=redis://:change-me@127.0.0.1:6379/0
# Outside
MAPS_API_KEY=
# MAIL_TOKEN= is needed by those who mail
REGION=north
"""
STAGING = """\
# Queue: ask the office before you change it
export CELERY_BROKER_URL='redis://:tulip-7315@127.0.0.1:6379/0'  # db 0

MAPS_API_KEY=maps-of-april-8841
REGION=north
"""
SOURCE = """\
CELERY_BROKER_URL=redis://:tulip-7315@127.0.0.1:6379/0
MAPS_API_KEY=maps-of-may-2207
UNRELATED_API_KEY=never-asked-for-5519
"""
PRODUCTION = """\
CELERY_BROKER_URL=redis://:orchid-9921@queue.example:6379/0
MAPS_API_KEY=maps-of-production-1200
"""
SECRETS = [
    "tulip-7315", "maps-of-april-8841", "maps-of-may-2207", "never-asked-for-5519", "orchid-9921",
    "maps-of-production-1200", "swordfish-4466",
]  # fmt: skip


@dataclass
class Project:
    """A folder with the four files; the check is performed on it in this process."""

    path: Path
    settings: Any

    def __post_init__(self) -> None:
        self.write(".env.staging", STAGING)
        self.write(".env.staging.example", TEMPLATE)
        self.write("latest.env", SOURCE)
        self.write("production.env", PRODUCTION)
        self.configure()

    def write(self, name: str, text: str | bytes) -> Path:
        file = self.path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    def configure(self, **changed: Any) -> None:
        said = {
            **self.settings.REHEARSAL,
            "ROOT": self.path,
            "SECRETS_SOURCE": self.path / "latest.env",
            "PRODUCTION_ENV": self.path / "production.env",
        } | changed
        self.settings.REHEARSAL = {key: value for key, value in said.items() if value is not None}

    def perform(self) -> Answer:
        rehearsed = base.Rehearsed(1, "abc", datetime.datetime.now(datetime.UTC))
        report = base.Report(LINE, rehearsed, redact=conf.redactor().redact)
        try:
            SecretsSynced().run(report)
            status, message = "passed", report.said
        except base.Outcome as outcome:
            status, message = outcome.status, str(outcome)
        found = Answer(status, message, report.output, report.facts, {}, [], [])
        # Nothing is redacted from a sentence here: values must not be in it in the first place.
        assert not [secret for secret in SECRETS if secret in str(found)]
        return found


@pytest.fixture
def project(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("ANSWER_SECONDS", "CONTROL_SECONDS"):
        monkeypatch.setattr(survey, name, 1)  # there is no worker to wait for
    return Project(tmp_path, settings)


def untouched(project: Project) -> bool:
    return (project.path / ".env.staging").read_text() == STAGING and not (
        project.path / ".rehearsal" / "secrets"
    ).exists()


def replaced(name: str, old: str, new: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        text = (project.path / name).read_text()
        assert old in text
        project.write(name, text.replace(old, new))

    return change


def without(name: str) -> Callable[[Project], None]:
    return lambda project: (project.path / name).unlink()


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        (without(".env.staging"), "failed", ".env.staging does not exist"),
        (lambda p: p.write(".env.staging", ""), "inconclusive", "holds no key at all"),
        (lambda p: p.write(".env.staging", "# A=1\n\n"), "inconclusive", "holds no key at all"),
        (lambda p: p.write(".env.staging", b"A=\xff"), "failed", "is not a UTF-8 text"),
        (
            replaced(".env.staging", "REGION=north", "REGION north\nREGION=north"),
            "failed", "line 5 is not KEY=value",
        ),
        (
            replaced(".env.staging", "REGION=north", "REGION=north\nMAPS_API_KEY=x"),
            "failed", "MAPS_API_KEY is given more than once",
        ),
        (
            replaced(".env.staging", "REGION=north", "REGION=${MAPS_API_KEY}"),
            "inconclusive", "differ on what a $ means in REGION",
        ),
        (replaced(".env.staging", "REGION=north", ""), "failed", "lack REGION"),
        (replaced(".env.staging", "REGION=north", "REGION="), "failed", "lack REGION"),
        (
            replaced(".env.staging.example", "REGION=north", "REGION=north\nMAIL_TOKEN="),
            "failed", "lack MAIL_TOKEN",
        ),
        (lambda p: p.configure(REQUIRED_SECRETS=["EXTRA"]), "failed", "lack EXTRA"),
        (
            replaced(".env.staging", "REGION=north", "REGION=<region>"),
            "failed", "A placeholder stands in REGION (",
        ),
        (
            replaced("latest.env", "tulip-7315", "change-me"),
            "failed", "A placeholder stands in CELERY_BROKER_URL (",
        ),
        (
            replaced("latest.env", "maps-of-may-2207", "maps-of-production-1200"),
            "failed", "Production uses the same MAPS_API_KEY (",
        ),
        (
            replaced("latest.env", "tulip-7315", "orchid-9921"),
            "failed", "Production uses the same CELERY_BROKER_URL (",
        ),
        (
            replaced("production.env", "queue.example", "localhost"),
            "failed", "as CELERY_BROKER_URL: give this environment its own",
        ),
        (without("production.env"), "inconclusive", "Production's secrets cannot be compared"),
        (without("latest.env"), "inconclusive", "latest.env does not exist"),
        (lambda p: p.write("latest.env", ""), "inconclusive", "(the file latest.env, of 20"),
        (lambda p: p.write("latest.env", "OTHER=1"), "inconclusive", "has none of the 3 keys"),
        (lambda p: p.write("latest.env", "REGION"), "inconclusive", "line 1 is not KEY=value"),
        (lambda p: p.configure(SECRETS_SOURCE=None), "inconclusive", "no source of them is named"),
        (
            lambda p: p.configure(SECRETS_SOURCE="environment:NOBODY_SET_"),
            "inconclusive", "(variables NOBODY_SET_*) gave none",
        ),
        (
            lambda p: p.configure(ENV_TEMPLATE=p.path / "gone.example"),
            "inconclusive", "the template gone.example does not exist",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_key_and_nothing_is_written(
    project: Project, change: Callable[[Project], object], status: str, said: str
) -> None:
    before = (project.path / ".env.staging").read_bytes()
    change(project)
    file = project.path / ".env.staging"
    before = file.read_bytes() if file.exists() else b""
    found = project.perform()
    assert (found.status, said in found.message) == (status, True), found.message
    assert (file.read_bytes() if file.exists() else b"") == before
    assert not (project.path / ".rehearsal" / "secrets").exists()


def command(script: str) -> list[str]:
    return [sys.executable, "-c", script]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; print('A=swordfish-4466'); sys.exit('no: swordfish-4466')", "ended with 1"),
        ("import sys; print('swordfish-4466 !'); sys.exit('no: swordfish-4466')", "ended with 1"),
        ("print('{\"A\": ')", "is no JSON object"),
        ('print(\'{"A": {"B": "swordfish-4466"}}\')', "more than texts"),
        ("print('swordfish-4466')", "are no lines of KEY=value"),
        ("print('A=\\x00')", "are no lines of KEY=value"),
        ("while True: print('A=swordfish-4466')", "ended with"),
        ("pass", "gave none: put KEY=value into it"),
    ],
)
def test_a_command_that_gives_no_credentials_is_no_source(
    project: Project, script: str, said: str
) -> None:
    project.configure(SECRETS_SOURCE=command(script))
    found = project.perform()
    assert (found.status, said in found.message) == ("inconclusive", True), found
    assert untouched(project)


def test_a_command_that_is_not_there_is_named(project: Project) -> None:
    project.configure(SECRETS_SOURCE=["no-such-vault", "read"])
    found = project.perform()
    assert found.status == "inconclusive"
    assert "no-such-vault ended with 127" in found.message
    assert "not found" in found.output


def test_settings_that_would_show_or_lose_a_secret_are_refused() -> None:
    for source, said in [
        (["vault", "--token=swordfish-4466"], "an argument holds a secret"),
        (["curl", "https://me:swordfish-4466@vault/x"], "an argument holds a secret"),
        ("environment:", "a prefix of the variables"),
        ([], "it is empty"),
        (7, "a path, environment:PREFIX_ or a list"),
    ]:
        _configuration, ((sentence, _remedy),) = conf.read({"SECRETS_SOURCE": source})
        assert said in sentence
        assert "swordfish" not in sentence


@given(st.text())
def test_any_value_is_classified(value: str) -> None:
    for key in ("API_KEY", "CELERY_BROKER_URL", "OTHER"):
        assert is_queue_or_api(key, value) in (True, False)
        assert is_placeholder(key, value) in (True, False)


@cases(40)
@given(
    st.binary(max_size=60)
    | st.dictionaries(st.text(), ANYTHING).map(lambda d: json.dumps(d).encode())
)
def test_whatever_a_command_prints_is_values_or_a_problem(data: bytes) -> None:
    values, problem = _understood(data)
    assert all(isinstance(value, str) for value in values.values())
    assert not (values and problem)


@pytest.mark.parametrize("file", corpus("secrets"))
def test_what_is_printed_and_holds_no_values_is_a_problem(file: Path) -> None:
    values, problem = _understood(file.read_bytes())
    assert not values
    assert "let it print" in problem


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("CELERY_BROKER_URL", "redis://queue:6379/0", True),
        ("QUEUE", "amqp://me:pw@queue//", True),
        ("GEMINI_API_KEY", "AIza", True),
        ("STRIPE_SECRET_KEY", "sk_1", True),
        ("EMAIL_HOST_PASSWORD", "hush", True),
        ("SENTRY_DSN", "https://abc@sentry.example/1", True),
        ("SECRET_KEY", "abc", False),
        ("DATABASE_URL", "postgres://me:pw@db/x", False),
        ("POSTGRES_PASSWORD", "pw", False),
        ("REHEARSAL_URL", "postgres://me:pw@db/x", False),
        ("ALLOWED_HOSTS", "a,b", False),
        ("EMAIL_PORT", "587", False),
    ],
)
def test_what_the_line_asks_about(key: str, value: str, expected: bool) -> None:
    assert is_queue_or_api(key, value) is expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("API_KEY", "change-me", True),
        ("API_KEY", "CHANGEME", True),
        ("API_KEY", "<your key>", True),
        ("API_KEY", "xxxxxxxx", True),
        ("API_KEY", "your-api-key", True),
        ("API_KEY", "put_it_here", True),
        ("API_KEY", "todo", True),
        ("SECRET_KEY", "django-insecure-8x7", True),
        ("DATABASE_URL", "postgres://u:change-me@h/d", True),
        ("DATABASE_URL", "postgres://u:password@h/d", True),
        ("ALLOWED_HOSTS", "{{ hosts }}", True),
        ("QUEUE", "default", False),
        ("MODE", "test", False),
        ("API_KEY", "AIzaSyD-x1", False),
        ("DATABASE_URL", "postgres://u:p9w8@h/d", False),
        ("REGION", "north", False),
    ],
)
def test_placeholders(key: str, value: str, expected: bool) -> None:
    assert is_placeholder(key, value) is expected
    assert is_placeholder("API_KEY", "as-in-the-template", "as-in-the-template")


# Written, and seen by the workers


def test_changed_values_are_written_in_their_place_and_no_worker_is_no_proof(
    project: Project,
) -> None:
    file = project.path / ".env.staging"
    file.chmod(0o640)
    script = f"import sys; print(open({str(project.path / 'latest.env')!r}).read());"
    script += "print('warning: maps-of-may-2207 expires', file=sys.stderr)"
    project.configure(SECRETS_SOURCE=command(script))
    found = project.perform()
    assert found.status == "inconclusive"
    assert "No worker answered" in found.message
    assert file.read_text() == STAGING.replace("april-8841", "may-2207")
    assert file.stat().st_mode & 0o777 == 0o640
    (kept,) = (project.path / ".rehearsal" / "secrets").iterdir()
    assert kept.read_text() == STAGING
    assert kept.stat().st_mode & 0o777 == 0o600
    assert found.output == "warning: [redacted] expires\n"
    (changed,) = found.facts["changed"]
    assert changed.startswith("MAPS_API_KEY (")
    assert "mode 640" in found.facts["file"]


def test_a_previous_version_that_cannot_be_kept_stops_the_writing(project: Project) -> None:
    (project.path / ".rehearsal").mkdir()
    project.write(".rehearsal/secrets", "in the way")
    found = project.perform()
    assert found.status == "failed"
    assert "The previous .env.staging cannot be kept" in found.message
    assert (project.path / ".env.staging").read_text() == STAGING


SYNCED = """
REHEARSAL["SECRETS_SOURCE"] = HERE / "latest.env"
REHEARSAL["PRODUCTION_ENV"] = HERE / "production.env"
SECRET_KEY = os.environ.get("SECRET_KEY", SECRET_KEY)
"""


def given_to_workers(file: Path) -> dict[str, str]:
    """What a supervisor that was told this file gives to the processes it starts."""
    return EnvFile.read(file).values


@pytest.fixture
def staging(host: Host, server: servers.Redis) -> Host:  # noqa: F811
    """A project whose file lacks one credential that its source has."""
    url = f"redis://127.0.0.1:{server.port}/0"
    texts = {".env.staging": STAGING, ".env.staging.example": TEMPLATE, "latest.env": SOURCE}
    for name, text in texts.items():
        host.write(name, text.replace("redis://:tulip-7315@127.0.0.1:6379/0", url))
    host.write("production.env", PRODUCTION)
    host.write("host/settings.py", SETTINGS + SYNCED)
    return host


def test_the_workers_are_asked_what_they_run_with(staging: Host) -> None:
    file, source = staging.path / ".env.staging", staging.path / "latest.env"
    new = {**given_to_workers(file), "MAPS_API_KEY": "maps-of-may-2207"}
    with worker(staging, "fresh", "celery,rehearsal", **new):
        first = staging.perform(CHECK, LINE)
        again = staging.perform(CHECK, LINE)
        source.write_text(source.read_text().replace("may-2207", "june-3306"))
        stale = staging.perform(CHECK, LINE)
        late = given_to_workers(file)
        with worker(staging, "late", "celery", **late):
            both = staging.perform(CHECK, LINE, SECRET_KEY="a key that no worker was given: 10-04")
    assert first.status == again.status == "passed", (first.message, again.message)
    assert "3 required keys; 2 compared with the source, 1 changed; 1 worker run" in first.message
    assert "0 changed" in again.message
    assert "changed" not in again.facts
    assert stale.status == "failed"
    assert (
        "The worker fresh@here still has the previous MAPS_API_KEY: restart it with .env.staging"
    ) in stale.message
    assert late["MAPS_API_KEY"] == "maps-of-june-3306"
    assert both.status == "failed"
    assert "late@here has another SECRET_KEY" in both.message
    for found in (first, again, stale, both):
        assert not [secret for secret in SECRETS + ["june-3306"] if secret in str(found)]


def test_a_worker_started_otherwise_than_by_the_file_is_named(staging: Host) -> None:
    file = staging.path / ".env.staging"
    new = {**given_to_workers(file), "MAPS_API_KEY": "maps-of-may-2207"}
    bare = {key: value for key, value in new.items() if key != "MAPS_API_KEY"}
    with (
        worker(staging, "fresh", "celery,rehearsal", **new),
        worker(staging, "south", "celery", **{**new, "REGION": "south"}),
        worker(staging, "bare", "celery", **bare),
    ):
        found = staging.perform(CHECK, LINE)
    assert found.status == "failed"
    assert "The worker south@here has another REGION: restart it" in found.message
    assert "The worker bare@here has no MAPS_API_KEY: restart it" in found.message
    assert found.facts["worker fresh@here"] == "runs with the values of .env.staging"


def test_a_new_secret_key_is_seen_by_the_workers_that_have_it(staging: Host) -> None:
    file, source = staging.path / ".env.staging", staging.path / "latest.env"
    keys = ["a secret key of the old days, 4401", "a secret key of the new days, 4402"]
    for path, key in ((file, keys[0]), (source, keys[1])):
        path.write_text(f"{path.read_text()}SECRET_KEY='{key}'\nMAPS_API_KEY=maps-of-may-2207\n")
    file.write_text(file.read_text().replace("maps-of-april-8841", "maps-of-may-2207"))
    before = given_to_workers(file)
    after = {**before, "SECRET_KEY": keys[1]}
    with worker(staging, "old", "celery", **before), worker(staging, "new", "celery", **after):
        found = staging.perform(CHECK, LINE, SECRET_KEY=keys[0])
    assert found.status == "failed"
    assert "The worker old@here still has the previous SECRET_KEY: restart it" in found.message
    assert found.facts["worker new@here"] == "runs with the values of .env.staging"
    assert not [key for key in keys if key in str(found)]

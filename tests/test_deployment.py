"""What `check --deploy` tells of a project that is to be rehearsed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import Warning, run_checks
from django.test import override_settings

from rehearsal import conf
from tests.mailers import CONSOLE, SMTP

MIDDLEWARE = ["rehearsal.middleware.RestoreMiddleware"]
LINES = "## 1. Tests\n- [ ] `pytest tests/test_here.py`, `pytest tests/test_gone.py::Some -x`\n"


def found(**changed: Any) -> dict[str, str]:
    """The identifiers of the warnings, each with its sentence and its remedy."""
    with override_settings(**changed):
        warnings = run_checks(tags=["rehearsal"], include_deployment_checks=True)
    assert all(isinstance(one, Warning) and one.hint for one in warnings)
    return {str(one.id).partition(".")[2]: f"{one.msg} {one.hint}" for one in warnings}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a manage.py, a checklist and one of the two tests that it names."""
    (tmp_path / "manage.py").touch()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_here.py").touch()
    (tmp_path / "list.md").write_text(LINES)
    return tmp_path


def complete(root: Path, **more: Any) -> dict[str, Any]:
    """The setting of a project that lacks nothing."""
    (root / "tests" / "test_gone.py").touch()
    return {
        "ROOT": root, "CHECKLIST": root / "list.md", "SOURCE": "PRODUCTION", "REVISION": "0123456",
        "SECRETS_SOURCE": root / "latest.env", "SITE_URL": "http://127.0.0.1:8000",
        "MAIL_SEEN_IN": root / "mail.log", "WORKER_LOGS": [str(root / "worker.log")],
        "PAGES": ["/"], "ROLES": {"staff": "amina"}, "SIGN_OFF": "automatic",
        "OWNERS": ["owner@example.org"], "TICKET": "releases", **more,
    }  # fmt: skip


@pytest.mark.django_db(databases=["default", "rehearsal"])
def test_a_project_that_lacks_nothing(root: Path) -> None:
    assert found(REHEARSAL=complete(root), MIDDLEWARE=MIDDLEWARE) == {}


@pytest.mark.django_db(databases=["default", "rehearsal"])
def test_where_nothing_is_rehearsed_nothing_is_lacking() -> None:
    assert {"W019", "W021"} <= set(found(REHEARSAL={"SIGN_OFF": "automatic"}, MIDDLEWARE=[]))
    with override_settings(REHEARSAL={}, MIDDLEWARE=[]):
        del settings.REHEARSAL
        assert run_checks(tags=["rehearsal"], include_deployment_checks=True) == []


@pytest.mark.django_db(databases=["default", "rehearsal"])
@pytest.mark.parametrize(
    ("changed", "setting", "expected", "says"),
    [
        ({"ROOT_URLCONF": "tests.checks.test_functional"}, {}, "W010", "include('rehearsal.urls')"),
        ({"MIDDLEWARE": ["other", *MIDDLEWARE]}, {}, "W011", "first in MIDDLEWARE"),
        ({}, {"BASE_TEMPLATE": "none.html"}, "W012", "cannot be loaded"),
        ({}, {"BASE_TEMPLATE": "admin/index.html"}, "", ""),  # what it extends may have the block
        ({}, {"BASE_TEMPLATE": "admin/pagination.html"}, "W012", "has no block `content`"),
        (
            {"STORAGES": {"staticfiles": {
                "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}}},
            {}, "W013", "collectstatic",
        ),
        (
            {"INSTALLED_APPS": [one for one in settings.INSTALLED_APPS if "results" not in one]},
            {}, "W018", "'django_celery_results' to INSTALLED_APPS",
        ),
        ({}, {"SOURCE": ""}, "W019", "1.1 cannot take a snapshot"),
        ({}, {"WORKER_LOGS": []}, "W026", "6.1 is inconclusive"),
        ({}, {"ROLES": {}}, "W027", "6.2 is inconclusive"),
        ({}, {"OWNERS": []}, "W028", "7.2 is inconclusive"),
        ({}, {"TICKET": ""}, "W029", "7.3 is left to a person"),
        ({}, {"SITE_URL": ""}, "W021", "4.1 to 4.3 can ask for no page"),
    ],
)  # fmt: skip
def test_what_is_missing_is_told(
    root: Path, changed: dict[str, Any], setting: dict[str, Any], expected: str, says: str
) -> None:
    told = found(REHEARSAL=complete(root, **setting), **{"MIDDLEWARE": MIDDLEWARE, **changed})
    assert set(told) == ({expected} if expected else set())
    assert says in told.get(expected, "")


@pytest.mark.django_db(databases=["default", "rehearsal"])
def test_mail_that_reaches_people_or_is_seen_nowhere_is_told(
    root: Path, mail_by: Callable[..., None]
) -> None:
    mail_by(SMTP, host="localhost")
    told = found(REHEARSAL=complete(root), MIDDLEWARE=MIDDLEWARE)
    assert set(told) == {"W022"} and "to the SMTP server localhost:25" in told["W022"]
    mail_by(CONSOLE)
    told = found(REHEARSAL=complete(root, MAIL_SEEN_IN=""), MIDDLEWARE=MIDDLEWARE)
    assert set(told) == {"W023"} and "4.4 is inconclusive" in told["W023"]


@pytest.mark.django_db(databases=["default", "rehearsal"])
def test_tests_that_are_not_where_the_checklist_says(root: Path) -> None:
    setting = complete(root)
    (root / "tests" / "test_gone.py").unlink()
    told = found(REHEARSAL=setting, MIDDLEWARE=MIDDLEWARE)
    assert set(told) == {"W025"}
    assert told["W025"].startswith("1.1 names tests/test_gone.py, which is not in ")


@pytest.mark.django_db(databases=["default", "rehearsal"])
def test_a_wrong_setting_is_told_alone() -> None:
    with override_settings(REHEARSAL={"ROOT": 5}):
        told = run_checks(tags=["rehearsal"], include_deployment_checks=True)
    assert "rehearsal.E001" in {one.id for one in told}
    assert not {f"rehearsal.W0{number}" for number in range(10, 28)} & {one.id for one in told}


def test_the_documents_name_every_key_and_no_other() -> None:
    docs = Path(__file__).parent.parent / "docs"
    told = [(docs / name).read_text() for name in ("plugging-in.md", "signing-off.md")]
    rows = re.findall(r"^\| `([A-Z_]+)` \|", "\n".join(told), re.MULTILINE)
    assert sorted(rows) == sorted(one.name.upper() for one in fields(conf.Configuration))


@pytest.mark.django_db(databases=["default", "rehearsal"])
def test_a_policy_that_nobody_can_satisfy_is_an_error(root: Path) -> None:
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Permission

    def error(**policy: Any) -> str:
        setting = complete(root, SIGN_OFF="person", **policy)
        with override_settings(REHEARSAL=setting, MIDDLEWARE=MIDDLEWARE):
            found = run_checks(tags=["rehearsal"], include_deployment_checks=True)
            assert "rehearsal.E009" not in {one.id for one in run_checks(tags=["rehearsal"])}
        return "".join(str(one.msg) for one in found if one.id == "rehearsal.E009")

    people = get_user_model().objects
    assert "It takes 1 to say go, and 0 may" in error()
    people.create_superuser("alone")
    assert "0 may, besides the one who starts" in error()
    assert error(STARTER_MAY_DECIDE=True) == ""
    assert "and 1 may" in error(STARTER_MAY_DECIDE=True, QUORUM=2)
    people.create_user("hand").user_permissions.set(
        Permission.objects.filter(codename="start_rehearsal")
    )
    assert error() == ""  # the hand starts, and the other decides
    people.create_user("gone", is_active=False, is_superuser=True)
    assert "and 1 may" in error(QUORUM=2)

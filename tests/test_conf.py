"""The setting: what is wrong with it is said, with the remedy, and never as a traceback."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings
from hypothesis import example, given
from hypothesis import strategies as st

from rehearsal import conf
from tests.conftest import together
from tests.fuzzing import ANYTHING, cases


def found(**settings: Any) -> set[str]:
    with override_settings(**settings):
        return {str(one.id) for one in run_checks(tags=["rehearsal"]) if one.hint}


def test_the_project_of_the_tests_lacks_only_what_it_has_no_use_for() -> None:
    assert found() == {"rehearsal.W006"}


@pytest.mark.parametrize(
    "setting",
    [
        "staging",
        {"ENVIROMENT": "staging"},
        {"ENVIRONMENT": ""},
        {"ENVIRONMENT": 7},
        {"LEASE_SECONDS": "30"},
        {"LEASE_SECONDS": 0},
        {"LEASE_SECONDS": True},
        {"ROOT": None},
        {"ENV_FILE": "/"},
        {"QUEUES": "celery"},
        {"QUEUES": 5},
        {"SITE_URL": "staging.example.org"},
        {"SITE_URL": "https://me:secret@staging.example.org"},
        {"SITE_URL": "https://[::1"},
    ],
)
def test_a_wrong_setting_is_an_error_with_a_hint(setting: object) -> None:
    assert "rehearsal.E001" in found(REHEARSAL=setting)


def test_a_misspelt_key_is_told_the_right_one() -> None:
    _configuration, ((said, remedy),) = conf.read({"ENVIROMENT": "staging"})
    assert "ENVIROMENT" in said
    assert "ENVIRONMENT" in remedy


KEYS = st.sampled_from([item.name.upper() for item in fields(conf.Configuration)])
VALUES = st.sampled_from(
    ["\0", "a{99999999999999999999}", "(" * 400, "environment:", "//", "[", ".."]
)


@cases(60)
@given(
    st.dictionaries(KEYS | st.text(), ANYTHING | VALUES | st.lists(VALUES | ANYTHING), max_size=4)
)
@example({"ENV_FILE": "\0"})
@example({"ENV_FILE": "//"})
@example({"SECRETS_SOURCE": "a\0b"})
@example({"ENVIRONMENT": "(" * 400})
@example(
    {"KNOWN_NOISE": [{"match": "a{99999999999999999999}", "reason": "x", "until": "2999-01-01"}]}
)
@example({"KNOWN_NOISE": [{"match": "(" * 400, "reason": "x", "until": "2999-01-01"}]})
def test_reading_any_dict_never_breaks(setting: dict[str, Any]) -> None:
    configuration, wrong = conf.read(setting)
    assert isinstance(configuration, conf.Configuration)
    unknown = setting.keys() - {item.name.upper() for item in fields(conf.Configuration)}
    assert len(wrong) >= len(unknown)
    assert all(said and remedy for said, remedy in wrong)
    # What was read can be asked for what follows from it, and holds no NUL for a file system.
    assert configuration.manage_path
    assert configuration.template_path is None or configuration.template_path
    for name in conf.PATHS:
        assert "\0" not in str(getattr(configuration, name))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"REHEARSAL": {"DATABASE": "elsewhere"}}, "rehearsal.E002"),
        ({"DATABASE_ROUTERS": []}, "rehearsal.E003"),
        ({"REHEARSAL": {"DATABASE": "default"}}, "rehearsal.W004"),
        ({"REHEARSAL": {"TARGET": "rehearsal", "SOURCE": "LIVE_URL"}}, "rehearsal.E008"),
        ({"REHEARSAL": {"CHECKLIST": "/does/not/exist.md"}}, "rehearsal.E005"),
    ],
)
def test_what_is_missing_is_named(changed: dict[str, Any], expected: str) -> None:
    assert expected in found(**changed)


def test_several_who_make_the_apps_own_folder_at_once_all_have_it(
    settings: Any, tmp_path: Path
) -> None:
    for turn in range(30):
        settings.REHEARSAL = {"FOLDER": str(tmp_path / str(turn) / "kept")}
        together(*[lambda part=part: conf.folder(part) for part in ("one", "two", "three", "four")])


def test_the_apps_own_folder_is_private_and_out_of_gits_sight(
    settings: Any, tmp_path: Path
) -> None:
    settings.REHEARSAL = {"ROOT": tmp_path}
    made = conf.folder("snapshots")
    assert made == tmp_path / ".rehearsal" / "snapshots"
    assert made.stat().st_mode & 0o777 == (tmp_path / ".rehearsal").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".rehearsal" / ".gitignore").read_text() == "*\n"


def test_secrets_deep_in_the_settings_are_known() -> None:
    settings: dict[str, Any] = {
        "CACHES": {
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": ["redis://:planted-in-a-list@127.0.0.1:1/0"],
                "OPTIONS": {"PASSWORD": "planted-in-options"},
            }
        },
        "SECRET_KEY_FALLBACKS": ["planted-fallback"],
        "MAIL_SERVICE": {"api_key": "planted-key", "sender": "no-secret-at-all"},
    }
    with override_settings(**settings):
        conf._redactor.cache_clear()
        shown = conf.redactor().redact("planted-in-a-list, planted-in-options, planted-fallback, ")
        assert shown == "[redacted], [redacted], [redacted], "
        assert conf.redactor().redact("planted-key no-secret-at-all") == (
            "[redacted] no-secret-at-all"
        )
    conf._redactor.cache_clear()

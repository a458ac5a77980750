"""The environment's file of secrets: whole, its own, the latest, and what the workers run with.

Values are compared here and shown nowhere: a sentence names the key, and at most the fingerprint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from celery import current_app
from django.conf import settings
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from rehearsal import conf
from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.environment.endpoints import in_common, is_queue
from rehearsal.checks.environment.findings import Findings
from rehearsal.checks.environment.fingerprints import SHOWN, fingerprint, shown
from rehearsal.checks.environment.secrets_source import latest
from rehearsal.checks.environment.survey import survey
from rehearsal.checks.environment.workers import declared_queues, stays_local
from rehearsal.env_file import EnvFile, EnvFileError, keep, replace
from rehearsal.redaction import is_secret_name, secrets_in

_STANDS_FOR = re.compile(
    r"<.*>|\{\{.*\}\}|([x*.?-])\1{2,}|.*\b(?:change|replace|fill)[-_ ]?(?:me|this|it|in)\b.*"
    r"|(?:put|insert|enter|your)[-_ ].*|.*[-_ ](?:goes[-_ ])?here|django-insecure-.*",
    re.IGNORECASE | re.DOTALL,
)
_NO_SECRET = re.compile(
    "todo|tbd|fixme|none|null|unset|placeholder|example|secret|password|dummy|default|test",
    re.IGNORECASE,
)
_OF_DJANGO_OR_DATABASE = re.compile(
    r"\A(?:DJANGO_)?SECRET_KEY|DATABASE|POSTGRES|MYSQL|(?:\A|_)(?:PG|DB)(?:_|PASS)"
)
_DATABASE_URL = re.compile(r"(?:postg|mysql|maria|mssql|oracle|sqlite|mongo)\w*(?:\+\w+)?://")


@dataclass(frozen=True)
class SecretsSynced(Check):
    """The file of secrets holds every key and the latest credentials, and the workers see them."""

    timeout = 180
    needs = ()
    # An attempt that was lost has left the file old or new, and the next one looks again.
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        here = conf.configuration()
        file, template = _read(here.env_path), _template()
        production = _production()
        report.progress("Asking for the latest credentials.")
        source = latest(report)
        required = list(dict.fromkeys([*template, *here.required_secrets]))
        wanted = {**dict.fromkeys(required), **file.values}
        new = {key: value for key, value in source.items() if key in wanted and value}
        if not new:
            raise Inconclusive(
                f"The source of the latest credentials has none of the {len(wanted)} keys that "
                f"{here.env_path.name} and its template have: correct REHEARSAL['SECRETS_SOURCE']."
            )
        found = Findings()
        values = {**file.values, **new}
        _look(found, values, required, template)
        _compare_with_production(report, found, values, production)
        _compare_with_source(found, values, new)
        if found.problems:
            raise Failed(" ".join([*found.problems, "Nothing was written."]))
        after = _write(report, here.env_path, file, new)
        workers = _ask_workers(report, found, file.values, values, new)
        changed = [key for key in new if file.values.get(key) != new[key]]
        report.evidence("file", _described(here.env_path, after))
        if found.problems or found.doubts:
            outcome = Failed if found.problems else Inconclusive
            raise outcome(" ".join([*found.problems, *found.doubts]))
        if report.stop.is_set():
            raise Inconclusive("Stopped before everything was looked at.")
        report.progress(
            f"{here.env_path.name} has its {len(required)} required keys; {len(new)} compared "
            f"with the source, {len(changed)} changed; {workers} run with them."
        )


def _read(path: Path) -> EnvFile:
    """The environment's file, if all its readers agree on what it says."""
    try:
        file = EnvFile.read(path)
    except EnvFileError as error:
        raise Failed(f"{error}.") from None
    wrong = [f"line {line} is not KEY=value" for line in file.malformed]
    wrong += [f"{key} is given more than once, with different values" for key in file.contradictory]
    if wrong:
        raise Failed(f"Readers differ on what {path.name} says: {', '.join(wrong)}. Correct that.")
    if not file.values:
        raise Inconclusive(f"{path.name} holds no key at all: fill it in, as its template says.")
    if file.referring:
        raise Inconclusive(
            f"Readers of {path.name} differ on what a $ means in {', '.join(file.referring)}: "
            "write the value out, in single quotes."
        )
    return file


def _template() -> Mapping[str, str]:
    path = conf.configuration().template_path
    try:
        return EnvFile.read(path).values if path else {}
    except EnvFileError as error:
        raise Inconclusive(f"Which keys are required is unknown: the template {error}.") from None


def _production() -> Mapping[str, str] | None:
    path = conf.configuration().production_env
    try:
        return EnvFile.read(path).values if path else None
    except EnvFileError as error:
        raise Inconclusive(f"Production's secrets cannot be compared: {error}.") from None


def is_queue_or_api(key: str, value: str) -> bool:
    """Whether a key holds what the line asks about: the way to a queue, or an API's credential."""
    if _OF_DJANGO_OR_DATABASE.search(key.upper()) or _DATABASE_URL.match(value):
        return False
    return is_queue(value) or bool(secrets_in(key, value))


def is_placeholder(key: str, value: str, template: str = "") -> bool:
    """Whether a value only stands for one that somebody was to fill in."""
    secrets = secrets_in(key, value)
    if any(_STANDS_FOR.fullmatch(one.strip()) for one in [value, *secrets]):
        return True
    if secrets and value == template:
        return True
    said = [value] if is_secret_name(key) else secrets
    return any(_NO_SECRET.fullmatch(one.strip()) for one in said)


# What the file says


def _look(
    found: Findings,
    values: Mapping[str, str],
    required: Sequence[str],
    template: Mapping[str, str],
) -> None:
    """The required keys are there, and filled in."""
    name = conf.configuration().env_path.name
    if not required:
        found.doubts.append(
            f"Which keys {name} must have is unknown: give it a template ({name}.example), or "
            "name them in REHEARSAL['REQUIRED_SECRETS']."
        )
    if missing := [key for key in required if not values.get(key)]:
        found.problems.append(
            f"{name} and the source lack {', '.join(missing)}: fill in what is required."
        )
    placeholders = [
        shown(key, value)
        for key, value in values.items()
        if value and is_placeholder(key, value, template.get(key, ""))
    ]
    if placeholders:
        found.problems.append(
            f"A placeholder stands in {', '.join(placeholders)}: put the real value there."
        )


def _compare_with_production(
    report: Report, found: Findings, values: Mapping[str, str], production: Mapping[str, str] | None
) -> None:
    """No secret and no queue is production's."""
    if production is None:
        report.evidence("production", "not compared, since REHEARSAL['PRODUCTION_ENV'] is not set")
        return
    shared = conf.configuration().shared_secrets
    ours = {key: value for key, value in values.items() if key not in shared}
    theirs = {key: value for key, value in production.items() if key not in shared}
    known = {
        unquote(secret): key for key, value in theirs.items() for secret in secrets_in(key, value)
    }
    if not known:
        found.doubts.append(
            f"{_name(conf.configuration().production_env)} holds no secret to compare with: "
            "correct REHEARSAL['PRODUCTION_ENV']."
        )
    pairs = [
        (key, known[unquote(secret)])
        for key, value in ours.items()
        for secret in secrets_in(key, value)
        if unquote(secret) in known
    ]
    same = [
        f"{shown(key, ours[key])} as {other}"
        for key, other in dict.fromkeys([*pairs, *in_common(ours, theirs)])
    ]
    if same:
        found.problems.append(
            f"Production uses the same {', '.join(same)}: give this environment its own, or name "
            "what may be shared in REHEARSAL['SHARED_SECRETS']."
        )
    report.evidence("production", f"{len(same)} of its {len(known)} secrets are here")


def _compare_with_source(
    found: Findings, values: Mapping[str, str], new: Mapping[str, str]
) -> None:
    unknown = [key for key in values if key not in new and is_queue_or_api(key, values[key])]
    if unknown:
        found.doubts.append(
            f"Whether {', '.join(unknown)} is the latest is unknown, since the source does not "
            "have it: add it there."
        )


# Writing, and what it brought about


def _write(report: Report, path: Path, file: EnvFile, new: Mapping[str, str]) -> EnvFile:
    """Put what has changed into the file; returns what it says now."""
    changed = {key: value for key, value in new.items() if file.values.get(key) != value}
    report.evidence("compared with the source", [shown(key, new[key]) for key in sorted(new)])
    if not changed:
        return file
    try:
        after = file.with_values(changed)
        kept = keep(file.data, path.name, conf.folder("secrets"))
        replace(path, file.data, after.data)
    except EnvFileError as error:
        raise Failed(f"{error}. Nothing was written.") from None
    except OSError as error:
        raise Failed(
            f"The previous {path.name} cannot be kept ({error.strerror}): let this process's user "
            "write in REHEARSAL['FOLDER']. Nothing was written."
        ) from None
    report.evidence(
        "changed",
        [
            f"{shown(key, value)}, before {_before(file, key)}"
            for key, value in sorted(changed.items())
        ],
    )
    report.evidence("previous version", kept.name)
    return after


def _before(file: EnvFile, key: str) -> str:
    value = file.values.get(key)
    return fingerprint(value, key)[:SHOWN] if value else "nothing"


def _described(path: Path, file: EnvFile) -> str:
    return f"{path.name}: {len(file.values)} keys, mode {path.stat().st_mode & 0o777:o}"


def _name(path: Path | None) -> str:
    return path.name if path else "none"


# Workers


def _ask_workers(
    report: Report,
    found: Findings,
    before: Mapping[str, str],
    values: Mapping[str, str],
    new: Mapping[str, str],
) -> str:
    """Every worker runs with the values of the file; returns how many do."""
    app = current_app._get_current_object()
    if stays_local(app):
        found.doubts.append(
            "Tasks never leave the process that sends them, so no worker was asked what it runs "
            "with: set CELERY_BROKER_URL."
        )
        return ""
    try:
        seen = survey(report, app, (), list(values))
        if not seen.answers:
            # Nodes whose remote control is off are found by what they consume.
            seen = survey(report, app, declared_queues(app), list(values))
    except (OperationalError, OSError, RedisError) as error:
        found.doubts.append(
            f"The broker cannot be used ({type(error).__name__}), so no worker was asked what it "
            "runs with: start it, or restart this worker if the broker's address was changed."
        )
        return ""
    name = conf.configuration().env_path.name
    if not seen.answers:
        found.doubts.append(
            f"No worker answered, so nobody is seen to run with {name}: start the workers."
        )
    for node, reason in sorted(seen.silent.items()):
        found.doubts.append(f"Whether {node} runs with {name} is unknown: {reason}.")
    for node, answers in sorted(seen.answers.items()):
        wrong = list(dict.fromkeys(
            one for said in answers for one in _differences(said, before, values, new)
        ))  # fmt: skip
        report.evidence(f"worker {node}", "; ".join(wrong) or f"runs with the values of {name}")
        if wrong:
            found.problems.append(
                f"The worker {node} {'; '.join(wrong)}: restart it with {name}, then run this "
                "item again."
            )
    return f"{len(seen.answers)} worker{'' if len(seen.answers) == 1 else 's'}"


def _differences(
    said: Mapping[str, Any],
    before: Mapping[str, str],
    values: Mapping[str, str],
    new: Mapping[str, str],
) -> list[str]:
    """How what a worker holds differs from the file."""
    nonce, holds = said["nonce"], said["holds"]["values"]
    # A worker may be the first to run with a new SECRET_KEY, or the last with the old one.
    keys = [settings.SECRET_KEY, *values.values(), *before.values()]
    proven = (key for key in keys if fingerprint("", nonce, secret=key) == said["holds"]["proof"])
    secret = next(proven, None)
    if secret is None:
        return ["has another SECRET_KEY than this worker and the file"]
    old, other, lacking = [], [], []
    for key, value in values.items():
        held = holds.get(key)
        if held == fingerprint(value, key, nonce, secret=secret):
            continue
        if held is None:
            # A worker need not be given what it has no use for, such as the mail's password.
            lacking += [key] if key in new else []
        elif held == fingerprint(before.get(key, ""), key, nonce, secret=secret):
            old.append(key)
        else:
            other.append(key)
    told = (("still has the previous", old), ("has another", other), ("has no", lacking))
    return [f"{verb} {', '.join(keys)}" for verb, keys in told if keys]

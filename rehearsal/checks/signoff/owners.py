"""7.2: the deployment owners are told what was decided, by mail and, where wanted, by apprise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from smtplib import SMTPException
from typing import Any, ClassVar
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.core.mail.backends.smtp import EmailBackend
from django.utils.module_loading import import_string

from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.environment import mail
from rehearsal.checks.signoff.outcome import Outcome
from rehearsal.conf import configuration

SECONDS = 30
"""How long a mail server may take for an answer."""


@dataclass(frozen=True)
class OwnersTold(Check):
    """Passes when the mail server took the message to every owner, and staging is green.

    A project's own way of mailing, which is not Django's SMTP, is taken by its word.
    """

    sign_off: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()

    def run(self, report: Report) -> None:
        outcome = Outcome.of(report)
        here = configuration()
        services = _services(here.owners_apprise)
        if not here.owners and not services:
            raise Inconclusive(
                "No owners are configured, so nobody was told: name their addresses in "
                "REHEARSAL['OWNERS'], or a variable of apprise addresses in 'OWNERS_APPRISE'."
            )
        subject, body = message(outcome, here.site_url)
        report.write(f"{subject}\n\n{body}")
        report.evidence("subject", subject)
        if not report.keep():
            raise Inconclusive("Another worker has taken this over: nobody was told by this one.")
        told, refused = [], []
        if here.owners:
            attached = report.exports().files["checklist.md"]
            connection, sender = _connection()
            if not isinstance(connection, EmailBackend):
                name = f"{type(connection).__module__}.{type(connection).__qualname__}"
                report.evidence("handed to", f"{name}, which may deliver it later")
            mailed = _mailed(connection, sender, here.owners, subject, body, attached)
            for owner, error in mailed.items():
                (refused.append(f"{owner} ({error})") if error else told.append(owner))
        for name, error in _notified(services, subject, body).items():
            (refused.append(f"{name} ({error})") if error else told.append(name))
        if told:
            report.evidence("told", told)
        if refused:
            report.evidence("refused", refused)
            raise Failed(
                f"Not told: {'; '.join(refused)}. Told: {', '.join(told) or 'nobody'}. Correct the "
                "address or the server, then run this again: all are told anew."
            )
        if not outcome.is_go:
            raise Failed(
                f"Staging is not green: {outcome.decided}. All {len(told)} owners were told so."
            )
        report.progress(f"{len(told)} owners were told: {outcome.colour}.")


def message(outcome: Outcome, site_url: str) -> tuple[str, str]:
    """Subject and body; neither says green without saying what was waived."""
    told = outcome.told
    subject = (
        f"[{told['environment']}] Rehearsal {outcome.number}: {told['decision']['choice']}, "
        f"{outcome.colour} ({outcome.revision[:12]})"
    )
    lines = [
        f"Rehearsal {outcome.number} of {told['environment']} for {outcome.revision} is "
        f"{outcome.colour}. Decided: {outcome.decided}.",
        *outcome.reasons,
    ]
    for title, said in (
        ("Failed or inconclusive", [_line(item, item["summary"]) for item in outcome.not_passed]),
        ("Waived, not passed", [_line(item, _waiver(item["waiver"])) for item in outcome.waived]),
        ("Regressions", outcome.regressions),
    ):
        lines += ["", f"{title}: {'none' if not said else len(said)}."]
        lines += [f"- {one}" for one in said]
    where = f"{site_url}{told['path']}" if site_url else told["path"]
    lines += ["", f"All of it: {where}"]
    return " ".join(subject.split()), "\n".join(lines) + "\n"


def _line(item: Mapping[str, Any], said: str) -> str:
    return f"{item['ref']} {item['text']}: {said}"


def _waiver(waiver: Mapping[str, Any]) -> str:
    until = f" until {waiver['expires_at'][:10]}" if waiver["expires_at"] else ""
    return f"{waiver['reason']} (by {waiver['by']}{until})"


# Mail.


def _mailed(
    connection: Any, sender: str, owners: tuple[str, ...], subject: str, body: str, attached: str
) -> dict[str, str | None]:
    """Mail each owner, and return what was said against it."""
    answers: dict[str, str | None] = {}
    try:
        connection.open()
        for owner in owners:  # one at a time, so that a refusal is known by its owner
            mailed = EmailMessage(subject, body, sender, [owner])
            mailed.attach("checklist.md", attached, "text/markdown")
            try:
                sent = connection.send_messages([mailed])
                answers[owner] = None if sent == 1 else "the backend sent nothing"
            except (SMTPException, OSError, ValueError) as error:
                answers[owner] = _said(error)
    except (SMTPException, OSError) as error:
        answers |= {owner: _said(error) for owner in owners if owner not in answers}
    finally:
        with suppress(SMTPException, OSError):
            connection.close()
    return answers


def _connection() -> tuple[Any, str]:
    """The way to the owners and the sender's address; raises Inconclusive for a sink."""
    given = dict(configuration().owners_mail)
    sender = str(given.pop("FROM", settings.DEFAULT_FROM_EMAIL))
    own = bool(given)
    if own:
        backend = str(given.pop("BACKEND", mail.SMTP))
        route = mail.route_of(backend, f"{given.get('HOST', '')}:{given.get('PORT', 25)}")
        sinks: tuple[str, ...] = ()  # a way that was given for the owners leads to them
    else:
        route = mail.routes().get("default", mail.NO_MAILER)
        sinks = configuration().mail_sinks
    _prove_it_leads_on(route, sinks)
    connection = _given(backend, given) if own else mail.default_mailer()
    if isinstance(connection, EmailBackend):
        # Of a backend derived from SMTP's, only itself knows its server.
        _prove_it_leads_on({"server": f"{connection.host}:{connection.port}"}, sinks)
    if isinstance(connection, mail.CAPTURING):
        # Derived from one that captures: it may send all the same, and nobody can tell from here.
        raise Inconclusive(
            f"Whether mail reaches anybody by {type(connection).__module__}."
            f"{type(connection).__qualname__} cannot be told, since it is made of a backend that "
            "captures mail: name an SMTP server in REHEARSAL['OWNERS_MAIL'], such as {'HOST': "
            "'smtp.example.org'}."
        )
    if isinstance(connection, EmailBackend) and not connection.timeout:
        connection.timeout = SECONDS
    return connection, sender


def _prove_it_leads_on(route: Mapping[str, str], sinks: tuple[str, ...]) -> None:
    if nowhere := mail.leads_nowhere(route, sinks):
        raise Inconclusive(
            f"Mail reaches nobody from here ({nowhere}), so no owner was told: give them a way of "
            "their own in REHEARSAL['OWNERS_MAIL'], such as {'HOST': 'smtp.example.org'}."
        )


def _given(backend: str, given: Mapping[str, Any]) -> Any:
    options = {name.lower(): value for name, value in given.items()}
    found = import_string(backend)
    if isinstance(found, type) and issubclass(found, EmailBackend):
        if not given.get("HOST"):
            raise Inconclusive("REHEARSAL['OWNERS_MAIL'] names no HOST: no owner was told.")
        # What is left out would be staging's own, its password included.
        options = {"port": 25, "username": "", "password": "", **options}
        options = {"use_tls": False, "use_ssl": False, **options}
    if not mail.KNOWS_MAILERS:
        return found(**options)
    try:
        return found(alias="owners", **options)
    except ImproperlyConfigured as error:
        raise Inconclusive(
            f"REHEARSAL['OWNERS_MAIL'] cannot be used ({error}): correct it; no owner was told."
        ) from None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


# Apprise.


def _services(variable: str) -> list[str]:
    """The addresses in the variable, which hold secrets."""
    return os.environ.get(variable, "").split() if variable else []


def _notified(services: list[str], subject: str, body: str) -> dict[str, str | None]:
    """Notify each service, named by its kind and place, and return what was said against it."""
    if not services:
        return {}
    try:
        import apprise
    except ImportError:
        raise Inconclusive(
            "REHEARSAL['OWNERS_APPRISE'] names services, and apprise is not installed: install "
            "rehearsal[apprise]."
        ) from None
    answers: dict[str, str | None] = {}
    for place, address in enumerate(services, start=1):
        name = f"{urlsplit(address).scheme or 'unknown'} {place}"
        one = apprise.Apprise()
        if not one.add(address):
            answers[name] = "its address cannot be read"
        else:
            answers[name] = None if one.notify(title=subject, body=body) else "it refused"
    return answers

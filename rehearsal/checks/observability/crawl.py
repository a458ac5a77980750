"""Looking at the site's pages as people of each role do, by requests that say whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.urls import NoReverseMatch, reverse

from rehearsal.checks.base import Inconclusive, Report
from rehearsal.checks.visitor import Answer, visit
from rehearsal.conf import configuration
from rehearsal.observed import PageName


@dataclass(frozen=True)
class Visit:
    """One page, seen by one role."""

    page: str
    role: str
    answer: Answer

    @property
    def name(self) -> str:
        return f"{self.page} as {self.role}"


def address(page: PageName) -> str:
    """The path of a page with its query; raises Inconclusive with the remedy when it has none."""
    path = page.target
    if not path.startswith("/"):
        try:
            path = reverse(path)
        except NoReverseMatch as error:
            raise Inconclusive(
                f"The page {page.name!r} has no address ({error}): correct REHEARSAL['PAGES']."
            ) from None
    return path + (f"?{page.query}" if page.query else "")


def crawl(report: Report, agent: str) -> Iterator[Visit]:
    """Each page for each role, one after the other; `agent` is each request's User-Agent.

    Raises Inconclusive where there is no such page or account, or nobody answers.
    """
    here = configuration()
    paths = [(page, address(page)) for page in here.pages]
    for role, username in here.roles.items():
        with visit(account(role, username), f"crawl as {role}", agent=agent) as visitor:
            for page, path in paths:
                report.progress(f"Looking at {page.name} as {role}.")
                yield Visit(page.name, role, visitor.get(path, htmx=page.htmx))
                if report.stop.is_set():
                    raise Inconclusive("Stopped before all pages were seen: run this item again.")


def account(role: str, username: str) -> Any:
    """The account that stands for a role; raises Inconclusive with the remedy."""
    model = get_user_model()
    user = model._default_manager.filter(**{model.USERNAME_FIELD: username}).first()
    if user is None or not user.is_active:
        which = "an inactive" if user else "no"
        raise Inconclusive(
            f"There is {which} account {username!r} to look at pages as {role}: name another in "
            "REHEARSAL['ROLES']."
        )
    return user

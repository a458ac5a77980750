"""The project's own pieces by their public names; one that is missing is told in a sentence."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import models
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.crypto import get_random_string

from rehearsal.checks.base import Inconclusive
from rehearsal.contrib.oobc.functional.traces import DOMAIN, MARK, USERNAME

DATABASE = ("rehearsal.checks.environment.Restore", "rehearsal.checks.migrations.NonePending")
"""What must have passed before any of these checks means something: the rows and their tables."""
TIMEOUT = 600
"""Seconds for a check of which only one runs at a time: it may have to wait for its turn."""


def find_models(*labels: str) -> list[Any]:
    """The models of these labels; raises Inconclusive naming all that are not there."""
    found, missing = [], []
    for label in labels:
        try:
            found.append(apps.get_model(label))
        except (LookupError, ValueError):
            missing.append(label)
    if missing:
        raise _gone("the model", missing)
    return found


def find_path(name: str, *arguments: object) -> str:
    """The path of the page of that name; raises Inconclusive where there is none."""
    try:
        return reverse(name, args=arguments)
    except NoReverseMatch:
        raise _gone("the page", [name]) from None


def find_function(name: str) -> Any:
    """The function at that dotted path; raises Inconclusive where there is none."""
    module, _, function = name.rpartition(".")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError):
        raise _gone("the function", [name]) from None


def _gone(kind: str, names: list[str]) -> Inconclusive:
    plural = "" if len(names) == 1 else "s"
    return Inconclusive(
        f"This project does not have {kind}{plural} {', '.join(names)}, which the line is about: "
        "bind the line to a check of what took the place, or reword it for a person to confirm."
    )


def make(model: Any, **values: Any) -> Any:
    """A saved row of a model with these values, as far as it has such fields.

    What else it cannot do without gets a harmless value, or the first row there is. Raises
    Inconclusive where a row is needed and there is none.
    """
    names = {field.name for field in model._meta.concrete_fields}
    given = {name: value for name, value in values.items() if name in names}
    for field in model._meta.concrete_fields:
        required = not (field.null or field.has_default() or field.primary_key)
        automatic = getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)
        if field.name not in given and required and not automatic:
            given[field.name] = _harmless(field)
    return model._default_manager.create(**given)


def _harmless(field: Any) -> Any:
    if field.choices:
        return field.choices[0][0]
    if field.is_relation:
        row = field.related_model._default_manager.first()
        if row is None:
            raise Inconclusive(
                f"A row of {field.model._meta.label} needs one of {field.related_model._meta.label}"
                ", and there is none: restore a snapshot that has them."
            )
        return row
    if isinstance(field, models.DateTimeField):
        return timezone.now()
    if isinstance(field, models.DateField):
        return timezone.localdate()
    if isinstance(field, models.CharField | models.TextField):
        return "" if field.blank else MARK
    return field.to_python(1)


def make_staff() -> Any:
    """A member of staff of our own, whom no password lets in."""
    model: Any = get_user_model()
    name = f"{USERNAME}{get_random_string(10).lower()}"
    user = make(
        model,
        username=name,
        email=f"{name}@{DOMAIN}",
        first_name="Rehearsal",
        last_name="Check",
        password="!" + get_random_string(40),
        is_active=True,
        is_staff=True,
        is_superuser=False,
        is_approved=True,
        user_type="oobc_staff",
    )
    return model._default_manager.get(pk=user.pk)


def make_workflow(user: Any, words: str, *, stage: str = "", ppa: bool = True) -> Any:
    """A workflow of our own with its need and, unless told otherwise, its PPA."""
    workflows, entries = find_models(
        "project_central.ProjectWorkflow", "monitoring.MonitoringEntry"
    )
    entry = None
    if ppa:
        entry = make(
            entries, title=f"{MARK} {words} programme", category="oobc_ppa", created_by=user
        )
    return make(
        workflows,
        primary_need=make_need(user, words),
        ppa=entry,
        current_stage=stage or workflows._meta.get_field("current_stage").choices[0][0],
        project_lead=user,
        created_by=user,
        initiated_date=timezone.localdate(),
    )


def make_need(user: Any, words: str) -> Any:
    """A need of our own."""
    needs, categories = find_models("mana.Need", "mana.NeedsCategory")
    category = categories._default_manager.first() or make(categories, name=MARK)
    return make(
        needs,
        title=f"{MARK} {words} need",
        description=MARK,
        category=category,
        identified_by=user,
    )

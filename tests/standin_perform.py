"""Performs checks in the stand-in project, one for each line on stdin: run with its settings."""

from __future__ import annotations

import datetime
import json
import os
import signal
import sys
import traceback
from typing import Any

import django


def perform(order: dict[str, Any]) -> dict[str, Any]:
    """Perform the check `order["check"]`; with `die_after`, be killed at that many requests.

    An `impatient` one waits for notifications a few seconds only.
    """
    from django.conf import settings
    from django.test import override_settings

    from rehearsal import conf, release
    from rehearsal.checks import base
    from rehearsal.checks.visitor import Visitor
    from rehearsal.contrib.oobc.functional import notifications

    patience = notifications.SETTLED_SECONDS, notifications.SEEN_SECONDS
    ask, asked = Visitor._ask, iter(range(1, 10_000))

    def dying(self: Visitor, *arguments: Any, **options: Any) -> Any:
        if next(asked) == order.get("die_after"):
            os.kill(os.getpid(), signal.SIGKILL)
        return ask(self, *arguments, **options)

    Visitor._ask = dying  # type: ignore[method-assign]
    if order.get("impatient"):
        notifications.SETTLED_SECONDS, notifications.SEEN_SECONDS = 4, 2
    report = base.Report(
        "A line.",
        base.Rehearsed(1, release.revision(), datetime.datetime.now(datetime.UTC)),
        redact=conf.redactor().redact,
    )
    setting = {**settings.REHEARSAL, **order.get("setting", {})}
    try:
        with override_settings(REHEARSAL=setting):
            base.build(order["check"], order.get("options", {})).run(report)
        status, message = "passed", report.said
    except base.Outcome as outcome:
        status, message = outcome.status, str(outcome)
    except Exception:
        status, message = "broke", traceback.format_exc()
    finally:
        Visitor._ask = ask  # type: ignore[method-assign]
        notifications.SETTLED_SECONDS, notifications.SEEN_SECONDS = patience
    return {"status": status, "message": message, "facts": report.facts}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # where the project logs
    django.setup()
    for line in sys.stdin:
        print(json.dumps(perform(json.loads(line))), file=answers, flush=True)

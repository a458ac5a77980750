"""Events as JSON lines in a file that the check reads, and what the check has told this process.

Under pytest-xdist the controller tells about the tests, and every worker about its databases.
"""

from __future__ import annotations

import json
import os
from typing import Any

PATH = os.environ.get("REHEARSAL_PYTEST_PROGRESS", "")
"""The file that events are appended to."""
TOKEN = os.environ.get("REHEARSAL_PYTEST_TOKEN", "")
"""What makes the names of this run's test databases unique, and shows that they are its own."""
LONGEST_TEXT = 300
"""Characters of a reason or a query that are told."""
XDIST_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")


def tell(**event: Any) -> None:
    """Append one event; a single write, so that several processes can share the file."""
    if not PATH:
        return
    descriptor = os.open(PATH, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, json.dumps(event).encode() + b"\n")
    finally:
        os.close(descriptor)

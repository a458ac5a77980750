"""A pytest plugin: starts the real PostgreSQL and Redis before the settings are read.

Loaded by `-p tests.servers`, ahead of pytest-django, which reads the settings early.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from demo import servers

stack = ExitStack()
postgresql = stack.enter_context(servers.postgresql())
redis = stack.enter_context(servers.redis())
os.environ["TEST_POSTGRESQL_URL"] = postgresql.url("postgres")
os.environ["TEST_REDIS_URL"] = redis.url()


def pytest_unconfigure() -> None:
    stack.close()

"""Prefect: a flow that submits its tasks to two threads of its own process, with a server.

Its server keeps the records in PostgreSQL; there is no broker, no worker process and no claim, and
a flow whose process dies is not brought to an end by another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks import peers

REQUIREMENT = "prefect==3.9.1"


@contextmanager
def ready(
    items: int, folder: Path, database: str, broker: str
) -> Iterator[tuple[Callable[[], str], str]]:
    """As the other peers' `ready`; Prefect needs no broker."""
    from demo.run import free_port

    python = peers.environment(REQUIREMENT, "prefect")
    port = free_port()
    environ = {
        **peers.environ(),
        "PREFECT_HOME": str(folder),
        "PREFECT_API_DATABASE_CONNECTION_URL": database.replace("://", "+asyncpg://", 1),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "DO_NOT_TRACK": "1",
        "ITEMS": str(items),
    }
    server = [
        *(python, "-m", "prefect", "server", "start", "--host", "127.0.0.1"),
        *("--port", str(port), "--no-ui"),
    ]
    with peers.service(server, folder, environ) as process:
        peers.until(lambda: process.poll() or _answers(f"{environ['PREFECT_API_URL']}/ready"))
        with peers.driver(python, "benchmarks.peers.prefect", environ) as perform:
            yield (
                perform,
                "SELECT count(*) FROM flow_run AS flow WHERE id = %s::uuid"
                " AND state_type = 'COMPLETED' AND (SELECT count(*) FROM task_run"
                f" WHERE flow_run_id = flow.id AND state_type = 'COMPLETED') = {items}",
            )


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def drive() -> None:
    from prefect import flow, task
    from prefect.futures import wait
    from prefect.task_runners import ThreadPoolTaskRunner

    @task
    def nothing() -> None:
        pass

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def bench() -> None:
        wait([nothing.submit() for _ in range(int(os.environ["ITEMS"]))])

    peers.answer(lambda: bench(return_state=True).state_details.flow_run_id)

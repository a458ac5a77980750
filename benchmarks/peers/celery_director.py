"""celery-director: a workflow of one group, on a Celery worker of its own.

It starts the group, chords it into a last task, and records each task's states in PostgreSQL.
That last task sleeps for half a second before it closes the workflow, to let a failure be recorded
first.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import peers

REQUIREMENT = "celery-director==0.10.0"
SLEEPS = 0.5
"""Seconds for which each workflow waits at its end, whatever it did."""
TASK = """
from director import task

@task(name="NOTHING")
def nothing(*args, **kwargs):
    pass
"""


@contextmanager
def ready(
    items: int, folder: Path, database: str, broker: str
) -> Iterator[tuple[Callable[[], str], str]]:
    """How to perform `items` tasks, and the SQL that counts it as 1 when it is recorded as done.

    Raises peers.Missing.
    """
    python = peers.environment(REQUIREMENT, "director")
    (folder / "tasks").mkdir()
    (folder / "tasks" / "nothing.py").write_text(TASK)
    tasks = ", ".join(["NOTHING"] * items)
    (folder / "workflows.yml").write_text(
        f"bench.ALL:\n  tasks:\n    - GROUP:\n        type: group\n        tasks: [{tasks}]\n"
    )
    (folder / ".env").touch()
    environ = {
        **peers.environ(),
        "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
        "DIRECTOR_HOME": str(folder),
        "DIRECTOR_DATABASE_URI": database,
        "DIRECTOR_BROKER_URI": broker,
        "DIRECTOR_RESULT_BACKEND_URI": broker,
    }
    subprocess.run(
        ["director", "db", "upgrade"], env=environ, capture_output=True, timeout=120, check=True
    )
    worker = [
        *("director", "celery", "worker", "-c", "2", "--prefetch-multiplier", "1"),
        *("--without-gossip", "--without-mingle", "-l", "WARNING"),
    ]
    with (
        peers.service(worker, folder, environ),
        peers.driver(python, "benchmarks.peers.celery_director", environ) as perform,
    ):
        yield (
            perform,
            "SELECT count(*) FROM workflows AS flow WHERE id = %s::uuid AND status = 'success'"
            " AND (SELECT count(*) FROM tasks"
            f" WHERE workflow_id = flow.id AND status = 'success') = {items}",
        )


def drive() -> None:
    from director._auto import app
    from director.builder import WorkflowBuilder
    from director.models.workflows import Workflow

    def perform() -> object:
        workflow = Workflow(project="bench", name="ALL", payload={})
        workflow.save()
        WorkflowBuilder(workflow.id).run()
        return workflow.id

    with app.app_context():
        peers.answer(perform)

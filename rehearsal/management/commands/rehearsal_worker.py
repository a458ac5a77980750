"""Run a Celery worker for the checks."""

from __future__ import annotations

import os
from typing import Any

from celery import current_app
from django.core.management.base import BaseCommand, CommandParser

from rehearsal.conf import configuration


class Command(BaseCommand):
    """Runs a worker that takes the checks from their own queue, one at a time each."""

    help = "Run a Celery worker that performs the checks of rehearsals."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--concurrency", type=int, default=4, help="how many checks run at once (default: 4)"
        )

    def handle(self, *args: Any, concurrency: int, **options: Any) -> None:
        current_app.worker_main(
            [
                "worker",
                f"--queues={configuration().queue}",
                f"--concurrency={concurrency}",
                f"--hostname=rehearsal-{os.getpid()}@%h",
                "--prefetch-multiplier=1",
                "--without-gossip",
                "--without-mingle",
                "--loglevel=INFO" if options["verbosity"] > 1 else "--loglevel=WARNING",
            ]
        )

#!/usr/bin/env python
"""Runs the stand-in project of demo/; while `make demo` runs, against its servers."""

import os
import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parent / "demo"

if __name__ == "__main__":
    sys.path.insert(0, str(DEMO / "src"))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "obc_management.settings")
    running = DEMO / "var" / "demo.env"
    if running.is_file():
        for line in running.read_text().splitlines():
            name, _, value = line.partition("=")
            os.environ.setdefault(name, value)
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)

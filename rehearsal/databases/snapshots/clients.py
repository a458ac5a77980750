"""PostgreSQL's own programs, of the major version that fits both servers."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path

from rehearsal.conf import configuration
from rehearsal.databases.snapshots.manifest import SnapshotError

ASK_SECONDS = 20


def fitting(program: str, oldest: int, newest: int) -> Path:
    """A `pg_dump` or `pg_restore` of a major version between both, the oldest there is.

    An older pg_dump refuses the source; a newer one writes settings the target does not know.
    Raises SnapshotError when there is none.
    """
    if oldest > newest:
        raise SnapshotError(
            f"The source is PostgreSQL {oldest} and the target {newest}: a dump of the one cannot "
            f"be restored into the other. Upgrade the target to {oldest}."
        )
    found = {version(path): path for path in reversed(candidates(program))}
    for major in range(oldest, newest + 1):
        if major in found:
            return found[major]
    wanted = str(oldest) if oldest == newest else f"{oldest} to {newest}"
    there = ", ".join(map(str, sorted(found.keys() - {0}))) or "none"
    raise SnapshotError(
        f"{program} of PostgreSQL {wanted} is needed, for the servers' sake, and found is {there}. "
        f"Install postgresql-client-{oldest}, or name its folder in REHEARSAL['POSTGRESQL_BIN']."
    )


def candidates(program: str) -> list[Path]:
    """Where the program may be, best first: as configured, on PATH, where Debian puts it."""
    configured = configuration().postgresql_bin
    found = [configured / program] if configured else []
    found += [Path(folder) / program for folder in os.get_exec_path()]
    debian = Path("/usr/lib/postgresql")
    found += sorted(debian.glob(f"*/bin/{program}")) if debian.is_dir() else []
    return [path for path in found if path.is_file() and os.access(path, os.X_OK)]


@cache
def version(path: Path) -> int:
    """The major version of a program; 0 when it does not say."""
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(found[1]) if found else 0


@cache
def compression(path: Path, major: int) -> str:
    """The lightest compression that a pg_dump can do: lz4 or zstd where it was built with them.

    Otherwise none: measured on 450 MB and two cores, gzip's lightest doubles the time of a dump.
    """
    if major >= 16:
        # It says which it knows only by refusing those it does not.
        for method in ("lz4:1", "zstd:1"):
            tried = subprocess.run(
                [path, f"--compress={method}", "--format=directory", "--file=/dev/null/none"],
                capture_output=True, text=True, timeout=ASK_SECONDS, check=False,
                env={"PATH": os.defpath, "PGHOST": "/nonexistent", "LC_ALL": "C"},
            )  # fmt: skip
            if "compress" not in tried.stderr.lower():
                return method
    return "none" if major >= 16 else "0"

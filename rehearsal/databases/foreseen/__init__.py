"""What migrations will do to a database, seen before any of them is applied."""

from rehearsal.databases.foreseen.plan import foresee_or_error

__all__ = ["foresee_or_error"]

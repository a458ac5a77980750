"""Section 2, the migration dry run: what would be applied, applying it, and nothing left over."""

from rehearsal.checks.migrations.apply import Apply
from rehearsal.checks.migrations.none_pending import NonePending
from rehearsal.checks.migrations.plan import Plan

__all__ = ["Apply", "NonePending", "Plan"]

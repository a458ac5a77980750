"""Section 5, performance baseline: what pages take, and what changed since the last rehearsal."""

from rehearsal.checks.performance.change import ChangeSincePrevious
from rehearsal.checks.performance.regressions import RegressionsDocumented
from rehearsal.checks.performance.timings import Timings

__all__ = ["ChangeSincePrevious", "RegressionsDocumented", "Timings"]

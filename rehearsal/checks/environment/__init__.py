"""Section 1, the environment: staging holds production's data and is staging's own."""

from rehearsal.checks.environment.restore import Restore
from rehearsal.checks.environment.secrets import SecretsSynced
from rehearsal.checks.environment.services import ServicesOnline
from rehearsal.checks.environment.snapshot import Snapshot

__all__ = ["Restore", "SecretsSynced", "ServicesOnline", "Snapshot"]

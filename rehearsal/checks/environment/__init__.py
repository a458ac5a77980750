"""Section 1, the environment: what staging runs on is there, and is staging's own."""

from rehearsal.checks.environment.services import ServicesOnline

__all__ = ["ServicesOnline"]

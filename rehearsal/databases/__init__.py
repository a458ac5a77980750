"""What is known of databases: which one a process is connected to."""

from rehearsal.databases.identity import describe, identity, identity_of, identity_or_error, same

__all__ = ["describe", "identity", "identity_of", "identity_or_error", "same"]

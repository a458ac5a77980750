"""What several parts of one check found, told together."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Findings:
    """What is wrong, and what could not be seen: a sentence each, all of them told together."""

    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    queues: list[str] = field(default_factory=list)
    """The queues on which a worker executed our task."""

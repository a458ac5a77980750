"""A pytest plugin: tells what a run does, gives it test databases of its own, quickly and safely.

It runs inside the project's pytest, loaded by `-p` from a copy under a name of its own, so it needs
nothing but pytest, and Django and pytest-django where the project has them; nothing of the project
is changed. `progress` tells about the tests, `queries` about what they ask of databases,
`databases` names the test databases and refuses any other, `templates` makes them as clones of one
that was prepared before. They tell it by `events`, which `rehearsal.checks.pytest_account` reads.
"""

pytest_plugins = [f"{__name__}.{name}" for name in ("progress", "databases", "queries")]

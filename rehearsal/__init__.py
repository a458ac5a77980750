"""Performs a release checklist written in Markdown, and proves each tick.

The straight line, from the document that goes in to the document that comes out:

1. `tasks.start` is the one door in, for the command, the page and the tests. `plan` parses the
   document (`checklist`), binds every line to a check (`checks`), freezes the text and makes the
   rows of `models`: a Rehearsal with its Sections and CheckItems.
2. `tasks.dispatch` queues every item whose needs are met, and rings Celery's bell for it. The
   database is the queue: a message that is lost or doubled changes nothing.
3. A worker takes the bell in `tasks.perform`: it claims the item by compare-and-set, keeps the
   claim alive (`heartbeat`), and runs the check, which speaks only through its `Report`. Commands
   run under a guard (`command`, `guard`), and nothing secret passes (`redaction`).
4. The outcome is settled, the one door out, and in the same transaction the items that became ready
   are queued: back to 2. What a dead worker leaves behind, `tasks.sweep` takes up.
5. People confirm and waive (`decisions`). The verdict is derived from the items, never stored.
6. When all before the sign-off is settled, a person or the policy decides go or no-go. The evidence
   is sealed (`sealing`), the lines of the sign-off are performed, and it is sealed once more.
   `gate` tells a deploy script whether a commit has an intact go; `exported` verifies files alone.
7. `records` renders the same document back with its boxes ticked and the evidence under each line.

Every change of an item is written to a hash-chained journal by `journal.change`. An item passes
only when its check saw what the line asks about: a check that looked at nothing is inconclusive.
"""

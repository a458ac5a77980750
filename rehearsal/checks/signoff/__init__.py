"""Section 7, sign-off: the report, the owners and the ticket hear what was decided."""

from rehearsal.checks.signoff.owners import OwnersTold
from rehearsal.checks.signoff.report import OutcomesReported
from rehearsal.checks.signoff.ticket import TicketAttached

__all__ = ["OutcomesReported", "OwnersTold", "TicketAttached"]

"""Section 6, observability and logs: what workers, requests and monitors say."""

from rehearsal.checks.observability.alerts import Alerts
from rehearsal.checks.observability.request_logs import RequestLogs
from rehearsal.checks.observability.worker_logs import WorkerLogs

__all__ = ["Alerts", "RequestLogs", "WorkerLogs"]

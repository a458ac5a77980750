"""The alerts of Prometheus, Alertmanager and Grafana: none firing, and something would fire."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from rehearsal.checks.base import Check, Failed, Inconclusive, Report, Skipped
from rehearsal.checks.observability.noise import Noise
from rehearsal.checks.observability.web import NoAnswer, get_json
from rehearsal.conf import configuration
from rehearsal.observed import Monitor

NAMED = 5
LATE = 4
"""Intervals after which a rule that was not evaluated counts as stopped."""


@dataclass
class Seen:
    """What the monitors said together."""

    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    firing: dict[str, set[str]] = field(default_factory=dict)
    """The servers that show an alert as firing, by the alert."""
    quiet: dict[str, str] = field(default_factory=dict)
    """Alerts that are silenced or inhibited, and by what."""
    proven: bool = False
    """Whether something was seen that would make an alert fire."""
    targets: int = 0
    rules: int = 0


@dataclass(frozen=True)
class Alerts(Check):
    """No alert fires, and there are targets and rules, or a watchdog, that would make one fire."""

    timeout = 120
    needs = ()
    after = None
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        monitors = configuration().monitoring
        if not monitors:
            raise Skipped(
                "Monitoring is not enabled here: REHEARSAL['MONITORING'] names no Prometheus, "
                "Alertmanager or Grafana."
            )
        seen, noise = Seen(), Noise()
        for monitor in monitors:
            report.progress(f"Asking the {monitor.name}.")
            try:
                _ASK[monitor.kind](_Server(monitor, report), seen, report)
            except NoAnswer as error:
                seen.doubts.append(f"The {monitor.name} says nothing of its alerts: {error}.")
            except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
                seen.doubts.append(
                    f"The {monitor.name} answered in a form that is not its interface's "
                    f"({type(error).__name__}: {error}): correct its url or kind."
                )
        firing = {
            alert: servers
            for alert, servers in seen.firing.items()
            if alert not in seen.quiet and not noise.knows(alert)
        }
        quiet = {alert: why for alert, why in seen.quiet.items() if not noise.knows(alert)}
        if seen.quiet:
            report.evidence("silenced or inhibited", [f"{k}: {v}" for k, v in seen.quiet.items()])
        noise.record(report)
        report.measure("alerts.firing", len(firing), "alerts")
        report.measure("alerts.targets", seen.targets, "targets")
        report.measure("alerts.rules", seen.rules, "rules")
        problems = list(seen.problems)
        if firing:
            report.evidence("firing", sorted(firing))
            problems.insert(0, f"{len(firing)} alerts fire: {_named(firing)}. Mend their causes.")
        if problems:
            raise Failed(" ".join([*problems, *seen.doubts]))
        doubts = list(seen.doubts)
        if quiet:
            doubts.append(
                f"{len(quiet)} alerts are silenced or inhibited: "
                f"{_named([f'{alert} ({why})' for alert, why in quiet.items()])}. Lift that, waive "
                "this item, or name them in REHEARSAL['KNOWN_NOISE'] with a reason and a last day."
            )
        if not seen.proven and not doubts:
            doubts.append(
                "No alert fires, but nothing shows that one could: name the Prometheus too, or let "
                f"a rule {monitors[0].watchdog} always fire."
            )
        if doubts:
            raise Inconclusive(" ".join(doubts))
        report.progress(
            f"No alert fires; {seen.targets} targets are up, {seen.rules} rules are loaded"
            + (f"; {noise}" if noise.met else "")
            + "."
        )


class _Server:
    """Asks one monitor; its token is in no message."""

    def __init__(self, monitor: Monitor, report: Report) -> None:
        self.monitor = monitor
        self._headers: dict[str, str] = {}
        if monitor.token:
            held = os.environ.get(monitor.token, "").strip()
            if not held:
                raise NoAnswer(f"the variable {monitor.token} that holds its token is not set")
            if not held.isascii() or not held.isprintable():
                raise NoAnswer(f"the variable {monitor.token} does not hold a token")
            self._headers["Authorization"] = held if held.startswith("Basic ") else f"Bearer {held}"

    def ask(self, path: str, **query: str) -> Any:
        return get_json(
            self.monitor.url + path + (f"?{urlencode(query)}" if query else ""), self._headers
        )

    def ask_prometheus(self, path: str, **query: str) -> Any:
        """The data of an answer in Prometheus' envelope."""
        said = self.ask(path, **query)
        if not isinstance(said, dict) or said.get("status") != "success":
            raise NoAnswer("its answer is not a success in Prometheus' form")
        return said["data"]

    def concerns(self, labels: Mapping[str, str]) -> bool:
        """Whether labels are of this environment."""
        return all(labels.get(name) == value for name, value in self.monitor.match.items())

    @property
    def matching(self) -> str:
        match = self.monitor.match
        return f" with {', '.join(f'{k}={v}' for k, v in match.items())}" if match else ""


def _named(things: Iterable[str]) -> str:
    listed = sorted(things)
    more = len(listed) - NAMED
    return "; ".join(listed[:NAMED]) + (f"; and {more} more" if more > 0 else "")


def _alert(labels: Mapping[str, str]) -> str:
    """An alert's name with what tells it from others of that name."""
    where = [labels[name] for name in ("instance", "job", "service", "queue") if labels.get(name)]
    return labels.get("alertname", "an alert without a name") + (
        f" ({', '.join(where)})" if where else ""
    )


# Prometheus


def _prometheus(server: _Server, seen: Seen, report: Report) -> None:
    name = server.monitor.name
    targets = [
        target
        for target in server.ask_prometheus("/api/v1/targets", state="active")["activeTargets"]
        if server.concerns(target["labels"])
    ]
    down = [t for t in targets if t["health"] == "down"]
    unknown = [t for t in targets if t["health"] not in ("up", "down")]
    rules = _rules(server, server.ask_prometheus("/api/v1/rules", type="alert"), seen, report)
    report.evidence(
        f"{name}", f"{len(targets)} targets, {len(down)} of them down; {rules} alerting rules"
    )
    for target in down:
        why = report.redact(str(target.get("lastError", "")))[:200]
        seen.problems.append(f"The target {_target(target)} is down ({why or 'no reason given'}).")
    if unknown:
        seen.doubts.append(
            f"{len(unknown)} targets were not asked yet: {_named(map(_target, unknown))}. "
            "Run this item again in a minute."
        )
    if not targets:
        seen.doubts.append(f"The {name} has no target{server.matching}, so it watches nothing.")
    if not rules:
        seen.doubts.append(f"The {name} has no alerting rule loaded, so no alert can fire.")
    for alert in server.ask_prometheus("/api/v1/alerts")["alerts"]:
        if not server.concerns(alert["labels"]):
            continue
        if alert["state"] == "firing":
            _fires(server, alert["labels"], seen)
        else:
            report.evidence(f"pending: {_alert(alert['labels'])}", str(alert["state"]))
    seen.targets += len(targets) - len(down) - len(unknown)
    seen.proven = seen.proven or bool(rules and targets)


def _target(target: Mapping[str, Any]) -> str:
    labels = target["labels"]
    return f"{labels.get('job', '?')} {labels.get('instance', '?')}"


def _rules(server: _Server, said: Mapping[str, Any], seen: Seen, report: Report) -> int:
    """How many alerting rules are loaded and evaluated; what is wrong with them is noted."""
    count = 0
    now = datetime.datetime.now(datetime.UTC)
    for group in said["groups"]:
        interval = float(group.get("interval") or 60)
        if not 0 < interval < math.inf:
            raise ValueError(f"the interval of {group['name']} is {interval}")
        for rule in group["rules"]:
            if rule.get("type", "alerting") != "alerting":
                continue
            count += 1
            name = f"{rule['name']} of {group['name']}"
            health = rule.get("health", "unknown")
            if health in ("err", "error", "nodata"):
                why = report.redact(str(rule.get("lastError", "")))[:200]
                seen.problems.append(f"The rule {name} cannot be evaluated ({why or health}).")
                continue
            at = _moment(rule.get("lastEvaluation", ""))
            if health != "ok" or at is None:
                seen.doubts.append(
                    f"The rule {name} was not evaluated yet: run this item again in a minute."
                )
            elif (late := (now - at).total_seconds()) > LATE * interval + 60:
                seen.doubts.append(
                    f"The rule {name} was last evaluated {late:.0f} s ago, every {interval:.0f} s "
                    f"was expected: look at the {server.monitor.kind}, and at the clocks."
                )
            elif late < -60:
                seen.doubts.append(
                    f"The rule {name} was last evaluated {-late:.0f} s from now: put the clocks of "
                    f"this worker and of the {server.monitor.kind} right."
                )
    seen.rules += count
    return count


def _moment(text: str) -> datetime.datetime | None:
    if not text or text.startswith("0001"):
        return None
    # Nanoseconds are more than Python reads.
    head, dot, rest = text.partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    text = head + (f".{rest[:digits][:6]}{rest[digits:]}" if dot else "")
    at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return at if at.tzinfo else at.replace(tzinfo=datetime.UTC)


def _fires(server: _Server, labels: Mapping[str, str], seen: Seen) -> None:
    if labels.get("alertname") == server.monitor.watchdog:
        seen.proven = True
    else:
        seen.firing.setdefault(_alert(labels), set()).add(server.monitor.name)


# Alertmanager, and Grafana's, which speaks the same


def _alertmanager(server: _Server, seen: Seen, report: Report) -> None:
    status = server.ask("/api/v2/status")
    if status["cluster"]["status"] not in ("ready", "disabled"):
        seen.doubts.append(
            f"The {server.monitor.name} is {status['cluster']['status']}: wait until it is ready."
        )
    _alerts(server, "/api/v2", seen, report)


def _grafana(server: _Server, seen: Seen, report: Report) -> None:
    rules = _rules(
        server, server.ask_prometheus("/api/prometheus/grafana/api/v1/rules"), seen, report
    )
    if not rules:
        seen.doubts.append(f"The {server.monitor.name} has no alerting rule, so no alert can fire.")
    report.evidence(server.monitor.name, f"{rules} alerting rules")
    _alerts(server, "/api/alertmanager/grafana/api/v2", seen, report)
    seen.proven = seen.proven or bool(rules)


def _alerts(server: _Server, base: str, seen: Seen, report: Report) -> None:
    wanted = dict.fromkeys(("active", "silenced", "inhibited", "unprocessed"), "true")
    alerts = server.ask(f"{base}/alerts", **wanted)
    silences = {one["id"]: one for one in server.ask(f"{base}/silences")}
    if not isinstance(alerts, list):
        raise NoAnswer("its alerts are no list")
    report.evidence(f"alerts of the {server.monitor.name}", len(alerts))
    for alert in alerts:
        labels, status = alert["labels"], alert["status"]
        if not server.concerns(labels):
            continue
        by = [_silence(silences.get(key), key, report) for key in status["silencedBy"]]
        if status["inhibitedBy"]:
            by.append(f"inhibited by {len(status['inhibitedBy'])} others")
        if by:
            seen.quiet[_alert(labels)] = ", ".join(by)
        elif status["state"] != "suppressed":
            _fires(server, labels, seen)
        else:
            seen.quiet[_alert(labels)] = "suppressed"


def _silence(silence: Mapping[str, Any] | None, key: str, report: Report) -> str:
    if silence is None:
        return f"silence {key}"
    comment = report.redact(str(silence.get("comment", "")))[:200] or "no comment"
    by, until = silence.get("createdBy", "?"), silence.get("endsAt", "?")
    return f"silenced by {report.redact(str(by))} until {until}: {comment}"


_ASK = {"prometheus": _prometheus, "alertmanager": _alertmanager, "grafana": _grafana}

"""Alerts: Debian's Prometheus and Alertmanager for real, Grafana's interface at the wire."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import example, given
from hypothesis import strategies as st

from rehearsal.checks.base import Outcome, Rehearsed, Report
from rehearsal.checks.observability import Alerts, alerts
from rehearsal.conf import redactor
from tests.checks.projects import Result
from tests.conftest import wait_for
from tests.fuzzing import ANYTHING, altered, cases, corpus

FIRES = "vector(1) == 1"
QUIET = "vector(0) == 1"


def look(*monitors: dict[str, Any], **setting: Any) -> Result:
    now = datetime.datetime.now(datetime.UTC)
    line = "Ensure monitoring alerts show healthy status."
    report = Report(line, Rehearsed(1, "", now), redact=redactor().redact)
    with override_settings(REHEARSAL={"MONITORING": list(monitors), **setting}):
        try:
            Alerts().run(report)
        except Outcome as outcome:
            return Result(report, outcome)
    return Result(report, None)


# Prometheus and Alertmanager


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Monitoring:
    """A Prometheus that asks itself every second, and its Alertmanager."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.ports = {"prometheus": free_port(), "alertmanager": free_port()}
        self.closed = free_port()
        config = folder / "alertmanager.yml"
        config.write_text(
            "route: {receiver: nobody, group_wait: 1s}\nreceivers: [{name: nobody}]\n"
            "inhibit_rules: [{source_matchers: [alertname=Cause],"
            " target_matchers: [alertname=Effect]}]\n"
        )
        self._configure({}, dead=False)
        self.processes = {
            "alertmanager": self._start(
                stack,
                *("prometheus-alertmanager", f"--config.file={config}"),
                f"--storage.path={folder / 'silences'}",
                f"--web.listen-address=127.0.0.1:{self.ports['alertmanager']}",
                "--cluster.listen-address=",
            ),
            "prometheus": self._start(
                stack,
                *("prometheus", f"--config.file={folder / 'prometheus.yml'}"),
                f"--storage.tsdb.path={folder / 'samples'}",
                "--rules.alert.resend-delay=1s",
                f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}",
            ),
        }
        self.apply({})

    def _start(self, stack: ExitStack, *argv: str) -> subprocess.Popen[bytes]:
        log = stack.enter_context((self.folder / f"{argv[0]}.log").open("wb"))
        process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)

        def end() -> None:
            process.kill()
            process.wait(timeout=10)

        stack.callback(end)
        return process

    def _configure(self, rules: dict[str, str], *, dead: bool) -> None:
        targets = [f"127.0.0.1:{self.ports['prometheus']}"]
        targets += [f"127.0.0.1:{self.closed}"] if dead else []
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [{"job_name": "site", "static_configs": [{"targets": targets}]}],
            "rule_files": [str(self.folder / "rules.yml")],
            "alerting": {
                "alertmanagers": [
                    {"static_configs": [{"targets": [f"127.0.0.1:{self.ports['alertmanager']}"]}]}
                ]
            },
        }
        alerts = [{"alert": name, "expr": expression} for name, expression in rules.items()]
        groups = [{"name": "site", "rules": alerts}] if alerts else []
        # JSON is YAML.
        (self.folder / "rules.yml").write_text(json.dumps({"groups": groups}))
        (self.folder / "prometheus.yml").write_text(json.dumps(configuration))

    def apply(self, rules: dict[str, str], *, dead: bool = False) -> None:
        """Load these rules and targets, and wait until they have been evaluated and asked."""
        self._configure(rules, dead=dead)
        wait_for(lambda: self._answers("prometheus", "/-/ready"))
        wait_for(lambda: self._answers("alertmanager", "/-/ready"))
        self.processes["prometheus"].send_signal(signal.SIGHUP)
        firing = {name for name, expression in rules.items() if expression == FIRES}

        def done() -> bool:
            targets = self.ask("prometheus", "/api/v1/targets")["data"]["activeTargets"]
            groups = self.ask("prometheus", "/api/v1/rules")["data"]["groups"]
            told = [rule for group in groups for rule in group["rules"]]
            alerts = self.ask("alertmanager", "/api/v2/alerts")
            known = {alert["labels"]["alertname"] for alert in alerts}
            return (
                len(targets) == 1 + dead
                and all(target["health"] in ("up", "down") for target in targets)
                and {rule["name"] for rule in told} == set(rules)
                and all(rule["health"] == "ok" for rule in told)
                and firing <= known
            )

        wait_for(done)

    def _answers(self, kind: str, path: str) -> bool:
        try:
            with urllib.request.urlopen(self.url(kind) + path, timeout=5):
                return True
        except OSError:
            return False

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.ports[kind]}"

    def ask(self, kind: str, path: str, data: Any = None) -> Any:
        request = urllib.request.Request(
            self.url(kind) + path,
            data=json.dumps(data).encode() if data else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=5) as response:
            return json.load(response)

    def look(self, *kinds: str, **setting: Any) -> Result:
        wanted = kinds or ("prometheus", "alertmanager")
        return look(*({"kind": kind, "url": self.url(kind)} for kind in wanted), **setting)

    @contextmanager
    def silence(self, name: str) -> Iterator[None]:
        now = datetime.datetime.now(datetime.UTC)
        made = self.ask(
            "alertmanager",
            "/api/v2/silences",
            {
                "matchers": [
                    {"name": "alertname", "value": name, "isRegex": False, "isEqual": True}
                ],
                "startsAt": now.isoformat(),
                "endsAt": (now + datetime.timedelta(hours=1)).isoformat(),
                "createdBy": "Staff Member 1",
                "comment": "being mended, token=abcd1234efgh",
            },
        )
        address = f"{self.url('alertmanager')}/api/v2/silence/{made['silenceID']}"
        try:
            yield
        finally:
            urllib.request.urlopen(
                urllib.request.Request(address, method="DELETE"), timeout=5
            ).close()


@pytest.fixture(scope="module")
def monitoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    lacking = [one for one in ("prometheus", "prometheus-alertmanager") if not shutil.which(one)]
    if lacking:
        said = f"{' and '.join(lacking)} are not on PATH: install Debian's packages of that name."
        (pytest.fail if os.environ.get("REHEARSAL_TEST_STRICT") else pytest.skip)(said)
    with ExitStack() as stack:
        yield Monitoring(tmp_path_factory.mktemp("monitoring"), stack)


def test_not_enabled_is_skipped_with_that_reason() -> None:
    found = look()
    assert found.verdict == "skipped"
    assert "not enabled" in found.why


def test_all_well_passes_only_with_targets_and_rules(monitoring: Monitoring) -> None:
    monitoring.apply({})
    found = monitoring.look()
    assert found.verdict == "inconclusive"
    assert "no alerting rule" in found.why
    monitoring.apply({"TooSlow": QUIET})
    found = monitoring.look()
    assert found.verdict == "passed", found.why
    assert "1 targets are up, 1 rules are loaded" in found.report.said
    # The same Alertmanager alone cannot tell this from a Prometheus that died.
    assert monitoring.look("alertmanager").verdict == "inconclusive"
    monitoring.apply({"Watchdog": FIRES})
    assert monitoring.look("alertmanager").verdict == "passed"


def test_a_firing_rule_fails_and_a_silence_shows(monitoring: Monitoring) -> None:
    monitoring.apply({"DiskFull": FIRES, "TooSlow": QUIET})
    found = monitoring.look()
    assert found.verdict == "failed"
    assert "DiskFull" in found.why
    with monitoring.silence("DiskFull"):
        wait_for(lambda: monitoring.look().verdict != "failed")
        found = monitoring.look()
        assert found.verdict == "inconclusive"
        assert "silenced by Staff Member 1" in found.why
        assert "being mended" in str(found.report.facts["silenced or inhibited"])
        assert "abcd1234efgh" not in found.why + str(found.report.facts)
        known = {"match": "DiskFull", "reason": "a new disk comes", "until": "2999-01-01"}
        found = monitoring.look(KNOWN_NOISE=[known])
        assert found.verdict == "passed"
        assert "a new disk comes" in found.report.said
        assert "silenced or inhibited" in found.report.facts
        expired = known | {"until": "2020-01-01"}
        assert monitoring.look(KNOWN_NOISE=[expired]).verdict == "inconclusive"


def test_what_is_inhibited_is_shown_beside_its_cause(monitoring: Monitoring) -> None:
    monitoring.apply({"Cause": FIRES, "Effect": FIRES})
    wait_for(lambda: "Effect" in str(monitoring.look().report.facts.get("silenced or inhibited")))
    found = monitoring.look()
    assert found.verdict == "failed"
    assert "1 alerts fire: Cause" in found.why


def test_a_dead_target_is_seen(monitoring: Monitoring) -> None:
    monitoring.apply({"TooSlow": QUIET}, dead=True)
    found = monitoring.look()
    assert found.verdict == "failed"
    assert f"127.0.0.1:{monitoring.closed} is down" in found.why


def test_labels_that_no_target_has_are_no_health(monitoring: Monitoring) -> None:
    monitoring.apply({"TooSlow": QUIET})
    url = monitoring.url("prometheus")
    match = {"environment": "staging"}
    found = look({"kind": "prometheus", "url": url, "match": match})
    assert found.verdict == "inconclusive"
    assert "no target with environment=staging" in found.why


# Answers that are none, and Grafana's interface as its documentation has it


Reply = tuple[int, dict[str, str], bytes]


@contextmanager
def serving(reply: Callable[[str, Any], Reply]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = reply(self.path.partition("?")[0], self.headers)
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("kind", ["prometheus", "alertmanager", "grafana"])
@pytest.mark.parametrize(
    ("status", "headers", "body", "said"),
    [
        (200, {"Content-Type": "text/html"}, b"<html>Sign in</html>", "where JSON was expected"),
        (302, {"Location": "https://elsewhere.example/login"}, b"", "a redirect"),
        (200, {**JSON, "Content-Length": "5000"}, b'{"status": "suc', "cut off"),
        (200, JSON, b'{"status": "success", "data"', "broken or cut off"),
        (200, JSON, b'{"status": "success", "data": []}', "form"),
        (200, JSON, b"[]", "form"),
        (200, JSON, b"null", "form"),
        (401, JSON, b"{}", "token"),
        (500, JSON, b"{}", "500"),
    ],
)
def test_what_is_no_answer_is_no_health(
    kind: str, status: int, headers: dict[str, str], body: bytes, said: str
) -> None:
    with serving(lambda path, sent: (status, headers, body)) as url:
        found = look({"kind": kind, "url": url})
    assert found.verdict == "inconclusive"
    assert said in found.why


def test_nobody_there_is_no_health() -> None:
    found = look({"kind": "prometheus", "url": f"http://127.0.0.1:{free_port()}"})
    assert found.verdict == "inconclusive"
    assert "cannot be reached" in found.why


def grafana(
    rules: list[dict[str, Any]], alerts: list[dict[str, Any]], token: str
) -> Callable[[str, Any], Reply]:
    """Grafana's answers, as its HTTP API documents them; a rule was evaluated just now unless it
    says when."""
    at = datetime.datetime.now(datetime.UTC).isoformat()
    rules = [{"lastEvaluation": at, **one} for one in rules]
    answers: dict[str, Any] = {
        "/api/prometheus/grafana/api/v1/rules": {
            "status": "success",
            "data": {
                "groups": [{"name": "site", "file": "staging", "interval": 60, "rules": rules}]
            },
        },
        "/api/alertmanager/grafana/api/v2/alerts": alerts,
        "/api/alertmanager/grafana/api/v2/silences": [
            {
                "id": "7",
                "createdBy": "Staff Member 1",
                "comment": "known",
                "endsAt": "2999-01-01T00:00:00Z",
                "status": {"state": "active"},
                "matchers": [],
            }
        ],
    }

    def reply(path: str, headers: Any) -> Reply:
        if headers.get("Authorization") != f"Bearer {token}":
            return 401, JSON, b'{"message": "Unauthorized"}'
        if path not in answers:
            return 404, JSON, b'{"message": "Not found"}'
        return 200, JSON, json.dumps(answers[path]).encode()

    return reply


def rule(health: str = "ok", **more: Any) -> dict[str, Any]:
    return {
        **{"state": "inactive", "name": "Slow pages", "health": health, "type": "alerting"},
        **{"evaluationTime": 0.01, "query": "[]", "alerts": []},
        **more,
    }


def alert(state: str, silenced: bool = False) -> dict[str, Any]:
    return {
        "labels": {"alertname": "Slow pages", "grafana_folder": "staging"},
        "status": {
            "state": state,
            "silencedBy": ["7"] if silenced else [],
            "inhibitedBy": [],
        },
        "startsAt": "2026-01-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("rules", "alerts", "verdict", "said"),
    [
        ([rule()], [], "passed", "1 rules are loaded"),
        ([], [], "inconclusive", "no alerting rule"),
        ([rule()], [alert("active")], "failed", "Slow pages"),
        ([rule()], [alert("suppressed", True)], "inconclusive", "silenced by Staff Member 1"),
        ([rule("error", lastError="no such source")], [], "failed", "no such source"),
        ([rule("nodata")], [], "failed", "nodata"),
        ([rule(lastEvaluation="0001-01-01T00:00:00Z")], [], "inconclusive", "not evaluated yet"),
        ([rule(lastEvaluation="2026-01-01T00:00:00Z")], [], "inconclusive", "last evaluated"),
    ],
)
def test_grafana(
    monkeypatch: pytest.MonkeyPatch,
    rules: list[dict[str, Any]],
    alerts: list[dict[str, Any]],
    verdict: str,
    said: str,
) -> None:
    token = "glsa-of-the-tests-1"
    monkeypatch.setenv("GRAFANA_TOKEN", token)
    with serving(grafana(rules, alerts, token)) as url:
        monitor = {"kind": "grafana", "url": url, "token": "GRAFANA_TOKEN"}
        found = look(monitor)
        assert (found.verdict, said in found.why + found.report.said) == (verdict, True)
        assert token not in found.why + found.report.said + str(found.report.facts)
        monkeypatch.setenv("GRAFANA_TOKEN", "wrong")
        assert look(monitor).verdict == "inconclusive"
        monkeypatch.delenv("GRAFANA_TOKEN")
        assert "GRAFANA_TOKEN" in look(monitor).why


# Whatever a monitor answers


LABELS = {"alertname": "Down", "job": "site", "instance": "web:1", "environment": "staging"}
HEALTHY = {
    "targets": {
        "status": "success",
        "data": {"activeTargets": [{"labels": LABELS, "health": "up", "lastError": ""}]},
    },
    "rules": {
        "status": "success",
        "data": {
            "groups": [
                {
                    "name": "site",
                    "interval": 60,
                    "rules": [
                        {
                            "type": "alerting",
                            "name": "Down",
                            "health": "ok",
                            "lastEvaluation": "2999-01-01T00:00:00.123456789Z",
                        }
                    ],
                }
            ]
        },
    },
    "alerts": {"status": "success", "data": {"alerts": []}},
}
ALERT = {
    "labels": {"alertname": "Watchdog"},
    "status": {"state": "active", "silencedBy": ["one"], "inhibitedBy": []},
}
SILENCE = {"id": "one", "comment": "known", "createdBy": "amina", "endsAt": "2999-01-01T00:00:00Z"}
MANAGER = {
    "status": {"cluster": {"status": "ready"}},
    "alerts": [ALERT],
    "silences": [SILENCE],
    "rules": HEALTHY["rules"],
}
URL = "http://monitor.example"


def answered(answers: dict[str, Any], kind: str) -> Result:
    """What the check makes of answers, by the last word of the path that is asked for."""

    def get_json(url: str, headers: object) -> Any:
        return answers[url.partition("?")[0].rpartition("/")[2]]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(alerts, "get_json", get_json)
        return look({"kind": kind, "url": URL})


def now_evaluated(document: Any) -> Any:
    at = datetime.datetime.now(datetime.UTC).isoformat()
    return json.loads(json.dumps(document).replace("2999-01-01T00:00:00.123456789Z", at))


@st.composite
def altered_once(draw: Any) -> tuple[str, dict[str, Any]]:
    kind = draw(st.sampled_from(["prometheus", "alertmanager", "grafana"]))
    answers = dict(HEALTHY if kind == "prometheus" else MANAGER)
    name = draw(st.sampled_from(sorted(answers)))
    return kind, {**answers, name: altered(now_evaluated(answers[name]), draw)}


@cases(60)
@given(altered_once())
def test_any_answer_is_an_outcome(case: tuple[str, dict[str, Any]]) -> None:
    kind, answers = case
    assert answered(answers, kind).verdict in {"passed", "failed", "inconclusive"}


@cases(30)
@given(ANYTHING, ANYTHING, ANYTHING, st.sampled_from(["prometheus", "alertmanager", "grafana"]))
@example([], [], [], "alertmanager")
def test_rubbish_from_a_monitor_is_no_pass(one: Any, two: Any, three: Any, kind: str) -> None:
    answers = {"targets": one, "rules": two, "alerts": three, "status": two, "silences": one}
    assert answered(answers, kind).verdict != "passed"


@pytest.mark.parametrize("file", corpus("alerts"))
def test_an_answer_that_once_broke_it_is_inconclusive(file: Path) -> None:
    kept = json.loads(file.read_bytes())
    base = HEALTHY if kept["kind"] == "prometheus" else MANAGER
    result = answered({**base, **kept["answers"]}, kept["kind"])
    assert result.verdict == "inconclusive", result.why


def test_what_is_altered_is_well_before() -> None:
    assert answered(now_evaluated(HEALTHY), "prometheus").verdict == "passed"

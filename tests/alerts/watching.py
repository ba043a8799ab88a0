"""What watches the system: the real Prometheus and Alertmanager, and the receiver that their notifications come to."""

import http.server
import json
import os
import re
import threading
import time
import urllib.parse

from browser.system import free_port, request
from system import Part, answers


class Prometheus(Part):
    """With the rules of `rules`, a file; scrapes `targets`, addresses by the name of their job, every `interval` seconds."""

    def __init__(self, directory, rules, targets, alertmanager, interval):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        jobs = "".join(
            f"  - job_name: {job}\n    static_configs: [{{targets: {json.dumps(addresses)}}}]\n"
            for job, addresses in targets.items()
        )
        config = directory / "prometheus.yml"
        config.write_text(
            f"global: {{scrape_interval: {interval}s, scrape_timeout: {interval}s, evaluation_interval: {interval}s}}\n"
            f"rule_files: [{json.dumps(str(rules))}]\n"
            f"alerting: {{alertmanagers: [{{static_configs: [{{targets: [{json.dumps(alertmanager)}]}}]}}]}}\n"
            f"scrape_configs:\n{jobs}"
        )
        self.data = directory / "prometheus"
        line = [f"--config.file={config}", f"--storage.tsdb.path={self.data}", f"--web.listen-address={self.address}"]
        # Four weeks of history, which are more than its default keeps.
        line += ["--storage.tsdb.retention.time=60d", "--log.level=warn", "--rules.alert.resend-delay=1s"]
        super().__init__(
            "Prometheus",
            [os.environ["MULTIVAC_TEST_PROMETHEUS"], *line],
            directory / "prometheus.log",
            answers(self.address, "/-/ready"),
        )

    def get(self, path, **parameters):
        status, _, body = request(f"http://{self.address}", "GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        reply = json.loads(body)
        assert status == 200 and reply["status"] == "success", f"{parameters}: {reply.get('error', status)}"
        assert not reply.get("warnings"), f"{parameters}: {reply['warnings']}"
        return reply["data"]

    def query(self, expression, at=None):
        return self.get("query", query=expression, **({} if at is None else {"time": at}))["result"]

    def query_range(self, expression, start, end, step):
        return self.get("query_range", query=expression, start=start, end=end, step=step)["result"]

    def alerts(self):
        """What is pending or firing: (name, state, labels)."""
        return [(alert["labels"]["alertname"], alert["state"], alert["labels"]) for alert in self.get("alerts")["alerts"]]

    def rules(self):
        """All rules of type `alerting`, by name; more than one may have the same."""
        groups = self.get("rules", type="alert")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def rule_errors(self):
        groups = self.get("rules")["groups"]
        return [f"{rule['name']}: {rule['lastError']}" for group in groups for rule in group["rules"] if rule.get("lastError")]


class Alertmanager(Part):
    """With the routes and inhibitions of `config`, a text, all of whose receivers send to `webhook`, an address."""

    def __init__(self, directory, config, webhook):
        self.address = f"127.0.0.1:{free_port()}"
        path = directory / "alertmanager.yml"
        path.write_text(with_receivers(config, f"http://{webhook}/"))
        line = [f"--config.file={path}", f"--storage.path={directory / 'alertmanager'}", f"--web.listen-address={self.address}"]
        # Without a cluster, so that it listens on no other port.
        line += ["--cluster.listen-address=", "--log.level=warn"]
        super().__init__(
            "Alertmanager",
            [os.environ["MULTIVAC_TEST_ALERTMANAGER"], *line],
            directory / "alertmanager.log",
            answers(self.address, "/-/ready"),
        )


def with_receivers(config, url):
    """The configuration with a webhook in place of what its receivers are."""
    section = re.search(r"^receivers:\n(?:[ \t#-].*\n|\n)+", config, re.MULTILINE)
    assert section, "alertmanager.yml has no receivers"
    names = re.findall(r"^\s*-\s+name:\s*[\"']?([\w-]+)", section[0], re.MULTILINE)
    assert names, "alertmanager.yml names no receiver"
    hooks = "".join(f"  - name: {name}\n    webhook_configs: [{{url: '{url}', send_resolved: true}}]\n" for name in names)
    return config.replace(section[0], f"receivers:\n{hooks}")


class Webhook:
    """Records every alert of every notification, with the time at which it came."""

    def __init__(self):
        hook = self
        self.told, self.news = [], threading.Condition()

        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                notification = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                now = time.monotonic()
                with hook.news:
                    hook.told.extend(Told(alert, now) for alert in notification["alerts"])
                    hook.news.notify_all()
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def await_one(self, seconds, wanted, since=0):
        """The first that `wanted` takes, from place `since` on; None if there is none in that time."""
        with self.news:
            found = lambda: next(filter(wanted, self.told[since:]), None)  # noqa: E731
            self.news.wait_for(found, seconds)
            return found()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Told:
    """An alert as a notification has it."""

    def __init__(self, alert, at):
        self.at, self.labels, self.annotations = at, alert["labels"], alert["annotations"]
        self.name, self.is_firing = self.labels["alertname"], alert["status"] == "firing"

    def __str__(self):
        others = {name: value for name, value in self.labels.items() if name not in ("alertname", "severity", "job", "instance")}
        return self.name + (str(others).replace("'", "") if others else "")

    def is_like(self, labels):
        return all(self.labels.get(name) == value for name, value in labels.items())

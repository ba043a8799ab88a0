"""A stand-in for the parts of Google Cloud that deploy/gcp/apply.sh changes: it keeps state, and refuses what Google refuses.

What is sent is parsed by Google's own protobuf classes (PyPI google-cloud-monitoring, -logging, -monitoring-dashboards), which
know every field; beyond that `RULES` holds what the API's documentation says of values. `gcloud.py` and `rest.py` stand before it.
"""

import copy
import re
import threading

from google.cloud import monitoring_dashboard_v1, monitoring_v3
from google.cloud.logging_v2 import types as logging_types
from google.protobuf import json_format

PROJECT = "multivac-test"
CLASSES = {
    "policies": monitoring_v3.AlertPolicy,
    "channels": monitoring_v3.NotificationChannel,
    "uptime": monitoring_v3.UptimeCheckConfig,
    "metrics": logging_types.LogMetric,
    "dashboards": monitoring_dashboard_v1.Dashboard,
}
# The collection in an object's name.
COLLECTIONS = {
    "policies": "alertPolicies",
    "channels": "notificationChannels",
    "uptime": "uptimeCheckConfigs",
    "metrics": "metrics",
    "dashboards": "dashboards",
}
RIGHTS = {
    "policies": "monitoring.alertPolicies",
    "channels": "monitoring.notificationChannels",
    "uptime": "monitoring.uptimeCheckConfigs",
    "metrics": "logging.logMetrics",
    "dashboards": "monitoring.dashboards",
}
WRITES = ("create", "update", "delete")
SENSITIVE = {"pagerduty": ["service_key"], "webhook_tokenauth": ["url"]}
CHANNEL_LABELS = {"email": ["email_address"], "pagerduty": ["service_key"], "webhook_tokenauth": ["url"]}


class Refused(Exception):
    """What the API answers instead: a status of google.rpc.Code, its HTTP code, a message, and perhaps details."""

    HTTP = {
        "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404,
        "ALREADY_EXISTS": 409, "ABORTED": 409, "RESOURCE_EXHAUSTED": 429, "INTERNAL": 500, "UNAVAILABLE": 503,
    }  # fmt: skip

    def __init__(self, status, message, reason=None):
        super().__init__(message)
        self.status, self.message, self.reason = status, message, reason
        self.code = self.HTTP[status]


def refuse(message):
    raise Refused("INVALID_ARGUMENT", message)


def parse(kind, body):
    """The message of an object in JSON; an unknown field or a value of another type is refused."""
    try:
        message = CLASSES[kind].pb()()
        json_format.ParseDict(body, message, ignore_unknown_fields=False)
    except json_format.ParseError as error:
        refuse(f"Invalid JSON payload received. {error}")
    return message


def check(kind, body):
    message = parse(kind, body)
    RULES[kind](message)
    return message


# --- what the API's documentation says of values ---------------------------------------------------------------------


def check_labels(labels):
    if len(labels) > 64:
        refuse("more than 64 user labels")
    for key, value in labels.items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key):
            refuse(f"user label key {key!r}: must begin with a lower-case letter, and have lower-case letters, digits, _ and - alone")
        if not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            refuse(f"user label value {value!r}: at most 63 lower-case letters, digits, _ and -")


def check_policy(policy):
    if not policy.display_name or len(policy.display_name) > 512:
        refuse("display_name: must not be empty, nor longer than 512 characters")
    if not policy.combiner:
        refuse("combiner: must be given")
    if not 1 <= len(policy.conditions) <= 6:
        refuse("a policy has from 1 to 6 conditions")
    check_labels(policy.user_labels)
    written = policy.documentation
    if len(written.content) > 8192 or len(written.content.encode()) > 10240:
        refuse("documentation.content: at most 8,192 characters and 10,240 bytes")
    if written.content and written.mime_type != "text/markdown":
        refuse("documentation.mime_type: only text/markdown is supported")
    if len(written.subject.encode()) > 10240 or len(written.links) > 3:
        refuse("documentation: a subject of at most 10,240 bytes, at most 3 links")
    for link in written.links:
        if not 1 <= len(link.display_name) <= 63 or not link.url.startswith("https://") or len(link.url) > 2083:
            refuse("documentation.links: a name of 1 to 63 characters, a URL of at most 2,083")
    strategy = policy.alert_strategy
    if strategy.HasField("notification_rate_limit") and not any(c.HasField("condition_matched_log") for c in policy.conditions):
        refuse("alert_strategy.notification_rate_limit: for log-based policies only")
    if strategy.HasField("auto_close") and not 1800 <= strategy.auto_close.seconds <= 604800:
        refuse("alert_strategy.auto_close: from 30 minutes to 7 days")
    for condition in policy.conditions:
        if not condition.display_name:
            refuse("conditions.display_name: must not be empty")
        which = condition.WhichOneof("condition")
        if which == "condition_prometheus_query_language":
            if len(policy.conditions) > 1:
                refuse("a policy with a PromQL condition has one condition")
            check_promql(condition.condition_prometheus_query_language)
        elif which == "condition_threshold":
            check_threshold(condition.condition_threshold)
        else:
            refuse(f"no condition, or one that is not expected here: {which}")


def check_promql(condition):
    if not condition.query.strip():
        refuse("query: must not be empty")
    interval, duration = condition.evaluation_interval, condition.duration
    if condition.HasField("evaluation_interval") and (interval.seconds <= 0 or interval.seconds % 30 or interval.nanos):
        refuse("evaluation_interval: must be a positive multiple of 30 seconds")
    if duration.seconds < 0 or duration.nanos or duration.seconds > 86400:
        refuse("duration: from 0 to 24 hours, in seconds")
    if condition.alert_rule and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", condition.alert_rule):
        refuse("alert_rule: must be a valid Prometheus label name")
    for name in condition.labels:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            refuse(f"labels: {name!r} is not a valid label name")


def check_threshold(condition):
    if "metric.type" not in condition.filter or "resource.type" not in condition.filter:
        refuse("filter: must name metric.type and resource.type")
    if condition.duration.seconds % 60 or condition.duration.nanos:
        refuse("duration: must be a multiple of a minute")
    if not condition.comparison:
        refuse("comparison: must be given")
    for aggregation in condition.aggregations:
        if aggregation.alignment_period.seconds < 60:
            refuse("alignment_period: at least 60 seconds")


def check_channel(channel):
    if channel.type_ not in CHANNEL_LABELS:
        refuse(f"type: no such notification channel type as {channel.type_!r}")
    if sorted(channel.labels) != CHANNEL_LABELS[channel.type_]:
        refuse(f"labels: {channel.type_} takes {CHANNEL_LABELS[channel.type_]}, not {sorted(channel.labels)}")
    if channel.type_ == "email" and not re.fullmatch(r"[^@\s]+@[^@\s]+", channel.labels["email_address"]):
        refuse("labels: not an email address")
    check_labels(channel.user_labels)


def check_uptime(config):
    if not config.display_name:
        refuse("display_name: must not be empty")
    if config.period.seconds not in (60, 300, 600, 900):
        refuse("period: 60s, 300s, 600s or 900s")
    if not 1 <= config.timeout.seconds <= 60:
        refuse("timeout: from 1 to 60 seconds")
    if config.monitored_resource.type != "uptime_url" or sorted(config.monitored_resource.labels) != ["host", "project_id"]:
        refuse("monitored_resource: uptime_url has the labels host and project_id")
    if not re.fullmatch(r"[A-Za-z0-9.-]+", config.monitored_resource.labels["host"]):
        refuse("monitored_resource: host is a name without scheme or path")
    if config.http_check.validate_ssl and not config.http_check.use_ssl:
        refuse("http_check.validate_ssl: only with use_ssl")
    check_labels(config.user_labels)


def check_metric(metric):
    if not re.fullmatch(r"[A-Za-z0-9_\-.,+!*',()%/]{1,100}", metric.name) or metric.name.startswith("/"):
        refuse(f"name: {metric.name!r} is no name of a metric")
    if not metric.filter.strip() or len(metric.filter) > 20000:
        refuse("filter: must not be empty, nor longer than 20,000 characters")
    if metric.filter.count("(") != metric.filter.count(")") or metric.filter.count('"') % 2:
        refuse("filter: cannot be parsed")
    if len(metric.description) > 8000:
        refuse("description: at most 8,000 characters")
    described = metric.metric_descriptor
    if (described.metric_kind, described.value_type) not in ((0, 0), (2, 2)):
        refuse("metric_descriptor: a counter is DELTA and INT64")
    if sorted(label.key for label in described.labels) != sorted(metric.label_extractors):
        refuse("label_extractors: must have exactly the labels of metric_descriptor")
    for extractor in metric.label_extractors.values():
        if not re.match(r"(REGEXP_)?EXTRACT\(", extractor):
            refuse("label_extractors: EXTRACT(field) or REGEXP_EXTRACT(field, regex)")


def check_dashboard(dashboard):
    if not dashboard.display_name:
        refuse("display_name: must not be empty")
    layout = dashboard.mosaic_layout
    if not 1 <= layout.columns <= 48:
        refuse("mosaic_layout.columns: from 1 to 48")
    taken = set()
    for tile in layout.tiles:
        if tile.width < 1 or tile.height < 1 or tile.x_pos + tile.width > layout.columns:
            refuse(f"tile {tile.widget.title!r} does not fit into {layout.columns} columns")
        covered = {(x, y) for x in range(tile.x_pos, tile.x_pos + tile.width) for y in range(tile.y_pos, tile.y_pos + tile.height)}
        if covered & taken:
            refuse(f"tile {tile.widget.title!r} lies over another one")
        taken |= covered
        if not tile.widget.WhichOneof("content"):
            refuse(f"tile {tile.widget.title!r} is empty")
    check_labels(dashboard.labels)


RULES = {
    "policies": check_policy,
    "channels": check_channel,
    "uptime": check_uptime,
    "metrics": check_metric,
    "dashboards": check_dashboard,
}


# --- the state -------------------------------------------------------------------------------------------------------


class Cloud:
    """One project. `calls` records every call as (verb, kind, name); `before` may raise Refused, or do something else first."""

    def __init__(self):
        self.lock = threading.RLock()
        self.objects = {kind: {} for kind in CLASSES}
        self.calls, self.tokens = [], 0
        self.denied, self.disabled, self.lost_replies = set(), set(), []
        self.secrets = {}
        self.before = lambda verb, kind, name: None
        self.iam_answers = True
        self.next_id = 100

    def writes(self):
        return [call for call in self.calls if call[0] in WRITES]

    def forget_calls(self):
        self.calls.clear()

    def state(self):
        return copy.deepcopy(self.objects)

    def _enter(self, verb, kind, name=""):
        self.calls.append((verb, kind, name))
        api = "Cloud Logging" if kind == "metrics" else "Cloud Monitoring"
        if api in self.disabled:
            raise Refused(
                "PERMISSION_DENIED",
                f"{api} API has not been used in project {PROJECT} before or it is disabled. Enable it by visiting "
                f"https://console.developers.google.com/apis/api/x/overview?project={PROJECT} then retry.",
                "SERVICE_DISABLED",
            )
        right = f"{RIGHTS[kind]}.{verb}"
        if right in self.denied:
            raise Refused("PERMISSION_DENIED", f"Permission '{right}' denied on resource (or it may not exist).")
        self.before(verb, kind, name)

    def _shown(self, kind, stored):
        shown = copy.deepcopy(stored)
        if kind == "channels":
            for label in SENSITIVE.get(shown["type"], []):
                shown["labels"][label] = "****" + shown["labels"][label][-4:]
        return shown

    def list(self, kind):
        with self.lock:
            self._enter("list", kind)
            return [self._shown(kind, stored) for stored in self.objects[kind].values()]

    def get(self, kind, name):
        with self.lock:
            if name not in self.objects[kind]:
                raise Refused("NOT_FOUND", f"{name} was not found")
            return self._shown(kind, self.objects[kind][name])

    def _keep(self, kind, name, body):
        """As the server keeps it: without empty fields, with names and with what it adds."""
        message = check(kind, body)
        if kind == "policies":
            for channel in message.notification_channels:
                if channel not in self.objects["channels"]:
                    raise Refused("NOT_FOUND", f"Cannot find channel with name: {channel}")
        stored = json_format.MessageToDict(message)
        stored["name"] = name
        if kind == "policies":
            stored.setdefault("enabled", True)
            stored["mutationRecord"] = {"mutateTime": "2026-01-01T00:00:00Z"}
            for condition in stored["conditions"]:
                self.next_id += 1
                condition.setdefault("name", f"{name}/conditions/{self.next_id}")
        if kind == "uptime":
            stored["checkerType"] = "STATIC_IP_CHECKERS"
        if kind == "dashboards":
            self.next_id += 1
            stored["etag"] = f"etag{self.next_id}"
        self.objects[kind][name] = stored
        return self._shown(kind, stored)

    def create(self, kind, body):
        with self.lock:
            self._enter("create", kind, body.get("displayName") or body.get("name", ""))
            if kind == "metrics":
                name = body.get("name", "")
                if name in self.objects[kind]:
                    raise Refused("ALREADY_EXISTS", f"Metric {name} already exists")
            else:
                if body.get("name"):
                    refuse("name: must not be given to create")
                if body.get("etag"):
                    refuse("etag: must not be given to create")
                self.next_id += 1
                name = f"projects/{PROJECT}/{COLLECTIONS[kind]}/{self.next_id}"
            kept = self._keep(kind, name, body)
            self._reply("create", kind)
            return kept

    def update(self, kind, name, body):
        with self.lock:
            self._enter("update", kind, name)
            before = self.get(kind, name)
            if body.get("name") not in (None, "", name):
                refuse("name: differs from the object's")
            if kind == "dashboards":
                if not body.get("etag"):
                    refuse("etag: must be given to update")
                if body["etag"] != before["etag"]:
                    raise Refused("ABORTED", "etag mismatch: the dashboard has changed")
            if kind == "uptime" and body.get("monitoredResource") != before["monitoredResource"]:
                refuse("monitored_resource: cannot be changed")
            if kind == "policies":
                known = {condition["name"] for condition in before["conditions"]}
                for condition in body.get("conditions", []):
                    if condition.get("name") and condition["name"] not in known:
                        refuse("conditions.name: no such condition")
            kept = self._keep(kind, name, body)
            self._reply("update", kind)
            return kept

    def delete(self, kind, name, force=False):
        with self.lock:
            self._enter("delete", kind, name)
            self.get(kind, name)
            using = [p["name"] for p in self.objects["policies"].values() if name in p.get("notificationChannels", [])]
            if kind == "channels" and using and not force:
                raise Refused("FAILED_PRECONDITION", f"Channel {name} is used by {using[0]} and cannot be deleted")
            del self.objects[kind][name]

    def _reply(self, verb, kind):
        """After it was done, the reply may be lost."""
        if (verb, kind) in self.lost_replies:
            self.lost_replies.remove((verb, kind))
            raise Refused("UNAVAILABLE", "The service is currently unavailable.")

    def test_rights(self, rights):
        with self.lock:
            self.calls.append(("test", "rights", ""))
            if not self.iam_answers:
                raise Refused("PERMISSION_DENIED", "Cloud Resource Manager API has not been used", "SERVICE_DISABLED")
            return [right for right in rights if right not in self.denied]

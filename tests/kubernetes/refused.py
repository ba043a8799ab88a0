"""Values that the chart has to refuse: what helm is told, and what its message has to name."""


def setting(value, *named):
    return (["--set", value], *named)


def whole(value, *named):
    return (["--set-json", value], *named)


REFUSED = [
    setting("edges.replicas=2", "edges"),
    setting("edge.replica=2", "edge", "replica"),
    setting("edge.replicas=two", "edge/replicas"),
    setting("edge.replicas=-1", "edge/replicas"),
    setting("edge.service.type=ExternalName", "edge/service/type"),
    setting("edge.service.sourceRanges={10.0.0.1}", "edge/service/sourceRanges"),
    setting("edge.publicPort=70000", "edge/publicPort"),
    setting("edge.settings.rate=50", "edge/settings", "rate"),
    whole('api.settings={"MULTIVAC_MAX_QUEUED": {"a": 1}}', "api/settings/MULTIVAC_MAX_QUEUED"),
    setting("api.indexSize=much", "api/indexSize"),
    setting("api.autoscaling.min=0", "api/autoscaling/min"),
    setting("api.autoscaling.cpu=300", "api/autoscaling/cpu"),
    setting("api.resources.request.cpu=1", "api/resources", "request"),
    setting("worker.autoscaling.kind=vpa", "worker/autoscaling/kind"),
    setting("worker.autoscaling.min=0", "worker/autoscaling/min"),
    setting("worker.concurrency=0", "worker/concurrency"),
    setting("worker.concurrency=257", "worker/concurrency"),
    setting("images.api.digest=sha256:12", "images/api/digest"),
    setting("images.redis.repository=Redis", "images/redis/repository"),
    setting("images.pullPolicy=Sometimes", "images/pullPolicy"),
    setting("secrets.app=Not_A_Name", "secrets/app"),
    setting("secrets.password=x", "secrets", "password"),
    setting("namespace=a b", "namespace"),
    setting("partitions=0", "partitions"),
    setting("partitions=1.5", "partitions"),
    setting("logFormat=xml", "logFormat"),
    setting("redis.mode=sentinel", "redis/mode"),
    setting("redis.mode=cluster", "partitions"),
    setting("redis.mode=cluster,redis.nodes=7,partitions=12", "redis/nodes"),
    setting("redis.mode=cluster,redis.nodes=8,partitions=6", "partitions"),
    setting("redis.maxMemory=512Mi", "redis/maxMemory"),
    setting("mongo.members=2", "mongo/members"),
    setting("mongo.mode=atlas", "mongo/mode"),
    setting("monitoring.kind=datadog", "monitoring/kind"),
    setting("monitoring.rules.runbooks=docs", "monitoring/rules/runbooks"),
    setting("networkPolicies.dns={169.254.20.10}", "networkPolicies/dns"),
    whole('networkPolicies.external=[{"cidr": "10.0.0.0/8"}]', "networkPolicies/external", "ports"),
    setting("backup.schedule=daily", "backup/schedule"),
    setting("backup.keep=0", "backup/keep"),
]

"""What befalls a MultiVAC, and which alerts fire then: these, and no other.

A case is a function that is given a healthy system, changes it, and returns which alerts fire at which minute. `near` names the
alerts that it is about and that must stay silent at some time: just under the limit, for too short a time, or because
another alert names the cause.
"""

import inspect

from system import ASK, FEED, RETRACT, TRAFFIC, System

CASES = []


class Alert:
    def __init__(self, severity, name, summary=None, /, **labels):
        self.name, self.summary = name, summary
        labels = {"severity": severity, "namespace": "shop", **labels}
        self.labels = {label: value for label, value in labels.items() if value}


def page(*arguments, **labels):
    return Alert("page", *arguments, **labels)


def ticket(*arguments, **labels):
    return Alert("ticket", *arguments, **labels)


def of(target):
    """The labels of an alert that is about one process."""
    return {**target.labels, "program": target.program}


def case(minutes, *, near="", every=0.5, name=None, **system):
    """Registers a case. `every`: minutes between two evaluations of the rules."""

    def register(function):
        it = System(minutes, **system)
        systems = [it]
        expected = function(it, systems) if "systems" in inspect.signature(function).parameters else function(it)
        CASES.append((name or function.__name__.replace("_", " "), systems, expected, near.split(), every))
        return function

    return register


# --- nothing is wrong ---


@case(240, near="Absent TargetDown NoReplicaReady AskBudgetBurn FeedBudgetBurn AnswerableBudgetBurn RetractionBudgetBurn")
def a_healthy_system_gives_no_alert(it):
    return {minute: [] for minute in (0, 1, 5, 10, 30, 60, 120, 240)}


@case(60, near="Absent NoReplicaReady")
def a_new_and_empty_system_gives_no_alert(it):
    """Prometheus is there first; the programs come a minute later, and are ready half a minute after that."""
    for target in it.targets:
        target.gone(0, 1)
    it.each("multivac_ready", 0, 1, 1.5)
    for api in it.apis:
        for request, status in ((ASK, 200), (FEED, 200), (RETRACT, 204)):
            api.requests(request, status, 0)
        api.answerable(0)
    return {minute: [] for minute in (0, 1, 2, 3, 4, 5, 7, 10, 20, 60)}


@case(60, near="Absent", workers=0, edges=0, apis=1)
def an_embedded_system_has_no_workers_and_no_edge(it):
    it.apis[0].set("multivac_consumer_loops", 2)
    return {minute: [] for minute in (1, 5, 15, 20, 30, 60)}


@case(60, near="Absent TargetDown", apis=3, workers=3)
def fewer_replicas_are_wanted(it):
    it.apis[2].gone(20)
    it.workers[2].gone(20)
    return {minute: [] for minute in (19, 21, 24, 30, 60)}


@case(90, near="Absent TargetDown NoReplicaReady AskBudgetBurn FeedBudgetBurn")
def replicas_are_restarted_one_after_another(it):
    for number, target in enumerate(it.targets):
        target.down(20 + 2 * number, 21 + 2 * number)
        if target.program != "edge":
            target.set("multivac_ready", 0, 21 + 2 * number, 21.5 + 2 * number)
    return {minute: [] for minute in (21, 23, 25, 27, 29, 31, 35, 60, 90)}


@case(40, near="Absent NoReplicaReady", apis=1, workers=1)
def the_only_replica_of_each_is_restarted(it):
    for target in it.processes:
        target.down(20, 22)
        target.set("multivac_ready", 0, 22, 23)
    return {minute: [] for minute in (20, 21, 22, 23, 24, 25, 40)}


@case(60)
def labels_of_a_namespace_may_be_missing(it, systems):
    systems[:] = [System(60, namespace=None)]
    for process in systems[0].processes:
        process.set("multivac_reachable", 0, 20, 30, backend="queue")
    return {20: [], 25: [page("QueueUnreachable", namespace="")], 35: []}


@case(60, near="QueueUnreachable")
def one_of_two_namespaces_has_the_alert(it, systems):
    systems.append(System(60, namespace="test"))
    systems[1].each("multivac_reachable", 0, 20, 30, backend="queue")
    return {25: [page("QueueUnreachable", namespace="test")], 35: []}


# --- a part is killed ---


def redis_is_away(it, start, end):
    it.each("multivac_reachable", 0, start, end, backend="queue")
    for process in it.processes:
        for name in ("multivac_data", "multivac_queue_oldest_seconds", "multivac_queue_server_memory_bytes"):
            process.unknown(name, start, end)
    for api in it.apis:
        api.requests(FEED, 200, 0, start, end)
        api.requests(FEED, 503, TRAFFIC // 2, start, end)
        api.requests(RETRACT, 204, 0, start, end)
        api.requests(RETRACT, 503, TRAFFIC, start, end)
        # What waited in it is answerable too late.
        api.answerable(0, start, end)
        api.answerable(10 * TRAFFIC, end, end + 1, late=10 * TRAFFIC)
    # Nobody could extend the leases.
    it.workers[0].count("multivac_leases_expired_total", 10, end, end + 1)


@case(120, near="QueueUnreachable FeedBudgetBurn RetractionBudgetBurn AnswerableBudgetBurn LeasesExpire Stuck")
def redis_is_killed(it):
    redis_is_away(it, 40, 55)
    fires = [page("QueueUnreachable", "The queue is out of reach of 4 processes")]
    return {40: [], 41: [], 42.5: fires, 50: fires, 54.5: fires, **{minute: [] for minute in (55.5, 56, 58, 60, 70, 90, 120)}}


@case(60, near="QueueUnreachable")
def redis_is_restarted(it):
    redis_is_away(it, 40, 40.5)
    return {minute: [] for minute in (40, 41, 42, 43, 45, 60)}


def mongodb_is_away(it, start, end):
    it.each("multivac_reachable", 0, start, end, backend="store")
    it.each("multivac_queue_oldest_seconds", lambda minutes: 60 * minutes, start, end)
    for api in it.apis:
        api.set("multivac_fenced", 1, start, end)
        api.set("multivac_ready", 0, start, end)
        api.count("multivac_index_follow_errors_total", 3, start, end)
        api.requests(ASK, 200, 0, start, end)
        api.requests(ASK, 503, TRAFFIC, start, end)
        api.requests(RETRACT, 204, 0, start, end)
        api.requests(RETRACT, 503, TRAFFIC, start, end)
        api.answerable(0, start, end)
        api.answerable(10 * TRAFFIC, end, end + 1, late=10 * TRAFFIC)
    for edge in it.edges:
        edge.set("multivac_edge_replicas", 0, start, end, state="ready")
        edge.set("multivac_edge_replicas", 2, start, end, state="unready")


@case(
    120,
    near="StoreUnreachable AskBudgetBurn RetractionBudgetBurn AnswerableBudgetBurn NoReplicaReady EdgeNoReplica Fenced FollowErrors Stuck",
)
def mongodb_is_stopped(it):
    mongodb_is_away(it, 40, 58)
    fires = [page("StoreUnreachable", "The store is out of reach of 4 processes")]
    return {
        **{minute: [] for minute in (41, 42, 43, 44.5)},
        **{minute: fires for minute in (45.5, 50, 57.5)},
        **{minute: [] for minute in (58.5, 59, 60, 61, 65, 70, 90, 120)},
    }


@case(90, near="StoreUnreachable NoReplicaReady Fenced FollowErrors")
def mongodb_fails_over(it):
    mongodb_is_away(it, 40, 40.5)
    return {minute: [] for minute in (40, 41, 42, 42.5, 43, 45, 48, 60, 90)}


@case(120, near="Absent Stuck AnswerableBudgetBurn LeasesExpire Refusing")
def all_workers_are_stopped(it):
    for worker in it.workers:
        worker.down(40, 58)
    it.each("multivac_queue_oldest_seconds", lambda minutes: 60 * minutes, 40, 58.5)
    for api in it.apis:
        api.answerable(0, 40, 58)
        api.answerable(10 * TRAFFIC, 58, 59, late=10 * TRAFFIC)
        api.count("multivac_refused_total", 5, 50, 58)
    it.workers[0].count("multivac_leases_expired_total", 10, 58.5, 59)
    fires = [page("Absent", "No worker shows metrics; 2 did within a day", program="worker")]
    return {
        **{minute: [] for minute in (40, 41, 42.5)},
        **{minute: fires for minute in (43.5, 46, 50, 57.5)},
        **{minute: [] for minute in (58.5, 60, 62, 66, 70, 90, 120)},
    }


@case(90, near="Absent TargetDown LeasesExpire")
def one_of_two_workers_is_killed(it):
    it.workers[0].down(20, 40)
    it.workers[1].count("multivac_leases_expired_total", 50, 20.5, 21)
    fires = [ticket("TargetDown", "1 worker is down: worker-1:5001", **of(it.workers[0]))]
    return {20: [], 24.5: [], 25.5: fires, 39: fires, 41: [], 90: []}


@case(60, near="Absent TargetDown NoReplicaReady")
def one_of_two_apis_is_killed(it):
    it.apis[1].down(20, 40)
    it.edges[0].set("multivac_edge_replicas", 1, 20, 40, state="ready")
    fires = [ticket("TargetDown", "1 api is down: api-2:5000", **of(it.apis[1]))]
    return {24.5: [], 25.5: fires, 39: fires, 41: [], 60: []}


@case(90, near="TargetDown NoReplicaReady EdgeNoReplica AskBudgetBurn")
def all_apis_are_killed(it):
    for api in it.apis:
        api.down(20, 35)
        # They load their indexes.
        api.set("multivac_ready", 0, 35, 36)
        api.requests(ASK, 200, 0, 35, 36)
        api.requests(ASK, 503, TRAFFIC, 35, 36)
    it.edges[0].set("multivac_edge_replicas", 0, 20, 36.5, state="ready")
    fires = [page("Absent", "No api shows metrics; 2 did within a day", program="api")]
    return {20: [], 22.5: [], 23.5: fires, 34.5: fires, 35.5: [], 36: [], 38.5: [], 40: [], 50: [], 90: []}


@case(60, near="TargetDown EdgeNoReplica")
def nginx_is_killed(it):
    it.edges[0].down(20, 35)
    fires = [page("Absent", "No edge shows metrics; 1 did within a day", program="edge")]
    return {22.5: [], 23.5: fires, 30: fires, 35.5: [], 60: []}


@case(60, edges=2)
def one_of_two_edges_is_killed(it):
    it.edges[0].down(20, 35)
    fires = [ticket("TargetDown", "1 edge is down: edge-1:9113", **of(it.edges[0]))]
    return {24.5: [], 25.5: fires, 34: fires, 36: []}


@case(40)
def all_is_gone(it):
    for target in it.targets:
        target.gone(20)
    return {22.5: [], 24: [page("Absent", program=program) for program in ("api", "worker", "edge")]}


@case(30, near="Absent", apis=0, edges=0, workers=0)
def prometheus_finds_nothing_at_all(it, systems):
    # Prometheus watches itself.
    alone = System(30, apis=0, workers=0, edges=0)
    alone.input = lambda: [(("up", (("job", "prometheus"),)), [1] * 61)]
    systems[:] = [alone]
    return {5: [], 10: [], 15: [], 20: [page("Absent", "No api shows metrics; 0 did within a day", namespace="", program="api")]}


@case(30, near="Absent", workers=0)
def workers_never_come(it):
    return {10: [], 15: [], 20: [page("Absent", "No worker shows metrics; 0 did within a day", program="worker")]}


@case(30, near="Absent")
def workers_come_ten_minutes_later(it):
    for worker in it.workers:
        worker.gone(0, 10)
    return {minute: [] for minute in (5, 9, 12, 15, 20, 30)}


# --- one of several is cut off ---


@case(60, near="QueueUnreachable")
def redis_is_out_of_reach_of_one_api(it):
    it.apis[0].set("multivac_reachable", 0, 20, 40, backend="queue")
    it.apis[0].unknown("multivac_data", 20, 40)
    fires = [ticket("QueueUnreachable", "The queue is out of reach of 1 api: api-1:5000", **of(it.apis[0]))]
    return {24.5: [], 25.5: fires, 39: fires, 41: []}


@case(60)
def redis_is_out_of_reach_of_all_workers(it):
    for worker in it.workers:
        worker.set("multivac_reachable", 0, 20, 40, backend="queue")
    fires = [page("QueueUnreachable", "The queue is out of reach of 2 processes")]
    return {21.5: [], 22.5: fires, 39: fires, 41: []}


@case(60, near="StoreUnreachable Fenced FollowErrors NoReplicaReady")
def mongodb_is_out_of_reach_of_one_api(it):
    api = it.apis[0]
    api.set("multivac_reachable", 0, 20, 40, backend="store")
    api.set("multivac_fenced", 1, 20, 40)
    api.set("multivac_ready", 0, 20, 40)
    fires = [ticket("StoreUnreachable", "The store is out of reach of 1 api: api-1:5000", **of(api))]
    return {24.5: [], 25.5: fires, 39: fires, 41: []}


@case(60)
def mongodb_is_out_of_reach_of_all_workers(it):
    for worker in it.workers:
        worker.set("multivac_reachable", 0, 20, 40, backend="store")
    it.each("multivac_queue_oldest_seconds", lambda minutes: 60 * minutes, 20, 41)
    fires = [page("StoreUnreachable", "The store is out of reach of 2 processes")]
    return {24.5: [], 25.5: fires, 39: fires, 41: [], 50: []}


@case(60, near="Fenced")
def one_api_is_fenced_although_it_reaches_the_store(it):
    api = it.apis[0]
    api.set("multivac_fenced", 1, 10, 14)
    api.set("multivac_fenced", 1, 20, 40)
    api.set("multivac_ready", 0, 20, 40)
    fires = [ticket("Fenced", "1 api is fenced: api-1:5000", **api.labels)]
    return {13.5: [], 15: [], 24.5: [], 25.5: fires, 39: fires, 41: []}


@case(60, near="NoReplicaReady")
def all_apis_load_their_indexes(it):
    it.apis[0].set("multivac_ready", 0, 10, 40)
    it.apis[1].set("multivac_ready", 0, 20, 40)
    # Workers that are ready answer nothing.
    fires = [page("NoReplicaReady", "None of 2 api replicas is ready")]
    return {15: [], 21.5: [], 22.5: fires, 39: fires, 41: []}


@case(60, near="EdgeNoReplica", edges=2)
def the_edge_sees_no_replica(it):
    it.edges[1].set("multivac_edge_replicas", 1, 10, 15, state="ready")
    it.edges[1].set("multivac_edge_replicas", 0, 20, 40, state="ready")
    fires = [page("EdgeNoReplica", "1 edges see no ready replica")]
    return {14: [], 21.5: [], 22.5: fires, 39: fires, 41: []}


# --- data ---


@case(90, near="DeadLetters")
def poison_is_fed(it):
    it.each("multivac_data", 3, 20, 60, state="dead")
    it.each("multivac_data", 97, 20, 60, state="learned")
    redis_is_away(it, 40, 45)
    dead = ticket("DeadLetters", "3 dead letters")
    # They are no fewer because nobody can count them.
    return {20.5: [], 21.5: [dead], 39: [dead], 44: [dead, page("QueueUnreachable")], 46: [dead], 61: [], 90: []}


@case(90, near="LedgerUnbalanced")
def the_ledger_is_off(it):
    it.each("multivac_data", 105, 10, 11, state="accepted")
    it.each("multivac_data", 93, 20, 60, state="accepted")
    redis_is_away(it, 40, 45)
    off = page("LedgerUnbalanced", "The ledger is off by 7 data")
    return {10.5: [], 12: [], 21.5: [], 22.5: [off], 39: [off], 44: [off, page("QueueUnreachable")], 46: [off], 61: []}


@case(60, near="LedgerUnbalanced")
def each_replica_counts_at_its_own_time(it):
    """Each one's ledger balances, though they differ from each other."""
    for number, process in enumerate(it.processes):
        process.set("multivac_data", 100 + number, 10, state="accepted")
        process.set("multivac_data", number, 10, state="queued")
    return {15: [], 60: []}


@case(120, near="DataLost")
def data_are_lost(it):
    it.workers[0].count("multivac_lost_total", 3, 20, 20.5)
    fires = [page("DataLost")]
    return {19: [], 20.5: fires, 60: fires, 82: [], 120: []}


@case(120, near="DataLost")
def a_worker_that_starts_has_found_lost_data_before_its_first_scrape(it):
    worker = it.workers[1]
    worker.gone(0, 20)
    worker.counters.pop(worker.key("multivac_lost_total", {}))
    worker.set("multivac_lost_total", 5)
    fires = [page("DataLost", "5 accepted data were lost within an hour")]
    return {19: [], 20.5: fires, 60: fires, 82: [], 120: []}


@case(60, near="Stuck")
def the_oldest_datum_waits(it):
    it.each("multivac_queue_oldest_seconds", 300, 5, 19)
    it.each("multivac_queue_oldest_seconds", 420, 20, 40)
    fires = [page("Stuck", "The oldest datum has waited for 7m 0s")]
    return {18: [], 20.5: [], 21.5: fires, 39: fires, 41: []}


@case(90, near="Refusing")
def the_queue_is_full(it):
    it.apis[0].count("multivac_refused_total", 10, 20, 20.5)
    fires = [ticket("Refusing")]
    return {19: [], 20.5: fires, 29: fires, 31: [], 90: []}


@case(60, near="QueueWarnings")
def redis_has_settings_that_can_lose_data(it):
    it.each("multivac_queue_warnings", 1, 10, 14)
    it.each("multivac_queue_warnings", 2, 20, 40)
    fires = [ticket("QueueWarnings", "2 settings of Redis can lose accepted data")]
    return {14: [], 24.5: [], 25.5: fires, 39: fires, 41: []}


@case(60, near="IndexUnwritable")
def an_index_cannot_be_written(it):
    it.apis[1].set("multivac_index_unwritable", 1, 10, 14)
    it.apis[1].set("multivac_index_unwritable", 1, 20, 40)
    fires = [ticket("IndexUnwritable", "1 index cannot be written: api-2:5000", **it.apis[1].labels)]
    return {14: [], 24.5: [], 25.5: fires, 39: fires, 41: []}


@case(120, near="FollowErrors LeasesExpire")
def one_burst_is_no_pattern(it):
    it.apis[0].count("multivac_index_follow_errors_total", 5, 20, 21)
    it.workers[0].count("multivac_leases_expired_total", 100, 20, 21)
    return {minute: [] for minute in (21, 25, 29, 31, 35, 36, 40, 120)}


@case(120)
def following_the_store_is_interrupted_again_and_again(it):
    for minute in range(20, 60, 5):
        it.apis[0].count("multivac_index_follow_errors_total", 1, minute, minute + 0.5)
    fires = [ticket("FollowErrors")]
    return {34: [], 36: fires, 60: fires, 66: [], 120: []}


@case(120)
def leases_run_out_again_and_again(it):
    for minute in range(20, 60, 5):
        it.workers[0].count("multivac_leases_expired_total", 4, minute, minute + 0.5)
    fires = [ticket("LeasesExpire")]
    return {34: [], 36: fires, 60: fires, 66: [], 120: []}


# --- room and time that run out ---


@case(60, near="CertificateExpires")
def a_certificate_ends_in_less_than_14_days(it):
    it.edges[0].set("multivac_edge_certificate_expires_seconds", 14 * 86400, 5, 20)
    it.edges[0].set("multivac_edge_certificate_expires_seconds", 13 * 86400, 20, 40)
    fires = [ticket("CertificateExpires", "The certificate of the edge ends in 13d 0h 0m 0s")]
    return {19: [], 29: [], 31: fires, 39: fires, 41: []}


@case(60)
def a_certificate_has_ended(it):
    it.edges[0].set("multivac_edge_certificate_expires_seconds", -3600, 20)
    return {31: [ticket("CertificateExpires", "The certificate of the edge ends in -1h 0m 0s")]}


@case(120, near="DiskFilling")
def a_disk_is_nearly_full(it):
    it.each("multivac_disk_free_bytes", 110, 0, 30, disk="store")
    it.each("multivac_disk_size_bytes", 1000, 0, 120, disk="store")
    it.each("multivac_disk_free_bytes", 90, 30, 80, disk="store")
    fires = [ticket("DiskFilling", "9% of the disk of the store are free", disk="store")]
    return {29: [], 59: [], 61: fires, 79: fires, 81: [], 120: []}


@case(600, near="DiskFilling")
def a_disk_will_be_full_within_a_day(it):
    """1 % an hour: with 45 % left there is time, with less than 40 % there is not, at twice that rate."""
    it.apis[0].set("multivac_disk_free_bytes", lambda minutes: 450 - 10 * minutes / 60, 0, 300, disk="index")
    it.apis[0].set("multivac_disk_free_bytes", lambda minutes: 400 - 20 * minutes / 60, 300, 600, disk="index")
    return {120: [], 299: [], 599: [ticket("DiskFilling", disk="index")]}


@case(60, near="RedisNearLimit")
def redis_memory_is_nearly_full(it):
    it.each("multivac_queue_server_memory_bytes", 800, 5, 20)
    it.each("multivac_queue_server_memory_bytes", 850, 20, 40)
    fires = [ticket("RedisNearLimit", "Redis uses 85% of its memory")]
    return {19: [], 24.5: [], 25.5: fires, 39: fires, 41: []}


@case(30, near="RedisNearLimit")
def redis_memory_without_a_limit_is_never_full(it):
    for process in it.processes:
        process.unknown("multivac_queue_server_memory_max_bytes", 0)
    it.each("multivac_queue_server_memory_bytes", 10**12)
    return {10: [], 30: []}


BACKUP = "multivac_backup_completed_timestamp_seconds"


@case(240, near="BackupMissing")
def a_backup_is_late_and_then_made(it):
    # Cases begin in 1970: 25.5 hours before that, so it is too old from minute 30 on.
    it.each(BACKUP, -91_800, kind="backup")
    # The processes do not know it for a while, as when they have just started and the store is away.
    for process in it.processes:
        process.unknown(BACKUP, 100, 110)
    it.each(BACKUP, 150 * 60, 150, kind="backup")
    missing = [ticket("BackupMissing", kind="backup")]
    return {29: [], 89: [], 91: missing, 105: missing, 149: missing, 151: [], 240: []}


@case(120, near="BackupMissing")
def a_drill_is_late(it):
    it.each(BACKUP, -689_400, kind="drill")
    return {89: [], 91: [ticket("BackupMissing", "The last drill succeeded 8d 1h 1m 0s ago", kind="drill")]}


@case(120, near="BackupMissing")
def a_backup_is_expected_and_was_never_made(it):
    it.each(BACKUP, 0, kind="backup")
    return {59: [], 61: [ticket("BackupMissing", kind="backup")], 120: [ticket("BackupMissing", kind="backup")]}

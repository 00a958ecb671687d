"""What a ScriptRunner consists of."""

import base64
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from script_runner.core.settings import load_settings
from script_runner.operator import names
from script_runner.operator.desired import (
    desired,
    hashed_references,
    internal_secret,
    public_url,
    with_replicas,
    worker_replicas_manifest,
)
from script_runner.operator.pods import SHARED_SETTINGS, WORKER_SETTINGS
from script_runner.operator.resource import ScriptRunner
from script_runner.operator.resource_settings import CHOOSABLE
from script_runner.operator.worker_manifests import STOP_GRACE_SECONDS
from tests.unit.operator.sample import FULL, MINIMAL, UID, make_facts, make_runner

Manifest = dict[str, Any]

LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
LONGEST_NAME = "a" * 40
S3 = {
    "s3": {
        "url": "s3://lab/plates",
        "endpointUrl": "https://s3.example.org",
        "region": "eu-1",
        "credentialsSecret": "lab-s3",
    }
}
SAMPLES = {
    "minimal": make_runner(),
    "full": make_runner(FULL),
    "outside": make_runner(
        FULL, redis={"existingSecret": {"name": "lab-redis", "key": "address"}}, artifacts=S3
    ),
    "long": make_runner(FULL, name=LONGEST_NAME, namespace="n" * 63),
}

every_sample = pytest.mark.parametrize("runner", SAMPLES.values(), ids=SAMPLES.keys())


def objects(runner: ScriptRunner, **facts: Any) -> dict[tuple[str, str], Manifest]:
    manifests = desired(runner, make_facts(**facts))
    found = {(item["kind"], item["metadata"]["name"]): item for item in manifests}
    assert len(found) == len(manifests)
    return found


def pod_templates(runner: ScriptRunner) -> dict[str, Manifest]:
    return {
        item["metadata"]["labels"][names.COMPONENT_LABEL]: item["spec"]["template"]
        for item in desired(runner, make_facts())
        if "template" in item.get("spec", {})
    }


def variables(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment: the text of a value, else where it comes from."""
    entries = template["spec"]["containers"][0]["env"]
    found = {item["name"]: item.get("value", item.get("valueFrom")) for item in entries}
    assert len(found) == len(entries)
    return found


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def test_the_smallest_resource_has_its_own_redis_and_a_volume_and_no_ingress() -> None:
    assert sorted(objects(make_runner())) == [
        ("ConfigMap", "plates-config-0123456789"),
        ("Deployment", "plates-api"),
        ("Deployment", "plates-worker"),
        ("NetworkPolicy", "plates-redis"),
        ("NetworkPolicy", "plates-worker"),
        ("PersistentVolumeClaim", "plates-artifacts"),
        ("PersistentVolumeClaim", "plates-redis"),
        ("Service", "plates"),
        ("Service", "plates-redis"),
        ("StatefulSet", "plates-redis"),
    ]


def test_what_lies_elsewhere_is_not_made() -> None:
    assert sorted(objects(SAMPLES["outside"])) == [
        ("ConfigMap", "plates-config-0123456789"),
        ("Deployment", "plates-api"),
        ("Deployment", "plates-worker"),
        ("Ingress", "plates"),
        ("NetworkPolicy", "plates-worker"),
        ("PodDisruptionBudget", "plates-api"),
        ("Service", "plates"),
    ]


@every_sample
def test_every_object_has_labels_owner_and_hash(runner: ScriptRunner) -> None:
    for (kind, _), item in objects(runner).items():
        metadata = item["metadata"]
        assert metadata["namespace"] == runner.metadata.namespace
        assert metadata["labels"][names.MANAGED_BY_LABEL] == names.MANAGED_BY
        assert metadata["labels"][names.INSTANCE_LABEL] == runner.metadata.name
        assert re.fullmatch("[0-9a-f]{16}", metadata["annotations"][names.MANIFEST_HASH])
        if kind == "PersistentVolumeClaim":
            assert "ownerReferences" not in metadata  # data outlives the resource
        else:
            (owner,) = metadata["ownerReferences"]
            assert (owner["uid"], owner["controller"]) == (UID, True)


@every_sample
def test_every_name_and_label_is_one_for_kubernetes(runner: ScriptRunner) -> None:
    for item in [*desired(runner, make_facts()), internal_secret(runner, lambda: "t")]:
        assert re.fullmatch("[a-z][a-z0-9-]{0,61}[a-z0-9]", item["metadata"]["name"])
        for path, value in leaves(item):
            if re.search(r"abels\.[a-z.]+(/[a-z-]+)?$", path):
                assert LABEL.fullmatch(value), path
    # What Kubernetes appends to it has to fit a label as well.
    assert len(f"{names.redis_name(LONGEST_NAME)}-0123456789") <= 63


@every_sample
def test_selectors_select_exactly_their_own_pods(runner: ScriptRunner) -> None:
    templates = pod_templates(runner)
    for component, template in templates.items():
        matching = [
            name
            for name in templates
            if names.selector(runner.metadata.name, component).items()
            <= templates[name]["metadata"]["labels"].items()
        ]
        assert matching == [component]
        assert template["metadata"]["labels"] == names.labels(runner.metadata.name, component)


def test_selectors_never_change() -> None:
    # A Deployment's selector is immutable: another one would need every installation made anew.
    assert names.selector("plates", "api") == {
        "app.kubernetes.io/name": "script-runner",
        "app.kubernetes.io/instance": "plates",
        "app.kubernetes.io/component": "api",
    }


def test_the_manifest_hash_tells_of_what_is_no_longer_wanted() -> None:
    key = ("Ingress", "plates")
    ingress = {**FULL["ingress"], "tls": None}
    del ingress["tls"]
    first, then = objects(SAMPLES["full"])[key], objects(make_runner(FULL, ingress=ingress))[key]
    annotation = names.MANIFEST_HASH
    assert (
        first["metadata"]["annotations"][annotation] != then["metadata"]["annotations"][annotation]
    )
    assert objects(SAMPLES["full"]) == objects(make_runner(FULL))


@every_sample
def test_every_pod_is_restricted(runner: ScriptRunner) -> None:
    for template in pod_templates(runner).values():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        # The first process of a container would not hear a SIGTERM while it starts.
        assert spec["shareProcessNamespace"] is True
        assert "serviceAccountName" not in spec
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == security["fsGroup"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = spec["containers"]
        # The status quotes what a container said last.
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        kinds = set(itertools.chain(*spec["volumes"])) - {"name"}
        assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}


@every_sample
def test_every_mount_has_its_volume(runner: ScriptRunner) -> None:
    for template in pod_templates(runner).values():
        spec = template["spec"]
        mounted = [mount["name"] for mount in spec["containers"][0]["volumeMounts"]]
        assert sorted(mounted) == sorted(volume["name"] for volume in spec["volumes"])


def test_the_environment_is_one_that_the_processes_accept() -> None:
    # Not a copy of the manifest: what the settings of the processes make of it.
    templates = pod_templates(SAMPLES["full"])
    found = {}
    for component in ("api", "worker"):
        texts = {
            key: value.replace("$$", "$")
            for key, value in variables(templates[component]).items()
            if isinstance(value, str)
        }
        found[component] = load_settings({**texts, "REDIS_URL": "redis://r/0"})
    api, worker = found["api"], found["worker"]
    assert (api.host, api.port, api.root_path) == ("0.0.0.0", 8000, "/lab")
    assert api.auth_provider == "apikey,oidc,auth0"
    assert str(api.auth_apikeys_file) == "/etc/script-runner/apikeys/keys.json"
    assert json.loads(api.auth_scope_map) == {"lab": "task:submit task:read"}
    assert (api.oidc_issuer, api.auth0_api_audience) == ("https://id.example.org", "plates")
    assert (api.durability, api.log_level, api.max_body_bytes) == ("strict", "debug", 2097152)
    assert (worker.worker_slots, worker.log_level) == (8, "debug")
    assert worker.max_result_bytes == 1048576
    for settings in (api, worker):
        assert settings.redis_namespace == "lab.plates"
        assert settings.artifacts_url == "file:///var/lib/script-runner/artifacts"
        assert str(settings.config) == "/app/config.json"


@every_sample
def test_workers_get_nothing_that_belongs_to_the_api_and_the_api_nothing_of_theirs(
    runner: ScriptRunner,
) -> None:
    templates = pod_templates(runner)
    api, worker = variables(templates["api"]), variables(templates["worker"])
    foreign = ("OPERATOR_", "AUTH", "OIDC_", "HOST", "PORT", "MAX_BODY_BYTES", "ROOT_PATH")
    assert [name for name in worker if name.startswith(foreign)] == []
    assert "apikeys" not in [volume["name"] for volume in templates["worker"]["spec"]["volumes"]]
    assert "OPERATOR_TOKEN" in api
    own = {entry.name for entry in runner.spec.env}
    assert own <= set(worker)
    assert own.isdisjoint(api)


@every_sample
def test_no_secret_stands_in_a_manifest(runner: ScriptRunner) -> None:
    for component in ("api", "worker"):
        found = variables(pod_templates(runner)[component])
        for name in found:
            if re.search("TOKEN|PASSWORD|SECRET|REDIS_URL|ACCESS_KEY", name):
                assert "secretKeyRef" in found[name], name
    assert not any(item["kind"] == "Secret" for item in desired(runner, make_facts()))


def test_redis_of_ones_own_is_found_through_its_secret() -> None:
    reference = {"secretKeyRef": {"name": "lab-redis", "key": "address"}}
    for component in ("api", "worker"):
        assert variables(pod_templates(SAMPLES["outside"])[component])["REDIS_URL"] == reference


def test_a_bucket_needs_no_volume_and_gives_its_credentials_by_reference() -> None:
    for component in ("api", "worker"):
        template = pod_templates(SAMPLES["outside"])[component]
        found = variables(template)
        assert found["ARTIFACTS_URL"] == "s3://lab/plates"
        assert found["AWS_ENDPOINT_URL"] == "https://s3.example.org"
        assert found["AWS_DEFAULT_REGION"] == "eu-1"
        assert found["AWS_SECRET_ACCESS_KEY"] == {
            "secretKeyRef": {"name": "lab-s3", "key": "AWS_SECRET_ACCESS_KEY"}
        }
        assert "artifacts" not in [volume["name"] for volume in template["spec"]["volumes"]]


def test_a_claim_that_is_there_is_used_and_none_is_made() -> None:
    runner = make_runner(artifacts={"volume": {"existingClaim": "lab-data"}})
    assert ("PersistentVolumeClaim", "plates-artifacts") not in objects(runner)
    volumes = {item["name"]: item for item in pod_templates(runner)["worker"]["spec"]["volumes"]}
    assert volumes["artifacts"]["persistentVolumeClaim"] == {"claimName": "lab-data"}


def test_a_dollar_in_a_setting_stays_one() -> None:
    # Kubernetes would put the URL of Redis, with its password, in its place.
    runner = make_runner(
        api={"auth": {**FULL["api"]["auth"], "scopeMap": {"$(REDIS_URL)": "task:read"}}}
    )
    value = variables(pod_templates(runner)["api"])["AUTH_SCOPE_MAP"]
    assert value == '{"$$(REDIS_URL)": "task:read"}'


def test_a_variable_of_the_user_cannot_stand_for_one_of_ours() -> None:
    runner = make_runner(env=[{"name": "MINE", "value": "$(REDIS_URL)"}])
    entries = pod_templates(runner)["worker"]["spec"]["containers"][0]["env"]
    # Kubernetes puts in only what is defined before.
    assert entries[0]["name"] == "MINE"


def test_a_setting_of_the_api_does_not_restart_the_workers() -> None:
    before = objects(make_runner())
    after = objects(make_runner(settings={"MAX_BODY_BYTES": "5"}))
    assert after["Deployment", "plates-worker"] == before["Deployment", "plates-worker"]
    assert after["Deployment", "plates-api"] != before["Deployment", "plates-api"]


def test_the_workers_get_every_setting_that_their_code_reads() -> None:
    folder = Path(__file__).parents[3] / "worker" / "script_runner" / "worker"
    code = "".join(path.read_text() for path in folder.glob("*.py"))
    read = {name for name, field in CHOOSABLE.items() if re.search(rf"\.{field}\b", code)}
    assert read == WORKER_SETTINGS | SHARED_SETTINGS


def test_a_deletion_closes_the_api_and_touches_nothing_else() -> None:
    runner = make_runner()
    before, closed = objects(runner), objects(runner, is_accepting=False)
    changed = [key for key in before if before[key] != closed[key]]
    assert changed == [("Deployment", "plates-api")]
    template = closed["Deployment", "plates-api"]["spec"]["template"]
    assert variables(template)["ACCEPT_TASKS"] == "false"
    assert "ACCEPT_TASKS" not in variables(pod_templates(runner)["api"])


def test_another_config_is_another_config_map_for_both_deployments() -> None:
    runner = make_runner()
    found = objects(runner, config_hash="ffff" * 16, config_text="{}")
    config = found["ConfigMap", "plates-config-ffffffffff"]
    assert (config["immutable"], config["data"]) == (True, {"config.json": "{}"})
    for name in ("plates-api", "plates-worker"):
        spec = found["Deployment", name]["spec"]["template"]["spec"]
        volume = next(item for item in spec["volumes"] if item["name"] == "config")
        assert volume["configMap"]["name"] == "plates-config-ffffffffff"


def test_another_secret_rolls_api_and_workers_out_but_not_redis() -> None:
    runner = make_runner()
    before, after = objects(runner), objects(runner, secrets_hash="other")
    assert sorted(key for key in before if before[key] != after[key]) == [
        ("Deployment", "plates-api"),
        ("Deployment", "plates-worker"),
    ]


@pytest.mark.parametrize(
    ("workers", "timeout", "grace"),
    [
        ({}, None, 3600),
        ({}, 600.0, 630),
        ({}, 0.2, 31),
        ({}, 10_000_000.0, 604_800),
        ({"gracePeriodSeconds": 7}, 600.0, 7),
    ],
)
def test_the_grace_covers_the_longest_script(
    workers: Manifest, timeout: float | None, grace: int
) -> None:
    found = objects(make_runner(workers=workers), config_timeout=timeout)
    template = found["Deployment", "plates-worker"]["spec"]["template"]
    assert variables(template)["DRAIN_GRACE_SECONDS"] == str(grace)
    assert template["spec"]["terminationGracePeriodSeconds"] == grace + 20


def test_a_worker_has_the_time_that_its_own_settings_take() -> None:
    # STOP_GRACE_SECONDS is not among the settings that a resource can choose.
    assert load_settings({}).stop_grace_seconds == STOP_GRACE_SECONDS
    assert "STOP_GRACE_SECONDS" not in CHOOSABLE


def test_the_number_of_workers_belongs_to_the_scaling_alone() -> None:
    runner = SAMPLES["full"]
    deployment = objects(runner)["Deployment", "plates-worker"]
    assert "replicas" not in deployment["spec"]
    assert worker_replicas_manifest(runner, 3) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "plates-worker", "namespace": "lab"},
        "spec": {"replicas": 3},
    }
    assert with_replicas(deployment, 0)["spec"] == {**deployment["spec"], "replicas": 0}


def test_a_volume_for_one_node_keeps_the_pods_together() -> None:
    runner = make_runner(artifacts={"volume": {"accessModes": ["ReadWriteOnce"]}})
    templates = pod_templates(runner)
    for component in ("api", "worker"):
        (term,) = templates[component]["spec"]["affinity"]["podAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]
        # It selects the pod itself: else the first of all would find no place.
        assert term["labelSelector"]["matchLabels"].items() <= (
            templates[component]["metadata"]["labels"].items()
        )
        assert component in term["labelSelector"]["matchExpressions"][0]["values"]
    assert "affinity" not in pod_templates(make_runner())["api"]["spec"]


def test_redis_keeps_every_task_and_refuses_before_it_is_killed() -> None:
    def arguments(runner: ScriptRunner) -> str:
        (container,) = pod_templates(runner)["redis"]["spec"]["containers"]
        return " ".join([*container["command"], *container["args"]])

    plain = arguments(make_runner())
    assert plain.startswith("redis-server /etc/redis/redis.conf ")
    for option in ("--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction"):
        assert option in plain
    assert "--maxmemory " not in plain
    full = arguments(SAMPLES["full"])  # strict durability, a limit of 1Gi
    assert "--appendfsync always" in full
    assert f"--maxmemory {int(0.7 * 2**30)}" in full


def test_only_api_and_workers_of_the_same_resource_reach_redis() -> None:
    policy = objects(make_runner())["NetworkPolicy", "plates-redis"]["spec"]
    assert policy["podSelector"] == {"matchLabels": names.selector("plates", "redis")}
    (rule,) = policy["ingress"]
    (peer,) = rule["from"]
    selector = peer["podSelector"]
    assert selector["matchLabels"][names.INSTANCE_LABEL] == "plates"
    assert selector["matchExpressions"][0]["values"] == ["api", "worker"]
    assert rule["ports"] == [{"port": 6379, "protocol": "TCP"}]


def test_nobody_reaches_the_workers() -> None:
    policy = objects(make_runner())["NetworkPolicy", "plates-worker"]["spec"]
    assert (policy["policyTypes"], policy["ingress"]) == (["Ingress"], [])


def test_a_single_api_pod_has_no_budget_that_would_block_a_drain() -> None:
    assert ("PodDisruptionBudget", "plates-api") not in objects(make_runner())
    assert ("PodDisruptionBudget", "plates-api") in objects(SAMPLES["full"])


@pytest.mark.parametrize(
    ("changed", "url"),
    [
        ({}, "http://plates.lab.svc"),
        ({"ingress": {"host": "p.example.org"}}, "http://p.example.org"),
        (
            {"ingress": {"host": "p.example.org", "tls": {"secretName": "t"}}},
            "https://p.example.org",
        ),
        (
            {
                "api": {"rootPath": "/lab", "auth": {"provider": ["none"]}},
                "ingress": {"host": "p.example.org", "path": "/lab"},
            },
            "http://p.example.org/lab",
        ),
        (
            {"api": {"rootPath": "/lab", "auth": {"provider": ["none"]}}},
            "http://plates.lab.svc/lab",
        ),
    ],
)
def test_the_url_is_where_callers_find_the_api(changed: Manifest, url: str) -> None:
    assert public_url(make_runner(**changed)) == url


def test_the_ingress_is_what_the_resource_says() -> None:
    ingress = objects(SAMPLES["full"])["Ingress", "plates"]
    assert ingress["spec"] == {
        "ingressClassName": "nginx",
        "tls": [{"hosts": ["plates.example.org"], "secretName": "plates-tls"}],
        "rules": [
            {
                "host": "plates.example.org",
                "http": {
                    "paths": [
                        {
                            "path": "/lab",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": "plates", "port": {"name": "http"}}},
                        }
                    ]
                },
            }
        ],
    }
    annotations = ingress["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == "5g"


def test_the_internal_secret_holds_one_password_in_all_its_forms() -> None:
    tokens = iter(["password", "token"])
    secret = internal_secret(make_runner(), lambda: next(tokens))
    assert {key: base64.b64decode(text).decode() for key, text in secret["data"].items()} == {
        "redis-password": "password",
        "redis-url": "redis://:password@plates-redis:6379/0",
        "redis.conf": "requirepass password\n",
        "operator-token": "token",
    }
    assert secret["metadata"]["ownerReferences"][0]["uid"] == UID


def test_what_is_read_at_the_start_only_is_hashed() -> None:
    assert hashed_references(SAMPLES["full"]) == [("ConfigMap", "site"), ("Secret", "lab")]
    assert hashed_references(SAMPLES["outside"]) == [
        ("ConfigMap", "site"),
        ("Secret", "lab"),
        ("Secret", "lab-redis"),
        ("Secret", "lab-s3"),
    ]
    assert hashed_references(make_runner(MINIMAL)) == []


def test_redis_namespaces_are_short_and_never_the_same() -> None:
    assert names.redis_namespace("lab", "plates") == "lab.plates"
    long = [names.redis_namespace("n" * 63, f"{LONGEST_NAME[:-1]}{end}") for end in "ab"]
    assert all(re.fullmatch("[A-Za-z0-9_.-]{64}", namespace) for namespace in long)
    assert long[0] != long[1]

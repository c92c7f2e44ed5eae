"""The manifests: valid for each Kubernetes they are meant for, confined, and of one mind with the product."""

import copy
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from deploy.kubernetes.build_prometheusrule import CONFIG, MANIFEST, manifest
from monitor.config import load
from monitor.daemon.daemon import STOP_WITHIN_SECONDS
from monitor.rules import rules

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

KINDS = {
    "base": ["ConfigMap", "Namespace", "NetworkPolicy", "Service", "ServiceAccount", "StatefulSet"],
    "overlays/plain": [
        *("ConfigMap", "ConfigMap", "Namespace", "NetworkPolicy", "Service", "ServiceAccount", "StatefulSet"),
    ],
    "overlays/replicas": [
        *("ConfigMap", "Namespace", "NetworkPolicy", "NetworkPolicy", "PodDisruptionBudget"),
        *("Service", "ServiceAccount", "StatefulSet"),
    ],
    "overlays/prometheus-operator": [
        *("ConfigMap", "ConfigMap", "Namespace", "NetworkPolicy", "PodMonitor", "PrometheusRule"),
        *("Service", "ServiceAccount", "StatefulSet"),
    ],
}

LARGEST_CONFIG_MAP = 1024 * 1024
"""Bytes that Kubernetes keeps in one ConfigMap."""

Manifest = dict[str, Any]


@cache
def rendered(folder: str) -> list[Manifest]:
    """What `kubectl kustomize` gives, as far as these manifests use it: it is in no package of Debian 12."""
    return sorted(
        _resolve((KUBERNETES / folder).resolve()), key=lambda one: (one["kind"], one["metadata"]["name"])
    )


def _resolve(folder: Path) -> list[Manifest]:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found: list[Manifest] = []
    for name in kustomization.get("resources", []):
        place = (folder / name).resolve()
        found += _resolve(place) if place.is_dir() else yaml.safe_load_all(place.read_text())
    found += _config_maps(folder, kustomization)
    for patch in kustomization.get("patches", []):
        change = yaml.safe_load((folder / patch["path"]).read_text())
        (patched,) = [one for one in found if one["kind"] == change["kind"]]
        _merge(patched, change)
    for one in found:
        if "namespace" in kustomization and one["kind"] != "Namespace":
            one["metadata"]["namespace"] = kustomization["namespace"]
    return found


def _config_maps(folder: Path, kustomization: Manifest) -> Iterator[Manifest]:
    options = kustomization.get("generatorOptions", {})
    for generated in kustomization.get("configMapGenerator", []):
        assert options["disableNameSuffixHash"] is True
        files = [entry.rpartition("=") for entry in generated["files"]]
        yield {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": generated["name"], "labels": options["labels"]},
            "data": {key or name: (folder / name).read_text() for key, _, name in files},
        }


def _merge(into: Manifest, change: Manifest) -> None:
    for key, value in change.items():
        if isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        elif key == "containers":
            for container, changed in zip(into[key], value, strict=True):
                assert container["name"] == changed["name"]
                _merge(container, changed)
        elif key == "volumeMounts":
            gone = {mount["mountPath"] for mount in value if mount["$patch"] == "delete"}
            assert len(gone) == len(value)
            into[key] = [mount for mount in into[key] if mount["mountPath"] not in gone]
        elif value is None:
            del into[key]
        else:
            into[key] = value


def one_of(kind: str, folder: str = "base") -> Manifest:
    (found,) = [one for one in rendered(folder) if one["kind"] == kind]
    return found


def pod() -> Manifest:
    spec = one_of("StatefulSet")["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def container() -> Manifest:
    (only,) = pod()["containers"]
    assert isinstance(only, dict)
    return only


def mounts() -> dict[str, str]:
    """Where each volume is mounted."""
    return {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}


@pytest.mark.parametrize("folder", KINDS)
def test_each_overlay_creates_the_expected_objects_in_its_namespace(folder: str) -> None:
    made = rendered(folder)

    assert [one["kind"] for one in made] == KINDS[folder]
    assert {one["metadata"].get("namespace") for one in made} == {None, "bearerwatch"}


@pytest.mark.parametrize("folder", KINDS)
def test_kubectl_builds_the_same_objects(folder: str) -> None:
    if shutil.which("kubectl") is None or not _kubectl_has_kustomize_of_today():
        pytest.skip("needs kubectl 1.21 or newer, which Debian 12 does not have")
    done = subprocess.run(
        ["kubectl", "kustomize", KUBERNETES / folder], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    made = sorted(yaml.safe_load_all(done.stdout), key=lambda one: (one["kind"], one["metadata"]["name"]))
    assert made == rendered(folder)


def _kubectl_has_kustomize_of_today() -> bool:
    version = subprocess.run(
        ["kubectl", "version", "--client", "--output", "json"], capture_output=True, text=True, check=False
    )
    minor = re.search(r'"minor": *"(\d+)', version.stdout)
    return minor is not None and int(minor[1]) >= 21


# The oldest that was still supported when this was written, and the newest whose schemas are at hand.
@pytest.mark.parametrize("version", ["1.33", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("folder", KINDS)
def test_each_object_is_valid_for_kubernetes(folder: str, version: str) -> None:
    for one in rendered(folder):
        if "monitoring.coreos.com" not in one["apiVersion"]:
            kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("version", ["1.33", kubernetes_validate.latest_version()])
def test_the_move_to_replicas_uses_their_database_and_the_single_daemons_volume(version: str) -> None:
    folder = "overlays/replicas"
    job = yaml.safe_load((KUBERNETES / folder / "move.yaml").read_text())
    kubernetes_validate.validate(job, version, strict=True)
    spec = job["spec"]["template"]["spec"]
    (move,) = spec["containers"]
    _, state = spec["volumes"]
    replica = one_of("StatefulSet", folder)["spec"]["template"]["spec"]["containers"][0]
    of_single, of_replicas = (
        yaml.safe_load(one_of("ConfigMap", where)["data"]["bearerwatch.yaml"])["database"]
        for where in ("base", folder)
    )

    assert move["args"] == ["database", "move", f"--from={of_single}", f"--to={of_replicas}"]
    assert (move["image"], move["env"]) == (replica["image"], replica["env"])
    assert move["securityContext"] == replica["securityContext"]
    assert spec["securityContext"] == pod()["securityContext"]
    (claim,) = one_of("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert state["persistentVolumeClaim"]["claimName"] == f"{claim['metadata']['name']}-bearerwatch-0"
    mounted = {mount["name"]: mount["mountPath"] for mount in move["volumeMounts"]}
    assert mounted == {name: mounts()[name] for name in ("state", "tmp")}
    assert state["name"] == "state"


@pytest.mark.real("node")
def test_the_operators_objects_are_valid() -> None:
    script = (Path(__file__).parent / "crd.mjs").read_text()
    ours = [one for one in rendered("overlays/prometheus-operator") if "coreos" in one["apiVersion"]]
    wrong = copy.deepcopy(ours)
    wrong[0]["spec"]["podMetricsEndpoints"][0]["interval"] = 30

    assert len(ours) == 2
    assert _node(script, ours) == ""
    assert "/spec/podMetricsEndpoints/0/interval" in _node(script, wrong)


def _node(script: str, manifests: list[Manifest]) -> str:
    """What the script complains of; run in the root, where node_modules are."""
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", script],
        input=json.dumps(manifests),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return done.stderr if done.returncode else ""


def test_the_pod_meets_the_restricted_security_standard() -> None:
    security = container()["securityContext"]

    assert one_of("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["runAsUser"] == 65532
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod())
    assert all(set(volume) & {"configMap", "secret", "emptyDir"} for volume in pod()["volumes"])


def test_the_pod_writes_only_to_its_volume_and_has_no_service_account_token() -> None:
    writable = {m["name"] for m in container()["volumeMounts"] if not m.get("readOnly")}

    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    assert writable == {"state", "tmp"}
    assert pod()["automountServiceAccountToken"] is False


def test_one_daemon_runs_at_a_time_with_enough_time_to_stop() -> None:
    assert one_of("StatefulSet")["spec"]["replicas"] == 1
    assert pod()["terminationGracePeriodSeconds"] > STOP_WITHIN_SECONDS


def test_keys_are_mounted_by_reference_and_readable_only_by_the_daemon() -> None:
    (keys,) = [volume["secret"] for volume in pod()["volumes"] if volume["name"] == "keys"]

    assert keys["secretName"] == "bearerwatch-keys"
    assert keys["defaultMode"] == 0o400
    assert not [one for folder in KINDS for one in rendered(folder) if one["kind"] == "Secret"]


def test_the_configuration_fits_the_pod(tmp_path: Path) -> None:
    file = tmp_path / "bearerwatch.yaml"
    file.write_text(one_of("ConfigMap")["data"]["bearerwatch.yaml"])
    settings = load(file, {})
    (port,) = container()["ports"]
    sources = [connection.current.private_key.place for connection in settings.connections]

    assert str(settings.listen) == f"0.0.0.0:{port['containerPort']}"
    assert Path(settings.database).is_relative_to(mounts()["state"])
    assert all(Path(source).is_relative_to(mounts()["keys"]) for source in sources)
    assert f"{mounts()['config']}/bearerwatch.yaml" in container()["args"]
    assert all(connection.paused for connection in settings.connections)


def test_the_image_is_of_this_version() -> None:
    assert container()["image"] == f"bearerwatch:{VERSION}"


def test_the_probes_use_the_daemons_health_paths() -> None:
    asked = {name: probe["httpGet"] for name, probe in container().items() if name.endswith("Probe")}

    assert asked == {
        "startupProbe": {"path": "/-/healthy", "port": "http"},
        "livenessProbe": {"path": "/-/healthy", "port": "http"},
        "readinessProbe": {"path": "/-/ready", "port": "http"},
    }


def test_the_network_policy_allows_only_prometheus_in_and_https_and_dns_out() -> None:
    policy = one_of("NetworkPolicy")["spec"]
    selected = policy["podSelector"]["matchLabels"]

    assert selected.items() <= one_of("StatefulSet")["spec"]["template"]["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["http"]
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 443}
    assert all(rule["to"] for rule in policy["egress"])


def test_both_ways_of_scraping_reach_the_metrics() -> None:
    (endpoint,) = one_of("PodMonitor", "overlays/prometheus-operator")["spec"]["podMetricsEndpoints"]
    plain = one_of("StatefulSet", "overlays/plain")["spec"]["template"]["metadata"]["annotations"]

    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    assert (plain["prometheus.io/port"], plain["prometheus.io/path"]) == ("9877", "/metrics")


def test_the_prometheusrule_matches_the_base_configuration() -> None:
    assert MANIFEST.read_text() == manifest(), (
        f"Write it again: {sys.executable} deploy/kubernetes/build_prometheusrule.py"
    )
    shown = one_of("PrometheusRule", "overlays/prometheus-operator")["spec"]
    assert shown == yaml.safe_load(rules(load(CONFIG, {})))


def test_no_alert_of_a_cluster_links_to_the_examples_host() -> None:
    assert "127.0.0.1" not in MANIFEST.read_text()


def test_the_replicas_share_a_database_and_its_password_is_a_secret(tmp_path: Path) -> None:
    folder = "overlays/replicas"
    file = tmp_path / "bearerwatch.yaml"
    file.write_text(one_of("ConfigMap", folder)["data"]["bearerwatch.yaml"])
    settings = load(file, {})
    spec = one_of("StatefulSet", folder)["spec"]
    (variable,) = spec["template"]["spec"]["containers"][0]["env"]

    assert settings.database.startswith("postgresql://")
    assert spec["replicas"] > 1
    assert "volumeClaimTemplates" not in spec
    volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in spec["template"]["spec"]["containers"][0]["volumeMounts"]} == volumes
    assert variable["name"] == "PGPASSWORD"
    assert "secretKeyRef" in variable["valueFrom"]


@pytest.mark.parametrize("folder", KINDS)
def test_a_config_map_is_small_enough_for_kubernetes(folder: str) -> None:
    sizes = [len(json.dumps(one["data"]).encode()) for one in rendered(folder) if one["kind"] == "ConfigMap"]

    assert max(sizes) < LARGEST_CONFIG_MAP

"""Rendered installations against their schemas, and against themselves: what a service needs is there."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.settings import Settings
from deploy.settings_file import load_settings
from deploy.stack.compose import write_compose
from deploy.stack.kuberay import serve_config, write_kuberay
from deploy.stack.values import CONFIG, STATE, Stack, container_settings
from serving.options import ServingOptions
from serving.ray_application import read_arguments

SCHEMAS = Path(__file__).parent / "schemas"


def settings(**plain: Any) -> Settings:
    return Settings.model_validate(plain)


@pytest.fixture(scope="module")
def compose_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose")
    write_compose(folder, Stack(settings=Settings()))
    return folder


@pytest.fixture(scope="module")
def kube(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("kube")
    plain = {"serving": {"autoscaling": {"min_replicas": 2, "max_replicas": 9}, "pools": [{"model": "big", "cpus": 2}]}}
    write_kuberay(folder, Stack(settings=settings(**plain)))
    found: dict[str, Any] = {}
    for file in folder.glob("*.yaml"):
        for thing in yaml.safe_load_all(file.read_text()):
            found[f"{thing['kind']}/{thing['metadata']['name']}"] = thing
    found["folder"] = folder
    return found


def loaded(folder: Path, text: str) -> Settings:
    file = folder / "loaded.yaml"
    file.write_text(text)
    return load_settings(file, {}, folder).settings


def test_compose_fits_its_schema(compose_folder: Path):
    plain = yaml.safe_load((compose_folder / "compose.yaml").read_text())
    schema = json.loads((SCHEMAS / "compose-spec.json").read_text())
    jsonschema.validate(plain, schema, jsonschema.Draft7Validator)
    broken = {**plain, "services": {**plain["services"], "x": {"imagee": "y"}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema, jsonschema.Draft7Validator)


def test_compose_services_are_locked_down_and_what_they_need_is_there(compose_folder: Path):
    plain = yaml.safe_load((compose_folder / "compose.yaml").read_text())
    services, asked = plain["services"], set()
    assert set(services) == {"postgres", "store", "bucket", "ray-head", "ray-worker", "monitor", "prometheus",
                             "alertmanager", "grafana"}  # fmt: skip
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].split(":")[0] != "0" or name == "store", name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert "healthcheck" in service or name == "bucket", name
        assert ":latest" not in service["image"] or service["image"].startswith("hardcase"), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (compose_folder / source).exists(), volume
            elif ":" in volume:
                assert source in plain["volumes"], volume
        assert set(service.get("networks", [])) <= set(plain["networks"])
        assert set(service.get("secrets", [])) <= set(plain["secrets"])
        assert set(service.get("depends_on", {})) <= set(services)
        asked |= set(re.findall(r"(?<!\$)\$\{([A-Z_]+):\?", json.dumps(service)))
    given = re.findall(r"^([A-Z_]+)=(.*)$", (compose_folder / ".env.example").read_text(), re.M)
    assert {name for name, _ in given} == asked
    assert all(value == "" for _, value in given)
    used = {v.split(":")[0] for s in services.values() for v in s.get("volumes", []) if not v.startswith((".", "/"))}
    assert used == set(plain["volumes"])


def test_the_settings_inside_are_ours_and_name_the_services(compose_folder: Path, tmp_path: Path):
    plain = yaml.safe_load((compose_folder / "compose.yaml").read_text())
    found = loaded(tmp_path, (compose_folder / "hardcase.yaml").read_text())
    assert found.state_dir == STATE
    assert found.monitor.sign_in == "always"
    services = plain["services"]
    assert found.ray.address is not None
    hosts = [found.ray.address.split(":")[0], re.sub(r".*@([a-z-]+):.*", r"\1", found.monitor.database_url or ""),
             re.sub(r"https?://([a-z-]+):.*", r"\1", found.storage.endpoint)]  # fmt: skip
    assert set(hosts) <= set(services)
    assert f"{found.serving.port}:{found.serving.port}" in services["ray-head"]["ports"]
    assert f"{found.monitor.port}:{found.monitor.port}" in services["monitor"]["ports"]
    for name in ("ray-head", "ray-worker", "monitor"):
        assert any(v.endswith(f"{CONFIG}:ro") for v in services[name]["volumes"]), name
    prometheus = yaml.safe_load((compose_folder / "observability" / "prometheus.yml").read_text())
    (discovery,) = prometheus["scrape_configs"][0]["http_sd_configs"]
    assert discovery["url"] == f"http://monitor:{found.monitor.port}/sd/prometheus"
    assert prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == ["alertmanager:9093"]
    boards = (compose_folder / "grafana/provisioning/dashboards/hardcase.yml").read_text()
    (mounted,) = [v for v in services["grafana"]["volumes"] if "grafana/dashboards" in v]
    assert mounted.split(":")[1] in boards
    assert str(compose_folder) not in boards


def test_the_start_script_is_a_shell_script(compose_folder: Path):
    assert subprocess.run(["sh", "-n", compose_folder / "node.sh"], check=False).returncode == 0
    done = subprocess.run(["sh", compose_folder / "node.sh", "nonsense"], capture_output=True, text=True, check=False,
                          env={"PATH": "/usr/bin:/bin"})  # fmt: skip
    assert done.returncode != 0


def test_a_key_is_made_once_where_there_is_none_and_written_nowhere(tmp_path: Path):
    names, key = write_compose(tmp_path, Stack(settings=Settings()))
    assert len(key) > 30
    written = "".join((tmp_path / name).read_text() for name in names)
    assert key not in written
    assert hashlib.sha256(key.encode()).hexdigest() in written
    own = settings(serving={"auth": {"keys": [{"name": "a", "sha256": "0" * 64}]}})
    changed, made = container_settings(own, endpoint="", database_url="x", ray_address="auto")
    assert made == ""
    assert changed.serving.auth == own.serving.auth


def test_the_ray_service_fits_kuberays_schema(kube: dict[str, Any]):
    service = kube["RayService/hardcase"]
    schema = json.loads((SCHEMAS / "rayservice.json").read_text())
    strict(schema)
    jsonschema.validate(service, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**service, "spec": {**service["spec"], "servConfig": ""}}, schema)
    deployment = kube["Deployment/hardcase-monitor"]
    jsonschema.validate(deployment["spec"]["template"], {**schema["$defs"]["podTemplate"], "$defs": schema["$defs"]})


def strict(schema: Any) -> None:
    """Kubernetes drops unknown fields: for us they are mistakes."""
    if isinstance(schema, dict):
        preserves = schema.get("x-kubernetes-preserve-unknown-fields")
        if "properties" in schema and "additionalProperties" not in schema and not preserves:
            schema["additionalProperties"] = not schema["properties"]
        for key, value in schema.items():
            if key != "required":
                strict(value)
    elif isinstance(schema, list):
        for value in schema:
            strict(value)


def test_pods_are_locked_down_and_what_they_mount_is_there(kube: dict[str, Any]):
    cluster = kube["RayService/hardcase"]["spec"]["rayClusterConfig"]
    pods = [cluster["headGroupSpec"]["template"], *(g["template"] for g in cluster["workerGroupSpecs"]),
            kube["Deployment/hardcase-monitor"]["spec"]["template"]]  # fmt: skip
    secrets = (kube["folder"] / "README.md").read_text()
    for pod in pods:
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        volumes = {v["name"]: v for v in spec["volumes"]}
        for volume in volumes.values():
            if "configMap" in volume:
                assert f"ConfigMap/{volume['configMap']['name']}" in kube
            if "persistentVolumeClaim" in volume:
                assert f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}" in kube
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]
            assert {m["name"] for m in container["volumeMounts"]} <= set(volumes)
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    assert reference["name"] in secrets
                    assert reference["key"] in secrets
    service = kube["Service/hardcase-monitor"]["spec"]
    assert service["selector"].items() <= pods[-1]["metadata"]["labels"].items()
    text = "".join(f.read_text() for f in kube["folder"].iterdir())
    assert "kind: Secret" not in text


def test_network_policies_open_inference_and_console_and_nothing_of_ray(kube: dict[str, Any]):
    opened = {
        port["port"]
        for name, thing in kube.items()
        if name.startswith("NetworkPolicy/")
        for rule in thing["spec"]["ingress"]
        if "from" not in rule
        for port in rule["ports"]
    }
    assert opened == {8000, 9000, 8080}
    labels = kube["RayService/hardcase"]["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["metadata"]["labels"]
    (expression,) = kube["NetworkPolicy/hardcase-ray"]["spec"]["podSelector"]["matchExpressions"]
    assert labels[expression["key"]] in expression["values"]


def test_the_serve_part_says_what_hardcase_serve_would_run(kube: dict[str, Any], tmp_path: Path):
    text = kube["RayService/hardcase"]["spec"]["serveConfigV2"]
    config = yaml.safe_load(text)
    inside = loaded(tmp_path, kube["ConfigMap/hardcase-config"]["data"]["hardcase.yaml"])
    assert config == json.loads(json.dumps(serve_config(inside)))
    first, second = config["applications"]
    assert (first["name"], second["name"], second["route_prefix"]) == ("hardcase", "hardcase-big", "/v2/models/big")
    spec, cluster = read_arguments(first["args"])
    assert isinstance(spec.options, ServingOptions)
    assert spec.options.elsewhere == ("big",)
    assert spec.autoscaling is not None
    assert spec.autoscaling.max_replicas == 9
    assert cluster.drain_s == inside.ray.drain_s
    assert kube["RayService/hardcase"]["spec"]["rayClusterConfig"]["enableInTreeAutoscaling"]
    with pytest.raises(ValueError, match="unknown"):
        read_arguments({**first["args"], "typo": 1})

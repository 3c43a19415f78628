"""`hardcase up` as people start it: Ray Serve behind HAProxy, the demo model, the console, the demo's story."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy import probes
from deploy.demo.digits import load_digits
from tests.support.hardcase_process import Place, Running, answers

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def system() -> Iterator[Running]:
    # Not pytest's own temporary folder: Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="hct-") as folder:
        running = Place.make(Path(folder), monitor={"window_s": 5}).start()
        yield running
        running.ensure_stopped()


def test_curl_and_tritonclient_get_right_answers_through_haproxy(system: Running):
    from tritonclient import http

    digits = load_digits().live
    done = subprocess.run(
        ["curl", "-sS", "-d", "@.hardcase/demo/request.json", system.place.serving + "/v2/models/digits/infer"],
        cwd=system.place.folder, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "outputs" in done.stdout, done.stdout + system.log
    assert int(np.argmax(json.loads(done.stdout)["outputs"][0]["data"])) == digits.labels[0]
    client = http.InferenceServerClient(f"127.0.0.1:{system.place.serving_port}")
    tensor = http.InferInput("image", list(digits.images.shape), "FP32")
    tensor.set_data_from_numpy(digits.images)
    logits = client.infer("digits", [tensor]).as_numpy("logits")
    client.close()
    accuracy = float(np.mean(logits.argmax(1) == digits.labels))
    assert accuracy > 0.93, "trained on real data, measured on digits it has never seen"


def test_prometheus_discovery_names_the_replicas_own_port(system: Running):
    _, body = probes.get(system.place.console + "/sd/prometheus")
    targets = [t for group in json.loads(body) for t in group["targets"]]
    replicas = [
        t for t in targets if not t.endswith((f":{system.place.serving_port}", f":{system.place.monitor_port}"))
    ]
    assert len(replicas) == 1
    code, text = probes.get(f"http://{replicas[0]}/metrics")
    assert code == 200
    assert b"hardcase_requests_total" in text


def test_the_doctor_knows_every_socket_of_the_cluster(system: Running):
    sockets = [c for c in system.place.json("doctor", timeout=120) if c["name"].startswith("socket ")]
    purposes = " | ".join(c["detail"] for c in sockets)
    for expected in ("inference, HTTP", "console and API", "a replica's own HTTP server", "HAProxy's statistics page",
                     "control plane of the Ray cluster (gcs_server)"):  # fmt: skip
        assert expected in purposes
    assert [c["detail"] for c in sockets if "nothing that we know of" in c["detail"]] == []
    open_to_anybody = [c["detail"] for c in sockets if c["verdict"] == "warn"]
    assert all("HAProxy" in detail for detail in open_to_anybody), "Ray's own ask for the token"
    assert len(open_to_anybody) == 2


def test_the_day_holds_and_its_links_lead_somewhere(system: Running):
    done = system.place.run("demo", "--day", "--quick", "--json", timeout=200)
    report = json.loads(done.stdout)
    assert done.returncode == 0, json.dumps(report["claims"], indent=1) + done.stderr
    assert [c for c in report["claims"] if not c["holds"]] == []
    assert all(answers(case["link"]) for case in report["cases"][:5])
    assert (system.place.paths.demo / "report.html").read_text().count("data:image/png;base64,") == len(report["cases"])


def test_a_version_that_is_deployed_answers_and_a_rollback_brings_the_old_one_back(system: Running):
    place = system.place
    exported = place.run(
        "export", "deploy.demo.train:package", "--version", "2", "--out", "packages", timeout=180, OMP_NUM_THREADS="1"
    )
    assert exported.returncode == 0, exported.stderr
    deployed = place.json("deploy", "packages/digits-2", timeout=120)
    assert (deployed["version"], deployed["serving"]) == ("2", "ready")
    plan = place.json("rollback", "digits", "-m", "back")
    assert (plan["champion"], plan["reason"]) == ("1", "back")
    assert [p["champion"] for p in place.json("registry", "history", "digits")] == ["1", "2", "1"]


def test_ctrl_c_leaves_no_process_and_no_temporary_folder(system: Running):
    """Last in the module: it ends the system. Ray's daemons, workers and HAProxy are among what must be gone."""
    before = system.left_over()
    assert any("raylet" in line for line in before)
    assert any("haproxy" in line for line in before)
    assert system.stop(signal.SIGINT) == 0
    assert system.left_over() == []
    assert not any(os.path.exists(folder) for folder in system.run.temporary)
    assert not answers(system.place.serving + "/v2/health/live")

"""`hardcase up`, `down`, `status` as real processes, without Ray; the same with Ray is in test_up_ray.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import numpy as np
import psutil
import pytest

from deploy import probes
from deploy.demo.digits import load_digits
from deploy.run_state import current_run, read_run
from tests.support.hardcase_process import Place, Running, answers

pytestmark = pytest.mark.timeout(300)


def wait_for(condition, timeout: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_up_prints_addresses_that_answer_and_a_first_request_that_works(running: Running):
    addresses = re.findall(r"http://127\.0\.0\.1:\d+[^\s,]*", running.log)
    assert all(answers(a) for a in addresses if "/infer" not in a)
    assert wait_for(lambda: "Ctrl-C stops everything" in running.log), "ready comes a moment before the announcement"
    curl = next(line.strip() for line in running.log.splitlines() if line.strip().startswith("curl"))
    done = subprocess.run(
        curl, shell=True, cwd=running.place.folder, capture_output=True, text=True, timeout=20, check=True
    )
    answer = json.loads(done.stdout)
    digits = load_digits().live
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("digits", "1", "first-request")
    assert int(np.argmax(answer["outputs"][0]["data"])) == digits.labels[0]


def test_the_unmodified_triton_client_gets_the_same_answers_in_json_and_binary(running: Running):
    from tritonclient import http

    images = load_digits().live.images[:7]
    client = http.InferenceServerClient(f"127.0.0.1:{running.place.serving_port}")
    answers_ = []
    for binary in (True, False):
        tensor = http.InferInput("image", list(images.shape), "FP32")
        tensor.set_data_from_numpy(images, binary_data=binary)
        answers_.append(client.infer("digits", [tensor]).as_numpy("logits"))
    client.close()
    np.testing.assert_array_equal(answers_[0], answers_[1])
    assert answers_[0].shape == (7, 10)


def test_status_tells_what_runs_for_people_and_for_programs(running: Running):
    found = running.place.json("status")
    assert (found["running"], found["healthy"], found["pid"]) == (True, True, running.process.pid)
    assert found["versions"] == [{"model": "digits", "version": "1", "state": "READY", "reason": "", "champion": True}]
    text = running.place.run("status").stdout
    assert "READY" in text
    assert running.place.serving in text


def test_a_second_up_on_the_same_state_says_who_runs(running: Running):
    second = running.place.run("up")
    assert second.returncode == 6
    assert f"pid {running.process.pid}" in second.stderr
    assert "hardcase down" in second.stderr
    assert running.process.poll() is None


def test_prometheus_discovery_names_the_replica_and_the_monitor(running: Running):
    _, body = probes.get(running.place.console + "/sd/prometheus")
    targets = {t for group in json.loads(body) for t in group["targets"]}
    assert targets == {f"127.0.0.1:{running.place.serving_port}", f"127.0.0.1:{running.place.monitor_port}"}
    for target in targets:
        code, text = probes.get(f"http://{target}/metrics")
        assert code == 200
        assert b"hardcase_" in text


def test_a_killed_monitor_comes_back_and_serving_never_stops(running: Running):
    victim = current_run(running.place.paths).children["monitor"]
    os.kill(victim, signal.SIGKILL)
    assert answers(running.place.serving + "/v2/health/ready")
    assert wait_for(lambda: current_run(running.place.paths).children["monitor"] != victim)
    assert wait_for(lambda: answers(running.place.console + "/api/health/ready"), 60)
    assert "monitor ended with status -9; starting it again" in running.log


def test_records_are_there_verified_and_exportable(running: Running):
    image = load_digits().live.images[:1]
    tensor = {"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": image.ravel().tolist()}
    body = {"id": "exported", "inputs": [tensor]}
    code, _ = probes.post_json(running.place.serving + "/v2/models/digits/infer", body)
    assert code == 200
    time.sleep(0.3)
    tail = running.place.run("records", "tail", "-n", "3")
    assert "exported" in tail.stdout
    verified = running.place.json("records", "verify")
    assert verified["ok"]
    rows = running.place.json("records", "export", "all.jsonl")
    lines = (running.place.folder / "all.jsonl").read_text().splitlines()
    assert list(rows.values()) == [len(lines)]
    assert "exported" in {json.loads(line).get("id") for line in lines}
    parquet = running.place.json("records", "export", "parquet")
    assert sum(parquet.values()) >= 1


def test_a_bad_version_is_refused_with_its_reason_while_the_champion_answers(running: Running, tmp_path):
    place = running.place
    bad = tmp_path / "bad"
    shutil.copytree(place.paths.registry / "models" / "digits" / "versions" / "1", bad)
    weights = bad / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    refused = place.run("deploy", str(bad))
    assert refused.returncode == 4
    assert "model.onnx" in refused.stderr
    assert answers(place.serving + "/v2/models/digits/ready")


def test_up_names_the_process_that_has_the_port_and_the_setting_that_moves_it(place: Place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", place.serving_port))
        taken.listen()
        refused = place.run("up", "--no-demo")
    assert refused.returncode == 6
    assert f"port {place.serving_port} (serving.port) is taken by" in refused.stderr
    assert f"pid {os.getpid()}" in refused.stderr
    assert "HARDCASE__SERVING__PORT" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_up_refuses_to_face_the_network_without_a_credential(tmp_path):
    exposed = Place.make(tmp_path, serving={"standalone": True, "host": "0.0.0.0"})
    refused = exposed.run("up", "--no-demo", timeout=120)
    assert refused.returncode != 0
    assert "serving.auth.keys" in refused.stdout + refused.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_and_a_restart_keeps_the_registry(place: Place, number: int):
    place.paths.make()
    system = place.start("--no-demo")
    try:
        assert len(system.left_over()) >= 2, "the test can see the processes while they live"
        assert system.stop(number) == 0
        assert system.left_over() == []
        assert not answers(place.serving + "/v2/health/live")
        assert read_run(place.paths) is None
        assert "nothing is left running" in system.log
    finally:
        system.ensure_stopped()


def test_down_ends_a_run_from_another_terminal(place: Place):
    assert place.run("down").returncode == 5
    system = place.start("--no-demo")
    try:
        assert place.json("down") == {"stopped": system.process.pid}
        system.process.wait(10)
        assert system.left_over() == []
        assert place.run("status").returncode == 5
    finally:
        system.ensure_stopped()


def test_a_killed_supervisor_takes_its_children_with_it_and_the_next_up_starts_clean(place: Place):
    system = place.start("--no-demo")
    again = None
    try:
        system.process.kill()
        system.process.wait()
        assert wait_for(lambda: system.left_over() == [], 30), system.left_over()
        again = place.start("--no-demo")
        assert again.run.run_id != system.run.run_id
        assert again.stop() == 0
        assert again.left_over() == []
    finally:
        system.ensure_stopped()
        if again is not None:
            again.ensure_stopped()


def test_what_a_killed_run_left_is_ended_by_the_next_one_and_nothing_else_is(place: Place):
    """A process with the dead run's mark goes; one without stays."""
    place.paths.make()
    place.paths.run_file.write_text(json.dumps({"pid": 1, "run_id": "feedfacefeedface", "started_at": "x"}))
    sleep = ["sleep", "300"]
    marked = subprocess.Popen(sleep, env={**os.environ, "HARDCASE_RUN_ID": "feedfacefeedface"})
    other = subprocess.Popen(sleep)
    system = place.start("--no-demo")
    try:
        assert marked.wait(10) != 0
        assert other.poll() is None
        assert psutil.pid_exists(other.pid)
    finally:
        system.ensure_stopped()
        for process in (marked, other):
            process.kill()
            process.wait()

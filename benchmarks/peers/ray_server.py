"""The model in Ray Serve without us: as its documentation writes it, and in its own high-throughput mode.

Runs in the project's environment on a cluster of its own. `--ready-file` receives the addresses as JSON.

usual       FastAPI ingress, `@serve.batch`, default Python proxy: the text book
throughput  `RAY_SERVE_ENABLE_HA_PROXY=1`, `RAY_SERVE_THROUGHPUT_OPTIMIZED=1` (set by the caller, before Ray is
            imported) and a bare ASGI function in place of FastAPI: all that Ray Serve itself has to offer for speed
"""

import argparse
import json
import os
import signal
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

MAX_BATCH = 64


def make_session() -> Any:
    """The session that every measured server uses: CPU, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])


def usual_application(wait_s: float) -> Any:
    """FastAPI in front of `@serve.batch`, raw bytes on /infer and JSON on /infer-json."""
    from fastapi import FastAPI, Request, Response
    from pydantic import BaseModel
    from ray import serve

    api = FastAPI()

    class Digit(BaseModel):
        x: list[list[list[float]]]

    @serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
    @serve.ingress(api)
    class Digits:
        def __init__(self) -> None:
            self.session = make_session()

        @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=wait_s)
        async def predict(self, rows: list[Any]) -> list[Any]:
            return list(self.session.run(["logits"], {"x": np.stack(rows)})[0])

        @api.post("/infer")
        async def infer(self, request: Request) -> Response:
            row = np.frombuffer(await request.body(), dtype=np.float32).reshape(1, 8, 8)
            return Response((await self.predict(row)).tobytes(), media_type="application/octet-stream")

        @api.post("/infer-json")
        async def infer_json(self, digit: Digit) -> dict[str, list[float]]:
            return {"logits": (await self.predict(np.asarray(digit.x, dtype=np.float32))).tolist()}

    bound: Any = Digits  # the decorator's type is lost behind serve.ingress
    return bound.bind()


Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def throughput_application(wait_s: float) -> Any:
    """A bare ASGI function: /infer goes through `@serve.batch`, /infer-alone runs the model for each request."""
    from ray import serve

    def build() -> Any:
        session = make_session()

        async def run_batch(rows: list[Any]) -> list[Any]:
            return list(session.run(["logits"], {"x": np.stack(rows)})[0])

        batched = serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=wait_s)(run_batch)

        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return
            body = b""
            more = True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            row = np.frombuffer(body, dtype=np.float32).reshape(1, 8, 8)
            alone = scope["path"] == "/infer-alone"
            logits = session.run(["logits"], {"x": row[None]})[0][0] if alone else await batched(row)
            answer = logits.tobytes()
            headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % len(answer))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})

        return application

    @serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
    @serve.ingress(build)
    class Digits:
        pass

    bound: Any = Digits  # the decorator's type is lost behind serve.ingress
    return bound.bind()


def replica_address() -> str | None:
    """Base URL of the replica's own HTTP server, or None where requests only enter through the proxy."""
    import ray
    from ray.serve import context

    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") != "1":
        return None
    client: Any = context._get_global_client()
    controller = client._controller
    groups = ray.get(controller.get_target_groups.remote(from_proxy_manager=True))
    targets = [target for group in groups if str(group.protocol.value).lower() == "http" for target in group.targets]
    return f"http://127.0.0.1:{targets[0].port}" if targets else None


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mode", choices=("usual", "throughput"), required=True)
    parser.add_argument("--wait-s", type=float, default=0.0, help="batch_wait_timeout_s of @serve.batch")
    parser.add_argument("--ready-file", type=Path, required=True)
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    import ray
    from ray import serve

    with tempfile.TemporaryDirectory(prefix="hb", dir="/tmp") as folder:
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=100 << 20,
            include_dashboard=False,
            _temp_dir=folder,
            log_to_driver=False,
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": arguments.port})
            application = usual_application if arguments.mode == "usual" else throughput_application
            serve.run(application(arguments.wait_s), name="digits", route_prefix="/")
            addresses = {"front": f"http://127.0.0.1:{arguments.port}", "direct": replica_address()}
            partial = arguments.ready_file.with_suffix(".part")
            partial.write_text(json.dumps(addresses))
            partial.rename(arguments.ready_file)
            stop.wait()
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()

"""What runs beside replicas (`hardcase node`) and beside the monitor: rounds that never give up.

A round that fails is tried again in the next one; that the bucket is away is said once, and once that it is back.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from deploy.paths import StatePaths
from deploy.replica_list import read_targets
from deploy.settings import Settings
from deploy.shipping.receiver import Receiver
from deploy.shipping.shipper import Shipper
from deploy.storage import node_name, open_registry, open_store
from export.bucket_registry import BucketRegistry
from export.contracts.errors import HardcaseError
from export.storage.snapshots import upload_new

FULL_LOOK_S = 30.0
SNAPSHOT_S = 10.0
_log = logging.getLogger("hardcase.node")


class Repeated:
    """A round on a thread, again and again.

    Args:
        what: For the log.
        every_s: Time between the beginnings of two rounds.
        turn: One round. What it raises is logged when it is not what the round before raised.
    """

    def __init__(self, what: str, every_s: float, turn: Callable[[], object]) -> None:
        self._what, self._every_s, self._turn = what, every_s, turn
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"hardcase-{what}", daemon=True)
        self.rounds = 0

    def start(self) -> Repeated:
        """Begin."""
        self._thread.start()
        return self

    def stop(self, timeout_s: float = 30.0) -> None:
        """End after the round at hand."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        trouble = ""
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                self._turn()
                self.rounds += 1
                if trouble:
                    _log.warning("%s: works again", self._what)
                trouble = ""
            except (HardcaseError, OSError) as error:
                text = error.message if isinstance(error, HardcaseError) else f"{type(error).__name__}: {error}"
                if text != trouble:
                    _log.warning("%s: %s", self._what, text)
                trouble = text
            self._stop.wait(max(0.0, self._every_s - (time.monotonic() - begun)))


def puller(registry: BucketRegistry, every_s: float) -> Repeated:
    """Keeps a registry folder equal to the bucket."""
    last_full = [0.0]

    def turn() -> None:
        full = time.monotonic() - last_full[0] > FULL_LOOK_S
        registry.pull(unless_same=not full)
        if full:
            last_full[0] = time.monotonic()

    return Repeated("registry", every_s, turn)


@contextlib.contextmanager
def beside_replicas(settings: Settings, paths: StatePaths) -> Iterator[None]:
    """Keep the registry folder, and send records, until the block ends; then send the rest."""
    storage = settings.storage
    registry = open_registry(storage, paths.registry)
    assert isinstance(registry, BucketRegistry)
    shipper = Shipper(
        paths.records,
        open_store(storage),
        node_name(storage, paths.records.parent),
        targets=lambda: read_targets(paths),
    )
    running = [
        puller(registry, storage.plan_poll_s).start(),
        Repeated("records", storage.ship_s, shipper.round).start(),
    ]
    try:
        yield
    finally:
        for one in running:
            one.stop()
        with contextlib.suppress(HardcaseError, OSError):
            for _ in range(2):  # a source must be seen dead twice
                shipper.round()
            shipper.leave()


@contextlib.contextmanager
def beside_monitor(settings: Settings, paths: StatePaths, registry: object) -> Iterator[Callable[[], Sequence[str]]]:
    """Keep the folder of received records, and the registry folder, while the monitor reads them.

    Yields:
        What gives `host:port` of the replicas: those of this machine, or what the others say.
    """
    storage = settings.storage
    if not storage.url or not isinstance(registry, BucketRegistry):
        yield lambda: read_targets(paths)
        return
    store, sent = open_store(storage), set[str]()
    receiver = Receiver(paths.received, store, lost_after_s=storage.lost_after_s)
    running = [
        puller(registry, storage.plan_poll_s).start(),
        Repeated("records", storage.ship_s, receiver.round).start(),
        Repeated("snapshots", SNAPSHOT_S, lambda: upload_new(store, paths.datasets, sent)).start(),
    ]
    try:
        yield lambda: receiver.targets
    finally:
        for one in running:
            one.stop()
        receiver.close()

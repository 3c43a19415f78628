"""One of several monitors on a shared database: works when it holds the lease, until it is told or made to end.

Arguments: URL of the database, folder of the log, folder of the reference, bytes a cycle, seconds that a lease lasts.
"""

from __future__ import annotations

import dataclasses
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from monitoring import leases
from monitoring.monitor import Monitor
from monitoring.store import Store
from tests.support.monitor_world import MemoryCatalogue, manifest, options


def main() -> None:
    url, records, reference, cycle_bytes, ttl = sys.argv[1:]
    leases.Lease.__init__.__kwdefaults__["ttl_s"] = float(ttl)
    base = options(Path(records).parent)
    chosen = dataclasses.replace(
        base, database_url=url, records_root=Path(records), batch_bytes=int(cycle_bytes), poll_interval_s=0.05
    )
    store = Store(url)
    told = threading.Event()
    monitor = Monitor(
        chosen,
        store,
        MemoryCatalogue((manifest(),), {"1": Path(reference)}),
        on_cycle=lambda: print("cycle", flush=True),
    )
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    monitor.start()
    print("started", flush=True)
    told.wait()
    monitor.stop()
    store.close()


if __name__ == "__main__":
    main()

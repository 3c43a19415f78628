"""A monitor as a process: consumes a log until nothing is left or somebody kills it.

Arguments: folder of the database, bytes a cycle, folder of the log, folder of the reference.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from monitoring.cycle import Loop, make_loop, run_cycle
from monitoring.store import Store
from tests.support.monitor_world import MemoryCatalogue, manifest, options


def drain(loop: Loop) -> None:
    """Run cycles until the log is consumed, then every duty until none has more to do."""
    while run_cycle(loop):
        print("cycle", flush=True)
    loop.roster.finish(loop)


def main() -> None:
    folder, cycle_bytes = Path(sys.argv[1]), int(sys.argv[2])
    chosen = dataclasses.replace(options(folder), records_root=Path(sys.argv[3]), batch_bytes=cycle_bytes)
    store = Store(chosen.database_url)
    print("open", flush=True)
    drain(make_loop(chosen, store, MemoryCatalogue((manifest(),), {"1": Path(sys.argv[4])})))
    store.close()
    print("done", flush=True)


if __name__ == "__main__":
    main()

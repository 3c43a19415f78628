"""A monitor as a process that can be killed: the loop and the review API over one folder.

Arguments: folder of the database, folder of the log, folder of the reference, and how often records are settled in s.
Prints "ready ADDRESS" once it answers, after everything in the log is consumed.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.cycle import duties, make_loop, run_cycle
from monitoring.duties import Roster
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import listening
from tests.support.console_store import StillMonitor
from tests.support.monitor_world import MemoryCatalogue, manifest, options


def main() -> None:
    folder, every_s = Path(sys.argv[1]), float(sys.argv[4])
    chosen = dataclasses.replace(options(folder), records_root=Path(sys.argv[2]))
    store = Store(chosen.database_url)
    catalogue = MemoryCatalogue((manifest(),), {"1": Path(sys.argv[3])})
    loop = make_loop(chosen, store, catalogue)
    wanted = [d for d in duties(chosen) if d.name in ("settle", "alarms")]
    loop.roster = Roster([dataclasses.replace(d, interval_s=every_s) if d.name == "settle" else d for d in wanted])
    while run_cycle(loop):
        pass
    reports = ReportService(ReportOptions(folder=folder / "reports"), lambda *_: None)  # type: ignore[arg-type]
    app = build_console(store, catalogue, StillMonitor(), list, ConsoleOptions(), reports=reports)
    with listening(app) as address:
        print(f"ready {address}", flush=True)
        while True:
            run_cycle(loop)
            time.sleep(0.02)


if __name__ == "__main__":
    main()

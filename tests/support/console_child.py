"""`python -m tests.support.console_child FOLDER`: the monitor process over a log in FOLDER; prints its port."""

from __future__ import annotations

import sys
from pathlib import Path

from monitoring.options import MonitorOptions
from monitoring.server import serve_monitor
from tests.support import monitor_world


def main(folder: Path) -> None:
    options: MonitorOptions = monitor_world.options(folder, port=0)
    catalogue = monitor_world.catalogue(folder / "reference")
    serve_monitor(options, catalogue, lambda: ["127.0.0.1:9"], on_ready=lambda port: print(port, flush=True))
    print("closed", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Where things lie in the state folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StatePaths:
    """The state folder's rooms. Nothing is made until `make` is called."""

    root: Path

    @property
    def registry(self) -> Path:
        """Models, versions, plans."""
        return self.root / "registry"

    @property
    def records(self) -> Path:
        """The record logs, one folder a replica incarnation."""
        return self.root / "records"

    @property
    def received(self) -> Path:
        """The record logs of other machines, as they come out of the bucket; the monitor reads them."""
        return self.root / "received"

    @property
    def engines(self) -> Path:
        """What TensorRT built for this machine's device."""
        return self.root / "engines"

    @property
    def monitor(self) -> Path:
        """The monitor's database and reports."""
        return self.root / "monitor"

    @property
    def run(self) -> Path:
        """What is only true while `up` runs: lock, addresses, replica targets."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """What the processes wrote."""
        return self.root / "logs"

    @property
    def demo(self) -> Path:
        """The demo's example request and reports."""
        return self.root / "demo"

    @property
    def loop(self) -> Path:
        """What the loop made: requests, outputs of trainings and gates, reports."""
        return self.root / "loop"

    @property
    def jobs(self) -> Path:
        """One folder a job: what it is, what it said, how it ended."""
        return self.root / "loop" / "jobs"

    @property
    def datasets(self) -> Path:
        """Data set snapshots."""
        return self.root / "datasets"

    @property
    def lock(self) -> Path:
        """Held by a running `up`."""
        return self.run / "up.lock"

    @property
    def run_file(self) -> Path:
        """Who holds the lock, and what it started."""
        return self.run / "up.json"

    @property
    def replicas_file(self) -> Path:
        """Addresses of the replicas' own ports, for Prometheus discovery."""
        return self.run / "replicas.json"

    @property
    def ray_token(self) -> Path:
        """The token of the local Ray cluster's control plane."""
        return self.root / "ray-token"

    @property
    def keep_file(self) -> Path:
        """There while a stop should leave the applications running in a cluster that is not ours."""
        return self.run / "keep-serving"

    def make(self) -> StatePaths:
        """Make the folders, readable by their owner only: records hold what clients sent."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        mine = (self.registry, self.records, self.monitor, self.run, self.logs, self.demo)
        for folder in (*mine, self.datasets, self.loop, self.jobs):
            folder.mkdir(mode=0o700, exist_ok=True)
        return self

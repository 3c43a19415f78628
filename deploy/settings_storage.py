"""Settings of the bucket that several machines share."""

from __future__ import annotations

from pydantic import Field

from deploy.settings_base import Seconds, Section


class StorageSettings(Section):
    """An S3-compatible bucket for more than one machine; credentials come from the environment (`AWS_...`) alone."""

    url: str = Field(default="", pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()/=-]*)?)?$")
    """`s3://bucket/prefix`; empty: everything stays in the state folder of this machine."""
    endpoint: str = Field(default="", pattern=r"^(https?://[^\s/@?#]+)?$")
    """URL of the store, such as `https://minio.example:9000`; empty: Amazon's."""
    region: str = Field(default="", pattern=r"^[a-z0-9-]*$")
    """Region of the bucket; empty: what the environment says."""
    node: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,63}$")
    """Name of this machine among those that send records; empty: its host name
    and an id that its state folder keeps."""
    plan_poll_s: Seconds = 1.0
    """How often a machine asks the bucket for a new traffic plan, and its replicas then look at the folder: a change
    arrives after this and `serving.plan_poll_s`."""
    ship_s: Seconds = 1.0
    """How often records are sent, and looked for. Rollbacks on evidence wait for it."""
    lost_after_s: float = Field(default=600.0, ge=10, allow_inf_nan=False)
    """A machine that has not been heard of for so long is given up: its records that have not arrived count as lost."""
    connect_s: Seconds = 3.0
    """Time in which the store must accept a connection."""
    read_s: Seconds = 10.0
    """Longest silence of the store before an attempt is given up and repeated."""
    retry_s: Seconds = 60.0
    """An operation is repeated for at most so long; what is not urgent is then tried again in the next round."""

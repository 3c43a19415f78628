"""What a kind of task means to the monitor: one module a kind, behind the protocol in `protocol`."""

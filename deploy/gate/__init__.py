"""Running a gate: both packages answer labelled sets, each in a process of its own, and the verdict is written."""

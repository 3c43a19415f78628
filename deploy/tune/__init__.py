"""`hardcase tune`: finds the execution settings that meet a latency target, and writes them into a package."""

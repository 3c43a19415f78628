"""The record log through a bucket: what a machine writes, the monitor reads on another one."""

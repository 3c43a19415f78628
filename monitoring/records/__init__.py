"""The record log: what serving writes about every request and monitoring reads.

The format is specified in `docs/record-log.md`. Only numpy, pyarrow and a CRC-32C are needed.
"""

"""`python -m deploy.observability.child PROGRAM ARGUMENT...`: becomes a program that ends with its parent.

A supervisor that is killed takes its children with it; those of ours ask the kernel for that themselves, and what they
ask for holds beyond `execv`.
"""

from __future__ import annotations

import os
import sys

from deploy import processes


def main() -> None:
    """Become the program."""
    parent = os.getppid()
    processes.end_with_parent()
    if os.getppid() != parent:  # it ended before we had asked
        raise SystemExit(1)
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()

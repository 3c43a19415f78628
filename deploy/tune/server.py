"""`python -m deploy.tune.server`: the stand-alone server, ended by the kernel when whoever tunes dies."""

from __future__ import annotations

import sys

from deploy.processes import end_with_parent
from serving import standalone

if __name__ == "__main__":
    end_with_parent()
    sys.exit(standalone.main())

"""The process that looks into a package: limits first, then the rules, then one JSON line on standard output.

Run by `export.admission`, never by hand: `python -I -m export.admission_child <package> <limits as JSON>`.
"""

from __future__ import annotations

import codecs
import ctypes
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

_CLONE_NEWUSER, _CLONE_NEWNET, _PR_SET_NO_NEW_PRIVS = 0x10000000, 0x40000000, 38
_BLOCKED_EVENTS = ("socket.", "subprocess.", "os.exec", "os.posix_spawn", "os.fork", "os.system", "ctypes.dlopen")


def main(arguments: list[str]) -> int:
    """Check the package and print the finding; exit code 0 whenever a finding was printed."""
    folder, limits_json = Path(arguments[0]).resolve(), arguments[1]
    guards = confine(json.loads(limits_json))
    # Everything is imported before the audit hook closes the file system.

    import onnx

    from export import admission_rules
    from export.admission_limits import AdmissionLimits
    from export.contracts import codec
    from export.contracts.errors import PackageError

    onnx.defs.has("Add", "")
    codecs.lookup("cp437")  # names in archives without the UTF-8 flag
    limits = codec.loads(AdmissionLimits, limits_json)
    close_file_system(folder)
    finding: dict[str, Any] = {"guards": guards}
    try:
        finding["facts"] = admission_rules.check_package(folder, limits)
    except PackageError as error:
        finding["refused"] = error.message
    except MemoryError:
        finding["refused"] = "checking the package needs more memory than the limit"
    except RecursionError:
        finding["refused"] = "the package is nested too deeply"
    sys.stdout.write(json.dumps(finding))
    sys.stdout.flush()
    os._exit(0)  # no destructor of a library runs on what was read


def confine(limits: dict[str, Any]) -> list[str]:
    """Give up memory, CPU time, file writes, new privileges and, where the kernel permits it, the network."""
    for what, amount in (
        (resource.RLIMIT_AS, int(limits["memory_bytes"])),
        (resource.RLIMIT_CPU, int(limits["cpu_s"])),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 128),
    ):
        _, hard = resource.getrlimit(what)
        lowered = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(what, (lowered, lowered))
    guards = ["memory", "cpu", "no_writes"]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        guards.append("no_new_privileges")
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        guards.append("no_network")
    return guards


def close_file_system(folder: Path) -> None:
    """From now on Python opens nothing outside `folder`, and no socket or process. The hook cannot be removed."""
    root = os.fsencode(folder) + b"/"

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            # Relative names are opened against a folder descriptor that was itself opened below the root.
            path = os.fsencode(arguments[0]) if isinstance(arguments[0], str | bytes) else b""
            if path.startswith(b"/") and not (path + b"/").startswith(root):
                raise PermissionError("outside the package")
        elif event.startswith(_BLOCKED_EVENTS):
            raise PermissionError("not while checking a package")

    sys.addaudithook(refuse)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

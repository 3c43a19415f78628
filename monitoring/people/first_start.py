"""The one-time link with which the first admin is made. No default password exists.

Whoever may write into the monitor's state folder makes the link (`hardcase up`, `hardcase users link`): only the
digest of its token lies there, in a file that holds for a day and ends with the first user. The token stands behind
the `#` of the link, which browsers do not send: it is in no access log, no Referer and no history of a proxy.
"""

from __future__ import annotations

import hmac
import json
import os
from pathlib import Path

from monitoring.people.tokens import digest_of, new_token

VALID_S = 86_400
PAGE = "/first-start"
_FILE = "first-start.json"
_NS = 1_000_000_000


def make_link(state_dir: Path, address: str, now_ns: int) -> str:
    """A new link; one that was made before ends.

    Args:
        state_dir: The monitor's folder.
        address: Where the console is reached, such as `http://127.0.0.1:8080`.
        now_ns: The time.
    """
    token = new_token()
    state_dir.mkdir(parents=True, exist_ok=True)
    path = state_dir / _FILE
    new = path.with_suffix(".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump({"sha256": digest_of(token), "until_ns": now_ns + VALID_S * _NS}, file)
    new.replace(path)
    return f"{address.rstrip('/')}{PAGE}#{token}"


def link_holds(state_dir: Path, token: str, now_ns: int) -> bool:
    """Whether a token is the one of the living link."""
    try:
        kept = json.loads((state_dir / _FILE).read_text(encoding="utf-8"))
        digest, until_ns = str(kept["sha256"]), int(kept["until_ns"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return hmac.compare_digest(digest, digest_of(token)) and now_ns < until_ns


def end_link(state_dir: Path) -> None:
    """The link has done its work."""
    (state_dir / _FILE).unlink(missing_ok=True)

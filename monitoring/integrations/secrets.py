"""Access tokens, each in a file of its own."""

from __future__ import annotations

from pathlib import Path

from monitoring.integrations.contracts import ToolError


def read_token(file: str) -> str:
    """The token in a file.

    Raises:
        ToolError: it cannot be read, or is empty.
    """
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ToolError("the file with the access token cannot be read (token_file)") from None
    if not token:
        raise ToolError("the file with the access token is empty (token_file)")
    return token

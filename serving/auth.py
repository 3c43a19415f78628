"""Bearer tokens. Only SHA-256 digests are configured and compared, so a leaked settings file opens nothing."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress

from export.contracts.errors import HardcaseError, Unauthenticated
from serving.call import ANONYMOUS
from serving.options import AuthOptions

_SCHEME = b"bearer"
_MAX_TOKEN_BYTES = 4096


class UnsafeBind(HardcaseError):
    """The server would be reachable from other machines without a credential: add a key, or bind to loopback."""

    code = "unsafe_bind"


class Authenticator:
    """Checks the `Authorization` header of every request, in both lanes.

    Args:
        options: The keys. Without keys every caller is "anonymous"; see `require_safe_bind`.

    Raises:
        ValueError: a key whose digest is not 64 hexadecimal digits, or a name that is used twice.

    Example:
        >>> from serving.options import ApiKey
        >>> key = ApiKey(name="ci", sha256=hash_token("s3cret"))
        >>> Authenticator(AuthOptions(keys=(key,))).check(b"Bearer s3cret")
        'ci'
    """

    __slots__ = ("_keys", "enabled")

    def __init__(self, options: AuthOptions) -> None:
        keys: list[tuple[bytes, str]] = []
        for key in options.keys:
            if len(key.sha256) != 64 or not all(c in "0123456789abcdef" for c in key.sha256.lower()):
                raise ValueError(f"auth key '{key.name}': sha256 must be 64 hexadecimal digits")
            if any(name == key.name for _, name in keys):
                raise ValueError(f"auth key '{key.name}' is given twice")
            keys.append((bytes.fromhex(key.sha256), key.name))
        self._keys = tuple(keys)
        self.enabled = bool(keys)

    def check(self, authorization: bytes | None) -> str:
        """The name of the key that the header holds.

        Args:
            authorization: Value of the `Authorization` header, or None when there is none.

        Raises:
            Unauthenticated: no bearer token, or an unknown one.
        """
        if not self.enabled:
            return ANONYMOUS
        if not authorization:
            raise Unauthenticated("a bearer token is required: Authorization: Bearer <token>")
        scheme, _, token = authorization.strip().partition(b" ")
        token = token.strip()
        if scheme.lower() != _SCHEME or not token or len(token) > _MAX_TOKEN_BYTES:
            raise Unauthenticated("the Authorization header must be: Bearer <token>")
        digest = hashlib.sha256(token).digest()
        found: str | None = None
        for known, name in self._keys:  # every key is compared, so that the time does not tell which one is near
            if hmac.compare_digest(known, digest):
                found = name
        if found is None:
            raise Unauthenticated("the bearer token is not known")
        return found


def hash_token(token: str) -> str:
    """The lower-case hex SHA-256 that the settings hold for a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`. A name other than localhost counts as reachable.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_safe_bind(host: str, auth: AuthOptions) -> None:
    """Refuse to serve other machines without a credential.

    Raises:
        UnsafeBind: no key is configured and the host is not a loopback address.
    """
    if not auth.enabled and not is_loopback(host):
        raise UnsafeBind(
            f"host '{host}' is reachable from other machines and no API key is configured: "
            "add one under serving.auth.keys, or bind to 127.0.0.1"
        )

"""Which addresses the monitor may connect to."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def resolve(host: str, port: int) -> Sequence[str]:
    """Addresses of a host, in the system's order. How long that takes is the system resolver's own limit.

    Raises:
        OSError: no such host, or no resolver.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def refusal(text: str, named: bool) -> str | None:
    """Why nobody may connect to this address, in words; None where one may.

    Args:
        text: An IP address.
        named: The settings name the host, so that it may be on this machine or in a private network. Link-local
            addresses (where clouds keep their credentials) stay closed all the same.

    Example:
        >>> refusal("127.0.0.1", named=True), refusal("93.184.216.34", named=False)
        (None, None)
        >>> refusal("::ffff:169.254.169.254", named=True)
        'its address is link-local'
    """
    address = _unwrapped(ipaddress.ip_address(text))
    if address.is_link_local:
        return "its address is link-local"
    if address.is_multicast or address.is_unspecified or (address.is_reserved and not address.is_private):
        return "its address is nobody's"
    if not named and (not address.is_global or address.is_loopback or address.is_private):
        return "its address is private"
    return None


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return inner or address

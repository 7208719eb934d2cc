"""Options of cl-hive-archon: names, defaults and what they mean."""

from __future__ import annotations

from urllib.parse import urlsplit

from hive_kit.errors import OptionError
from hive_kit.options import Option, Options

DB_PATH = "hive-archon-db-path"
GATEWAY = "hive-archon-gateway"
NETWORK_ENABLED = "hive-archon-network-enabled"
MIN_BOND = "hive-archon-governance-min-bond"

DATABASE = "cl_hive_archon.db"

OPTIONS = (
    Option(DB_PATH, DATABASE, "Database file; a relative path starts at the network directory", kind="path"),
    Option(GATEWAY, "https://archon.technology", "Archon gateway, https:// (http:// only for localhost)"),
    Option(NETWORK_ENABLED, False, "Use the gateway; this release works without it and refuses true", kind="bool"),
    Option(MIN_BOND, 50_000, "Channel balance in sats that the governance tier needs", kind="int", minimum=0),
)


def check_gateway(options: Options) -> None:
    """Refuse gateway options that this release cannot honour.

    Raises:
        OptionError: the gateway is switched on, or its URL is not one it could ever call.
    """
    if options.flag(NETWORK_ENABLED):
        raise OptionError(
            f"{NETWORK_ENABLED}: this release makes identities on the node alone and calls no gateway; set it to false"
        )
    url = options.text(GATEWAY)
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        plain = parts.username is None and not parts.query and not parts.fragment and parts.port != 0
    except ValueError:
        host, plain = "", False
    secure = host and (parts.scheme == "https" or (parts.scheme == "http" and host == "localhost"))
    if not secure or not plain:
        raise OptionError(f"{GATEWAY}: {url!r} is not an https:// address (http:// only for localhost)")

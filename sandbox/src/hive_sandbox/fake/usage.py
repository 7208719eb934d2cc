"""What `--help` and `--list-features-only` print."""

from __future__ import annotations

import textwrap

from .options import Option, OptionTable

_COLUMN = 40
_WIDTH = 80

FEATURES = """\
option_data_loss_protect/even
option_upfront_shutdown_script/odd
option_gossip_queries/odd
option_var_onion_optin/even
option_gossip_queries_ex/odd
option_static_remotekey/even
option_payment_secret/even
option_basic_mpp/odd
option_support_large_channel/odd
option_anchors/odd
option_route_blinding/odd
option_shutdown_anysegwit/odd
option_quiesce/odd
option_onion_messages/odd
option_provide_storage/odd
option_channel_type/even
option_scid_alias/odd
option_zeroconf/odd
supports_open_accept_channel_type"""


def usage(table: OptionTable) -> str:
    """Return the list of options, those of plugins included."""
    lines = ["Usage: lightningd ", "A bitcoin lightning daemon (a fake one, for the sandbox)."]
    for option in table.options.values():
        lines += _describe(option)
    return "\n".join(lines) + "\n"


def _describe(option: Option) -> list[str]:
    head = f"--{option.name}" + (" <arg>" if option.takes_value else "")
    words = option.description or option.plugin.rpartition("/")[2] or "lightningd's own"
    if option.default is not None and not option.multi:
        words += f" (default: {str(option.default).lower() if option.kind == 'bool' else option.default})"
    wrapped = textwrap.wrap(words, _WIDTH - _COLUMN)
    if len(head) < _COLUMN:
        first, *rest = wrapped
        return [head.ljust(_COLUMN) + first, *(" " * _COLUMN + line for line in rest)]
    return [head, *(" " * _COLUMN + line for line in wrapped)]

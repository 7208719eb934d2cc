"""What differs between the versions of Core Lightning that the fake can play."""

from __future__ import annotations

from dataclasses import dataclass

_INVOICE = {"channel": "", "invoice": "02000002024100", "bolt12_offer": "", "bolt12_invreq": ""}


@dataclass(frozen=True)
class Release:
    """One version of Core Lightning, as far as its clients can tell versions apart.

    Options and commands that only one version has are marked in data/options.json and data/commands.tsv.
    """

    version: str
    database_version: int
    log_bytes_max: int
    features: dict[str, str]
    # Members of listpeerchannels that this version has dropped.
    without_channel_fields: frozenset[str]
    # Built-in plugins that only the other version has.
    without_plugins: frozenset[str]
    # channel_state_changed of a new channel: v25 says "unknown", v26 leaves the member out.
    says_unknown_old_state: bool
    estimates_splice: bool
    # What becomes of an important plugin that exits before getmanifest: v25 aborts (SIGABRT), v26 exits with 1.
    aborts_without_important_plugin: bool


V25 = Release(
    version="v25.12.1",
    database_version=280,
    log_bytes_max=10 * 1024 * 1024,
    features={"init": "0898880a8a59a1", "node": "8898880a8a59a1", **_INVOICE, "bolt12_invoice": "020000"},
    without_channel_fields=frozenset(),
    without_plugins=frozenset({"cln-bwatch"}),
    says_unknown_old_state=True,
    estimates_splice=False,
    aborts_without_important_plugin=True,
)

V26 = Release(
    version="v26.06.6",
    database_version=282,
    log_bytes_max=16 * 1024 * 1024,
    features={
        "init": "800898880a8a59a1",
        "node": "808898880a8a59a1",
        **_INVOICE,
        "bolt12_invoice": "020000",
        "channel_type": "08800000800000",
    },
    without_channel_fields=frozenset({"max_total_htlc_in_msat"}),
    without_plugins=frozenset(),
    says_unknown_old_state=False,
    estimates_splice=True,
    aborts_without_important_plugin=False,
)

RELEASES = {release.version: release for release in (V25, V26)}
DEFAULT = V25

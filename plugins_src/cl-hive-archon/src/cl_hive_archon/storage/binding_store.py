"""`archon_bindings`: which Nostr keys and node ids belong to the DID, each with its signed attestation."""

from __future__ import annotations

from dataclasses import dataclass

from hive_kit.store import Store


@dataclass(frozen=True)
class Binding:
    """One attested statement: `subject` of kind `binding_type` belongs to `did`."""

    binding_id: str
    did: str
    binding_type: str
    subject: str
    attestation: str
    signature: str
    created_at: int
    updated_at: int


class BindingStore:
    """Read and write bindings."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, binding_type: str, subject: str) -> Binding | None:
        """The binding of a key, whatever DID it is bound to."""
        found = self._read("WHERE binding_type = ? AND subject = ?", (binding_type, subject))
        return found[0] if found else None

    def of(self, did: str) -> list[Binding]:
        """All bindings of a DID, oldest first."""
        return self._read("WHERE did = ? ORDER BY created_at, binding_id", (did,))

    def put(self, binding: Binding) -> None:
        """Write a binding; one of the same key is replaced and keeps the time of its creation."""
        self._store.execute(
            "INSERT INTO archon_bindings "
            "(binding_id, did, binding_type, subject, attestation_json, signature, created_at, updated_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (binding_type, subject) DO UPDATE SET "
            "binding_id = excluded.binding_id, did = excluded.did, attestation_json = excluded.attestation_json, "
            "signature = excluded.signature, updated_at = excluded.updated_at",
            (
                binding.binding_id,
                binding.did,
                binding.binding_type,
                binding.subject,
                binding.attestation,
                binding.signature,
                binding.created_at,
                binding.updated_at,
            ),
        )

    def _read(self, condition: str, values: tuple[str, ...]) -> list[Binding]:
        rows = self._store.query(
            "SELECT binding_id, did, binding_type, subject, attestation_json, signature, created_at, updated_at "
            f"FROM archon_bindings {condition}",
            values,
        )
        return [
            Binding(
                binding_id=row["binding_id"],
                did=row["did"],
                binding_type=row["binding_type"],
                subject=row["subject"],
                attestation=row["attestation_json"],
                signature=row["signature"] or "",
                created_at=row["created_at"],
                updated_at=row["updated_at"],
            )
            for row in rows
        ]

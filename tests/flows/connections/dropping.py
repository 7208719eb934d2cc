"""A connection plugin for flows: local, until the node's journal has an event; then the node cannot be reached.

What a dropped SSH does to a controller, exactly: the call is answered by nobody, or it was carried out and its answer
is lost. `ansible_drop_event` names the event, `ansible_drop_journal` the journal, `ansible_drop_since` how many of its
entries do not count; `ansible_drop_answer` says whether the answer of the call that wrote the event is lost too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as LocalConnection

DOCUMENTATION = """
name: dropping
short_description: A local connection that is lost on demand
description: [Local, until the node's journal has an event.]
author: [Lightning Hive Rollout contributors]
extends_documentation_fragment: [connection_pipelining]
options:
  journal:
    description: Path of the journal.
    type: path
    vars: [{name: ansible_drop_journal}]
  event:
    description: The event after which the node is gone.
    type: str
    vars: [{name: ansible_drop_event}]
  since:
    description: How many entries of the journal are older than that.
    type: int
    default: 0
    vars: [{name: ansible_drop_since}]
  answer:
    description: Whether the answer of the call that wrote the event is lost too.
    type: bool
    default: false
    vars: [{name: ansible_drop_answer}]
"""


class Connection(LocalConnection):  # type: ignore[misc]  # ansible-core has no type hints
    """Local until the event."""

    transport = "dropping"

    @property
    def _gone(self) -> bool:
        path = Path(self.get_option("journal"))
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return any(f'"event":"{self.get_option("event")}"' in line for line in lines[self.get_option("since") :])

    def _refuse(self) -> None:
        if self._gone:
            raise AnsibleConnectionFailure("the line is dead")

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
        self._refuse()
        done = super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if self.get_option("answer"):
            self._refuse()
        return done

    def put_file(self, in_path: str, out_path: str) -> Any:
        self._refuse()
        return super().put_file(in_path, out_path)

    def fetch_file(self, in_path: str, out_path: str) -> Any:
        self._refuse()
        return super().fetch_file(in_path, out_path)

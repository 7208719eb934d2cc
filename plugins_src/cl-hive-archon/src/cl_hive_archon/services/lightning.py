"""What archon asks of lightningd: who it is, and a signature."""

from __future__ import annotations

import re

from hive_kit.errors import UnavailableError
from hive_kit.node import Node, RpcError

from cl_hive_archon.services.did import NODE_ID

_SECONDS = 10.0


class Lightning:
    """The node, with short time-outs."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._node_id = ""

    @property
    def known_id(self) -> str:
        """The node id if lightningd has told it before, else an empty text. Asks nobody."""
        return self._node_id

    def node_id(self) -> str:
        """66 lower-case hex digits.

        Raises:
            UnavailableError: lightningd does not tell.
        """
        if not self._node_id:
            answer = str(self._ask("getinfo").get("id", ""))
            if not re.fullmatch(NODE_ID, answer):
                raise UnavailableError(f"lightningd says that its id is {answer!r}, which is no node id")
            self._node_id = answer
        return self._node_id

    def sign(self, text: str) -> str:
        """The node's zbase32 signature over the text.

        Raises:
            UnavailableError: lightningd does not sign.
        """
        signature = self._ask("signmessage", message=text).get("zbase", "")
        if not isinstance(signature, str) or not signature:
            raise UnavailableError("signing failed: lightningd answered without a signature")
        return signature

    def registers(self, method: str) -> bool | None:
        """Whether a plugin that is active or starting has this method. None: lightningd did not say.

        lightningd answers this itself, so it never waits for the plugin: at start-up all plugins have told their
        methods before the first of them is initialised.
        """
        try:
            self._node.call("help", {"command": method}, _SECONDS)
        except RpcError as error:
            return False if error.code == -32601 else None
        except UnavailableError:
            return None
        return True

    def _ask(self, method: str, **params: str) -> dict[str, object]:
        try:
            return self._node.call(method, params, _SECONDS)
        except RpcError as error:
            raise UnavailableError(f"lightningd refused {method}: {error.message}") from error

"""Docker's own API over its socket: `docker create` has no words for everything that `docker inspect` shows."""

from __future__ import annotations

import http.client
import io
import json
import os
import tarfile
import urllib.parse
from pathlib import Path, PurePosixPath
from typing import Any, cast

from .. import _rpc
from .errors import HiveError
from .files import Owner
from .runtimes_docker import DockerRuntime

DEFAULT_SOCKET = "unix:///var/run/docker.sock"


class DockerApi:
    """The few calls that move a container; each raises HiveError with docker's own words.

    Args:
        path: the engine's socket.
        seconds: for one answer.
    """

    def __init__(self, path: Path, seconds: float = 120.0) -> None:
        self.path = path
        self.seconds = seconds

    def inspect(self, reference: str) -> dict[str, Any] | None:
        """Return a container's document; None when there is no such container."""
        found = self._call("GET", f"/containers/{_quoted(reference)}/json", absent_ok=True)
        return cast("dict[str, Any] | None", found)

    def create(self, name: str, body: dict[str, Any]) -> str:
        """Create a container and return its id."""
        return str(self._call("POST", f"/containers/create?name={_quoted(name)}", body)["Id"])

    def connect(self, network: str, container: str, endpoint: dict[str, Any]) -> None:
        """Connect a container to one more network."""
        body = {"Container": container, "EndpointConfig": endpoint}
        self._call("POST", f"/networks/{_quoted(network)}/connect", body)

    def put_links(self, container: str, links: dict[str, str], owner: Owner) -> None:
        """Make symbolic links in a container, with the directories that they lie in; what is there is replaced.

        Args:
            links: path of each link to where it leads, both absolute.
        """
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, goal in links.items():
                above = tarfile.TarInfo(str(PurePosixPath(path).parent).lstrip("/"))
                above.type, above.mode = tarfile.DIRTYPE, 0o700
                link = tarfile.TarInfo(path.lstrip("/"))
                link.type, link.linkname = tarfile.SYMTYPE, goal
                for entry in (above, link):
                    entry.uid, entry.gid = owner.uid, owner.gid
                    archive.addfile(entry)
        headers = {"Content-Type": "application/x-tar"}
        self._send("PUT", f"/containers/{_quoted(container)}/archive?path=%2F", buffer.getvalue(), headers)

    def start(self, container: str) -> None:
        """Start a container; one that runs stays as it is."""
        self._call("POST", f"/containers/{_quoted(container)}/start")

    def stop(self, container: str, seconds: int) -> None:
        """Stop a container as `docker stop` does; one that does not run stays as it is."""
        api = DockerApi(self.path, self.seconds + seconds)
        api._call("POST", f"/containers/{_quoted(container)}/stop?t={seconds}")

    def rename(self, container: str, name: str) -> None:
        """Give a container another name."""
        self._call("POST", f"/containers/{_quoted(container)}/rename?name={_quoted(name)}")

    def restart_policy(self, container: str, policy: dict[str, Any]) -> None:
        """Say whether docker itself starts a container again."""
        self._call("POST", f"/containers/{_quoted(container)}/update", {"RestartPolicy": policy})

    def remove(self, container: str) -> None:
        """Remove a container that does not run; its volumes stay."""
        self._call("DELETE", f"/containers/{_quoted(container)}?v=false&force=false", absent_ok=True)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None, absent_ok: bool = False) -> Any:
        content = None if body is None else json.dumps(body).encode()
        headers = {} if content is None else {"Content-Type": "application/json"}
        return self._send(method, path, content, headers, absent_ok)

    def _send(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str], absent_ok: bool = False
    ) -> Any:
        connection = _Connection(self.path, self.seconds)
        try:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise HiveError(
                f"docker does not answer on {self.path} ({error}); start it, and see that this user may use it "
                "(ansible_become)",
                "docker-down",
            ) from error
        finally:
            connection.close()
        if response.status == 404 and absent_ok:
            return None
        if response.status >= 400:
            raise HiveError(f"docker refused {method} {path.partition('?')[0]}: {_words(text)}", "docker-refused")
        try:
            return json.loads(text) if text.strip() else {}
        except ValueError:
            return {}


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("docker", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = _rpc.connect(self._path, float(self.timeout or 60.0))


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _words(text: str) -> str:
    try:
        return str(json.loads(text)["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return text.strip()[:300]


def api_of(runtime: DockerRuntime) -> DockerApi:
    """Return the API of the engine that the node's docker command talks to.

    Raises:
        HiveError: it is reached by other means than a socket of this machine.
    """
    endpoint = endpoint_of(list(runtime.node.docker_cli), dict(os.environ))
    if not endpoint:
        shown = runtime.docker(["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"])
        endpoint = shown.out.strip() if shown.rc == 0 and shown.out.strip() else DEFAULT_SOCKET
    if not endpoint.startswith("unix://"):
        raise HiveError(
            f"docker of {runtime.node.name} is reached at {endpoint}; run the role on the container's own host, where "
            "docker has a socket",
            "docker-elsewhere",
        )
    return DockerApi(Path(endpoint[len("unix://") :]))


def endpoint_of(command: list[str], environment: dict[str, str]) -> str:
    """Return where a docker command says its engine is; "" when only its context does."""
    for index, word in enumerate(command):
        if word.startswith(("--host=", "-H=")):
            return word.partition("=")[2]
        if word in ("--host", "-H") and index + 1 < len(command):
            return command[index + 1]
    return environment.get("DOCKER_HOST", "")

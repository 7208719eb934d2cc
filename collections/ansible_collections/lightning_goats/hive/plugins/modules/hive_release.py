#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_release
short_description: Build, describe and sign releases of plugins
description:
  - Makes one hermetic, reproducible PEX of each plugin, lets it describe itself, writes its manifest and signs that.
  - A release that is there, made from the same sources, validly signed and whole, is left as it is.
  - Runs on the controller with the Python of the project's virtual environment, not on nodes.
author:
  - Lightning Goats (@lightning-goats)
options:
  plugins:
    description: The plugins to release.
    type: list
    elements: dict
    required: true
    suboptions:
      source:
        description: Directory of the plugin's source, with its C(pyproject.toml).
        type: path
        required: true
      name:
        description: The name that the source must have. Empty takes whatever it has.
        type: str
        default: ""
      version:
        description: Version to release it as, instead of the one in C(pyproject.toml).
        type: str
        default: ""
  versions:
    description: Versions to release plugins as, by plugin name. A version given in O(plugins) goes first.
    type: dict
    default: {}
  workspace:
    description:
      - Directory of the C(uv.lock) that pins the plugins' dependencies. Not needed for plugins without any.
      - Relative paths in other options are taken from here.
    type: path
  releases_dir:
    description: Where releases are put, as C(<name>/<version>/).
    type: path
    required: true
  cache_dir:
    description: Where fetched wheels are kept. It may be removed at any time between runs.
    type: path
    required: true
  keys_dir:
    description: Where the throw-away key is made when O(signing_key) is empty.
    type: path
    required: true
  signing_key:
    description:
      - Private key to sign with, or the public part of a key that ssh-agent holds.
      - Empty makes a throw-away key.
    type: str
    default: ""
  allowed_signers:
    description: The ssh-keygen file of who may sign. Empty takes C(allowed_signers) beside the key.
    type: str
    default: ""
  identity:
    description: Name of the signer in the list that is made for a throw-away key.
    type: str
    default: release@sandbox
  valid_days:
    description: Days after which nodes refuse to install the release, counted from the build. V(0) is for ever.
    type: int
    default: 0
  replace:
    description:
      - Whether a version that was already released from other sources may be replaced.
      - By default only releases signed with the throw-away key may.
    type: bool
  architectures:
    description: Machine types to carry wheels for.
    type: list
    elements: str
    choices: [x86_64, aarch64]
    default: [x86_64, aarch64]
attributes:
  check_mode:
    description: Says which releases would be built, and builds nothing.
    support: full
  diff_mode:
    description: Shows the digests before and after; in check mode the digest after is not known.
    support: full
requirements:
  - python >= 3.11
  - hatchling, packaging, pex, pip and uv in the same environment
  - ssh-keygen
"""

EXAMPLES = r"""
- name: Release a plugin of this repository
  lightning_goats.hive.hive_release:
    plugins:
      - source: plugins_src/cl-hive-comms
    workspace: /srv/lightning-hive-rollout
    releases_dir: var/releases
    cache_dir: .cache/release
    keys_dir: var/keys
  delegate_to: localhost

- name: Release it once more under the next version, to rehearse an upgrade
  lightning_goats.hive.hive_release:
    plugins:
      - source: plugins_src/cl-hive-comms
        version: 0.1.1
    workspace: /srv/lightning-hive-rollout
    releases_dir: var/releases
    cache_dir: .cache/release
    keys_dir: var/keys
  delegate_to: localhost
"""

RETURN = r"""
releases:
  description: The releases asked for, in that order.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the plugin.
      type: str
    version:
      description: Version released.
      type: str
    digest:
      description: The artifact's sha256. Empty in check mode when it is not built yet.
      type: str
    previous_digest:
      description: The artifact's sha256 before this call, empty when there was none.
      type: str
    path:
      description: Directory of the release.
      type: str
    changed:
      description: Whether it was built by this call, or in check mode would be.
      type: bool
    reason:
      description: Why it was built; empty when it was not.
      type: str
    signer:
      description: Identity that signed it.
      type: str
    manifest:
      description: Its manifest.
      type: dict
lines:
  description: One line for each release, to show to the operator.
  returned: success
  type: list
  elements: str
allowed_signers:
  description: The list of signers against which nodes check these releases.
  returned: success
  type: str
code:
  description: Stable name of what is wrong.
  returned: failure
  type: str
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

TOOLS = ("hatchling", "packaging", "pex", "pip", "uv")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "plugins": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "source": {"type": "path", "required": True},
                    "name": {"type": "str", "default": ""},
                    "version": {"type": "str", "default": ""},
                },
            },
            "versions": {"type": "dict", "default": {}},
            "workspace": {"type": "path"},
            "releases_dir": {"type": "path", "required": True},
            "cache_dir": {"type": "path", "required": True},
            "keys_dir": {"type": "path", "required": True, "no_log": False},
            "signing_key": {"type": "str", "default": "", "no_log": False},
            "allowed_signers": {"type": "str", "default": ""},
            "identity": {"type": "str", "default": "release@sandbox"},
            "valid_days": {"type": "int", "default": 0},
            "replace": {"type": "bool"},
            "architectures": {
                "type": "list",
                "elements": "str",
                "choices": ["x86_64", "aarch64"],
                "default": ["x86_64", "aarch64"],
            },
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except ReleaseError as error:
        module.fail_json(msg=str(error), code=error.code)


def run(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Release what ``parameters`` ask for; the module's result. Raises ReleaseError."""
    absent = [tool for tool in TOOLS if find_spec(tool) is None]
    if absent:
        raise ReleaseError(
            "tools",
            f"{', '.join(absent)} cannot be imported by {sys.executable}: run 'make venv' and use "
            ".venv/bin/ansible-playbook, which brings the tools that releases are built with.",
        )
    # Only now, because it needs those tools.
    from ansible_collections.lightning_goats.hive.plugins.module_utils import _release

    if not parameters["architectures"]:
        raise ReleaseError("source", "No architecture is given: name x86_64, aarch64 or both.")
    if parameters["valid_days"] < 0:
        raise ReleaseError("source", "valid_days is negative: use 0 for releases that do not expire.")
    base = Path(parameters["workspace"] or ".").resolve()
    settings = _release.Settings(
        releases=base / parameters["releases_dir"],
        cache=base / parameters["cache_dir"],
        keys=base / parameters["keys_dir"],
        workspace=base if parameters["workspace"] else None,
        signing_key=_under(base, parameters["signing_key"]),
        allowed_signers=_under(base, parameters["allowed_signers"]),
        identity=parameters["identity"],
        valid_days=parameters["valid_days"],
        replace=parameters["replace"],
        machines=tuple(parameters["architectures"]),
    )
    wanted = [_release.Wanted(base / item["source"], item["name"], item["version"]) for item in parameters["plugins"]]
    versions = {str(name): str(version) for name, version in parameters["versions"].items()}
    outcome = _release.release(wanted, versions, settings, check_mode)
    return {
        "changed": outcome.changed,
        "releases": outcome.releases,
        "lines": [_line(item) for item in outcome.releases],
        "allowed_signers": outcome.allowed_signers,
        "diff": {
            "before": {f"{item['name']} {item['version']}": item["previous_digest"] for item in outcome.releases},
            "after": {f"{item['name']} {item['version']}": item["digest"] for item in outcome.releases},
        },
    }


def _line(item: dict[str, Any]) -> str:
    title = f"{item['name']} {item['version']}"
    if not item["digest"]:
        return f"{title}  would be built: {item['reason']}"
    size = item["manifest"]["artifact"]["size"] / 1e6
    done = f"built: {item['reason']}" if item["changed"] else "unchanged"
    return f"{title}  {item['digest'][:12]}  {size:.1f} MB  signed by {item['signer']}  {done}"


def _under(base: Path, path: str) -> str:
    return str(base / Path(path).expanduser()) if path else ""


if __name__ == "__main__":
    main()

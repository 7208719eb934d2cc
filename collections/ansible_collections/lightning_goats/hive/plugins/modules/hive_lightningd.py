#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_lightningd
short_description: Have one version of lightningd on a node, from an archive its maintainer signed
description:
  - Verifies an official release archive on the controller - the signature of the list of checksums by exactly one key,
    the checksum in that list, the checksum that was expected - and only then sends it to the node.
  - Unpacks it beside the versions that are there, in a directory named by its digest. Nothing that runs is touched.
  - With O(program) it takes a lightningd that was installed by other means and only reports it.
author: [Lightning Hive Rollout contributors]
options:
  archive:
    description: The archive, as a path on the controller or as a URL, named as it was published
        (C(clightning-<version>-<system>.tar.xz)).
    type: str
    default: ""
  sha256:
    description: The checksum the archive must have. The signed list must say the same.
    type: str
    default: ""
  sums:
    description: The list of checksums, path or URL. Empty takes C(SHA256SUMS-<version>) beside O(archive).
    type: str
    default: ""
  signature:
    description: Its detached signature, path or URL. Empty takes O(sums) with C(.asc).
    type: str
    default: ""
  key:
    description: File on the controller with the public key of the maintainer, and with no other key.
    type: str
    default: ""
  signer:
    description: Full fingerprint of that key.
    type: str
    default: ""
  program:
    description: Path of a lightningd that is on the node already, instead of O(archive).
    type: str
    default: ""
  root:
    description: Directory on the node that the versions lie under.
    type: path
    default: /opt/lightningd
  keep:
    description: Versions to keep under O(root). The oldest go when a new one was installed, but none that runs or that
        a unit names.
    type: int
    default: 3
  cache_dir:
    description: Where downloaded archives are kept on the controller. A relative path starts at the repository.
    type: str
    default: var/lightningd
  user:
    description: Who runs the program when it is asked for its version. Empty is whoever runs the module.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Verifies the archive and says whether it would be installed. Nothing is sent to the node.
  diff_mode:
    support: full
    description: The versions on the node, before and after.
"""

EXAMPLES = r"""
- name: Install a release
  lightning_goats.hive.hive_lightningd:
    archive: https://releases.example.net/v25.12.1/clightning-v25.12.1-Ubuntu-24.04-amd64.tar.xz
    sha256: 0d3c1b2a4f5e69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0
    key: files/maintainer.asc
    signer: 0123 4567 89AB CDEF 0123  4567 89AB CDEF 0123 4567

- name: Take the one that the distribution installed
  lightning_goats.hive.hive_lightningd:
    program: /usr/bin/lightningd
"""

RETURN = r"""
lightningd:
  description: The version - C(version), C(program), C(cli), C(prefix), and C(digest) and C(signer) of its archive. In
    check mode, when it is not there yet, what its archive promises.
  type: dict
  returned: success
removed:
  description: Directories of old versions that were removed.
  type: list
  elements: str
  returned: when one was installed
versions:
  description: All versions under O(root), oldest first.
  type: list
  elements: dict
  returned: success
"""

import os
import pwd
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lightning_goats.hive.plugins.module_utils import _lightningd_install as versions
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError

TEXT: dict[str, Any] = {"type": "str", "default": ""}
OPTIONS: dict[str, Any] = {
    **dict.fromkeys(("archive", "sha256", "sums", "signature", "signer", "program", "user"), TEXT),
    "key": {"type": "str", "default": "", "no_log": False},
    "root": {"type": "path", "default": "/opt/lightningd"},
    "keep": {"type": "int", "default": 3},
    "cache_dir": {"type": "str", "default": "var/lightningd"},
    # Where the action plugin has put the verified archive.
    "incoming": TEXT,
}


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Report what is there, or install what the action plugin has verified and sent."""
    rights = _rights(parameters["user"])
    if parameters["program"]:
        found = versions.existing(Path(parameters["program"]), rights)
        return {"changed": False, "lightningd": found.as_facts(), "versions": [], "missing": False}
    root, digest = Path(parameters["root"]), parameters["sha256"].lower()
    before = versions.installed(root)
    found_there = versions.find(root, digest)
    facts: dict[str, Any] = {"changed": found_there is None, "missing": False, "versions": before, "diff": []}
    if found_there is not None:
        return {**facts, "lightningd": found_there.as_facts(), "msg": f"lightningd {found_there.version} is there"}
    if check_mode or not parameters["incoming"]:
        would = f"lightningd would be installed from {Path(parameters['archive']).name}"
        return {**facts, "lightningd": None, "missing": True, "msg": would}
    made = versions.install(Path(parameters["incoming"]), digest, parameters["signer"], root, rights)
    gone = versions.keep_newest(root, max(1, parameters["keep"]), digest)
    after = versions.installed(root)
    shown = {"before": versions.as_text(before), "after": versions.as_text(after)}
    return {
        **facts,
        "lightningd": made.as_facts(),
        "versions": after,
        "removed": gone,
        "diff": [{"before_header": str(root), "after_header": str(root), **shown}],
        "msg": f"lightningd {made.version} installed, signed by {made.signer}",
    }


def _rights(user: str) -> dict[str, Any]:
    if not user or os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise HiveError(f"user {user!r} does not exist on this node; set hive_user", "bad-node") from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    try:
        result = work(module.params, bool(module.check_mode))
    except HiveError as error:
        module.fail_json(msg=error.message, code=error.code)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

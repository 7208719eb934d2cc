"""What every module of the engine shares: the node's options, and errors as one sentence."""

from __future__ import annotations

from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from .errors import HiveError

NODE: dict[str, Any] = {
    "type": "dict",
    "required": True,
    "options": {
        "name": {"type": "str", "required": True},
        "runtime": {"type": "str", "required": True, "choices": ["process", "systemd", "docker"]},
        "lightning_dir": {"type": "path", "required": True},
        "network": {"type": "str", "required": True},
        "state_dir": {"type": "path", "required": True},
        "python": {"type": "str", "default": "/usr/bin/python3"},
        "lightningd": {"type": "list", "elements": "str", "default": []},
        "lightning_cli": {"type": "list", "elements": "str", "default": []},
        "config_file": {"type": "str", "default": ""},
        "service": {"type": "str", "default": "lightningd"},
        "container": {"type": "str", "default": ""},
        "docker_cli": {"type": "list", "elements": "str", "default": ["docker"]},
        "inside": {"type": "dict", "default": {}},
        "node_id": {"type": "str", "default": ""},
        "user": {"type": "str", "default": ""},
        "group": {"type": "str", "default": ""},
    },
}

TIMEOUTS: dict[str, Any] = {
    "type": "dict",
    "default": {},
    "options": {
        key: {"type": "float"}
        for key in ("getmanifest", "init", "stop", "rpc", "healthy", "ready", "validate", "engine")
    },
}

Work = Callable[[dict[str, Any], bool], dict[str, Any]]


def run(options: dict[str, Any], work: Work) -> None:
    """Be a module: take the options, do the work, leave with its result or with its refusal.

    Args:
        options: argument spec without the node's.
        work: gets the parameters and whether this is check mode; raises HiveError.
    """
    # What a module was asked for may hold secrets: it belongs neither into the node's syslog nor into the result.
    module = AnsibleModule(argument_spec={"node": NODE, **options}, supports_check_mode=True, no_log=True)
    try:
        parameters = dict(module.params)
        module.params.pop("stack", None)
        result = work(parameters, bool(module.check_mode))
    except HiveError as error:
        facts = {key: value for key, value in error.data.items() if key not in ("msg", "failed")}
        module.fail_json(msg=error.message, **{"code": error.code, "changed": False, **facts})
    module.exit_json(**result)

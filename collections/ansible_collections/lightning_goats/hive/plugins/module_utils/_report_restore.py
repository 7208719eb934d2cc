# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What the operator reads of a restore: what would change and what would be lost, plugin by plugin. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
SHORT = 12


def restore_text(result: Mapping[str, Any]) -> list[str]:
    """The paragraphs of a dry run, or of what was done; each may have several lines."""
    chosen: Json = result.get("set") or {}
    which = chosen.get("id")
    texts = [f"passed over {one.get('id')}: {one.get('reason')}" for one in result.get("passed_over") or []]
    if result.get("changed"):
        texts.append(f"restored backup set {which}; what it replaced is kept in {result.get('aside')}")
        return [*texts, *(str(line) for key in ("notes", "follows") for line in result.get(key) or [])]
    lost = [
        f"{table} of {plugin} {facts['lost']}"
        for plugin, tables in sorted((result.get("loss") or {}).items())
        for table, facts in sorted(tables.items())
        if facts.get("lost")
    ]
    texts.append(f"dry run of backup set {which}{_made(chosen)}; rows that would be lost: {', '.join(lost) or 'none'}")
    texts += [_plugin(name, facts) for name, facts in sorted((result.get("plugins") or {}).items())]
    return [*texts, *(str(note) for note in result.get("notes") or [])]


def restore_command(node: str, result: Mapping[str, Any]) -> str:
    """What to add to the command to restore for real."""
    words = [
        f"--limit {node}",
        f"-e hive_restore_set={(result.get('set') or {}).get('id')}",
        "-e hive_restore_apply=true",
    ]
    # Without what made this dry run possible the real one would be refused, or mean something else.
    words += [
        f"-e {name}={'true' if value is True else value}" for name, value in (result.get("allowed") or {}).items()
    ]
    if result.get("phrase"):
        words.append(f"-e 'hive_restore_phrase=\"{result['phrase']}\"'")
    return f"to restore: {' '.join(words)}"


def _made(chosen: Json) -> str:
    if not chosen.get("created_at"):
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(float(chosen["created_at"])))
    signed = "signed" if chosen.get("signed") else "NOT SIGNED"
    return f" of {when}, height {chosen.get('blockheight')}, {signed}"


def _plugin(name: str, facts: Json) -> str:
    rows: Json = facts.get("rows") or {}
    changing = {table: row for table, row in sorted(rows.items()) if row.get("lost") or row.get("back")}
    lines = [f"{name}: {_schema(facts.get('schema') or {})}{_identity(facts.get('identity') or {})}"]
    lines += [
        f"  {table}: {row['now']} rows now, {row['then']} in the set; {row['lost']} lost, {row['back']} brought back"
        for table, row in changing.items()
    ]
    if facts.get("there") and not rows:
        lines.append("  its present database cannot be read")
    elif len(rows) > len(changing):
        same = len(rows) - len(changing)
        lines.append(f"  {same} tables stay as they are" if same > 1 else "  1 table stays as it is")
    for key, prints in sorted((facts.get("key_files") or {}).items()):
        now, then = prints.get("now") or "none", prints.get("then") or "none"
        lines.append(f"  {key} stays ({now})" if now == then else f"  {key} changes from {now} to {then}")
    chain = facts.get("receipts")
    if chain:
        end = chain["then"]["count"] if chain.get("then") else 0
        gone = f"{chain['gone']} ({chain['first']} to {chain['last']})" if chain["gone"] else "0"
        parted = "; the two chains are not the same one" if chain["parted"] else ""
        lines.append(f"  receipts end at {chain['now']['count']} now and at {end} in the set: {gone} gone{parted}")
    return "\n".join(lines)


def _schema(schema: Json) -> str:
    now = "none" if schema.get("now") is None else str(schema["now"])
    text = f"schema {now} now, {schema.get('then')} in the set"
    after = schema.get("after")
    return text if after == schema.get("then") else f"{text}, {after} once it has started"


def _identity(who: Json) -> str:
    now, after = str(who.get("now") or ""), str(who.get("after") or "")
    if not now and not after:
        return ""
    if now == after:
        return f"; identity {now[:SHORT]} stays"
    return f"; IDENTITY {now[:SHORT] or 'none'} BECOMES {after[:SHORT] or 'a new one'}"

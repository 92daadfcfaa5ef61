"""`fleet nodes`: the registry by hand."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.operator.api import Api, under
from fleet.operator.reach import Reach
from fleet.operator.show import as_json, ask, facts, moment, table
from fleet.options import EXIT_USAGE, leave, takes

app = typer.Typer(no_args_is_help=True, help="List, add, replace, move and retire nodes.")

Node = Annotated[str, typer.Argument(help="The node's id.", metavar="NODE")]
Gateway = Annotated[str | None, typer.Option(help="Its home gateway.")]
Site = Annotated[str | None, typer.Option(help="Its site; with --gateway, that gateway's.")]
KeyFile = Annotated[
    Path | None, typer.Option(help="Write the node's new key into this new file instead of printing it.")
]
Chip = Annotated[str | None, typer.Option(help="Of the board: its chip, as in esp32-c3.")]
Model = Annotated[str | None, typer.Option(help="Of the board: its model.")]
RamKb = Annotated[int | None, typer.Option(help="Of the board: RAM in KiB.", min=0)]
FlashMb = Annotated[int | None, typer.Option(help="Of the board: flash in MiB.", min=0)]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask whether you mean it.")]
PATH = "/api/v1/fleet/nodes"


@app.command("list")
@takes(Reach)
def show_all(
    reach: Reach,
    status: Annotated[str | None, typer.Option(help="Only online, offline, down or unknown ones.")] = None,
    node_type: Annotated[str | None, typer.Option("--type", help="Only of this type, as in microclaw.")] = None,
    site: Annotated[str | None, typer.Option(help="Only of this site.")] = None,
) -> None:
    """List nodes."""
    found = ask(reach, "viewer", lambda api: api.all_nodes(status=status, node_type=node_type, location=site))
    if reach.as_json:
        as_json(found)
        return
    rows = [
        (
            node["node_id"],
            node["node_type"],
            node["status"],
            node["metadata"].get("site"),
            node["metadata"].get("gateway"),
            moment(node["last_heartbeat"]),
        )
        for node in found
    ]
    table(("node", "type", "status", "site", "gateway", "last heartbeat"), rows, "no nodes")


@app.command()
@takes(Reach)
def show(reach: Reach, node: Node) -> None:
    """Show one node, with its latest values."""

    def look(api: Api) -> dict[str, Any]:
        latest = api.get(under(PATH, node, "latest"))["latest"]
        return {**api.get(under(PATH, node)), "latest": latest}

    found = ask(reach, "viewer", look)
    if reach.as_json:
        as_json(found)
        return
    latest = found.pop("latest")
    _show_node(found)
    print()
    rows = [(each["metric"], each["value"], each.get("unit"), moment(each.get("utc"))) for each in latest]
    table(("metric", "latest value", "unit", "read"), rows, "no values yet")


@app.command()
@takes(Reach)
def add(
    reach: Reach,
    node: Node,
    gateway: Gateway = None,
    site: Site = None,
    node_type: Annotated[str, typer.Option("--type", help="microclaw, picoclaw, nanoclaw or moltclaw.")] = "microclaw",
    key_file: KeyFile = None,
    chip: Chip = None,
    model: Model = None,
    ram_kb: RamKb = None,
    flash_mb: FlashMb = None,
) -> None:
    """Add a node; prints its key, which is shown this once."""
    body: dict[str, Any] = {"node_id": node, "node_type": node_type, "gateway": gateway, "site": site}
    body["hardware"] = _hardware(chip, model, ram_kb, flash_mb)
    _with_key(reach, f"{node} is added", key_file, lambda api: api.ask("POST", PATH, _given(body)))


@app.command()
@takes(Reach)
def replace(
    reach: Reach,
    node: Node,
    key_file: KeyFile = None,
    chip: Chip = None,
    model: Model = None,
    ram_kb: RamKb = None,
    flash_mb: FlashMb = None,
) -> None:
    """Put another board in a node's place.

    It has the same id and a new key, which is shown this once; the key of the board before is worth nothing.
    """
    body = _given({"hardware": _hardware(chip, model, ram_kb, flash_mb)})
    _with_key(
        reach, f"{node} has a new board", key_file, lambda api: api.ask("POST", under(PATH, node, "replace"), body)
    )


@app.command()
@takes(Reach)
def move(reach: Reach, node: Node, gateway: Gateway = None, site: Site = None) -> None:
    """Give a node another home gateway, another site or both."""
    if gateway is None and site is None:
        leave(EXIT_USAGE, "say where to: --gateway, --site or both")
    body = _given({"gateway": gateway, "site": site})
    found = ask(reach, "admin", lambda api: api.ask("POST", under(PATH, node, "move"), body))
    where = found["metadata"]
    _said(reach, found, f"{node} is at home at {where.get('home') or 'no gateway'}, site {where.get('site')}")


@app.command()
@takes(Reach)
def decommission(reach: Reach, node: Node, yes: Yes = False) -> None:
    """Take a node out of the fleet; its readings stay."""
    _mean_it(f"take {node} out of the fleet for good", yes)
    ask(reach, "admin", lambda api: api.ask("DELETE", under(PATH, node)))
    _said(reach, {"node_id": node, "decommissioned": True}, f"{node} has left the fleet; its readings stay")


@app.command()
@takes(Reach)
def stolen(reach: Reach, node: Node, yes: Yes = False) -> None:
    """Mark a node stolen.

    Its key and its tokens are worth nothing from now on, and nothing is sent to it any more.
    """
    _mean_it(f"make the key of {node} worthless for good", yes)
    found = ask(reach, "admin", lambda api: api.ask("POST", under(PATH, node, "stolen")))
    _said(reach, found, f"{node} is marked stolen; a new board comes with fleet nodes replace {node}")


def _with_key(reach: Reach, done: str, key_file: Path | None, work: Any) -> None:
    """The file for the key is made first: a key that cannot be kept would be lost."""
    handle = None if key_file is None else _new_file(key_file)
    try:
        found = ask(reach, "admin", work)
        if handle is None or key_file is None or found["key"] is None:
            _show_key(reach, found, done)
            return
        with os.fdopen(os.dup(handle), "w") as file:
            file.write(found["key"] + "\n")
            file.flush()
            os.fsync(file.fileno())
        _said(reach, found | {"key": None, "key_file": str(key_file)}, f"{done}; its key is in {key_file}")
    finally:
        if handle is not None and key_file is not None:
            if os.fstat(handle).st_size == 0:
                key_file.unlink(missing_ok=True)
            os.close(handle)


def _show_key(reach: Reach, found: dict[str, Any], done: str) -> None:
    if reach.as_json:
        as_json(found)
    elif found["key"] is None:  # an agent has none: it registers
        print(f"{done}; it gets its token when it registers")
    else:
        print(f"{done}; its key is shown this once:", file=sys.stderr)
        print(found["key"])


def _new_file(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        leave(EXIT_USAGE, f"--key-file {path}: {error.strerror}")


def _mean_it(what: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        leave(EXIT_USAGE, f"this would {what}: say so with --yes")
    if not typer.confirm(f"Really {what}?"):
        raise SystemExit(1)


def _said(reach: Reach, found: Any, words: str) -> None:
    if reach.as_json:
        as_json(found)
    else:
        print(words)


def _show_node(node: dict[str, Any]) -> None:
    told = dict(node)
    where = told.pop("metadata")
    for name in ("last_heartbeat", "registered_at"):
        told[name] = moment(told[name])
    told["hardware"] = ", ".join(f"{name} {value}" for name, value in _given(told["hardware"] or {}).items())
    told["capabilities"] = ", ".join(told["capabilities"])
    facts({name.replace("_", " "): value for name, value in (told | where).items()})


def _hardware(chip: str | None, model: str | None, ram_kb: int | None, flash_mb: int | None) -> dict[str, Any] | None:
    return _given({"chip": chip, "model": model, "ram_kb": ram_kb, "flash_mb": flash_mb}) or None


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}

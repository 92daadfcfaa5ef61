"""A gateway's configuration as the fleet manager pushes it: one full snapshot, versioned, hashed, node keys sealed.

Rules, the site's nodes and their keys travel together, so a gateway never runs on half a change. The node keys are
sealed to the gateway with AES-256-GCM under a key derived from the gateway's own, so neither the hub nor a copy of the
gateway's disk gives them away.
"""

import base64
import hashlib
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from firmware.wire.auth import KEY_BYTES, hmac_sha256
from firmware.wire.ids import valid_id
from firmware.wire.messages import MAX_SEQ, is_count
from fleet.wire.rule import BASE, capable, check_rule
from fleet.wire.uplink import MAX_HUB_BYTES, Message, Rejected, count_of, decode, text_of

MAX_SNAPSHOT_BYTES = MAX_HUB_BYTES

NONCE_BYTES = 12  # NIST SP 800-38D, section 8.2: 96 bits, never twice under one key


class BadRules(Rejected):
    """A snapshot that arrived as it was sent, with a rule in it that cannot be evaluated here."""

    def __init__(self, version: int, reason: str) -> None:
        super().__init__(reason)
        self.version = version


def build(
    version: int,
    rules: list[Message],
    keys: dict[str, bytes],
    gateway: str,
    gateway_key: bytes,
    nonce: bytes,
    answers: list[str] | None = None,
    places: Message | None = None,
) -> Message:
    """The snapshot of `version` for `gateway`: `{"v", "version", "hash", "rules", "sealed_keys"}` and, if given,
    `answers`: of the nodes that it may hear by radio, those to which it is the one that answers;
    `places`: `{"homes": {node: gateway}, "groups": {node: [group]}, "members": {scope: how many nodes it has}}`.
    """
    plain = orjson.dumps({node: key.hex() for node, key in keys.items()}, option=orjson.OPT_SORT_KEYS)
    sealed = nonce + _cipher(gateway_key).encrypt(nonce, plain, gateway.encode())
    body: Message = {"version": version, "rules": rules, "sealed_keys": base64.b64encode(sealed).decode()}
    if answers is not None:
        body["answers"] = answers
    if places:
        body["places"] = places
    return {"v": 1, "hash": digest(body), **body}


def digest(body: Message) -> str:
    """SHA-256 over rules, keys, version and, where they are there, who is answered by radio and places; in hex."""
    covered = {name: body.get(name) for name in ("version", "rules", "sealed_keys")}
    covered |= {name: body[name] for name in ("answers", "places") if name in body}
    return hashlib.sha256(orjson.dumps(covered, option=orjson.OPT_SORT_KEYS)).hexdigest()


def read(
    payload: bytes, gateway: str, gateway_key: bytes, able: frozenset[str] = BASE
) -> tuple[Message, dict[str, bytes]]:
    """The checked snapshot, with `answers`, for an evaluator that is `able`, and the node keys in it. Raises
    Rejected."""
    snapshot = decode(payload, MAX_SNAPSHOT_BYTES)
    count_of(snapshot, "version")
    if text_of(snapshot, "hash") != digest(snapshot):
        raise Rejected("the hash does not match")
    try:
        _check_rules(snapshot.get("rules"), able)
    except Rejected as error:
        raise BadRules(snapshot["version"], str(error)) from error
    _check_answers(snapshot.setdefault("answers", []))
    _check_places(snapshot.setdefault("places", {}))
    return snapshot, _open_keys(snapshot.get("sealed_keys"), gateway, gateway_key)


def _check_rules(rules: Any, able: frozenset[str]) -> None:
    if not isinstance(rules, list):
        raise Rejected("rules is not a list")
    for rule in rules:
        check_rule(rule)
        if not capable(rule, able):
            raise Rejected(f"rule {rule['name']}: only the fleet manager can evaluate it")
    if len({rule["name"] for rule in rules}) != len(rules):
        raise Rejected("two rules have one name")


def _check_answers(answers: Any) -> None:
    if not isinstance(answers, list) or not all(map(valid_id, answers)):
        raise Rejected("answers is not a list of node ids")


def _check_places(places: Any) -> None:
    checks = {"homes": valid_id, "groups": _is_list_of_ids, "members": lambda count: is_count(count, MAX_SEQ)}
    if not isinstance(places, dict):
        raise Rejected("places is not an object")
    for name, check in checks.items():
        table = places.setdefault(name, {})
        if not isinstance(table, dict) or not all(map(check, table.values())):
            raise Rejected(f"{name} is malformed")


def _is_list_of_ids(found: Any) -> bool:
    return isinstance(found, list) and all(map(valid_id, found))


def _cipher(gateway_key: bytes) -> AESGCM:
    return AESGCM(hmac_sha256(gateway_key, b"clawland snapshot keys"))


def _open_keys(sealed: Any, gateway: str, gateway_key: bytes) -> dict[str, bytes]:
    try:
        blob = base64.b64decode(sealed, validate=True)
        plain = orjson.loads(_cipher(gateway_key).decrypt(blob[:NONCE_BYTES], blob[NONCE_BYTES:], gateway.encode()))
        keys = {node: bytes.fromhex(key) for node, key in plain.items()}
    except (TypeError, ValueError, AttributeError, InvalidTag) as error:
        raise Rejected("the node keys are not sealed to this gateway") from error
    if not all(valid_id(node) and len(key) == KEY_BYTES for node, key in keys.items()):
        raise Rejected("a node id or key is malformed")
    return keys

"""The file of data keys, which close sensitive values in the database: one key a line, the newest first.

Which keys the database needs is written down in it (the row `data-keys` of `slots`), so that a key that is missing is
found at the start, and one that no value needs any more can be told.
"""

import os
import secrets
from pathlib import Path
from typing import Any

from sqlalchemy import select

from fleet.core.vault import KEY_BYTES, Vault, VaultError, key_id
from fleet.host.settings import MAX_SECRET_BYTES, SettingsError, warn_if_shared
from fleet.host.storage import Storage
from fleet.host.tables import CORE_TABLES

SLOT = "data-keys"


def read(path: Path) -> list[bytes]:
    """The keys in a file, the newest first. Raises SettingsError, which says nothing of them."""
    try:
        with path.open("rb") as file:
            warn_if_shared(path, file.fileno())
            lines = file.read(MAX_SECRET_BYTES + 1).split()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    try:
        keys = [bytes.fromhex(line.decode()) for line in lines]
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys) or len(b"".join(lines)) > MAX_SECRET_BYTES:
        raise SettingsError(
            f"{path}: expected keys of {2 * KEY_BYTES} hexadecimal digits, one a line, the newest first"
        )
    return keys


def vault_of(path: Path | None) -> Vault:
    """The keys of the file, which is looked at again when the database names another; none without a file.

    Raises SettingsError.
    """
    if path is None:
        return Vault([], os.urandom)

    def more() -> list[bytes]:
        try:
            return read(path)
        except SettingsError:
            return []

    return Vault(read(path), os.urandom, more)


def rotate(path: Path) -> str:
    """Puts a new key before those in the file, or makes the file; the new key's id. Raises SettingsError."""
    keys = [secrets.token_bytes(KEY_BYTES), *(read(path) if path.exists() else [])]
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write("".join(f"{key.hex()}\n" for key in keys))
            file.flush()
            os.fsync(handle)
        draft.replace(path)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    return key_id(keys[0])


def needed(storage: Storage) -> list[str]:
    """The ids of the keys that values in the database may be closed with. Raises StorageError."""
    return list(_slot(storage)["ids"])


def settle(storage: Storage) -> None:
    """At the start of a server, before it closes anything: its newest key is needed from now on.

    Raises VaultError when one that is needed is missing, StorageError.
    """
    vault, doc = storage.vault, _slot(storage)
    check(storage)
    if vault.newest is not None and (vault.newest not in doc["ids"] or doc["closing"] != vault.newest):
        ids = [vault.newest, *(name for name in doc["ids"] if name != vault.newest)]
        _write(storage, {"ids": ids, "closing": vault.newest})


def check(storage: Storage) -> None:
    """Raises VaultError when a key is missing that values may be closed with, StorageError."""
    missing = [name for name in needed(storage) if name not in storage.vault.ids]
    if missing:
        reason = "and values may be closed with it: --data-key-file has to name a file that holds it"
        raise VaultError(f"the data key {missing[0]} is missing, {reason}")


def check_closing(storage: Storage) -> None:
    """Raises VaultError when a server was last started with another key than the newest: it may still run."""
    closing, newest = _slot(storage)["closing"], storage.vault.newest
    if closing not in (None, newest):
        raise VaultError(f"the server closes with the key {closing}: start it again, so that it closes with {newest}")


def retire(storage: Storage) -> list[str]:
    """From now on nothing but the newest key is needed; those that were. Raises StorageError."""
    newest, doc = storage.vault.newest, _slot(storage)
    gone = [name for name in doc["ids"] if name != newest]
    if newest is not None:
        _write(storage, {"ids": [newest], "closing": newest})
    return gone


def _slot(storage: Storage) -> dict[str, Any]:
    slots = CORE_TABLES["slots"]
    with storage.reading() as connection:
        doc = connection.execute(select(slots.c.doc).where(slots.c.name == SLOT)).scalar()
    return doc or {"ids": [], "closing": None}


def _write(storage: Storage, doc: dict[str, Any]) -> None:
    storage.perform([("upsert", "slots", {"name": SLOT, "doc": doc})])

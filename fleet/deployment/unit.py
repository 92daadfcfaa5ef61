"""The systemd unit of a server."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fleet.deployment.template import DeploymentError, filled, word


def unit(program: Path, config: Path | None, credentials: Sequence[str], known: Mapping[str, str]) -> str:
    """The unit's text; `credentials` are OPTION=FILE, and `known` the variable of each option that names a secret file.

    Raises DeploymentError.
    """
    arguments = "" if config is None else f" --config {_place('--config', config)}"
    lines = [line for each in credentials for line in _credential(each, known)]
    values = {"program": _place("--program", program), "arguments": arguments}
    return filled("fleet.service", values | {"credentials": "\n".join(lines)})


def _credential(given: str, known: Mapping[str, str]) -> list[str]:
    """systemd reads the file as root, and hands it to the server alone."""
    option, equals, file = given.partition("=")
    option = option.removeprefix("--")
    if not equals or option not in known:
        raise DeploymentError(f"--credential {given!r}: expected OPTION=FILE with one of {', '.join(sorted(known))}")
    return [
        f"LoadCredential={option}:{_place('--credential', Path(file))}",
        f"Environment={known[option]}=%d/{option}",
    ]


def _place(option: str, path: Path) -> str:
    if not path.is_absolute():
        raise DeploymentError(f"{option}: {path} is not an absolute path, and systemd starts nowhere in particular")
    return word(option, str(path))

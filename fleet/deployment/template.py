"""Files with holes."""

import string
from collections.abc import Mapping
from importlib.resources import files


class DeploymentError(Exception):
    """What was given cannot stand in such a file; the text is for the user."""


class _Template(string.Template):
    delimiter = "@"


def filled(name: str, values: Mapping[str, str]) -> str:
    """The file `name` of this package with `values` in its holes."""
    return _Template((files(__package__) / name).read_text(encoding="utf-8")).substitute(values)


def word(option: str, text: str, forbidden: str = "\"'\\;{}$%#") -> str:
    """`text`, when it is one word that means nothing else to the program that reads the file."""
    if not text or not text.isprintable() or any(each.isspace() or each in forbidden for each in text):
        raise DeploymentError(f"{option}: {text!r} cannot stand there: no spaces and none of {forbidden}")
    return text

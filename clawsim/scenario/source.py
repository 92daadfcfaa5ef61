"""YAML with marks: the plain data of a file, where every key and every value still knows its line and column.

Scalars follow YAML 1.2's core schema, not PyYAML's 1.1: ``on`` is a key like any other and not ``true``, ``12:30`` is
text and not 750, a date is text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from clawsim.scenario.errors import Mark, Problem, Problems, ScenarioError

MAX_BYTES = 256 * 1024
MAX_VALUES = 100_000
"""Values in a file after its aliases are expanded; what an alias bomb runs into."""
MAX_DEPTH = 32

_TAG = "tag:yaml.org,2002:"
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters (what an escape can smuggle in would steer the terminal that shows it) and half surrogates."""
_INT = re.compile(r"[-+]?[0-9]{1,40}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,40}|[0-9]{1,40}(?:\.[0-9]{0,40})?)(?:[eE][-+]?[0-9]{1,2})?")


class YamlMap(dict[str, Any]):
    """A mapping of the file; ``keys_at`` and ``values_at`` say where each key and its value are written.

    ``label`` is what messages call it, once it has a name.
    """

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.label = ""
        self.keys_at: dict[str, Mark] = {}
        self.values_at: dict[str, Mark] = {}

    def put(self, key: str, value: Any, key_at: Mark, value_at: Mark) -> None:
        """Set ``key`` and remember where it and its value are written."""
        self[key] = value
        self.keys_at[key] = key_at
        self.values_at[key] = value_at


class YamlList(list[Any]):
    """A sequence of the file; ``items_at`` says where each item is written."""

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.items_at: list[Mark] = []

    def drop(self, item: Any) -> None:
        """Take out ``item`` itself, not an equal one; nothing happens when it is not (or no longer) there."""
        for index, found in enumerate(self):
            if found is item:
                del self[index], self.items_at[index]
                return


class _Loader(yaml.SafeLoader):
    """Composes only. Types are decided by :class:`_Builder`, so that no implicit YAML 1.1 type applies."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's interface)
    _depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Refuse depth while the text is read: PyYAML's time grows with its square."""
        self._depth += 1
        if self._depth > 2 * MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=self.get_mark())
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_file(path: Path, problems: Problems) -> Any:
    """The data of the YAML file; duplicate keys and bad values go to ``problems``.

    Raises :class:`ScenarioError` when there is nothing to work with: no such file, not UTF-8, too large, not YAML.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _failure(str(path), _why_unreadable(path, error)) from error
    if len(raw) > MAX_BYTES:
        raise _failure(str(path), f"is larger than {MAX_BYTES // 1024} KiB, which no scenario needs")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise _failure(str(path), f"is not UTF-8 text: byte 0x{raw[error.start]:02x}", line, column) from error
    return read_text(text, str(path), problems)


def _why_unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a directory, not a scenario file"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def read_text(text: str, source: str, problems: Problems, fixed: Mark | None = None) -> Any:
    """The data of a YAML text called ``source``; with ``fixed``, every value is marked there (an option)."""
    node = _compose(text, source, fixed)
    if node is None:
        raise _failure(source, "is empty")
    return _Builder(source, problems, fixed).build(node)


def _compose(text: str, source: str, fixed: Mark | None) -> Node | None:
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _bad_yaml(source, fixed, _in_words(error), *_line_column(mark)) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        character = error.character if isinstance(error.character, int) else ord(error.character)
        message = f"the control character U+{character:04X} is not allowed"
        raise _bad_yaml(source, fixed, message, line, column) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # an escape beyond Unicode, a version of 5,000 digits
        raise _bad_yaml(source, fixed, str(error).splitlines()[0], 0, 0) from error


def _line_column(mark: yaml.Mark | None) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


def _in_words(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "malformed"
    if "'\\t'" in problem:
        return f"{problem}; indent with spaces, not tabs"
    if "mapping values are not allowed" in problem:
        return f"{problem}; quote a text that contains ': '"
    return f"{problem} ({error.context})" if error.context and error.problem else problem


def _bad_yaml(source: str, fixed: Mark | None, message: str, line: int, column: int) -> ScenarioError:
    if fixed is not None:
        return ScenarioError([Problem(fixed, f"not YAML: {message}")])
    return _failure(source, f"not YAML: {message}", line, column)


def _failure(source: str, message: str, line: int = 0, column: int = 0) -> ScenarioError:
    return ScenarioError([Problem(Mark(source, line, column), message)])


class _Builder:
    """Turns composed nodes into plain data, within the limits, noting what is wrong on the way."""

    def __init__(self, source: str, problems: Problems, fixed: Mark | None) -> None:
        self._source = source
        self._problems = problems
        self._fixed = fixed
        self._values = 0

    def build(self, node: Node, depth: int = 0) -> Any:
        self._values += 1
        if depth > MAX_DEPTH:  # also where an alias contains itself
            raise ScenarioError([Problem(self._mark(node), f"nested more than {MAX_DEPTH} deep")])
        if self._values > MAX_VALUES:
            raise ScenarioError([Problem(self._mark(node), f"more than {MAX_VALUES} values, aliases included")])
        if isinstance(node, MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, SequenceNode):
            return self._sequence(node, depth)
        assert isinstance(node, ScalarNode)  # noqa: S101 (a node is one of the three)
        return self._scalar(node)

    def _mapping(self, node: MappingNode, depth: int) -> YamlMap:
        self._refuse_tag(node, f"{_TAG}map")
        data = YamlMap(self._mark(node))
        for key_node, value_node in node.value:
            key = self._key(key_node)
            value = self.build(value_node, depth + 1)
            if key in data:
                self._problems.add(
                    self._mark(key_node), f"duplicate key '{key}'; the first is at line {data.keys_at[key].line}"
                )
            elif key:
                data.put(key, value, self._mark(key_node), self._mark(value_node))
        return data

    def _key(self, node: Node) -> str:
        if isinstance(node, ScalarNode) and node.value and not _NOT_TEXT.search(node.value):
            return str(node.value)
        self._problems.add(self._mark(node), "a key must be a text")
        return ""

    def _sequence(self, node: SequenceNode, depth: int) -> YamlList:
        self._refuse_tag(node, f"{_TAG}seq")
        data = YamlList(self._mark(node))
        for item in node.value:
            data.append(self.build(item, depth + 1))
            data.items_at.append(self._mark(item))
        return data

    def _scalar(self, node: ScalarNode) -> Any:
        self._refuse_tag(node, f"{_TAG}str")
        strange = _NOT_TEXT.search(node.value)
        if strange is not None:
            self._problems.add(
                self._mark(node), f"U+{ord(strange[0]):04X} is not text; raw payloads can be given as hex"
            )
            return ""
        return plain_value(node.value) if node.style is None else node.value

    def _refuse_tag(self, node: Node, expected: str) -> None:
        if node.tag not in (expected, "!"):
            self._problems.add(self._mark(node), f"the tag {node.tag.replace(_TAG, '!!')} has no meaning in a scenario")

    def _mark(self, node: Node) -> Mark:
        if self._fixed is not None:
            return self._fixed
        return Mark(self._source, node.start_mark.line + 1, node.start_mark.column + 1)


def plain_value(text: str) -> Any:
    """The value of an unquoted scalar in YAML 1.2's core schema: null, a boolean, a number, or the text itself."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def plain(value: Any) -> Any:
    """``value`` as ordinary dicts and lists, without marks."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value

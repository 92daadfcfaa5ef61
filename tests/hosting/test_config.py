"""A configuration error says which file, which key, and what to write."""

from pathlib import Path

import pytest

from firmware.hosting.config import ConfigError, load_toml, read_key_file
from firmware.hosting.toml_place import line_and_column


def table(tmp_path: Path, text: str, **overrides: tuple[str, str]):  # type: ignore[no-untyped-def]
    file = tmp_path / "a.toml"
    file.write_text(text)
    return load_toml(file, {path.replace("__", "."): value for path, value in overrides.items()})


def test_a_missing_file_and_bad_toml_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load_toml(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"a\.toml:1:5: is not TOML: .*line 1"):
        table(tmp_path, "a = = 1")
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_toml(tmp_path / "a.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_toml(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.toml: t.n: is missing"),
        ("[t]\nn = 'x'", "a.toml:2:1: t.n: must be an integer, not 'x'"),
        ("[t]\nn = true", "a.toml:2:1: t.n: must be an integer, not True"),
        ("[t]\nn = 70000", "a.toml:2:1: t.n: must be from 1 to 65535, not 70000"),
        ("t = 5", "a.toml:1:1: t: must be a table, [t], not 5"),
    ],
)
def test_a_bad_value_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        table(tmp_path, text).table("t").integer("n", 1, 65535)
    assert str(error.value) == f"{tmp_path}/{message}"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("top", (1, 1)),
        ("t.n", (4, 3)),
        ("t.none", (3, 1)),
        ("t.long", (5, 3)),
        ("t.sub.deep", (10, 1)),
        ("t.dotted.key", (8, 1)),
        ("s[0].a", (12, 1)),
        ("s[1].a", (14, 3)),
        ("u", None),
    ],
)
def test_a_key_is_found_by_line_and_column(path: str, place: tuple[int, int] | None) -> None:
    long = '  long = """\nn = 5\n[no.table]"""'
    text = f"top = 1\n# t.n = 4\n[t] # n = 3\n  n = 'a = [x]'\n{long}\ndotted.\"key\" = 1\n"
    text += "[t.sub]\ndeep = {{ n = 1 }}\n[[s]]\na = 1\n[[ s ]]\n  a = 2\n".replace("{{", "{").replace("}}", "}")
    assert line_and_column(text, path) == place


def test_a_misspelt_key_gets_a_suggestion(tmp_path: Path) -> None:
    found = table(tmp_path, "[t]\nhots = 'x'").table("t")
    found.text("host", "")
    with pytest.raises(ConfigError, match=r"t\.hots: unknown key; did you mean 'host'\?"):
        found.finish()


def test_an_override_wins_and_its_errors_name_its_source(tmp_path: Path) -> None:
    found = table(tmp_path, "[t]\nn = 1", t__n=("CLAWLAND_T_N", "7"), t__b=("--b", "maybe")).table("t")
    assert found.integer("n", 1, 9) == 7
    with pytest.raises(ConfigError, match=r"^--b: must be true or false, not 'maybe'"):
        found.boolean("b")


def test_a_relative_path_counts_from_the_file_and_an_overriding_one_from_here(tmp_path: Path) -> None:
    found = table(tmp_path, "[t]\na = 'x'\nb = 'y'", t__b=("--b", "z")).table("t")
    assert found.path("a") == tmp_path / "x"
    assert found.path("b") == Path("z")


def test_a_key_file_must_be_private_and_hold_a_key_and_its_errors_never_show_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("ab" * 32 + "\n")
    path.chmod(0o604)
    with pytest.raises(ValueError, match="chmod 600"):
        read_key_file(path)
    path.chmod(0o600)
    assert read_key_file(path) == bytes([0xAB]) * 32
    for bad in ("ab" * 31, "xy" * 32, "", "ab" * 33):
        path.write_text(bad)
        with pytest.raises(ValueError, match="64 hexadecimal digits") as error:
            read_key_file(path)
        assert not bad or bad not in str(error.value)
    with pytest.raises(ValueError, match="No such file"):
        read_key_file(tmp_path / "none")

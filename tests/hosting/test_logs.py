"""Logs: for people or as JSON lines, a storm is a line with a count, and no secret is ever in one."""

import io
import json
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from typer.testing import CliRunner

from firmware.cli import app as firmware_app
from firmware.hosting import logs, secrecy
from firmware.hosting.logs import ALWAYS, check_log_options, configure_logs
from firmware.hosting.secrecy import conceal, hidden, without_secrets
from firmware.hosting.storms import MOST_TEXTS, WINDOW_S, Storms
from nanoclaw.cli import app as nanoclaw_app
from tests.nanoclaw_host.rig import gateway_config, node_config, write_key

LOG = logging.getLogger("clawland.test")
KEY = "5f" * 32
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJl"


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch, own_logging: None) -> io.StringIO:
    """What a process that logs writes."""
    written = io.StringIO()
    monkeypatch.setattr(logs, "sys", SimpleNamespace(stderr=written))
    return written


def lines(written: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_json_is_one_object_a_line_from_both_ways_of_logging(stderr: io.StringIO) -> None:
    configure_logs("info", "json", gateway="gateway-01")
    LOG.warning("port %d is slow", 7)
    structlog.get_logger("nanoclaw").info("started", site="office")
    first, second = lines(stderr)
    assert {"event": "port 7 is slow", "level": "warning", "logger": "clawland.test"}.items() <= first.items()
    assert {"event": "started", "level": "info", "site": "office", "gateway": "gateway-01"}.items() <= second.items()
    assert all(str(each["timestamp"]).endswith("Z") for each in (first, second))


def test_text_is_one_line_a_message_whatever_a_peer_says(stderr: io.StringIO) -> None:
    configure_logs("info", "text")
    LOG.info("it said %s", "hello\n2026-01-01 [error] forged \x1b[2J")
    assert stderr.getvalue().count("\n") == 1
    assert "\x1b" not in stderr.getvalue()
    assert "it said hello\\n2026" in stderr.getvalue()


def test_an_exception_is_told_with_its_traceback_and_without_its_secrets(stderr: io.StringIO) -> None:
    configure_logs("info", "json")
    try:
        raise ValueError(f"cannot connect to postgresql://fleet:open-sesame@db/fleet with key {KEY}")
    except ValueError:
        LOG.exception("it failed")
    (line,) = lines(stderr)
    assert "Traceback" in str(line["exception"]) and "postgresql://fleet:***@db/fleet" in str(line["exception"])
    assert "open-sesame" not in stderr.getvalue() and KEY not in stderr.getvalue()


def test_below_the_level_nothing_is_written(stderr: io.StringIO) -> None:
    configure_logs("warning", "text")
    LOG.info("a detail")
    structlog.get_logger("nanoclaw").info("another")
    assert stderr.getvalue() == ""


def test_a_storm_of_the_same_message_is_one_line_and_then_a_count(stderr: io.StringIO) -> None:
    configure_logs("info", "json")
    for _ in range(5_000):
        LOG.warning("message of %s rejected: %s", "gateway-01", "not JSON")
    assert len(lines(stderr)) == 1
    for handler in logging.getLogger().handlers:
        handler.close()  # as at the end of the process
    told = lines(stderr)[1]
    assert told["event"] == "message of gateway-01 rejected: not JSON" and told["repeated"] == 4_999


def test_what_people_must_be_told_is_written_however_often(stderr: io.StringIO) -> None:
    configure_logs("info", "text")
    for number in range(3 * MOST_TEXTS):
        LOG.warning("node %d is down", number, extra=ALWAYS)
    assert stderr.getvalue().count("\n") == 3 * MOST_TEXTS


def test_a_message_that_does_not_fit_its_arguments_stops_nobody(
    stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    configure_logs("info", "text")
    LOG.info("%d things", "many")
    LOG.info("goes on")
    assert "goes on" in stderr.getvalue()


def test_what_was_held_back_is_not_told_to_a_stream_that_was_closed(
    stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logs("info", "text")
    for _ in range(50):
        LOG.warning("the same again")
    (handler,) = logging.getLogger().handlers
    stderr.close()
    heard = io.StringIO()
    monkeypatch.setattr("sys.stderr", heard)
    handler.close()
    assert heard.getvalue() == "", "no traceback of the logging library"


@pytest.mark.parametrize(("level", "style", "said"), [("loud", "text", "--log-level"), ("info", "xml", "--log-format")])
def test_an_unknown_level_or_format_is_named(level: str, style: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_log_options(level, style)


# --- storms ----------------------------------------------------------------------------------------------------------


def test_different_messages_of_one_kind_are_written_up_to_a_number() -> None:
    storms: Storms[str] = Storms()
    admitted = [storms.admit("kind", f"text {n}", f"text {n}", 0.0) for n in range(MOST_TEXTS + 5)]
    assert admitted == [True] * MOST_TEXTS + [False] * 5
    assert storms.admit("another kind", "text", "text", 0.0)


def test_a_storm_that_goes_on_is_told_once_a_window_and_a_quiet_window_ends_it() -> None:
    storms: Storms[str] = Storms()
    assert storms.admit("kind", "text", "first", 0.0)
    assert storms.next_s() is None
    assert not storms.admit("kind", "text", "second", 1.0)
    assert storms.next_s() == WINDOW_S
    assert storms.over(WINDOW_S - 1) == []
    assert storms.over(WINDOW_S) == [("second", 1)]
    assert not storms.admit("kind", "text", "third", WINDOW_S + 1)
    assert storms.over(2 * WINDOW_S) == [("third", 1)]
    assert storms.over(3 * WINDOW_S) == []
    assert storms.admit("kind", "text", "later", 3 * WINDOW_S + 1)


def test_kinds_without_end_are_forgotten_the_oldest_first() -> None:
    storms: Storms[int] = Storms()
    for number in range(3_000):
        assert storms.admit(number, "text", number, 0.0)
    assert len(storms._windows) == 1_000


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"Authorization: Bearer {JWT}", JWT),
        (f"the token {JWT} is old", JWT),
        ("reg_0123456789abcdefghijkl came twice", "reg_0123456789abcdefghijkl"),
        (f"key {KEY} of sensor-01", KEY),
        ("redis://:hunter22@cache:6379/0 refused", "hunter22"),
        ('{"password": "hunter22", "user": "bob"}', "hunter22"),
        ("?api_key=hunter22&x=1", "hunter22"),
        ("-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----", "MIGHAgEA"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, secret: str) -> None:
    assert secret not in hidden(text) and secrecy.HIDDEN in hidden(text)


def test_a_secret_that_was_read_is_hidden_wherever_it_turns_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrecy, "_concealed", set())
    conceal("correct horse")
    assert hidden("it said 'correct horse' to me") == "it said '***' to me"


def test_a_field_is_hidden_by_its_name_at_any_depth_and_a_files_name_is_not() -> None:
    line = {"event": "x", "user": {"name": "bob", "new_password": "1"}, "items": [{"token": 5}], "key_file": "/a/b"}
    assert without_secrets(line) == {
        "event": "x",
        "user": {"name": "bob", "new_password": "***"},
        "items": [{"token": "***"}],
        "key_file": "/a/b",
    }


@pytest.mark.parametrize("text", ["the token has expired", "--hub-password-file is missing", "http://127.0.0.1:8080/x"])
def test_ordinary_words_stay(text: str) -> None:
    assert hidden(text) == text


def test_what_the_logs_need_loads_no_cloud_and_no_simulator() -> None:
    program = "import sys, firmware.hosting.logs; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "structlog" in loaded
    assert not {"fastapi", "starlette", "uvicorn", "sqlalchemy", "simpy", "numpy", "amqtt"} & set(loaded)


@pytest.mark.parametrize("process", ["nanoclaw", "firmware"])
def test_a_format_that_does_not_exist_ends_a_process_of_either_tier_with_words(process: str, tmp_path: Path) -> None:
    write_key(tmp_path / "node.key", bytes(32))
    write_key(tmp_path / "gateway.key", bytes(32))
    command, config = {
        "nanoclaw": (nanoclaw_app, gateway_config(tmp_path, 1883)),
        "firmware": (firmware_app, node_config(tmp_path, 1, more="seed = 7")),
    }[process]
    done = CliRunner().invoke(command, ["run", "--config", str(config)], env={"CLAWLAND_LOG_FORMAT": "xml"})
    assert (done.exit_code, done.output) == (2, "error: --log-format: must be one of text, json, not 'xml'\n")

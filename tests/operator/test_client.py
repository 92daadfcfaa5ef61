"""An operator's commands without a server: whom they ask, with whose token, and how an answer becomes a line."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from fleet.cli import app
from fleet.host.lock import DirectoryLock
from fleet.host.tokens import load_key, verify
from fleet.operator.api import Api, ApiError
from fleet.operator.reach import Reach, connect
from fleet.operator.show import moment, span, table, text

Answer = Callable[[httpx.Request], httpx.Response]


def api(answer: Answer) -> Api:
    return Api(httpx.Client(base_url="http://fleet", transport=httpx.MockTransport(answer)))


def token_of(client: Api) -> str:
    return str(client._http.headers["authorization"]).removeprefix("Bearer ")


def problem(status: int, message: str = "it is so") -> Answer:
    return lambda _request: httpx.Response(status, json={"error": "word", "message": message, "status": status})


@pytest.mark.parametrize(
    ("status", "code"), [(400, 1), (404, 1), (409, 1), (401, 4), (403, 4), (429, 3), (503, 3), (500, 1)]
)
def test_a_problem_is_its_message_and_a_fitting_exit_code(status: int, code: int) -> None:
    with api(problem(status)) as client, pytest.raises(ApiError, match=r"^it is so$") as error:
        client.get("/x")
    assert error.value.code == code


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>hello"), httpx.Response(502, text="Bad Gateway")])
def test_an_answer_of_something_else_is_named_as_such(answer: httpx.Response) -> None:
    with api(lambda _request: answer) as client, pytest.raises(ApiError, match="not as a fleet manager does") as error:
        client.get("/x")
    assert error.value.code == 3


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "is the server running"),
        (httpx.ReadTimeout("slow"), "no answer within 10 s"),
        (httpx.ConnectError("certificate verify failed"), "certificate verify failed"),
    ],
)
def test_a_server_out_of_reach_is_exit_3_and_says_why(error: httpx.HTTPError, said: str) -> None:
    def fails(_request: httpx.Request) -> httpx.Response:
        raise error

    with api(fails) as client, pytest.raises(ApiError, match=said) as found:
        client.get("/x")
    assert found.value.code == 3


def test_lists_are_read_page_by_page_and_no_further_than_asked() -> None:
    def pages(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        nodes = [{"node_id": f"n-{number}"} for number in range(100 * page - 100, min(250, 100 * page))]
        return httpx.Response(200, json={"nodes": nodes, "pagination": {"total": 250}})

    def cursors(request: httpx.Request) -> httpx.Response:
        first = int(request.url.params.get("cursor", "0"))
        limit = int(request.url.params["limit"])
        return httpx.Response(200, json={"alerts": list(range(first, first + limit)), "next_cursor": first + limit})

    with api(pages) as client:
        assert len({node["node_id"] for node in client.all_nodes()}) == 250
    with api(cursors) as client:
        assert list(client.follow("/alerts", "alerts", 1_500)) == list(range(1_500))


# --- whom, and as whom -----------------------------------------------------------------------------------------------


def leaves(capsys: pytest.CaptureFixture[str], reach: Reach) -> tuple[object, str]:
    with pytest.raises(SystemExit) as left:
        connect(reach, "viewer")
    return left.value.code, capsys.readouterr().err


def test_on_the_servers_machine_a_token_of_the_needed_role_is_made_for_minutes(tmp_path: Path) -> None:
    key = load_key(tmp_path)
    with connect(Reach(data=tmp_path), "operator") as client:
        caller = verify(key, token_of(client))
    assert caller.role == "operator" and caller.name.endswith("(on the server)")
    assert client.url == "http://127.0.0.1:8080"


def test_the_server_of_a_directory_is_found_where_it_says(tmp_path: Path) -> None:
    load_key(tmp_path)
    lock = DirectoryLock(tmp_path)
    lock.tell("http://127.0.0.1:4711")
    with connect(Reach(data=tmp_path), "viewer") as client:
        assert client.url == "http://127.0.0.1:4711"
    lock.release()


def test_a_token_comes_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a.b.c\n")
    file.chmod(0o600)
    with connect(Reach(url="https://fleet.example.org", token_file=file, data=tmp_path), "admin") as client:
        assert (client.url, token_of(client)) == ("https://fleet.example.org", "a.b.c")


def test_no_key_is_made_where_no_server_ever_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = leaves(capsys, Reach(data=tmp_path))
    assert code == 2 and "no server has ever worked in" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://fleet.example.org", "give your token with --token-file"),
        ("http://fleet.example.org", "a token goes over HTTPS only"),
        ("fleet.example.org", "is not a URL such as"),
        ("https://bob:hunter22@fleet.example.org", "is not a URL such as"),
        ("http://[::1", "is not a URL such as"),
    ],
)
def test_a_token_goes_nowhere_where_it_does_not_belong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, said: str
) -> None:
    load_key(tmp_path)
    code, message = leaves(capsys, Reach(url=url, data=tmp_path))
    assert code == 2 and said in message and message.count("\n") == 1


@pytest.mark.parametrize("content", [None, "", "two words\n", "\x00\x01"])
def test_a_file_that_holds_no_token_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    code, message = leaves(capsys, Reach(token_file=tmp_path / "token"))
    assert code == 2 and f"--token-file: {tmp_path / 'token'}" in message


# --- words -----------------------------------------------------------------------------------------------------------


def test_what_a_peer_made_up_does_nothing_to_a_terminal() -> None:
    assert text("\x1b[31mred\nline [bold]x[/]").plain == "\\x1b[31mred\\nline [bold]x[/]"
    assert (text(None).plain, text(21.5).plain, text({"a": 1}).plain) == ("–", "21.5", '{"a": 1}')


def test_a_table_in_a_pipe_is_plain_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    table(("node", "why"), [("sensor-01", "x" * 300), ("sensor-02", None)], "none")
    lines = written.getvalue().splitlines()
    assert [line.split() for line in lines] == [["node", "why"], ["sensor-01", "x" * 300], ["sensor-02", "–"]]


def test_times_and_durations_read_as_people_say_them() -> None:
    assert [span(each) for each in (0.4, 59, 7_500, 90_000)] == ["0 s", "59 s", "2 h 5 min", "1 d 1 h"]
    assert (moment("2026-01-01T00:00:05.123Z"), moment(None)) == ("2026-01-01 00:00:05Z", None)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["rules", "check", "temp > 30 for 5 min"], 0, "about temp; one alert a node"),
        (["rules", "check", "avg(fleet, temp) > 25"], 0, "one alert for all"),
        (["rules", "check", "temp > > 30"], 2, "              ^ '>' is not a value"),
        (["send", "sensor-01", "restart", "--param", "x"], 2, "expected NAME=VALUE"),
        (["send", "sensor-01", "restart", "--param", "x=1", "--param", "x=2"], 2, "--param x is given twice"),
        (["nodes", "move", "sensor-01"], 2, "say where to"),
        (["nodes", "stolen", "sensor-01"], 2, "say so with --yes"),
        (["rules", "set", "/nowhere/r.json"], 2, "/nowhere/r.json: No such file"),
    ],
)
def test_what_needs_no_server_is_found_out_without_one(arguments: list[str], code: int, said: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, said in done.output) == (code, True), done.output


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", ":1:2: not JSON"), ("[1]", "rules.0: expected an object with a name"), ('{"rules": [{}]}', "rules.0: ")],
)
def test_a_file_of_rules_that_is_none_is_named_with_the_place(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "rules.json"
    file.write_text(content)
    done = CliRunner().invoke(app, ["rules", "set", str(file)])
    assert done.exit_code == 2 and f"{file}" in done.output and said in done.output


def test_a_key_file_that_is_there_already_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("of another node\n")
    load_key(tmp_path)
    arguments: list[Any] = ["nodes", "add", "sensor-09", "--data", tmp_path, "--key-file", tmp_path / "key"]
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 2 and "File exists" in done.output
    assert (tmp_path / "key").read_text() == "of another node\n"


def test_json_is_for_machines(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["rules", "check", "temp > 30", "--json"])
    assert json.loads(done.stdout) == {"metric": "temp", "op": ">", "value": 30}

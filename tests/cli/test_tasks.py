"""The users' commands, as processes of their own: what they write, and the exit codes that scripts rely on."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.client.faulty import (
    CONTENT,
    DIGEST,
    LIST,
    RESULT,
    SOCKET,
    STATUS,
    SUBMIT,
    TASK,
    Faulty,
    Receive,
    Seen,
    Send,
    completed,
    document,
    drops,
    file,
    problem,
    says,
    streams,
    update,
)

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import typer
from app.cli import tasks
app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
tasks.register(app)
app(prog_name="longhaul")
"""
ACCEPTED = document() | {"task_token": "t.o.k"}
FAILED = document("FAILED", 9, 40, error={"type": "/problems/handler-error", "title": "Failed", "detail": "no disk"})


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class CommandLine:
    """Runs `longhaul` in a directory of its own."""

    directory: Path
    url: str

    @contextlib.asynccontextmanager
    async def started(self, *words: str, stdout: int = PIPE, environment: dict[str, str]) -> AsyncIterator[Process]:
        """Start a command, and leave none behind."""
        variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LONGHAUL_URL": self.url} | environment
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PROGRAM,
            *words,
            cwd=self.directory,
            env=variables,
            stdin=PIPE,
            stdout=stdout,
            stderr=PIPE,
        )
        try:
            async with asyncio.timeout(30):
                yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def __call__(self, *words: str, stdin: str = "", token: str = "s.e.cret", **environment: str) -> Ended:
        """Run a command to its end."""
        environment = {"LONGHAUL_TOKEN": token} | environment if token else environment
        async with self.started(*words, environment=environment) as process:
            out, err = await process.communicate(stdin.encode())
        ended = Ended(process.returncode or 0, out.decode(), err.decode())
        assert "Traceback" not in ended.err
        assert "s.e.cret" not in ended.out + ended.err
        return ended


@pytest.fixture
def longhaul(tmp_path: Path, faulty: Faulty) -> CommandLine:
    """The command line, led to the faulty server."""
    return CommandLine(tmp_path, faulty.url)


async def test_submit_says_what_was_accepted_and_how_to_follow_it(longhaul: CommandLine, faulty: Faulty) -> None:
    faulty.on(SUBMIT, says(202, ACCEPTED))
    ended = await longhaul("submit", "noop", "id=1024", "every=1d", "--label", "a", "--label", "b")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"accepted: {TASK} PENDING\nfollow it with: longhaul watch {TASK}\n"
    [request] = faulty.calls(SUBMIT)
    assert json.loads(request.body) == {"action": "noop", "id": 1024, "every": "1d", "labels": ["a", "b"]}
    assert request.headers["authorization"] == "Bearer s.e.cret"
    assert request.headers["idempotency-key"]


async def test_submit_takes_json_from_the_argument_and_from_stdin(longhaul: CommandLine, faulty: Faulty) -> None:
    faulty.on(SUBMIT, says(202, ACCEPTED, Idempotent_Replayed="true"))
    words = ("submit", "noop", "--idempotency-key", "monday", "--json")
    first = await longhaul(*words, '{"id": 1}')
    await longhaul(*words, "-", "steps=2", stdin='{"id": 1}')
    assert first.out.startswith(f"already known: {TASK}")
    one, two = faulty.calls(SUBMIT)
    assert json.loads(one.body) == {"action": "noop", "id": 1}
    assert json.loads(two.body) == {"action": "noop", "id": 1, "steps": 2}
    assert one.headers["idempotency-key"] == "monday"


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "noop", "id"),
        ("submit", "noop", "id=1", "id=2"),
        ("submit", "noop", "--json", "{"),
        ("submit", "noop", "action=other"),
        ("submit", "noop", "--idempotency-key", "a b"),
        ("watch", "nonsense"),
        ("list", "--status", "DONE"),
        ("list", "--limit", "0"),
        ("status", str(TASK), "--url", "no-url"),
        ("status", str(TASK), "--output", "xml"),
    ],
)
async def test_wrong_usage_is_2_and_sends_nothing(
    longhaul: CommandLine, faulty: Faulty, words: tuple[str, ...]
) -> None:
    ended = await longhaul(*words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err
    assert faulty.seen == []


async def test_a_refusal_is_one_line_that_names_the_fields(longhaul: CommandLine, faulty: Faulty) -> None:
    errors = [{"pointer": "#/id", "detail": "must be \x1b[31man integer"}]
    faulty.on(SUBMIT, problem("validation", 422, detail="It does not fit.", errors=errors, request_id="r-7"))
    ended = await longhaul("submit", "noop", "id=x")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "longhaul: validation: It does not fit. (#/id: must be  [31man integer) [request r-7]\n"


async def test_an_unknown_outcome_comes_with_the_key_that_makes_it_safe(longhaul: CommandLine, faulty: Faulty) -> None:
    faulty.on(SUBMIT, drops())
    ended = await longhaul("submit", "noop", "id=1")
    assert ended.code == 3
    keys = {seen.headers["idempotency-key"] for seen in faulty.calls(SUBMIT)}
    assert len(keys) == 1
    assert f"--idempotency-key {keys.pop()}" in ended.err


@pytest.mark.parametrize("output", ["text", "json"])
async def test_submit_and_watch_end_with_the_task(longhaul: CommandLine, faulty: Faulty, output: str) -> None:
    faulty.on(SUBMIT, says(202, ACCEPTED))
    done = {"type": "status", "task": completed()}
    faulty.on(SOCKET, streams(update(status="PROCESSING", seq=2, progress=50, message="half"), done))
    ended = await longhaul("submit", "noop", "id=1", "--watch", "--output", output)
    assert (ended.code, ended.err) == (0, "")
    if output == "json":
        lines = [json.loads(line) for line in ended.out.splitlines()]
        assert [line["status"] for line in lines] == ["PENDING", "PROCESSING", "COMPLETED"]
        assert lines[0]["task_token"] == "t.o.k"
    else:
        accepted, *states, hint = ended.out.splitlines()
        assert accepted == f"accepted: {TASK} PENDING"
        assert [line.split(f" {TASK} ")[1] for line in states] == [
            "PENDING 0 %",
            "PROCESSING 50 %  half",
            "COMPLETED 100 %",
        ]
        assert hint == f"download the result with: longhaul result {TASK}"


async def test_watching_a_task_that_fails_is_1(longhaul: CommandLine, faulty: Faulty) -> None:
    faulty.on(SOCKET, streams({"type": "status", "task": FAILED}))
    ended = await longhaul("watch", str(TASK))
    assert ended.code == 1
    assert ended.err == "longhaul: FAILED: handler-error: no disk\n"


async def test_on_a_terminal_the_line_is_redrawn(longhaul: CommandLine, faulty: Faulty) -> None:
    faulty.on(SOCKET, streams(update(status="PROCESSING", seq=2, progress=50), {"type": "status", "task": completed()}))
    try:
        mine, theirs = pty.openpty()
    except OSError:
        pytest.skip("there is no pseudo-terminal here, as in a bare chroot")
    try:
        async with longhaul.started(
            "watch", str(TASK), stdout=theirs, environment={"LONGHAUL_TOKEN": "x", "COLUMNS": "80"}
        ) as process:
            assert await process.wait() == 0
        shown = os.read(mine, 65536).decode()
    finally:
        os.close(mine)
        os.close(theirs)
    assert shown.count("\r\x1b[K") == 2
    assert "PROCESSING" in shown
    assert shown.count("\n") == 2, "one progress line, and the hint below it"


async def test_ctrl_c_leaves_the_task_running_and_says_so(longhaul: CommandLine, faulty: Faulty) -> None:
    async def stays_open(seen: Seen, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": json.dumps(update(seq=2))})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    faulty.on(SOCKET, stays_open)
    async with longhaul.started("watch", str(TASK), environment={"LONGHAUL_TOKEN": "x"}) as process:
        assert process.stdout is not None
        assert b"PENDING" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert err.decode() == f"longhaul: the task goes on; see it again with: longhaul watch {TASK}\n"


async def test_status_shows_a_task_and_fails_for_a_failed_one(longhaul: CommandLine, faulty: Faulty) -> None:
    faulty.on(STATUS, says(200, document("PROCESSING", 3, 42, labels=["a", "b"])), says(200, FAILED))
    running = await longhaul("status", str(TASK))
    failed = await longhaul("status", str(TASK), "--output", "json")
    assert running.code == 0
    assert "status    PROCESSING 42 %" in running.out
    assert "labels    a b" in running.out
    assert failed.code == 1
    assert json.loads(failed.out) == FAILED


async def test_list_asks_for_what_is_wanted(longhaul: CommandLine, faulty: Faulty) -> None:
    faulty.on(LIST, says(200, {"items": [document(labels=["a"]), FAILED]}))
    words = ("list", "--status", "FAILED", "--status", "PENDING", "--action", "noop", "--label", "a", "--limit", "2")
    text = await longhaul(*words)
    machine = await longhaul(*words, "--output", "json")
    assert (text.code, machine.code) == (0, 0)
    assert text.out.splitlines()[0] == f"2026-11-24 20:15:30Z  {TASK}  PENDING       0 %  noop  a"
    assert [json.loads(line) for line in machine.out.splitlines()][1] == FAILED
    assert faulty.calls(LIST)[0].query == "limit=2&status=FAILED&status=PENDING&action=noop&label=a"


async def test_result_takes_the_services_name_but_replaces_nothing(longhaul: CommandLine, faulty: Faulty) -> None:
    faulty.on(STATUS, says(200, completed()))
    faulty.on(RESULT, file())
    first = await longhaul("result", str(TASK))
    again = await longhaul("result", str(TASK))
    assert (first.code, first.out) == (0, f"made.bin: 4.0 MiB, sha256 verified ({DIGEST})\n")
    assert (longhaul.directory / "made.bin").read_bytes() == CONTENT
    assert again.code == 2
    assert again.err == "longhaul: made.bin is there already: say -o made.bin to replace it\n"


async def test_result_goes_where_it_is_told(longhaul: CommandLine, faulty: Faulty) -> None:
    faulty.on(STATUS, says(200, completed()))
    faulty.on(RESULT, file())
    (longhaul.directory / "there").mkdir()
    into = await longhaul("result", str(TASK), "-o", "there", "--output", "json")
    nowhere = await longhaul("result", str(TASK), "-o", "no/such/place")
    described = {"path": "there/made.bin", "size": len(CONTENT), "sha256": DIGEST, "filename": "made.bin"}
    assert json.loads(into.out) == described | {"content_type": "application/octet-stream"}
    assert nowhere.code == 2
    assert "No such file or directory" in nowhere.err


async def test_the_result_of_a_failed_task_is_its_failure(longhaul: CommandLine, faulty: Faulty) -> None:
    faulty.on(STATUS, says(200, FAILED))
    ended = await longhaul("result", str(TASK))
    assert (ended.code, ended.err) == (1, "longhaul: FAILED, so there is no result: handler-error: no disk\n")


async def test_a_result_that_is_not_there_yet_is_refused(longhaul: CommandLine, faulty: Faulty) -> None:
    faulty.on(STATUS, says(200, document("PROCESSING", 2)))
    faulty.on(RESULT, problem("not-finished", 409, detail="The task has not ended yet."))
    ended = await longhaul("result", str(TASK), "-o", "x")
    assert (ended.code, ended.err) == (2, "longhaul: not-finished: The task has not ended yet.\n")
    assert list(longhaul.directory.iterdir()) == []


@pytest.mark.parametrize("answer", [says(404, b"<html>", Content_Type="text/html"), problem("bad-gateway", 502)])
async def test_a_server_with_nobody_behind_it_is_3(longhaul: CommandLine, faulty: Faulty, answer: object) -> None:
    faulty.on(STATUS, answer)  # type: ignore[arg-type]
    assert (await longhaul("status", str(TASK))).code == 3


async def test_no_server_is_3_in_one_line(longhaul: CommandLine) -> None:
    ended = await longhaul("status", str(TASK), "--url", "http://127.0.0.1:9")
    assert ended.code == 3
    assert ended.err.splitlines()[-1] == "longhaul: http://127.0.0.1:9/ cannot be reached: connection refused"


async def test_the_token_may_stand_in_a_file(longhaul: CommandLine, faulty: Faulty) -> None:
    faulty.on(STATUS, says(200, document()))
    (longhaul.directory / "token").write_text("f.i.le\n")
    assert (await longhaul("status", str(TASK), "--token-file", "token")).code == 0
    assert faulty.seen[0].headers["authorization"] == "Bearer f.i.le"
    none = await longhaul("status", str(TASK), token="")
    assert (none.code, none.err) == (2, "longhaul: a token is needed: set LONGHAUL_TOKEN, or give --token-file\n")
    missing = await longhaul("status", str(TASK), "--token-file", "elsewhere")
    assert (missing.code, missing.err) == (2, "longhaul: elsewhere cannot be read as a token\n")


async def test_help_has_examples_and_loads_nothing_heavy(longhaul: CommandLine) -> None:
    for command in ("submit", "watch", "status", "list", "result"):
        ended = await longhaul(command, "--help", PYTHONPROFILEIMPORTTIME="1")
        assert ended.code == 0
        assert f"longhaul {command}" in ended.out
        assert "Example" in ended.out
        assert not {"httpx", "websockets", "app.client"} & {
            line.rpartition("|")[2].strip() for line in ended.err.splitlines()
        }

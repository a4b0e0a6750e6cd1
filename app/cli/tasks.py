"""What users do with tasks, on the command line: submit, watch, status, list, result.

These commands go over HTTP by `app.client`, like any other user, and so prove the contract daily. Exit codes are a part
of it: 0 COMPLETED (or done), 1 FAILED or CANCELLED (or a download that is not the promised file), 2 usage or refused,
3 no service to be reached, 130 Ctrl-C.
"""

import asyncio
import json
import sys
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.domain.lifecycle import TaskStatus

if TYPE_CHECKING:  # httpx and pydantic take a third of a second to import: help must not pay for that
    from uuid import UUID

    from app.client import ClientError, LonghaulClient
    from app.domain.task import StatusDocument

DONE, FAILED, REFUSED, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

# The reverse proxy answers, but there is nobody behind it.
NOBODY_BEHIND_THE_PROXY = frozenset({"bad-gateway", "gateway-timeout"})

OutputFormat = Literal["text", "json"]
Url = Annotated[str, typer.Option("--url", envvar="LONGHAUL_URL", help="Where the service is.")]
Token = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="LONGHAUL_TOKEN",
        show_default=False,
        help="The bearer token. Other users of this machine see the command line: prefer the variable or --token-file.",
    ),
]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="A file that holds the token; goes before it.")]
Output = Annotated[OutputFormat, typer.Option("--output", help="`json`: one status document per line, for machines.")]
TaskId = Annotated[uuid.UUID, typer.Argument(metavar="TASK_ID", help="The task's id.", show_default=False)]
Labels = Annotated[list[str] | None, typer.Option("--label", help="May be repeated.", show_default=False)]

DEFAULT_URL = "http://127.0.0.1:8080"


def register(app: typer.Typer) -> None:
    """Add the commands to the program `longhaul`, at its top level."""
    for command in (submit, watch, status, list_tasks, result):
        app.command(command.__name__.removesuffix("_tasks"))(command)


def submit(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="What is to be done.", show_default=False)],
    params: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="JSON where it reads as JSON, else text.", show_default=False),
    ] = None,
    json_body: Annotated[
        str | None, typer.Option("--json", metavar="BODY", help="More fields, as a JSON object; - reads it from stdin.")
    ] = None,
    label: Labels = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="Repeating a submission with its key gives the same task. One is made if none is."),
    ] = None,
    follow: Annotated[bool, typer.Option("--watch", help="Stay until the task has ended.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    token_file: TokenFile = None,
    output: Output = "text",
) -> None:
    """Submit a task.

    Examples:

        longhaul submit generate_report id=1024 --watch

        longhaul submit transform_dataset id=7 every=6h max_attempts=3 --label nightly

        longhaul submit generate_report --json '{"id": 1024}' --output json
    """
    # Always with a key: a connection that breaks in the middle is then repeated, instead of leaving the user in doubt.
    key = idempotency_key if idempotency_key is not None else str(uuid.uuid4())

    async def work(client: "LonghaulClient") -> int:
        from app.client import ClientError  # noqa: PLC0415
        from app.client.fields import parse_fields  # noqa: PLC0415

        try:
            fields = parse_fields(params or [], sys.stdin.read() if json_body == "-" else json_body)
            task = await client.submit(action, fields, labels=label or [], idempotency_key=key)
        except ValueError as error:
            _say(str(error))
            return REFUSED
        except ClientError as error:
            if getattr(error, "outcome_is_unknown", False):
                _say(f"the task may have been accepted; to be sure, submit it again with --idempotency-key {key}")
            raise
        if output == "text":
            typer.echo(f"{'already known' if task.replayed else 'accepted'}: {task.task_id} {task.status}")
        if follow:
            return await _follow(client, task, output)
        if output == "json":
            _print_json(task)
        else:
            typer.echo(f"follow it with: longhaul watch {task.task_id}")
        return _exit_code(task)

    _run(url, token, token_file, work)


def watch(
    task_id: TaskId,
    url: Url = DEFAULT_URL,
    token: Token = "",
    token_file: TokenFile = None,
    output: Output = "text",
) -> None:
    """Follow a task until it has ended. Ctrl-C leaves it running.

    Examples:

        longhaul watch 550e8400-e29b-41d4-a716-446655440000

        longhaul watch 550e8400-e29b-41d4-a716-446655440000 --output json | jq .progress
    """
    _run(url, token, token_file, lambda client: _follow(client, task_id, output))


def status(
    task_id: TaskId,
    url: Url = DEFAULT_URL,
    token: Token = "",
    token_file: TokenFile = None,
    output: Output = "text",
) -> None:
    """Show a task as it is now. Exit status 1 when it has FAILED or was CANCELLED.

    Example:

        longhaul status 550e8400-e29b-41d4-a716-446655440000 --output json
    """

    async def work(client: "LonghaulClient") -> int:
        document = await client.status(task_id)
        if output == "json":
            _print_json(document)
        else:
            from app.client.progress import overview  # noqa: PLC0415

            typer.echo(overview(document))
        return _exit_code(document)

    _run(url, token, token_file, work)


def list_tasks(
    status: Annotated[list[TaskStatus] | None, typer.Option(help="Any of these.", show_default=False)] = None,
    action: Annotated[list[str] | None, typer.Option(help="Any of these.", show_default=False)] = None,
    label: Annotated[list[str] | None, typer.Option(help="All of these.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    url: Url = DEFAULT_URL,
    token: Token = "",
    token_file: TokenFile = None,
    output: Output = "text",
) -> None:
    """List your tasks, the newest first.

    Examples:

        longhaul list --status FAILED --limit 5

        longhaul list --label nightly --output json | jq -r .task_id
    """

    async def work(client: "LonghaulClient") -> int:
        tasks = client.list(status=status or [], action=action or [], label=label or [], limit=limit)
        async with aclosing(tasks):
            async for document in tasks:
                if output == "json":
                    _print_json(document)
                else:
                    created = document.created_at.strftime("%Y-%m-%d %H:%M:%SZ")
                    percent = f"{document.progress:3d} %"
                    words = [created, document.task_id, f"{document.status:<10}", percent, document.action]
                    typer.echo("  ".join(map(str, words + document.labels)))
        return DONE

    _run(url, token, token_file, work)


def result(
    task_id: TaskId,
    file: Annotated[
        Path | None,
        typer.Option(
            "-o", "--file", help="Where to put it, a name or a directory; the service's own name if not given."
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
    token_file: TokenFile = None,
    output: Output = "text",
) -> None:
    """Download a task's result, and verify it. A download that was broken off goes on where it stopped.

    Example:

        longhaul result 550e8400-e29b-41d4-a716-446655440000 -o report.zip
    """

    async def work(client: "LonghaulClient") -> int:
        from app.client.progress import ProgressLine, explanation, human_size  # noqa: PLC0415

        document = await client.status(task_id)
        if _exit_code(document) == FAILED:
            _say(f"{document.status}, so there is no result: {explanation(document)}")
            return FAILED
        target = _target(file, document)
        line = ProgressLine(sys.stderr)
        try:
            described = await client.download(task_id, target, on_bytes=line.show_bytes)
        finally:
            line.end()
        if output == "json":
            typer.echo(json.dumps({"path": str(target), **described.model_dump(mode="json")}))
        else:
            typer.echo(f"{target}: {human_size(described.size)}, sha256 verified ({described.sha256})")
        return DONE

    _run(url, token, token_file, work)


async def _follow(client: "LonghaulClient", task: "UUID | StatusDocument", output: OutputFormat) -> int:
    """Show the task until it has ended, and return the exit code for that."""
    from app.client.progress import ProgressLine, explanation  # noqa: PLC0415

    task_id = getattr(task, "task_id", task)
    line = ProgressLine(sys.stdout)
    newest: StatusDocument | None = None
    try:
        async with aclosing(client.watch(task)) as documents:
            async for newest in documents:
                if output == "json":
                    _print_json(newest)
                else:
                    line.show(newest)
    except asyncio.CancelledError:
        line.end()
        _say(f"the task goes on; see it again with: longhaul watch {task_id}")
        raise
    finally:
        line.end()
    code = _exit_code(newest) if newest else DONE
    if code == FAILED and newest:
        _say(f"{newest.status}: {explanation(newest)}")  # the line on the terminal may have been cut off
    elif newest and newest.result and output == "text":
        typer.echo(f"download the result with: longhaul result {task_id}")
    return code


def _run(url: str, token: str, token_file: Path | None, work: "Callable[[LonghaulClient], Awaitable[int]]") -> None:
    """Do one command's work with an open client, and leave with its exit code; each failure is one line."""
    from app.client import LonghaulClient, ServiceProblem, UnexpectedAnswer, Unreachable  # noqa: PLC0415
    from app.client.errors import ClientError  # noqa: PLC0415
    from app.client.progress import printable  # noqa: PLC0415

    async def session(client: LonghaulClient) -> int:
        async with client:
            return await work(client)

    try:
        client = LonghaulClient(url, _secret(token, token_file), on_retry=_tell)
    except ValueError as error:
        _say(str(error))
        raise typer.Exit(REFUSED) from None
    try:
        code = asyncio.run(session(client))
    except ServiceProblem as problem:
        _say(printable(str(problem)) + (f" [request {printable(problem.request_id)}]" if problem.request_id else ""))
        code = UNREACHABLE if problem.slug in NOBODY_BEHIND_THE_PROXY else REFUSED
    except (Unreachable, UnexpectedAnswer) as error:
        _say(printable(str(error)))
        code = UNREACHABLE
    except ClientError as error:  # the file that came is not the file that was promised
        _say(printable(str(error)))
        code = FAILED
    except BrokenPipeError:
        raise  # whoever read our output has left: typer ends quietly
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        code = REFUSED
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


def _secret(token: str, token_file: Path | None) -> str:
    """Return the token; never shown, not even in an error."""
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{token_file} cannot be read as a token") from error
    if not token:
        raise ValueError("a token is needed: set LONGHAUL_TOKEN, or give --token-file")
    return token


def _target(file: Path | None, document: "StatusDocument") -> Path:
    """Choose where a result goes; a name that the service chose replaces nothing."""
    from app.client.downloading import filename_of  # noqa: PLC0415

    name = filename_of(document)
    if file is not None:
        return file / name if file.is_dir() else file
    if Path(name).exists():
        raise FileExistsError(f"{name} is there already: say -o {name} to replace it")
    return Path(name)


def _exit_code(document: "StatusDocument") -> int:
    return FAILED if document.status in {TaskStatus.FAILED, TaskStatus.CANCELLED} else DONE


def _print_json(document: "StatusDocument") -> None:
    typer.echo(document.model_dump_json(exclude_none=True))


def _tell(error: "ClientError", seconds: float) -> None:
    from app.client.progress import printable  # noqa: PLC0415

    if seconds >= 1:  # below, nobody has begun to wonder
        _say(f"{printable(str(error))}; trying again in {seconds:.0f} s")


def _say(sentence: str) -> None:
    typer.echo(f"longhaul: {sentence}", err=True)

"""`make demo`: the whole way once, against the running stack, on real data.

Submits the seed's example, follows it live, downloads the result, checks it, unpacks it, and says where to look.
Leaves with 0 only when the task is COMPLETED and everything was verified; otherwise says why, in one line, and 1.
"""

import asyncio
import hashlib
import json
import os
import stat
import sys
import uuid
import zipfile
import zlib
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the clone's `app`, installed or not

from app.client import ClientError, LonghaulClient
from app.client.downloading import filename_of
from app.client.progress import ProgressLine, explanation, human_size, printable
from app.domain.lifecycle import TaskStatus
from app.domain.task import ResultDescription, StatusDocument, status_path
from stack.errors import StackError
from stack.settings import StackSettings

ACTION, PARAMS = "generate_report", {"id": 1024}
REPORT = "report.html"
MOST_FILES = 1000
MOST_BYTES = 1 << 30  # unpacked


class DemoFailed(Exception):
    """The demo cannot say that everything works; the message says why."""


@dataclass(frozen=True)
class Stack:
    """What the demo needs of `.run/stack.json`."""

    url: str
    token: str
    directory: Path


def read_stack(run_directory: Path) -> Stack:
    """Read where the running stack is.

    Raises:
        DemoFailed: There is none.
    """
    path = run_directory / "stack.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        url = content["nginx_url"] or content["base_url"]
        return Stack(url=url.rstrip("/"), token=content["tokens"]["alice"], directory=run_directory / "demo")
    except FileNotFoundError as error:
        raise DemoFailed(f"no stack is running: {path} is not there; start one with `make up`") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DemoFailed(f"{path} cannot be used ({type(error).__name__}: {error})") from error


async def run_and_download(stack: Stack) -> tuple[StatusDocument, Path, str]:
    """Do the job, and bring its result home.

    Returns:
        The terminal document, the file, and the `task_token`.

    Raises:
        DemoFailed: It did not complete, or made no file.
        ClientError: The service failed.
    """
    async with LonghaulClient(stack.url, stack.token) as client:
        task = await client.submit(ACTION, PARAMS, labels=["demo"], idempotency_key=str(uuid.uuid4()))
        print(f"submitted {json.dumps({'action': ACTION, **PARAMS})} to {stack.url}: task {task.task_id}")
        document = await follow(client, task)
        if document.status is not TaskStatus.COMPLETED:
            raise DemoFailed(f"the task is {document.status}: {explanation(document)}")
        if document.result is None:
            raise DemoFailed("the task is COMPLETED, but has no result file")
        directory = stack.directory / str(document.task_id)
        directory.mkdir(parents=True, exist_ok=True)
        target = directory / filename_of(document)
        line = ProgressLine(sys.stdout)
        try:
            await client.download(document.task_id, target, on_bytes=line.show_bytes)
        finally:
            line.end()
        return document, target, task.task_token


async def follow(client: LonghaulClient, task: StatusDocument) -> StatusDocument:
    """Show the task until it has ended, and return its last document."""
    line = ProgressLine(sys.stdout)
    document = task
    try:
        async with aclosing(client.watch(task)) as documents:
            async for document in documents:
                line.show(document)
    finally:
        line.end()
    return document


def check(file: Path, promised: ResultDescription) -> None:
    """Compare a file with what the status document says of it; on our own, though the client has done so.

    Raises:
        DemoFailed: They differ.
    """
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    size = file.stat().st_size
    if (digest, size) != (promised.sha256, promised.size):
        raise DemoFailed(f"{file} has {size} bytes and sha256 {digest}, which is not what the status document says")


def unpack(archive: Path, directory: Path) -> list[Path]:
    """Unpack a zip that is not trusted: only plain files below `directory`, and not more than a disk can bear.

    Args:
        archive: The file.
        directory: Made if it is not there.

    Returns:
        The files, in the archive's order.

    Raises:
        DemoFailed: It is no sound zip, or holds something that has no business in a report. Nothing was written then,
            unless a member turned out damaged while it was read.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            if len(members) > MOST_FILES or sum(member.file_size for member in members) > MOST_BYTES:
                raise DemoFailed(f"{archive.name} holds more than {MOST_FILES} files or {human_size(MOST_BYTES)}")
            places = [(member, directory / _inside(member)) for member in members]
            for member, place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
                # zipfile reads no more than the declared size, which was summed up above, and compares the CRC.
                place.write_bytes(opened.read(member))
            return [place for _, place in places]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise DemoFailed(f"{archive.name} cannot be unpacked: {error}") from error


def _inside(member: zipfile.ZipInfo) -> PurePosixPath:
    """Return a member's path below the directory, or refuse one that would lead out of it."""
    path = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)  # Unix modes; 0 where the archive was made elsewhere
    is_plain = kind in {0, stat.S_IFREG}
    if (
        not path.parts
        or path.is_absolute()
        or ".." in path.parts
        or set(member.filename) & set("\\:\0")
        or not is_plain
    ):
        raise DemoFailed(f"the archive holds {printable(member.filename)!r}, which is no plain file inside it")
    return path


def report_in(files: list[Path]) -> Path:
    """Return the report among the unpacked files.

    Raises:
        DemoFailed: There is none.
    """
    for file in files:
        if file.name == REPORT:
            return file
    raise DemoFailed(f"the result holds no {REPORT}")


def main() -> int:
    """Run the demo; return the exit status."""
    try:
        stack = read_stack(StackSettings.load(os.environ).run_directory)  # `.env` counts here as well
        document, file, task_token = asyncio.run(run_and_download(stack))
        assert document.result is not None  # run_and_download has refused that
        check(file, document.result)
        report = report_in(unpack(file, file.parent / "report"))
    except (DemoFailed, StackError, ClientError, OSError, ValueError) as error:
        print(f"demo failed: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo broken off", file=sys.stderr)
        return 130
    status_url = stack.url + status_path(document.task_id)
    print(f"downloaded {file} ({human_size(document.result.size)}): size and sha256 are as the status document says")
    print(f"report     {report.resolve()}")
    print(f"status     {status_url}")
    print(f"poll it    curl -s -H 'Authorization: Bearer {task_token}' {status_url}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A real, private PostgreSQL on 127.0.0.1, which keeps what it has committed even when it is killed."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from stack.errors import StackError
from stack.ports import HOST, free_port
from stack.processes import PAUSE, Process
from stack.service import Service

BIN = Path("/usr/lib/postgresql/15/bin")
OPERATOR = "operator"


class PostgresServer(Service):
    """A server with a directory of its own, removed by `remove()`. All calls block.

    PostgreSQL refuses to run as root: it is then the user `postgres`, or `nobody`. The directory stands directly under
    the system's temporary one, since pytest's may only be entered by whoever runs the tests.
    """

    name = "PostgreSQL"
    boot_seconds = 60
    stop_seconds = 10

    def __init__(self) -> None:
        super().__init__()
        if not (BIN / "postgres").exists():
            raise StackError(f"there is no {BIN}/postgres; the tests need it: apt-get install postgresql-15")
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="longhaul-postgres-"))
        self._data = self.directory / "data"
        self._password = secrets.token_urlsafe(24)
        self._user = _unprivileged() if os.geteuid() == 0 else None
        if self._user:
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)

    @property
    def url(self) -> str:
        """Of the database `longhaul`, which is there from the first start."""
        return self.url_of("longhaul")

    def url_of(self, database: str) -> str:
        """Of another database."""
        return f"postgresql://{OPERATOR}:{self._password}@{HOST}:{self.port}/{database}"

    @property
    def where_to_look(self) -> str:
        """The file with its output."""
        return str(self.directory / "output.log")

    def ports(self) -> tuple[int, ...]:
        """Return its port."""
        return (self.port,)

    def is_ready(self) -> bool:
        """Ask as a client would."""
        answer = subprocess.run(
            [BIN / "pg_isready", "-q", "-h", HOST, "-p", str(self.port)], check=False, capture_output=True
        )
        return answer.returncode == 0

    def start(self) -> None:
        """Start it on its data, which are made at the first start."""
        is_new = not self._data.exists()
        if is_new:
            self._initialise()
        super().start()
        if is_new:
            self.create_database("longhaul")

    def create_database(self, name: str) -> None:
        """Make an empty database."""
        self._psql(f"CREATE DATABASE {name}")

    def stop(self) -> None:
        """End it as `pg_ctl stop -m fast` does: SIGTERM would wait for every client to leave."""
        self._end_by(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL the postmaster; its children end themselves, and a new start must wait for that.

        That start flushes every file before it reads the log: 2 to 3 s, where one after `stop()` takes 0.3 s.
        """
        children = psutil.Process(self.pid).children() if self.is_running else []
        super().kill()
        psutil.wait_procs(children, timeout=self.stop_seconds)

    def remove(self) -> None:
        """End it at once, since a last checkpoint takes seconds, and delete its data."""
        self._end_by(signal.SIGQUIT)
        shutil.rmtree(self.directory)

    def _end_by(self, number: signal.Signals) -> None:
        if self.is_running:
            os.kill(self.pid, number)
            deadline = time.monotonic() + self.stop_seconds
            while self.is_running and time.monotonic() < deadline:
                time.sleep(PAUSE)
        super().stop()

    def _initialise(self) -> None:
        password_file = self.directory / "password"
        password_file.write_text(self._password)
        if self._user:
            os.chown(password_file, self._user.pw_uid, self._user.pw_gid)
        password_file.chmod(0o600)
        command: list[str | Path] = [
            *self._as_user(),
            BIN / "initdb",
            *("--no-sync", "--no-locale", "--encoding", "UTF8", "--auth", "scram-sha-256"),
            *("--username", OPERATOR, "--pwfile", password_file, "-D", self._data),
        ]
        made = subprocess.run(command, check=False, capture_output=True, text=True, cwd=self.directory)
        if made.returncode:
            raise StackError(f"initdb failed: {made.stderr}")

    def _spawn(self) -> Process:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": self.directory,
            "fsync": "on",
            "synchronous_commit": "on",
            "shared_buffers": "32MB",
            "max_connections": 60,
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        # The flag is set here: a change of user takes away what `die_with_parent` would have set before.
        return Process(
            [*self._as_user("--pdeathsig", "KILL"), BIN / "postgres", "-D", self._data, *flags],
            log=self.directory / "output.log",
            directory=self.directory,
        )

    def _psql(self, statement: str) -> None:
        command: list[str | Path] = [
            BIN / "psql",
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            statement,
            self.url_of("postgres"),
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise StackError(f"{statement}: {done.stderr}")

    def _as_user(self, *flags: str) -> list[str | Path]:
        who = [f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--init-groups"] if self._user else []
        return ["setpriv", *who, *flags] if who or flags else []


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StackError("root cannot run PostgreSQL, and there is neither a user postgres nor nobody")

"""nginx as the supervisor runs it: the shipped site file on ports of this clone, the rest below one directory."""

import os
import shutil
from pathlib import Path

from stack.errors import StackError
from stack.ports import HOST, listens
from stack.processes import Process
from stack.service import Service

SITE = Path(__file__).parents[3] / "nginx" / "longhaul.conf"
SHIPPED_UPSTREAM = "server 127.0.0.1:8000;"
SHIPPED_LISTEN = "listen 80;"


class Nginx(Service):
    """The way in for clients."""

    name = "nginx"
    boot_seconds = 10
    stop_seconds = 5

    def __init__(
        self,
        directory: Path,
        port: int,
        api_ports: list[int],
        *,
        logs: Path | None = None,
        die_with_parent: bool = False,
    ) -> None:
        """Name it; nothing is written or started yet.

        Args:
            directory: Its configuration and temporary files; made when missing.
            port: On 127.0.0.1.
            api_ports: Where the API processes listen, on 127.0.0.1.
            logs: Where its logs go; the directory when omitted.
            die_with_parent: See `Process`.
        """
        super().__init__()
        self.directory = directory.resolve()
        self.port = port
        self.api_ports = api_ports
        self.logs = (logs or directory).resolve()
        self.die_with_parent = die_with_parent

    @property
    def url(self) -> str:
        """The base of everything that clients ask for."""
        return f"http://{HOST}:{self.port}"

    @property
    def where_to_look(self) -> str:
        """The file with its errors."""
        return str(self.logs / "nginx.log")

    def ports(self) -> tuple[int, ...]:
        """Return its port."""
        return (self.port,)

    def is_ready(self) -> bool:
        """See whether it listens; whether the API behind it is ready is another question."""
        return listens(self.port)

    def _spawn(self) -> Process:
        for needed in (self.directory / "temp", self.logs):
            needed.mkdir(parents=True, exist_ok=True)
        (self.directory / "longhaul.conf").write_text(self._site())
        configuration = self.directory / "nginx.conf"
        configuration.write_text(self._main())
        # /usr/sbin is not in everybody's PATH on Debian.
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "nginx"
        return Process(
            # -e: else it complains that it may not write to the machine's own log before it has read ours.
            [program, "-e", self.logs / "nginx.log", "-p", self.directory, "-c", configuration],
            log=self.logs / "nginx.log",
            directory=self.directory,
            die_with_parent=self.die_with_parent,
        )

    def _site(self) -> str:
        text = SITE.read_text()
        for shipped in (SHIPPED_UPSTREAM, SHIPPED_LISTEN):
            if text.count(shipped) != 1:
                raise StackError(f"{SITE} must hold the line {shipped!r} once")
        servers = " ".join(f"server {HOST}:{port};" for port in self.api_ports)
        return text.replace(SHIPPED_UPSTREAM, servers).replace(SHIPPED_LISTEN, f"listen {HOST}:{self.port};")

    def _main(self) -> str:
        # Workers of a root master change to `nobody`, who may not enter a clone below /root.
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = "\n".join(
            f"    {kind}_temp_path temp/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""\
{user}
daemon off;
worker_processes 2;
worker_rlimit_nofile 8192;
pid nginx.pid;
error_log "{self.logs}/nginx.log";
events {{
    worker_connections 4000;
}}
http {{
{temporary}
    include longhaul.conf;
    access_log "{self.logs}/nginx-access.log" longhaul;
}}
"""

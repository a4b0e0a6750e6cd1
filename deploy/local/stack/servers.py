"""Real servers on 127.0.0.1, private to a directory: the supervisor's and the tests'.

    redis = RedisServer(tmp / "redis", free_port())
    rabbit = RabbitServer(tmp / "rabbit", free_port(3))       # its port and the two after it
    redis.start(); rabbit.start()

The data stay in the directory: `start()` after `stop()` or `kill()` goes on with them. Each server has the users of
`deploy/redis` and `deploy/rabbitmq`, whose passwords are made at the first start and kept there: `operator` may do
everything (`url`), `worker` (`service_url`) what workers need, which includes what the API needs, and `api` (`api_url`)
no more than that. All calls block.
"""

import base64
import hashlib
import json
import os
import secrets
import subprocess
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, ClassVar

import psutil
import redis

from stack.amqp import NoAnswer, Session
from stack.errors import StackError
from stack.files import write_private
from stack.ports import HOST
from stack.processes import Process
from stack.service import Service

OPERATOR, API, WORKER = USERS = ("operator", "api", "worker")
VHOST = "longhaul"
DEPLOY = Path(__file__).parents[2]
MIB = 1024 * 1024
COMPACT_BYTES = 2048
"""Of a hash's longest value: up to here Redis keeps it as one piece (deploy/redis/README.md)."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """A listener for TLS, which the services' URLs then name. Clients must show a certificate of the same CA."""

    port: int
    ca: Path
    certificate: Path
    key: Path
    host: str = "localhost"
    """As the certificate names the server."""


class Server(Service):
    """A server with a directory, a port, and users with passwords."""

    def __init__(
        self, directory: Path, port: int, *, die_with_parent: bool = False, tls: ServerTls | None = None
    ) -> None:
        """Name a server; nothing is written or started yet.

        Args:
            directory: Its data, configuration, passwords and logs; made when missing, mode 0700.
            port: On 127.0.0.1.
            die_with_parent: SIGKILL it when the thread that called `start()` ends, even by SIGKILL (see `Process`).
            tls: A listener for TLS, beside the plain one.
        """
        super().__init__()
        self.tls = tls
        self.directory = directory.resolve()
        self.port = port
        self.die_with_parent = die_with_parent
        self.log = self.directory / "output.log"

    @property
    def url(self) -> str:
        """With the operator's password."""
        return self._url(OPERATOR)

    @property
    def service_url(self) -> str:
        """With the password of the workers' user."""
        return self._url(WORKER)

    @property
    def api_url(self) -> str:
        """With the password of the API's user."""
        return self._url(API)

    @property
    def passwords(self) -> list[str]:
        """Of all users: what must not stand in a log."""
        return list(self._passwords().values())

    @property
    def where_to_look(self) -> str:
        """The file with its output."""
        return str(self.log)

    def ports(self) -> tuple[int, ...]:
        """Return its port."""
        return (self.port,)

    @abstractmethod
    def _url(self, user: str) -> str: ...

    def _make_directory(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)

    def _passwords(self) -> dict[str, str]:
        """Return the password of each user, made when they are asked for first."""
        file = self.directory / "passwords.json"
        kept: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        missing = {user: secrets.token_urlsafe(24) for user in USERS if user not in kept}
        if missing:
            self._make_directory()
            kept |= missing
            write_private(file, json.dumps(kept))
        return kept

    def _address(self, user: str) -> str:
        """Return host and port for a user: the services take the listener for TLS, if there is one."""
        return f"{self.tls.host}:{self.tls.port}" if self.tls and user != OPERATOR else f"{HOST}:{self.port}"


class RedisServer(Server):
    """Redis that has every acknowledged write on disk before it answers, and never evicts."""

    name = "Redis"
    boot_seconds = 60
    stop_seconds = 10

    def is_ready(self) -> bool:
        """PING as the operator; not while it still loads its data."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _url(self, user: str) -> str:
        scheme = "rediss" if self.tls and user != OPERATOR else "redis"
        return f"{scheme}://{user}:{self._passwords()[user]}@{self._address(user)}/0"

    def _spawn(self) -> Process:
        self._make_directory()
        hashes = {user: hashlib.sha256(text.encode()).hexdigest() for user, text in self._passwords().items()}
        users = Template((DEPLOY / "redis" / "users.acl").read_text()).substitute(hashes)
        write_private(self.directory / "users.acl", users)
        tls = (
            self.tls
            and f"""\
tls-port {self.tls.port}
tls-ca-cert-file "{self.tls.ca}"
tls-cert-file "{self.tls.certificate}"
tls-key-file "{self.tls.key}"
tls-auth-clients yes
"""
        )
        write_private(
            self.directory / "redis.conf",
            f"""\
bind {HOST}
port {self.port}
dir "{self.directory}"
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
hash-max-ziplist-value {COMPACT_BYTES}
aclfile "{self.directory}/users.acl"
{tls or ""}""",
        )
        return Process(
            ["redis-server", self.directory / "redis.conf"], log=self.log, die_with_parent=self.die_with_parent
        )


class RabbitServer(Server):
    """RabbitMQ, without plugins, with a cookie and an epmd of its own. It needs `port` and the two after it.

    Booting it took 5.0 s with Debian's plugin directory and takes 3.6 s with the one that is made here (3.10.8, two
    cores; 1.9 s in the machine's better minutes): that directory's forty plugins are scanned for feature flags and
    schemas, enabled or not. One Erlang scheduler (`+S 1:1`), `-sname` on the command line and no rabbitmq.conf (so no
    cuttlefish) brought nothing that could be told from noise.
    """

    name = "RabbitMQ"
    boot_seconds = 120
    stop_seconds = 30

    # Not the wrappers in PATH: as root those change to the user rabbitmq, and drop this environment.
    PROGRAMS: ClassVar[Path] = Path("/usr/lib/rabbitmq/bin")

    def __init__(
        self,
        directory: Path,
        port: int,
        *,
        erlang_arguments: str = "",
        die_with_parent: bool = False,
        tls: ServerTls | None = None,
    ) -> None:
        """Name a node.

        Args:
            directory: As for every server.
            port: For AMQP. The next one is for Erlang's distribution (rabbitmqctl), the one after it for epmd.
            erlang_arguments: More flags for `erl`, parted by spaces.
            die_with_parent: As for every server.
            tls: As for every server.
        """
        super().__init__(directory, port, die_with_parent=die_with_parent, tls=tls)
        self.erlang_arguments = erlang_arguments
        self._epmd: Process | None = None

    @property
    def epmd_pid(self) -> int | None:
        """Erlang's port mapper, which only rabbitmqctl needs once the node is up."""
        return self._epmd.pid if self._epmd and self._epmd.is_running else None

    def is_ready(self) -> bool:
        """Log in as the operator and open the virtual host, over AMQP.

        The listener opens last, after the definitions are loaded; rabbitmqctl would know no more and takes a second.
        """
        return self.opens(VHOST)

    def opens(self, vhost: str) -> bool:
        """Tell whether a virtual host can be opened. A new one takes a while: seconds on a busy machine."""
        try:
            with self._session(vhost):
                return True
        except NoAnswer:
            return False

    def revive_epmd(self) -> bool:
        """Start epmd when it does not run; tell whether it had to be. A running node finds it again within a minute."""
        if self._epmd_is_running:
            return False
        if self._epmd is not None:
            self._epmd.kill()
        self._epmd = Process(
            ["epmd", "-port", str(self.port + 2), "-address", HOST],
            log=self.log,
            environment=self._environment(),
            die_with_parent=self.die_with_parent,
        )
        return True

    def has_consumers(self, queue: str) -> bool:
        """Tell whether anybody consumes from a queue; False when it is not there, or the node is not up."""
        try:
            with self._session() as session:
                return session.consumers(queue) > 0
        except NoAnswer:
            return False

    def _session(self, vhost: str = VHOST) -> Session:
        return Session(self.port, OPERATOR, self._passwords()[OPERATOR], vhost)

    def stop(self) -> None:
        """End the node, then its epmd."""
        super().stop()
        if self._epmd is not None:
            self._epmd.end(patience=2)

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl on this node; its output. Takes about a second.

        Raises:
            StackError: It failed; the text is its own.
        """
        environment = self._environment() | {
            "RABBITMQ_CTL_ERL_ARGS": f"-kernel inet_dist_use_interface {{{HOST.replace('.', ',')}}}"
        }
        done = subprocess.run(
            [self.PROGRAMS / "rabbitmqctl", "-q", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StackError(f"rabbitmqctl {arguments[0]}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _url(self, user: str) -> str:
        scheme = "amqps" if self.tls and user != OPERATOR else "amqp"
        return f"{scheme}://{user}:{self._passwords()[user]}@{self._address(user)}/{VHOST}"

    def ports(self) -> tuple[int, ...]:
        """Return AMQP's, the distribution's, and epmd's as long as ours does not hold it."""
        node = (self.port, self.port + 1)
        return node if self._epmd_is_running else (*node, self.port + 2)

    @property
    def _epmd_is_running(self) -> bool:
        return self._epmd is not None and self._epmd.is_running

    def _configure(self) -> None:
        self._make_directory()
        cookie = self.directory / ".erlang.cookie"
        if not cookie.exists():
            write_private(cookie, secrets.token_hex(20), mode=0o400)
        write_private(self.directory / "definitions.json", json.dumps(self._definitions()))
        tls = (
            self.tls
            and f"""\
listeners.ssl.1 = {HOST}:{self.tls.port}
ssl_options.cacertfile = {self.tls.ca}
ssl_options.certfile = {self.tls.certificate}
ssl_options.keyfile = {self.tls.key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
"""
        )
        memory = min(2048, int(psutil.virtual_memory().total / MIB * 0.4))
        (self.directory / "rabbitmq.conf").write_text(
            f"""\
load_definitions = {self.directory}/definitions.json
vm_memory_high_watermark.absolute = {memory}MB
disk_free_limit.absolute = 250MB
# For the whole node, as 3.10 has it. A longer job hands its delivery over long before (DESIGN B3).
consumer_timeout = 10800000
# The log of the quorum queues, before a new file is begun; 512 MB by default, which is much for a laptop.
raft.wal_max_size_bytes = 134217728
log.console = false
log.file = node.log
{tls or ""}"""
        )
        (self.directory / "enabled_plugins").write_text("[].\n")
        self._link_plugins()

    def _link_plugins(self) -> None:
        """Make a plugin directory that holds only RabbitMQ itself (see the class)."""
        plugins = self.directory / "plugins"
        plugins.mkdir(exist_ok=True)
        for link in plugins.iterdir():  # a newer RabbitMQ may have been installed
            link.unlink()
        installed = (self.PROGRAMS / "rabbitmq-server").resolve().parent.parent / "plugins"
        for part in ("rabbit", "rabbit_common", "rabbitmq_prelaunch"):
            for found in installed.glob(f"{part}-[0-9]*"):
                (plugins / found.name).symlink_to(found)

    def permissions(self, vhost: str) -> list[dict[str, str]]:
        """Return each user's rights on a virtual host, as RabbitMQ's definitions have them."""
        return [one | {"vhost": vhost} for one in self._definitions()["permissions"]]

    def _definitions(self) -> Any:
        """Users and their rights; loaded at each start. With them the node makes no `guest`."""
        hashes = {user: _rabbit_hash(password) for user, password in self._passwords().items()}
        return json.loads(Template((DEPLOY / "rabbitmq" / "definitions.json").read_text()).substitute(hashes))

    def _environment(self) -> dict[str, str]:
        ours = {
            "HOME": str(self.directory),  # where Erlang looks for the cookie
            "RABBITMQ_NODENAME": "longhaul@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.port + 1),
            "ERL_EPMD_PORT": str(self.port + 2),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_CRASH_DUMP": str(self.directory / "erl_crash.dump"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq"),  # .conf is added
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",  # else the machine's /etc/rabbitmq/rabbitmq-env.conf wins
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_PLUGINS_DIR": str(self.directory / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-kernel inet_dist_use_interface {{{HOST.replace('.', ',')}}} {self.erlang_arguments}"
            ),
            # rabbitmq-server then becomes the Erlang VM instead of watching it: the pid is the VM's.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        theirs = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_", "NOTIFY_SOCKET"))}
        return theirs | ours

    def _spawn(self) -> Process:
        self._configure()
        self.revive_epmd()
        return Process(
            [self.PROGRAMS / "rabbitmq-server"],
            log=self.log,
            environment=self._environment(),
            directory=self.directory,
            die_with_parent=self.die_with_parent,
        )


def _rabbit_hash(password: str) -> str:
    """RabbitMQ's default: base64 of a 4-byte salt and the SHA-256 of salt and password."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()

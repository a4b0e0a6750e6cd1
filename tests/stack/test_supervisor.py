"""The stack as a whole: `up`, `down`, `run`, and what becomes of it when parts of it are killed."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import time

import httpx
import pytest
import redis as redis_py
from jose import jwt

from stack.ports import HOST, is_free
from stack.processes import Identity
from tests.stack.stacks import Stack, until
from tests.support.waiting import PATIENCE

WEEK = 604_800


def test_stack_json_says_where_everything_is(shared_stack: Stack) -> None:
    said = shared_stack.description()
    assert set(said) == {
        *("base_url", "api_urls", "nginx_url", "nginx_tls_url", "dashboard_url", "grpc_target", "metrics_url"),
        *("redis_url", "amqp_url", "tokens", "webhook_secrets", "config", "pids"),
    }
    assert said["api_urls"] == [said["base_url"]]
    assert stat.S_IMODE((shared_stack.run_directory / "stack.json").stat().st_mode) == 0o600
    for base in (said["base_url"], said["nginx_url"]):
        assert httpx.get(f"{base}/readyz").status_code == 200
    with redis_py.Redis.from_url(said["redis_url"]) as client:
        assert client.acl_whoami() == "operator"
    assert all(Identity.of(pid) for pid in shared_stack.pids().values())


def test_its_tokens_are_those_of_two_users_and_an_admin_for_a_week(shared_stack: Stack) -> None:
    said = shared_stack.description()
    submit_and_read = {"workload:submit", "workload:read"}
    assert set(said["tokens"]) == {"alice", "bob", "admin"}
    for name, token in said["tokens"].items():
        claims = jwt.get_unverified_claims(token)
        assert claims["sub"] == name
        assert claims["exp"] - claims["iat"] == WEEK
        assert set(claims["scope"].split()) == submit_and_read | ({"workload:admin"} if name == "admin" else set())
        answer = httpx.get(f"{said['nginx_url']}/v1/actions", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200


def test_api_and_worker_are_users_of_their_own(shared_stack: Stack) -> None:
    expected = {"operator", "api", "worker"}
    with redis_py.Redis.from_url(shared_stack.description()["redis_url"]) as client:
        deadline = time.monotonic() + 30  # the worker may have just been started again
        while (users := {one["user"] for one in client.client_list()}) != expected and time.monotonic() < deadline:
            time.sleep(0.1)
    assert users == expected


def test_its_webhook_secrets_are_those_of_the_two_users(shared_stack: Stack) -> None:
    said = shared_stack.description()
    assert set(said["webhook_secrets"]) == {"alice", "bob"}
    for name, secret in said["webhook_secrets"].items():
        headers = {"Authorization": f"Bearer {said['tokens'][name]}"}
        answer = httpx.get(f"{said['nginx_url']}/v1/webhooks/secret", headers=headers)
        assert answer.json()["secret"] == secret


def test_up_again_changes_nothing_and_is_quick(shared_stack: Stack) -> None:
    before, started = shared_stack.description(), time.monotonic()
    shared_stack.up()
    assert time.monotonic() - started < 3 * PATIENCE
    assert shared_stack.description() == before


def test_run_beside_it_is_refused_in_one_line(shared_stack: Stack) -> None:
    done = shared_stack.do("run")
    assert done.returncode == 1
    assert done.stderr == "run: the stack is up already: `make demo` uses it, `make down` stops it\n"
    assert shared_stack.answers()


@pytest.mark.parametrize("name", ["api", "worker", "redis", "rabbitmq", "nginx"])
def test_a_killed_process_is_back_within_five_seconds(shared_stack: Stack, name: str) -> None:
    before = shared_stack.pids()
    os.kill(before[name], signal.SIGKILL)
    until(lambda: shared_stack.pids()[name] != before[name], seconds=5, what=f"another {name} in stack.json")
    new = shared_stack.pids()[name]
    assert Identity.of(new), "it lives"
    until(shared_stack.answers, seconds=30, what=f"ready after {name} was killed")
    assert Identity.of(shared_stack.pids()[name])


def test_a_rabbitmq_that_has_lost_everything_is_back_with_its_users_its_queues_and_what_was_waiting(
    shared_stack: Stack,
) -> None:
    """Its data directory is gone, and with it users, rights, queues and messages: nobody has to do anything."""
    said, before = shared_stack.description(), shared_stack.pids()
    client = httpx.Client(
        base_url=said["nginx_url"], headers={"Authorization": f"Bearer {said['tokens']['alice']}"}, timeout=10
    )
    with client:
        order = {"action": "noop", "id": 1}
        delayed = client.post("/v1/workload", json=order | {"delay_seconds": 20}).json()["task_id"]
        supervisor = shared_stack.supervisor()
        os.kill(supervisor.pid, signal.SIGSTOP)  # it would start it anew before the data are gone
        try:
            os.kill(before["rabbitmq"], signal.SIGKILL)
            until(lambda: not Identity.of(before["rabbitmq"]), seconds=15, what="the end of RabbitMQ")
            shutil.rmtree(shared_stack.run_directory / "rabbitmq" / "data")
        finally:
            os.kill(supervisor.pid, signal.SIGCONT)
        until(lambda: shared_stack.pids()["rabbitmq"] != before["rabbitmq"], seconds=15, what="another RabbitMQ")

        def status_of(task_id: str) -> object:
            return client.get(f"/v1/workload/status/{task_id}").json().get("status")

        until(lambda: status_of(delayed) == "COMPLETED", seconds=90, what="the end of what was waiting")
        until(shared_stack.answers, seconds=30, what="the readiness")
        new = client.post("/v1/workload", json=order)
        assert new.status_code == 202, new.text
        until(lambda: status_of(new.json()["task_id"]) == "COMPLETED", seconds=30, what="the end of a new task")
    assert shared_stack.pids() == before | {"rabbitmq": shared_stack.pids()["rabbitmq"]}, "nothing else was restarted"


def test_the_stack_of_a_killed_supervisor_is_stopped_and_started_on_its_old_data(stack: Stack) -> None:
    stack.up()
    with redis_py.Redis.from_url(stack.description()["redis_url"]) as client:
        client.set("longhaul:kept", "yes")
    first = stack.processes()
    os.kill(stack.supervisor().pid, signal.SIGKILL)
    os.kill(first["redis"].pid, signal.SIGKILL)
    os.kill(first["nginx"].pid, signal.SIGKILL)  # its workers live on, and hold its port

    stack.up()
    second = stack.processes()
    assert set(second) == {"api", "worker", "redis", "rabbitmq", "epmd", "nginx"}
    assert not any(process.is_alive for process in first.values())
    assert all(process.is_alive for process in second.values())
    with redis_py.Redis.from_url(stack.description()["redis_url"]) as client:
        assert client.get("longhaul:kept") == b"yes"

    os.kill(stack.supervisor().pid, signal.SIGKILL)
    done = stack.do("down")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "the stack is down"
    assert not any(process.is_alive for process in second.values())
    assert all(is_free(port) for port in stack.ports.values())
    assert not (stack.run_directory / "stack.json").exists()
    assert stack.do("down").stdout == "nothing runs\n"


def test_a_port_in_use_is_one_line_that_names_port_and_variable(stack: Stack) -> None:
    for variable, port in stack.ports.items():
        with socket.create_server((HOST, port)):
            done = stack.do("up")
        assert done.returncode == 1
        assert done.stderr.startswith(f"up: port {port} is in use; choose another one with {variable}")
        assert len(done.stderr.splitlines()) == 1
        assert not stack.processes()


def test_a_wrong_setting_of_the_services_is_one_line_and_nothing_is_started(stack: Stack) -> None:
    done = stack.do("up", LONGHAUL_LEASE_SECONDS="-1")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "lease_seconds" in done.stderr
    assert not stack.processes()


@pytest.mark.slow
def test_run_shows_a_job_and_stops_everything_at_ctrl_c(stack: Stack) -> None:
    with subprocess.Popen(
        [*stack.command, "run"],
        env=stack.environment,
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stdout is not None
        said = []
        for line in map(str.rstrip, run.stdout):
            said.append(line)
            if "/v1/workload/status/TASK_ID" in line:  # the last one before it waits
                break
        processes = stack.processes()
        os.killpg(run.pid, signal.SIGINT)
        rest = run.stdout.read()
    text = "\n".join([*said, rest])
    assert run.returncode == 0, text
    assert "COMPLETED" in text
    assert "report.html" in text
    assert f"http://127.0.0.1:{stack.ports['LONGHAUL_NGINX_PORT']}/docs" in text
    assert len(processes) == 6
    assert not any(process.is_alive for process in processes.values())
    assert not (stack.run_directory / "stack.json").exists()

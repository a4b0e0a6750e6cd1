"""Webhooks, as their receivers live through them: signed, told once under one id, whatever dies in between."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from standardwebhooks import Webhook

from app.webhooks.signature import verify
from stack.servers import RabbitServer, RedisServer
from tests.support.receivers import Authority, Received, receiver
from tests.support.service import Service, running_service
from tests.support.waiting import wait_until

SCHEDULE = [0.2, 0.2, 0.4, 0.4, 0.8]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whose certificates the service trusts beside the public ones."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
async def service(
    own_redis: RedisServer,
    rabbit_server: RabbitServer,
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
) -> AsyncIterator[Service]:
    """A service whose webhooks are in a hurry."""
    webhooks = {"schedule_seconds": SCHEDULE, "late_after_seconds": 2, "ca_file": str(authority.file)}
    async with running_service(
        own_redis, rabbit_server, tmp_path_factory.mktemp("webhooks"), webhooks=webhooks
    ) as running:
        yield running


async def submit(client: httpx.AsyncClient, url: str, **order: Any) -> dict[str, Any]:
    """Submit a task with a callback."""
    answer = await client.post("/v1/workload", json={"action": "noop", "id": 1, "callback_url": url, **order})
    assert answer.status_code == 202, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def arrived(hook_received: list[Received], count: int = 1) -> None:
    """Wait until so many requests have come."""

    async def there() -> bool:
        return len(hook_received) >= count

    await wait_until(there, timeout=40, what=f"{count} requests")


async def secret_of(client: httpx.AsyncClient) -> str:
    """Return the caller's secret."""
    secret: str = (await client.get("/v1/webhooks/secret")).json()["secret"]
    return secret


def check(request: Received, secret: str) -> dict[str, Any]:
    """Check both signatures, one of them by somebody else's library; return the body."""
    assert Webhook(secret).verify(request.body, request.headers)
    hub = {"X-Hub-Signature-256": request.headers["x-hub-signature-256"]}
    assert verify(request.body, hub, secret) == "hub"
    body: dict[str, Any] = json.loads(request.body)
    return body


async def test_the_end_is_told_signed_and_whole(service: Service, alice: httpx.AsyncClient) -> None:
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with receiver() as hook:
        answer = await alice.post(
            "/v1/workload",
            json={"action": "noop", "id": 1, "callback_url": hook.url},
            headers={"X-Request-ID": "the-callers-own", "traceparent": traceparent},
        )
        task = answer.json()
        assert task["webhook"] == {"state": "waiting", "attempts": 0}
        await arrived(hook.received)
        (request,) = hook.received
        body = check(request, await secret_of(alice))
        shown = (await alice.get(f"/v1/workload/status/{task['task_id']}")).json()
        assert body["data"].pop("webhook") == {"state": "due", "attempts": 0}
        assert shown.pop("webhook")["state"] in ("due", "delivered")
        assert body["data"] == shown
        assert {name: body[name] for name in ("task_id", "status", "type", "timestamp")} == {
            "task_id": task["task_id"],
            "status": "COMPLETED",
            "type": "workload.completed",
            "timestamp": shown["finished_at"],
        }
        assert request.headers["content-type"] == "application/json"
        assert request.headers["x-request-id"] == "the-callers-own"
        _, trace, span, _ = request.headers["traceparent"].split("-")
        assert trace == traceparent.split("-")[1]
        assert span != traceparent.split("-")[2]


async def test_every_end_is_told_and_the_start_if_it_is_asked_for(service: Service, alice: httpx.AsyncClient) -> None:
    async with receiver() as hook:
        cancelled = await submit(alice, f"{hook.url}/cancelled", delay_seconds=3600)
        await alice.post(f"/v1/workload/{cancelled['task_id']}/cancel")
        await submit(alice, f"{hook.url}/both", callback_events=["started", "completed"])
        await submit(alice, f"{hook.url}/started", callback_events=["started"])
        order = {"action": "sleep", "seconds": 60, "timeout_seconds": 0.2, "max_attempts": 1}
        await alice.post("/v1/workload", json={**order, "callback_url": f"{hook.url}/failed"})
        await arrived(hook.received, 5)
        secret = await secret_of(alice)
        told = sorted((request.path.rpartition("/")[2], check(request, secret)["type"]) for request in hook.received)
        assert told == [
            ("both", "workload.completed"),
            ("both", "workload.started"),
            ("cancelled", "workload.cancelled"),
            ("failed", "workload.failed"),
            ("started", "workload.started"),
        ]
        assert len({request.headers["webhook-id"] for request in hook.received}) == 5
        started = next(check(one, secret) for one in hook.received if b"workload.started" in one.body)
        assert (started["status"], started["timestamp"]) == ("PROCESSING", started["data"]["started_at"])


async def test_a_receiver_that_fails_gets_it_again_until_it_takes_it(
    service: Service, rabbit_server: RabbitServer, alice: httpx.AsyncClient
) -> None:
    """Six attempts with one id and one body; a killed worker and an emptied broker change nothing but times."""

    def answer(_: Received) -> tuple[int, dict[str, str]]:
        return (500 if len(hook.received) < 6 else 200), {}

    async with receiver(answer) as hook:
        task = await submit(alice, hook.url)
        await attempts_at(alice, task["task_id"], 2)  # recorded: an attempt that is cut off is made once more
        service.workers.pop().kill()
        await service.start_worker()
        await arrived(hook.received, 4)
        vhost = service.settings.amqp_url.get_secret_value().rpartition("/")[2]
        for queue in ("webhooks", "delay.1s"):
            rabbit_server.ctl("purge_queue", "-p", vhost, queue)
        await arrived(hook.received, 6)

        shown = await webhook_of(alice, task["task_id"], "delivered")
        assert shown == {"state": "delivered", "attempts": 6}
        secret = await secret_of(alice)
        for request in hook.received:
            check(request, secret)
        assert len({request.headers["webhook-id"] for request in hook.received}) == 1
        assert len({request.body for request in hook.received}) == 1
        assert len(hook.received) == 6
        attempts = (await alice.get(f"/v1/workload/{task['task_id']}/deliveries")).json()["items"]
        assert [(one["attempt"], one["outcome"], one["status_code"]) for one in reversed(attempts)] == [
            *((number, "refused", 500) for number in range(1, 6)),
            (6, "delivered", 200),
        ]
        assert {one["webhook_id"] for one in attempts} == {hook.received[0].headers["webhook-id"]}
        assert ["next_attempt_at" in one for one in attempts] == [False] + [True] * 5


async def attempts_at(client: httpx.AsyncClient, task_id: str, count: int = 1) -> list[dict[str, Any]]:
    """Return the attempts at a task's webhooks, the newest first, once there are so many."""

    async def recorded() -> list[dict[str, Any]] | None:
        items: list[dict[str, Any]] = (await client.get(f"/v1/workload/{task_id}/deliveries")).json()["items"]
        return items if len(items) >= count else None

    found = await wait_until(recorded, timeout=40, what="an attempt's record")
    assert found is not None
    return found


async def webhook_of(client: httpx.AsyncClient, task_id: str, state: str) -> dict[str, Any]:
    """Return a task's `webhook` once it is in a state."""

    async def reached() -> dict[str, Any] | None:
        shown: dict[str, Any] = (await client.get(f"/v1/workload/status/{task_id}")).json()["webhook"]
        return shown if shown["state"] == state else None

    found = await wait_until(reached, timeout=40, what=f"the state {state}")
    assert found is not None
    return found


async def test_410_stops_and_a_redirect_is_a_failure(service: Service, alice: httpx.AsyncClient) -> None:
    async with receiver() as elsewhere, receiver() as hook:
        hook.answer = lambda _: (307, {"Location": elsewhere.url}) if len(hook.received) == 1 else (410, {})
        task = await submit(alice, hook.url)
        assert await webhook_of(alice, task["task_id"], "stopped") == {"state": "stopped", "attempts": 2}
        items = (await alice.get(f"/v1/workload/{task['task_id']}/deliveries")).json()["items"]
        assert [(one["outcome"], one["status_code"], one.get("location")) for one in items] == [
            ("gone", 410, None),
            ("refused", 307, elsewhere.url),
        ]
        assert elsewhere.connections == 0


async def test_what_was_given_up_is_sent_again_by_hand(service: Service, alice: httpx.AsyncClient) -> None:
    async with receiver(lambda _: (500, {})) as hook:
        task = await submit(alice, hook.url)
        attempts = len(SCHEDULE) + 1
        assert await webhook_of(alice, task["task_id"], "failed") == {"state": "failed", "attempts": attempts}
        hook.answer = lambda _: (204, {})
        newest = (await alice.get(f"/v1/workload/{task['task_id']}/deliveries")).json()["items"][0]
        answer = await alice.post(f"/v1/workload/{task['task_id']}/deliveries/{newest['id']}/redeliver")
        assert answer.status_code == 202, answer.text
        assert answer.json() == {"webhook_id": newest["webhook_id"], "state": "due"}
        shown = await webhook_of(alice, task["task_id"], "delivered")
        assert shown["attempts"] == attempts + 1
        assert len({(request.body, request.headers["webhook-id"]) for request in hook.received}) == 1
        check(hook.received[-1], await secret_of(alice))


async def test_an_operator_sends_again_what_anybodys_receiver_has_missed(
    service: Service, alice: httpx.AsyncClient
) -> None:
    async with (
        receiver(lambda _: (410, {})) as hook,
        service.client("an operator", scopes="workload:admin") as operator,
    ):
        task = await submit(alice, hook.url)
        await webhook_of(alice, task["task_id"], "stopped")
        path = f"/v1/admin/tasks/{task['task_id']}/deliveries"
        listed = await operator.get(path)
        (only,) = listed.json()["items"]
        assert only == (await attempts_at(alice, task["task_id"]))[0]
        assert hook.url not in listed.text  # where it goes is its owner's own affair
        hook.answer = lambda _: (204, {})
        assert (await operator.post(f"{path}/{uuid4()}/redeliver", json={"reason": "x"})).status_code == 404
        answer = await operator.post(f"{path}/{only['id']}/redeliver", json={"reason": "their outage is over"})
        assert (answer.status_code, answer.json()) == (202, {"webhook_id": only["webhook_id"], "state": "due"})
        assert (await webhook_of(alice, task["task_id"], "delivered"))["attempts"] == 2
        (audit,) = [line for line in service.api_log.splitlines() if "their outage is over" in line]
        for part in ("change=redelivered", "an operator", f"task_id={task['task_id']}"):
            assert part in audit


async def test_a_receiver_may_say_when_it_wants_it_again(service: Service, alice: httpx.AsyncClient) -> None:
    async with receiver(lambda _: (503, {"Retry-After": "3600"})) as hook:
        task = await submit(alice, hook.url)
        await arrived(hook.received)
        (only,) = await attempts_at(alice, task["task_id"])
        wait = datetime.fromisoformat(only["next_attempt_at"]) - datetime.fromisoformat(only["attempted_at"])
        assert timedelta(minutes=59) < wait < timedelta(minutes=61)
        shown = await webhook_of(alice, task["task_id"], "due")
        assert shown == {"state": "due", "attempts": 1, "next_attempt_at": only["next_attempt_at"]}
        answer = await alice.delete(f"/v1/workload/{task['task_id']}")
        assert answer.status_code == 204  # what is due stays so, and is told


async def test_it_arrives_by_https_under_an_authority_of_ones_own(
    service: Service, alice: httpx.AsyncClient, authority: Authority, tmp_path: Path
) -> None:
    async with (
        receiver(tls=authority.context("127.0.0.1")) as hook,
        receiver(tls=Authority(tmp_path).context("127.0.0.1")) as stranger,
    ):
        await submit(alice, f"https://127.0.0.1:{hook.port}/hook")
        task = await submit(alice, f"https://127.0.0.1:{stranger.port}/hook")
        await arrived(hook.received)
        check(hook.received[0], await secret_of(alice))
        (first, *_) = await attempts_at(alice, task["task_id"])
        assert first["outcome"] == "unanswered"
        assert first["error"].startswith("TLS: ")
        assert stranger.received == []


async def test_a_rotation_overlaps(service: Service, alice: httpx.AsyncClient) -> None:
    first = (await alice.get("/v1/webhooks/secret")).json()
    assert first.keys() == {"secret", "created_at"}
    rotated = await alice.post("/v1/webhooks/secret/rotate")
    assert rotated.status_code == 200
    second = rotated.json()
    assert second["secret"] != first["secret"]
    assert datetime.fromisoformat(second["previous_expires_at"]) > datetime.now(UTC) + timedelta(hours=23)
    assert (await alice.get("/v1/webhooks/secret")).json() == second
    async with receiver() as hook:
        await submit(alice, hook.url)
        await arrived(hook.received)
        (request,) = hook.received
        for secret in (first["secret"], second["secret"]):
            assert Webhook(secret).verify(request.body, request.headers)
        hub = {"X-Hub-Signature-256": request.headers["x-hub-signature-256"]}
        assert verify(request.body, hub, first["secret"]) == "hub"  # its receiver may not know the new one yet


async def test_a_test_delivery_arrives(service: Service, alice: httpx.AsyncClient) -> None:
    async with receiver() as hook:
        answer = await alice.post("/v1/webhooks/test", json={"callback_url": hook.url})
        assert answer.status_code == 202, answer.text
        await arrived(hook.received)
        body = check(hook.received[0], await secret_of(alice))
        assert (body["type"], body["status"]) == ("workload.test", "COMPLETED")
        assert hook.received[0].headers["webhook-id"] == answer.json()["webhook_id"]


async def test_the_link_in_it_opens_the_result_and_nothing_else(service: Service, alice: httpx.AsyncClient) -> None:
    async with receiver() as hook, httpx.AsyncClient() as anybody:
        answer = await alice.post(
            "/v1/workload", json={"action": "transform_dataset", "id": 1024, "every": "7d", "callback_url": hook.url}
        )
        assert answer.status_code == 202, answer.text
        task = answer.json()
        await arrived(hook.received)
        body = check(hook.received[0], await secret_of(alice))
        link = body["result_url"]
        assert body["data"]["result_url"] == link.partition("?")[0]
        result = await anybody.get(link)
        assert result.status_code == 200
        assert sha256(result.content).hexdigest() == body["data"]["result"]["sha256"]
        part = await anybody.get(link, headers={"Range": "bytes=0-3"})
        assert (part.status_code, part.content) == (206, result.content[:4])
        head = await anybody.head(link)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(result.content)))

        other = (await submit(alice, hook.url))["task_id"]
        query = link.partition("?")[2]
        later = query.replace("expires=", "expires=9")
        for wrong in (
            f"/v1/workload/{other}/result?{query}",
            f"/v1/workload/{task['task_id']}/result?{later}",
            f"/v1/workload/{task['task_id']}/result?{query[:-1]}",
            f"/v1/workload/{task['task_id']}/result?signature=x",
            f"/v1/workload/{task['task_id']}/result",
        ):
            refused = await anybody.get(service.base_url + wrong)
            assert refused.status_code == 401, wrong
            assert refused.headers["www-authenticate"] == 'Bearer realm="longhaul"'
        for path in (f"/v1/workload/status/{task['task_id']}", f"/v1/workload/{task['task_id']}/deliveries"):
            assert (await anybody.get(f"{service.base_url}{path}?{query}")).status_code == 401

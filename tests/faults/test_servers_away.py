"""RabbitMQ or Redis restarts under a running job: it goes on, ends once, and the workers work again afterwards."""

import httpx

from tests.faults.conftest import Breakable, Diary, submit
from tests.faults.work import STEPS

ONCE = ["begun 1", *(f"step {step}" for step in range(STEPS)), "done"]


async def test_a_job_outlives_a_restart_of_rabbitmq(broken: Breakable, caller: httpx.AsyncClient, diary: Diary) -> None:
    """Its delivery is lost and comes again, to be parked and dropped: the job has run once, on both workers."""
    task = await submit(caller, "hold", what="steps", diary=str(diary.path))
    await diary.has("step 2")
    broken.rabbit_server.kill()
    broken.rabbit_server.start()
    document = await broken.service.ended(caller, task)
    assert (document["status"], document["attempt"]) == ("COMPLETED", 1)
    assert diary.lines == ONCE
    await _works_again(broken, caller, diary)


async def test_a_job_outlives_its_connections(broken: Breakable, caller: httpx.AsyncClient, diary: Diary) -> None:
    task = await submit(caller, "hold", what="steps", diary=str(diary.path))
    await diary.has("step 2")
    broken.rabbit_server.ctl("close_all_connections", "a test")
    document = await broken.service.ended(caller, task)
    assert (document["status"], document["attempt"]) == ("COMPLETED", 1)
    assert diary.lines == ONCE
    await _works_again(broken, caller, diary)


async def test_a_job_outlives_a_restart_of_redis(broken: Breakable, caller: httpx.AsyncClient, diary: Diary) -> None:
    task = await submit(caller, "hold", what="steps", diary=str(diary.path))
    await diary.has("step 2")
    broken.redis_server.kill()
    broken.redis_server.start()
    document = await broken.service.ended(caller, task)
    assert (document["status"], document["attempt"]) == ("COMPLETED", 1)
    assert diary.lines == ONCE
    await _works_again(broken, caller, diary)


async def test_a_consumer_that_the_broker_has_cancelled_consumes_again(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    """Its queue was deleted, and declared again: no channel was closed, only the consumer was told."""
    await broken.consumed()
    broken.rabbit_server.ctl("delete_queue", "narrow", "--vhost", "longhaul")
    await broken.service.declare()
    task = await submit(caller, "narrow_hold", what="nothing", diary=str(diary.path))
    document = await broken.service.ended(caller, task)
    assert (document["status"], document["attempt"]) == ("COMPLETED", 1)
    assert diary.lines == ["begun 1", "done"]
    await broken.consumed()


async def _works_again(broken: Breakable, caller: httpx.AsyncClient, diary: Diary) -> None:
    """Both workers are there, consume every queue again, and jobs are done."""
    assert all(worker.is_running for worker in broken.service.workers)
    await broken.consumed()
    diary.path.unlink()
    task = await submit(caller, "hold", what="nothing", diary=str(diary.path))
    document = await broken.service.ended(caller, task, timeout=15)
    assert (document["status"], document["attempt"]) == ("COMPLETED", 1)
    assert diary.lines == ["begun 1", "done"]

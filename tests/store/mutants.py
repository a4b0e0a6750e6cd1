"""Mutants: the scripts, each with one guard taken out. Whoever takes one out for good must be told by a test."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from app.store.lua import source
from app.store.tasks import SCRIPTS


@dataclass(frozen=True)
class Mutant:
    """One text in the prelude or in one script, and what it is replaced by."""

    script: str
    text: str
    replacement: str

    def texts(self) -> dict[str, str]:
        """Return the scripts' texts with the change in it.

        Raises:
            AssertionError: The text does not stand there exactly once: the script was changed, and so must this be.
        """
        part = (files("app.store") / "scripts" / f"{self.script}.lua").read_text(encoding="utf-8")
        assert part.count(self.text) == 1, f"{self.script}: {self.text}"
        changed = part.replace(self.text, self.replacement)
        return {name: source(name).replace(part, changed) for name in SCRIPTS if self.script in ("prelude", name)}

    def __str__(self) -> str:
        return f"{self.script}: {self.text.strip().splitlines()[0][:70]}"


def _all(script: str, *changes: tuple[str, str]) -> list[Mutant]:
    return [Mutant(script, text, replacement) for text, replacement in changes]


MUTANTS: Final = [
    *_all(
        "prelude",
        ("if status == 'forgotten' then -- it bars", "if false then -- it bars"),
        ("if not status or tonumber(stored_run) < tonumber(run) then", "if not status then"),
        ("status == 'PROCESSING' and stored_run == run and newest == token", "stored_run == run and newest == token"),
        ("and stored_run == run and newest == token", "and newest == token"),
        ("and stored_run == run and newest == token", "and stored_run == run"),
        ("seq = math.max(seq, now())", "seq = seq"),
        ("number_of('seq') + 1\n  if jump", "number_of('seq')\n  if jump"),
        ("  redis.call('PUBLISH',", "  local _ = (cjson.null and 1) or redis.call('PUBLISH',"),
        ("'token', token or '0', unpack", "'token', '0', unpack"),
        (
            "  redis.call('DEL', TASK)\n  redis.call('HSET', TASK, 'seq', whole(seq), 'token'",
            "  redis.call('HSET', TASK, 'seq', whole(seq), 'token'",
        ),
        ("(attempt ~= committed_in and 1 or 0)", "1"),
        ("math.min(lease, tonumber(since) + lease - now())", "tonumber(since) + lease - now()"),
        ("  redis.call('ZADD', LIVE, whole(now()), ID)", "  local _ = ID"),
    ),
    *_all(
        "create",
        ("status and status ~= 'aborted'", "status"),
        ("if status == 'forgotten' then", "if false then"),
        ("if nonce == A.nonce then", "if false then"),
        ("status == 'created' and 'STARTED' or 'EXISTS'", "'EXISTS'"),
        ("A.keyed == '1' and young > 0", "false"),
        ("A.keyed == '1' and young > 0", "young > 0"),
        ("math.max(tonumber(seq or '0') + 1, now())", "now()"),
        ("redis.call('PEXPIRE', TASK, A.patience)", ""),
    ),
    *_all(
        "rerun",
        ("if status == 'forgotten' then", "if false then"),
        ("if status and nonce == A.nonce then", "if false then"),
        ("tonumber(run) >= tonumber(A.run) or", ""),
        ("if not status and young > 0 then", "if false then"),
        ("not (status == 'FAILED' or status == 'CANCELLED' or by_hand)", "false"),
        ("and status == 'PENDING' and finished", "and status == 'PENDING'"),
        ("A.hand == '1' and", ""),
        ("math.max(number_of('seq'), now())", "now()"),
        ("redis.call('PEXPIRE', TASK, A.patience)", ""),
    ),
    *_all(
        "queued",
        ("if status == 'forgotten' then", "if false then"),
        ("or status == 'aborted' or", "or"),
        ("or tonumber(run) < tonumber(A.run) then", "then"),
        ("or tonumber(run) > tonumber(A.run) then", "then"),
        ("if id ~= A.epoch and guard ~= A.message then", "if false then"),
        ("if id ~= A.epoch and guard ~= A.message then", "if id ~= A.epoch then"),
        ("redis.call('PERSIST', TASK)", ""),
        ("published()\n", ""),
        ("redis.call('HDEL', TASK, 'ended_as',", "redis.call('HDEL', TASK,"),
        ("if ended_as then --", "if false then --"),
        ("'progress', checkpoint_progress or '0')", "'progress', '0')"),
        ("'guard', A.message, 'progress'", "'progress'"),
    ),
    *_all(
        "abort",
        ("if aborted == A.message then", "if false then"),
        ("status == 'created' and guard == A.message", "status == 'created'"),
        ("status == 'created' and guard == A.message", "guard == A.message"),
        ("'run', tonumber(run) - 1)", "'run', run)"),
        ("redis.call('PEXPIRE', TASK, A.ttl)", ""),
        ("redis.call('PEXPIRE', TASK, A.patience)", ""),
        ("tonumber(run) < tonumber(A.run)", "false"),
    ),
    *_all(
        "claim",
        ("if status and nonce == A.nonce then", "if false then"),
        ("if status == 'forgotten' then", "if false then"),
        ("if status and tonumber(stored_run) > run then", "if false then"),
        ("not status or tonumber(stored_run) < run", "not status"),
        ("if provisional then", "if false then"),
        ("if missing and young > 0 then", "if false then"),
        ("if must_ask(what) then", "if false then"),
        ("A.asked ~= what or A.epoch ~= id", "A.asked ~= what"),
        ("A.asked ~= what or A.epoch ~= id", "A.epoch ~= id"),
        ("(status == 'created' or status == 'aborted') and guard ~= A.message", "false"),
        ("  published()\n  status, begun, rebuilt =", "  status, begun, rebuilt ="),
        ("  published()\n  status, begun =", "  status, begun ="),
        ("status, begun, rebuilt = 'PENDING', true, true", "status, begun = 'PENDING', true"),
        ("elseif status ~= 'PENDING' and status ~= 'PROCESSING' then", "elseif false then"),
        ("elseif guard ~= '' and A.message ~= guard and A.message ~= next_guard then", "elseif false then"),
        ("A.message ~= guard and A.message ~= next_guard then", "A.message ~= guard then"),
        ("elseif guard ~= '' and A.message ~= guard", "elseif A.message ~= guard"),
        ("elseif guard ~= '' and A.message ~= guard", "elseif guard and guard ~= '' and A.message ~= guard"),
        ("elseif A.message ~= guard then --", "elseif false then --"),
        ("elseif A.message ~= guard then --", "elseif A.message == next_guard then --"),
        ("redis.call('PERSIST', TASK)", ""),
        ("and early > 0 and", "and false and"),
        ("early > 0 and cancel ~= '1' then", "early > 0 then"),
        ("  if begun then\n", "  if rebuilt then\n"),
        ("redis.call('HSET', TASK, 'next_guard', A.copy)", ""),
        ("if left > lease then", "if false then"),
        ("if left > 0 then", "if false then"),
        (
            "  if young > 0 then\n    return {'WAIT', young}\n  end\n  if must_ask('EXPIRED')",
            "  if must_ask('EXPIRED')",
        ),
        ("if must_ask('EXPIRED') then", "if false then"),
        ("charged = charged_for_a_lost_worker()", ""),
        ("math.max(tonumber(token or '0') + 1, now())", "now()"),
        ("math.max(tonumber(token or '0') + 1, now())", "tonumber(token or '0') + 1"),
        ("(charged < tonumber(max_attempts or '0') and 1 or 0)", "1"),
        ("tonumber(charged) >= tonumber(max_attempts or '0')", "false"),
        ("'next_guard', 'message', 'not_before', 'redrives'", "'message', 'not_before', 'redrives'"),
        ("'progress', progress,\n", "\n"),
        ("started_at or whole(now())", "whole(now())"),
    ),
    *_all(
        "promote",
        ("if next_guard ~= A.copy then", "if false then"),
        ("if not run or tonumber(run) < tonumber(A.run) then", "if false then"),
        ("(not guard or guard == '' or guard == A.old) and 'KEEP' or 'OTHER'", "'OTHER'"),
        ("not guard or guard == '' or guard == A.old", "not guard or guard == A.old"),
        ("published()", ""),
        ("redis.call('HDEL', TASK, 'next_guard')", ""),
    ),
    *_all(
        "beat",
        ("if state ~= 'HELD' then", "if state == 'MISSING' then"),
        ("math.max(tonumber(progress), tonumber(A.progress))", "tonumber(A.progress)"),
        ("  redis.call('HSET', TASK, 'lease_until', lease_until)\n", ""),
        (", 'lease_until', lease_until))\nelse", "))\nelse"),
        ("cancel == '1' and 'CANCEL' or 'HELD'", "'HELD'"),
    ),
    *_all(
        "commit",
        ("if state ~= 'HELD' then", "if state == 'MISSING' then"),
        ("math.max(tonumber(progress), tonumber(A.progress))", "tonumber(A.progress)"),
        (", 'committed_in', attempt)", ")"),
        ("if newest > tonumber(progress) then", "if false then"),
    ),
    *_all(
        "restore",
        ("if state ~= 'MISSING' then", "if state == 'HELD' then"),
        ("\nepoch()\n", "\n"),
        ("published()\n", ""),
        ("change(true,", "change(false,"),
    ),
    *_all("hand_over", ("if state == 'HELD' then", "if true then")),
    *_all(
        "release",
        ("if state ~= 'HELD' then", "if state == 'MISSING' then"),
        ("if status == 'PENDING' and token == A.token and next_guard == A.copy then", "if false then"),
        ("if charged >= number_of('max_attempts') then", "if false then"),
        ("(A.charge == '1' and 1 or 0)", "1"),
        ("'lease_until', 'claim_nonce')", "'lease_until')"),
    ),
    *_all(
        "requeue",
        ("if state ~= 'HELD' then", "if state == 'MISSING' then"),
        ("status == 'PENDING' and run == A.run", "run == A.run"),
        ("and token == A.token and", "and"),
        ("'lease_until', 'claim_nonce')", "'lease_until')"),
    ),
    *_all(
        "settle",
        ("status == 'forgotten' or", ""),
        ("or tonumber(run) > tonumber(A.run) then", "then"),
        ("if (status == 'created' or status == 'aborted') and guard ~= A.own then", "if false then"),
        ("if not status then", "if false then"),
        ("redis.call('ZREM', LIVE, ID)", ""),
        ("if status == A.status and run == A.run then", "if false then"),
        ("and run == A.run then", "then"),
        ("math.max(seen, tonumber(A.seq) - 1)", "tonumber(A.seq) - 1"),
        # That what nobody has seen leaves the row's own seq is too rare for stories: test_ends.py has it.
        ("redis.call('PEXPIRE', TASK, A.ttl)", ""),
    ),
    *_all(
        "cancel",
        ("or status == 'aborted' or status == 'forgotten'", ""),
        ("status == 'created' and not ended_as", "status == 'created'"),
        ("if status ~= 'PENDING' and status ~= 'PROCESSING' then", "if false then"),
        ("cancel == '1' and document() or", ""),
    ),
    *_all(
        "forget",
        ("if not again and (status", "if false and (status"),
        ("if not again and (status", "if (status"),
        (" or status == 'created')", ")"),
        ("if not again and status == 'forgotten' and not provisional then", "if false then"),
        ("if not again and status == 'forgotten' and not provisional then", "if status == 'forgotten' then"),
        ("redis.call('ZREM', LIVE, ID)", ""),
        ("redis.call('DEL', TASK, LOGS)", "redis.call('DEL', LOGS)"),
        ("if not again then", "if false then"),
        ("if not again then", "if true then"),
        ("redis.call('PEXPIRE', TASK, again and A.ttl or A.patience)", ""),
        ("again and A.ttl or A.patience", "A.ttl"),
    ),
    *_all(
        "redrive",
        ("if status == 'created' then", "if false then"),
        ("if not expired and A.all ~= '1' then", "if false then"),
        ("if young > 0 then", "if false then"),
        ("A.asked ~= '1' or A.epoch ~= id", "A.asked ~= '1'"),
        ("change(false, 'status', 'PENDING', 'charged', charged)", "change(false, 'status', 'PENDING')"),
        ("if redis.call('HGET', TASK, 'next_guard') ~= A.copy then", "if true then"),
    ),
]

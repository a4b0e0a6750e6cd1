"""claim: the table of the protocol, row by row."""

from tests.store.model.shard import ENDS, Arguments, Reply, Shard
from tests.store.model.submission import OLD_END


def claim(s: Shard, a: Arguments) -> Reply:
    """A worker holds a message, and wants to run its task."""
    epoch, young = s.epoch_and_youth(a)
    refusal = _refused(s, a, epoch, young)
    if refusal:
        return refusal
    begun = s.status in ("", "created", "aborted") or s.run < a.number("run")
    rebuilt = begun and (s.status != "created" or s.hash["guard"] != a["message"] or s.run < a.number("run"))
    if rebuilt:
        s.make_anew(a.fields, seq=s.number("seq"))
    if begun:
        s.remove(OLD_END)
        s.put(status="PENDING")
        s.confirmed()
    if s.hash.get("guard") != a["message"]:
        s.remove(["next_guard"])
    s.put(guard=a["message"])
    s.ttl = None
    return _at_its_time(s, a, epoch, young, begun=begun, rebuilt=rebuilt)


def _refused(s: Shard, a: Arguments, epoch: bytes, young: int) -> Reply:
    """The rows that change nothing; and the call that is sent twice."""
    run, asked = a.number("run"), a.text("asked") if a["epoch"] == epoch else ""
    if s.hash and s.hash.get("claim_nonce") == a["nonce"]:
        return _taken(s, rebuilt=True)
    if s.status == "forgotten":
        return ["ASK", "MARKED", epoch] if "provisional" in s.hash else ["DROP", "forgotten"]
    if s.run > run:
        return ["DROP", "a later run"]
    if not s.hash or s.run < run:
        if young > 0:
            return ["WAIT", young]
        return [] if asked == "MISSING" else ["ASK", "MISSING", epoch]
    guard = s.hash.get("guard")
    own = guard == b"" or a["message"] in (guard, s.hash.get("next_guard"))
    if s.status in ENDS or (s.status == "aborted" and s.hash["guard"] == a["message"]):
        return ["DROP", s.status]
    if s.status in ("created", "aborted"):
        return [] if s.hash["guard"] == a["message"] or asked == "CREATED" else ["ASK", "CREATED", epoch]
    return [] if own else ["DROP", "another message guards it"]


def _at_its_time(s: Shard, a: Arguments, epoch: bytes, young: int, *, begun: bool, rebuilt: bool) -> Reply:
    """The rows about time: not_before, and the lease of whoever has it."""
    early = s.number("not_before") - s.now
    if s.status == "PENDING" and early > 0 and s.text("cancel") != "1":
        if begun:
            s.change(jump=rebuilt, progress=s.number("checkpoint_progress"))
        s.put(next_guard=a["copy"])
        return ["PARK", early]
    charged = s.number("charged")
    if s.status == "PROCESSING":
        lease = a.number("lease")
        if s.number("lease_until") > s.now + lease:
            s.put(lease_until=s.now + lease)
        left = s.number("lease_until") - s.now
        if left > 0:
            s.put(next_guard=a["copy"])
            return ["PARK", left]
        if young > 0:
            return ["WAIT", young]
        if a.text("asked") != "EXPIRED" or a["epoch"] != epoch:
            return ["ASK", "EXPIRED", epoch]
        charged = s.charge_a_lost_worker()
    _take(s, a, charged, rebuilt=rebuilt)
    return _taken(s, rebuilt=rebuilt)


def _take(s: Shard, a: Arguments, charged: int, *, rebuilt: bool) -> None:
    s.remove(("next_guard", "message", "not_before", "redrives"))
    if "started_at" not in s.hash:
        s.put(started_at=s.now)
    s.change(
        jump=rebuilt,
        status="PROCESSING",
        token=max(s.number("token") + 1, s.now),
        worker=a["worker"],
        lease_until=s.now + a.number("lease"),
        attempt=s.number("attempt") + (0 if charged >= s.number("max_attempts") else 1),
        charged=charged,
        progress=s.number("checkpoint_progress"),
        claim_nonce=a["nonce"],
    )


def _taken(s: Shard, *, rebuilt: bool) -> Reply:
    checkpoint = s.hash.get("checkpoint", b"")
    if s.number("charged") >= s.number("max_attempts"):
        return ["EXHAUSTED", checkpoint, s.number("checkpoint_progress"), s.document()]
    shown = (s.number("attempt"), s.number("token"), s.text("cancel"), int(rebuilt), s.number("charged"))
    return ["CLAIMED", *shown, checkpoint, s.document()]

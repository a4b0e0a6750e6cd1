"""settle, cancel, forget."""

from tests.store.model.shard import ALIVE, Arguments, Reply, Shard


def settle(s: Shard, a: Arguments) -> Reply:
    """Show the end that a row has."""
    if not s.hash:
        return ["MISSING"]
    if s.status == "forgotten" or s.run > a.number("run"):
        return ["OTHER"]
    if s.status in ("created", "aborted") and s.hash["guard"] != a["own"]:
        return ["OTHER"]
    s.live = None
    if s.run == a.number("run") and s.status == a.text("status"):
        return ["SETTLED", str(s.number("seq"))]
    seen = 0 if s.status in ("created", "aborted") else s.number("seq")
    s.make_anew(a.fields, seq=max(seen, a.number("seq") - 1))
    s.ttl = a.number("ttl")
    s.change(status=a["status"])
    return ["SETTLED", str(s.number("seq"))]


def cancel(s: Shard, a: Arguments) -> Reply:
    """Ask it to stop."""
    again = s.status == "created" and "ended_as" in s.hash
    if s.status in ("", "aborted", "forgotten") or (s.status == "created" and not again):
        return ["MISSING"]
    if s.status not in ALIVE:
        return ["ENDED", s.document()]
    document = s.document() if s.text("cancel") == "1" else s.change(cancel="1")
    if s.status == "PENDING":
        return ["WAITING", s.hash.get("envelope", b""), s.hash.get("checkpoint", b""), document]
    return ["ASKED", document]


def forget(s: Shard, a: Arguments) -> Reply:
    """Mark it as deleted: for the time being, or for good once its row is blanked."""
    if not a.says("again"):
        if s.status in (*ALIVE, "created"):
            return "ALIVE"
        if s.status == "forgotten" and "provisional" not in s.hash:
            return "FORGOTTEN"
    run, seq = s.run, s.number("seq")
    s.hash = {}
    s.put(status="forgotten", owner=a["owner"], run=run, seq=seq, provisional=None if a.says("again") else 1)
    s.ttl, s.live = a.number("ttl" if a.says("again") else "patience"), None
    return "FORGOTTEN"

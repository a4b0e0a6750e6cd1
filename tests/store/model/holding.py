"""What the holder of a token does: beat, commit, restore, hand_over, release; and promote, and requeue."""

from tests.store.model.shard import Arguments, Reply, Shard


def promote(s: Shard, a: Arguments) -> Reply:
    """A copy is confirmed, and guards the task from now on."""
    if not s.hash or s.run < a.number("run"):
        return "KEEP"
    guard = s.hash.get("guard")
    if guard == a["copy"]:
        return "PROMOTED"
    if s.hash.get("next_guard") != a["copy"]:
        return "KEEP" if guard in (None, b"", a["old"]) else "OTHER"
    s.remove(["next_guard"])
    s.put(guard=a["copy"])
    s.confirmed()
    return "PROMOTED"


def beat(s: Shard, a: Arguments) -> Reply:
    """Keep the lease, and show the progress."""
    state = s.held(a)
    if state != "HELD":
        return [state]
    s.put(lease_until=s.now + a.number("lease"))
    progress = max(s.number("progress"), a.number("progress"))
    message = a["message"] or s.hash.get("message", b"")
    if progress > s.number("progress") or message != s.hash.get("message", b""):
        s.change(progress=progress, message=message)
    return ["CANCEL" if s.text("cancel") == "1" else "HELD", s.number("seq")]


def commit(s: Shard, a: Arguments) -> Reply:
    """Store a checkpoint, with how far it is."""
    state = s.held(a)
    if state != "HELD":
        return state
    progress = max(s.number("progress"), a.number("progress"))
    s.put(lease_until=s.now + a.number("lease"), checkpoint=a["checkpoint"], checkpoint_progress=progress)
    s.put(committed_in=s.number("attempt"))
    if progress > s.number("progress"):
        s.change(progress=progress)
    return "HELD"


def restore(s: Shard, a: Arguments) -> Reply:
    """Bring back what Redis forgot, from a living worker's memory; what guards it is for the next claim to say."""
    s.epoch_and_youth(a)
    state = s.held(a)
    if state != "MISSING":
        return state
    s.make_anew(a.fields, seq=s.number("seq"))
    s.confirmed()
    s.change(
        jump=True,
        status="PROCESSING",
        run=a["run"],
        token=a["token"],
        guard="",
        lease_until=s.now + a.number("lease"),
    )
    return "HELD"


def hand_over(s: Shard, a: Arguments) -> Reply:
    """Expect a copy of the message."""
    state = s.held(a)
    if state == "HELD":
        s.put(next_guard=a["copy"])
    return state


def release(s: Shard, a: Arguments) -> Reply:
    """Give it back, unfinished."""
    state = s.held(a)
    if state != "HELD":
        mine = s.number("token") == a.number("token") and s.hash.get("next_guard") == a["copy"]
        if s.status == "PENDING" and mine:
            return ["RELEASED", s.number("attempt"), s.number("charged")]
        return [state]
    charged = s.number("charged") + a.number("charge")
    if charged >= s.number("max_attempts"):
        return ["EXHAUSTED"]
    s.remove(("worker", "lease_until", "claim_nonce"))
    if a.number("wait") > 0:
        s.put(not_before=s.now + a.number("wait"))
    s.change(status="PENDING", charged=charged, next_guard=a["copy"])
    return ["RELEASED", s.number("attempt"), charged]


def requeue(s: Shard, a: Arguments) -> Reply:
    """Take it from its holder, uncharged; what guards it stays."""
    state = s.held(a)
    if state != "HELD":
        same = s.run == a.number("run") and s.number("token") == a.number("token")
        return "REQUEUED" if s.status == "PENDING" and same else state
    s.remove(("worker", "lease_until", "claim_nonce"))
    s.change(status="PENDING")
    return "REQUEUED"

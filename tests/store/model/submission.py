"""create, rerun, queued, abort."""

from tests.store.model.shard import ENDS, Arguments, Reply, Shard

OLD_END = ("ended_as", "finished_at", "expires_at", "result", "error", "cancel", "started_at")


def create(s: Shard, a: Arguments) -> Reply:
    """Begin a task that nobody sees yet."""
    epoch, young = s.epoch_and_youth(a)
    if s.status == "forgotten":
        return ["FORGOTTEN"]
    if s.hash and s.status != "aborted":
        if s.hash.get("nonce") == a["nonce"]:
            return ["CREATED", epoch]
        return ["STARTED" if s.status == "created" else "EXISTS", epoch, s.document()]
    if a.says("keyed") and young > 0:
        return ["YOUNG", young]
    s.make_anew(a.fields, seq=max(s.number("seq") + 1, s.now))
    s.put(status="created", nonce=a["nonce"], guard=a["message"])
    s.ttl = a.number("patience")
    return ["CREATED", epoch]


def rerun(s: Shard, a: Arguments) -> Reply:
    """Begin another run of an ended task; its old end is shown for the time being."""
    epoch, young = s.epoch_and_youth(a)
    if s.status == "forgotten":
        return ["FORGOTTEN"]
    if s.hash and s.hash.get("nonce") == a["nonce"]:
        return ["CREATED", epoch]
    if s.hash and s.status != "aborted":
        by_hand = a.says("hand") and s.status == "PENDING" and "finished_at" in s.hash
        if s.run >= a.number("run") or not (s.status in ("FAILED", "CANCELLED") or by_hand):
            return ["RUNNING", epoch, s.document()]
    if not s.hash and young > 0:
        return ["YOUNG", young]
    s.make_anew(a.fields, seq=max(s.number("seq"), s.now))
    s.put(status="created", ended_as=a.fields["status"], nonce=a["nonce"], guard=a["message"], run=a["run"])
    s.ttl = a.number("patience")
    return ["CREATED", epoch]


def queued(s: Shard, a: Arguments) -> Reply:
    """Promise it: its message is confirmed."""
    epoch, _ = s.epoch_and_youth(a)
    if s.status == "forgotten":
        return ["FORGOTTEN"]
    if not s.hash or s.status == "aborted" or s.run < a.number("run"):
        return ["MISSING"]
    if s.status != "created" or s.run > a.number("run"):
        return ["ALIVE", s.document()]
    if epoch != a["epoch"] and s.hash["guard"] != a["message"]:
        return ["MISSING"]
    s.ttl = None
    s.remove((*OLD_END, "message"))
    s.confirmed()
    own = s.hash["guard"] == a["message"]
    document = s.change(status="PENDING", guard=a["message"], progress=s.number("checkpoint_progress"))
    return ["QUEUED", str(s.number("seq"))] if own else ["ALIVE", document]


def abort(s: Shard, a: Arguments) -> Reply:
    """Take it back, if it is still the one with this message."""
    if s.hash.get("aborted") == a["message"]:
        return ["ABORTED"]
    if s.status == "created" and s.hash["guard"] == a["message"]:
        s.put(aborted=a["message"])
        s.remove(["envelope"])
        if s.text("ended_as") in ENDS:
            s.put(status=s.text("ended_as"), run=s.run - 1)
            s.remove(("ended_as", "guard", "nonce", "checkpoint"))
            s.ttl = a.number("ttl")
        else:
            s.put(status="aborted")
            s.ttl = a.number("patience")
        return ["ABORTED"]
    if s.status in ("", "created", "aborted", "forgotten") or s.run < a.number("run"):
        return ["MISSING"]
    return ["ALIVE", s.document()]

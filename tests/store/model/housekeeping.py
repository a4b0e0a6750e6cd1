"""redrive and renew_epoch."""

from tests.store.model.shard import ALIVE, Arguments, Reply, Shard, encoded


def redrive(s: Shard, a: Arguments) -> Reply:
    """Give a living task another message."""
    epoch, young = s.epoch_and_youth(a)
    if s.status == "created":
        return ["WELL"]
    if s.status not in ALIVE:
        s.live = None
        return ["GONE"]
    expired = s.number("lease_until") < s.now
    if s.status == "PROCESSING":
        if (not expired and not a.says("all")) or (expired and young > 0):
            return ["WELL"]
        if expired:
            if not a.says("asked") or a["epoch"] != epoch:
                return ["ASK", s.run, epoch]
            s.remove(("worker", "lease_until", "claim_nonce"))
            s.change(status="PENDING", charged=s.charge_a_lost_worker())
    else:
        s.remove(("worker", "lease_until", "claim_nonce"))
    if s.hash.get("next_guard") != a["copy"]:
        s.put(next_guard=a["copy"], redrives=s.number("redrives") + 1)
    wait = max(0, s.number("not_before") - s.now)
    figures = [s.run, wait, s.hash.get("attempt"), s.hash.get("charged")]
    return ["PUBLISH", *figures, s.hash.get("envelope", b""), s.hash.get("checkpoint", b"")]


def renew_epoch(s: Shard, a: Arguments) -> Reply:
    """Begin another epoch, if the server is not the one that this epoch began on."""
    server = s.epoch.get("server")
    if s.epoch and not a.says("old") and server in (None, a["server"]):
        s.epoch["server"] = a["server"]
        return "SAME"
    s.epoch = {"id": a["nonce"], "server": a["server"], "since": encoded(0 if a.says("old") else s.now)}
    return "RENEWED"

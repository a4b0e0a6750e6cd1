"""A state search over the task protocol: everything that can happen to one task, in every order, with a few faults.

Read it in this order:

    state.py          what exists: the hash in Redis, the broker's messages, SQL's rows, workers, requests
    rules.py          every rule of the protocol as a switch, and why it is there
    invariants.py     what must never happen, and what must always still be possible
    stores.py         the scripts and statements that several actors use
    claiming.py       a worker from a message to a running handler: the table of claim
    running.py        a worker from a running handler to the acknowledgement
    submission.py     a request that submits or retries
    user.py           cancel and DELETE
    housekeeping.py   the leader, the sender of webhooks, and what time brings
    faults.py         what may break
    canonical.py      which states are the same
    search.py         breadth first through all of it
    scenarios.py      how much of it, so that it ends
    controls.py       for each rule, the scenario that finds it missing

Each actor is a function from a state to the steps it can take next. A script, an SQL statement and a confirmed publish
are one step each. A step is merged into its neighbour only where nobody can see the difference. No step knows a time:
whoever is between two steps may stay there for as long as it likes, but for what `housekeeping.py` says of leases.

Nothing here imports the product. The Lua is held against `stores.py` and the actors, and a change of the protocol
begins here.
`python -m tests.protocol --help` runs what is too long for the tests.
"""

"""Chaos: a whole service under load, whose processes, servers and connections are broken by a seeded schedule.

    python -m tests.chaos --seconds 60 --seed 7        # `make chaos`
    python -m tests.chaos.mutations                    # `make mutation-run`

`stage` starts everything, each process behind proxies of its own; `load` submits, repeats, cancels, retries, deletes
and watches; `nemesis` breaks what `schedule` says, and heals it. They only write down what they did and saw, in a
`journal` each, and `dump` adds what the stores hold in the end. Whether that is as it was promised, a program of its
own says: `tests/checker`, which imports nothing of ours.
"""

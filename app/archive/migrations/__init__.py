"""The archive's migrations, newest last: `versions/v<number>_<what>.py`. `upgrading.py` runs them.

A migration says what the tables become, and imports none of our code, which changes later. All that have not run yet
run in one transaction, on SQLite too.
"""

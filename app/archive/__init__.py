"""The archive: SQL remembers how tasks ended, and what must never run (again).

    archive.py     what can be asked of it; everybody else imports from here
    rows.py        an ended task, and how a row is made of it
    endings.py     the transactions that write ends: insert, forget
    deliveries.py  webhooks: what is to be told, each attempt, and the secrets that sign
    questions.py   the statements that read: known, page
    retention.py   what is removed when its time is over
    batching.py    concurrent callers share a transaction
    engine.py      SQLite or PostgreSQL: opening, transactions, and what a driver's error turns into
    tables.py      the tables      schema.py   which version of them is expected
    upgrading.py   how they come to be, with migrations/

It must never say "no row" when it does not know: an archive that cannot be read raises ArchiveUnavailable, and "no row"
proves that a run has not ended.
"""

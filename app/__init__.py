"""Longhaul, the service: what a task is, where it is kept, how it is carried, and who may ask.

Layers, low to high; an import only ever points down (import-linter holds it in `make test`):

    domain          what a task is: pure, no I/O                 imports    what a process does without
    actions         the typed contracts of the built-in jobs      settings   one configuration model
    client          the Python client of our users
    observability   log lines                                     security   tokens, principals, sealing
    store           REDIS: where living tasks are kept            broker     RABBITMQ: how work is carried
    archive         SQL: how tasks ended                          results    the files that tasks made
    resources       all that a process needs, opened in order and closed in reverse
    service         what can be asked; every door calls these and nothing deeper
    api             the HTTP and WebSocket door                   dashboard  its page for browsers: files only
    main            the only wiring of the API
    cli             the command line door: `longhaul`

The staff stands in the sister package `workers`, which imports from here and is never imported.
"""

__version__ = "0.1.0"

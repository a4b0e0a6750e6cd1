"""The stack of one developer's machine: real Redis, RabbitMQ, nginx, API and worker, private to this clone.

    python -m stack up | down | run | demo        (`make up`, `make down`, `make run`, `make demo`)

    settings         where everything lives and listens: defaults < `.env` < `LONGHAUL_*`
    configuration    what the services are given, with this stack's own secrets
    service          what is common to all that runs: launch, ask, stop
    servers          Redis and RabbitMQ (what the tests start, too)      nginx      programs   the API and the worker
    supervisor       starts them in order, restarts what dies, stops them in order
    foreground       `run`: the supervisor in this process               background  `up` and `down`: one that lives on
    records          who must be ended when their supervisor is gone     description  stack.json
    processes        a child, ended by its pid and never by a name       ports   files   web   amqp   terminal   errors

Nothing here is part of the product: `app` and `workers` never import it.
"""

"""The senders of webhooks: consumers of the queue `webhooks`, which work at nobody's expense.

sender.py     one webhook, from its wake-up to its next
posting.py    one attempt: the connection that goes where it was checked to go, and nowhere else
breaker.py    a receiver that is dead or slow delays nobody else
wiring.py     the three, put together
"""

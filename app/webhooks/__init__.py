"""WEBHOOKS: letters to callers. What stands in one, how it is signed, and which addresses one may be sent to.

    message.py       what is told, and under which id
    signature.py     the two signatures, and their check
    destination.py   the address rule: the same at submission and at sending

It must never send anything itself: that is `workers/webhooks`, which takes the rules from here.
"""

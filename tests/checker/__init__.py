"""Checker: reads what callers, handlers, the nemesis and the stores have written down, and says what of it cannot be.

    python -m tests.checker DIRECTORY

It knows the service's promises and nothing of its code: it imports the standard library and itself.
"""

"""REDIS: where living tasks are kept. It decides who may run, and shows what is seen now."""

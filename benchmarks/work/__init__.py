"""The benchmarks' own package of actions, as any user would bring one: the same work that the peers' targets do."""

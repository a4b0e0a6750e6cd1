"""Where a handler runs: `async def` on the engine's loop (inline), `def` in a child process of its own (process)."""

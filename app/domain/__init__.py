"""What a task is. Pure: no I/O, and no clock of its own."""

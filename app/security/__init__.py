"""Who is asking, what they may do, and what nobody else may read."""

"""What can be asked of Longhaul; every door calls these, and nothing deeper."""

"""What tasks made: the files that their callers download."""

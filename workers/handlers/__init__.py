"""The work of the built-in jobs; each contract stands under the same file name in `app/actions`."""

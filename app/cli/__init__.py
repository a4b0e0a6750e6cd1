"""The command line door: `longhaul`. What users do goes over HTTP, like any other client's calls."""

"""The routes, one file for each page of the contract."""

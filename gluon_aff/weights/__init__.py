"""Parameters on disk: the `.params` format, finding and verifying published files, what network they are of."""

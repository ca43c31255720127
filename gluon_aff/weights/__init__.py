"""Weight files: read, write, convert, download and verify them, and identify the network that they belong to."""

"""Settings of the training commands, each declared once, and the parser of a command line."""

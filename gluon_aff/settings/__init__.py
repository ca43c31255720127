"""What the training commands can be told: their settings, each declared once, and the parser of a command line."""

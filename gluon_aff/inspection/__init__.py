"""What a network consists of."""

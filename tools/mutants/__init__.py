"""Put small faults into the package one at a time, and check that a test notices each: `make mutants`."""

"""Runs: options, epochs, schedules, files."""

"""What runs left and how it compares with what was published: logs, comparison, curves, reports; needs no MXNet."""

"""Make small data sets in the layouts of the large ones, without a download."""

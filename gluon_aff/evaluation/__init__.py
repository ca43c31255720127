"""Use trained networks: accuracy on a data set, predictions and masks for image files, and `gluon_aff.load`."""

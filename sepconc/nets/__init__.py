"""Networks as torch modules; they know no estimator, no file and no command line."""

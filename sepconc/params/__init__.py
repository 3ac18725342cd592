"""What can be set, and nothing else: dataclasses of parameters, read by the estimators and by the command line."""

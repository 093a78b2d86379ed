"""One module per program: parse argv, call one function, return an exit code."""

"""The command line, with one module per command; commands parse arguments, call the library and print the result."""

"""The command line: arguments in, one call down, words out. One module a command."""

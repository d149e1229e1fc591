"""The command line, with a module per command or group of commands.

A command parses its arguments, calls the library and prints the result.
"""

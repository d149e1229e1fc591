"""Implements the command-line interface, with one module per command or group of commands.

Each command parses its arguments, calls the library and prints the result.
"""

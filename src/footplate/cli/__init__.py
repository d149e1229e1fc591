"""Implements the command line, with one module per command or group of commands.

A command parses its arguments, calls the library and prints the result.
"""

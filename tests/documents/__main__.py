"""Writes the list of the documents' pieces of code: `python -m tests.documents > tests/documents/documents.md`."""

from tests.documents.catalogue import as_page

print(as_page(), end="")

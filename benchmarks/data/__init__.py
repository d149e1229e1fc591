"""Compares the data pipelines of footplate with those of other libraries."""
